"""The wall around truth, in processes of their own: it cannot be taken down again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rankrepro import wall
from tests_support import ROOT, Project

BEHIND = """
import sys
from pathlib import Path
from rankrepro import wall
folder = Path(sys.argv[1])
print(wall.build([folder / "truth"]))
print((folder / "corpus.jsonl").read_text())
(folder / "store" / "new").write_text("written behind the wall")
print((folder / "store" / "new").read_text())
import torch
"""
READ = "print((folder / '{}').read_text())"
QRELS = "truth/qrels.json"
SPELLINGS = {
    "by its name": READ.format(QRELS),
    "by a process": f"import subprocess; subprocess.run(['cat', folder / '{QRELS}'])",
    "from the root of a process": f"print(open('/proc/self/root' + str(folder / '{QRELS}')).read())",
    "by a link": f"(folder / 'way').symlink_to(folder / 'truth'); {READ.format('way/qrels.json')}",
    "by a second name": f"import os; os.link(folder / '{QRELS}', folder / 'store/mine'); {READ.format('store/mine')}",
    "by moving it": f"(folder / 'truth').rename(folder / 'store/moved'); {READ.format('store/moved/qrels.json')}",
    "by a thread": f"""
from concurrent.futures import ThreadPoolExecutor
print(ThreadPoolExecutor().submit((folder / '{QRELS}').read_text).result())""",
    "by a pattern": "import glob; print(open(glob.glob(str(folder / 'tr*' / '*'))[0]).read())",
}


@pytest.mark.skipif(not wall.available(), reason="this kernel has no Landlock")
@pytest.mark.parametrize("theft", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_truth_cannot_be_read_behind_the_wall(tmp_path: Path, theft: str) -> None:
    folder = tmp_path / "benchmark"
    (folder / "truth").mkdir(parents=True)
    (folder / "store").mkdir()
    (folder / "truth" / "qrels.json").write_text("the answer is d7")
    (folder / "corpus.jsonl").write_text("all may read this")
    command = [sys.executable, "-c", f"{BEHIND}\n{theft}", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("landlock\nall may read this\nwritten behind the wall\n"), done.stderr
    assert "the answer" not in done.stdout + done.stderr


THIEF = """
from rankrepro.cell import Ranking


def steal(cell, *, way: str):
    import glob, json, subprocess
    from pathlib import Path

    ways = {
        "name": lambda: Path("results/quick/benchmarks/vital-mini/fever/tru" + "th/qrels.json").read_text(),
        "pattern": lambda: open(glob.glob("results/*/benchmarks/*/*/tru*/qr*")[0]).read(),
        "process": lambda: subprocess.run(["sh", "-c", "cat results/quick/*/*/*/tru*/qrels.json"], capture_output=True,
            text=True, check=True).stdout,
    }
    try:
        stolen = json.loads(ways[way]())
    except (OSError, subprocess.CalledProcessError, IndexError):
        stolen = {}
    return Ranking({q: {d: float(stolen.get(q, {}).get(d, 0)) for d in docs} for q, docs in cell.candidates.items()})
"""


@pytest.mark.skipif(not wall.available(), reason="this kernel has no Landlock")
def test_no_cell_of_a_run_reads_truth(toy: Project) -> None:
    """Three spellings of the theft, by arms of a card: each would rank perfectly, and each comes away with nothing."""
    card = toy.folder / "papers" / "llm_rerankers" / "toy.yaml"
    arms = "".join(
        f"  {way}: {{fn: thief.steal, candidates: {{from: lexical, depth: 5}}, params: {{way: {way}}}}}\n"
        for way in ("name", "pattern", "process")
    )
    card.write_text(card.read_text().replace("arms:\n", f"arms:\n{arms}", 1))
    (toy.folder / "methods" / "thief.py").write_text(THIEF)
    toy.run()
    manifests = [json.loads(file.read_text()) for file in toy.results.glob("store/*/manifest.json")]
    assert {manifest["wall"] for manifest in manifests} == {"landlock"}
    thieves = [m["digest"] for m in manifests if m["spec"].get("fn") == "thief.steal"]
    assert len(thieves) == 3
    for digest in thieves:
        output = json.loads((toy.results / "store" / digest / "output.json").read_text())
        assert {score for scores in output["main"]["values"].values() for score in scores.values()} == {0.0}


def test_what_is_allowed_is_all_but_what_is_denied(tmp_path: Path) -> None:
    for name in ("a/truth/q", "a/corpus", "b/c/d", "e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    paths = {p.relative_to(tmp_path).as_posix() for p in wall.allowed(tmp_path, {tmp_path / "a" / "truth"})}
    assert paths == {"a/corpus", "b", "e"}
    assert list(wall.allowed(tmp_path, set())) == [tmp_path]
