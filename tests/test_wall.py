"""The wall around truth, in processes of their own: it cannot be taken down again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rankrepro import wall
from tests_support import ROOT

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
SPELLINGS = {
    "by its name": "print((folder / 'truth' / 'qrels.json').read_text())",
    "by a process": "import subprocess; print(subprocess.run(['cat', folder / 'truth' / 'qrels.json'], capture_output=True, text=True).stdout)",
    "from the root of another process": "print(open('/proc/self/root' + str(folder / 'truth' / 'qrels.json')).read())",
    "by a link": "(folder / 'way').symlink_to(folder / 'truth'); print((folder / 'way' / 'qrels.json').read_text())",
    "by a second name": "import os; os.link(folder / 'truth' / 'qrels.json', folder / 'mine'); print((folder / 'mine').read_text())",
    "by moving it": "(folder / 'truth').rename(folder.parent / 'moved'); print((folder.parent / 'moved' / 'qrels.json').read_text())",
    "by a thread": "import concurrent.futures as c; print(c.ThreadPoolExecutor().submit((folder / 'truth' / 'qrels.json').read_text).result())",
    "from the path of the harness": "import os, glob; print(open(glob.glob(os.path.join(str(folder), 'tr*', '*'))[0]).read())",
}  # fmt: skip


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


def test_what_is_allowed_is_all_but_what_is_denied(tmp_path: Path) -> None:
    for name in ("a/truth/q", "a/corpus", "b/c/d", "e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    paths = {p.relative_to(tmp_path).as_posix() for p in wall.allowed(tmp_path, {tmp_path / "a" / "truth"})}
    assert paths == {"a/corpus", "b", "e"}
    assert list(wall.allowed(tmp_path, set())) == [tmp_path]
