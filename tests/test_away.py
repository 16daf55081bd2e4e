"""A pack: run in an empty folder by a Python that has torch and transformers alone, and merged, it is a run at home."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from rankrepro.away import packages, run
from tests_support import Project, add_toy, make_project

MINILM = """  minilm:
    fn: pointwise.bi_encoder
    models: {encoder: encoder}
    candidates: {from: baselines.bm25, depth: 5}
    params: {batch: 8, passage_tokens: 24, query_tokens: 16}
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python of its own, whose packages are torch, transformers and what these require: links to ours."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(folder, symlinks=True)
    (there,) = folder.glob("lib/python*/site-packages")
    for name in packages._closure(run.NEEDED):
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
            source = Path(str(distribution.locate_file(top)))
            if source.exists() and not (there / top).exists():
                (there / top).symlink_to(source)
    return folder / "bin" / "python"


def test_the_bare_python_is_bare(bare: Path) -> None:
    code = "import torch, transformers, importlib.util as u; print([n for n in {!r} if u.find_spec(n)])"
    names = ["bm25s", "sklearn", "snakemake", "mlflow", "rankrepro", "jsonschema"]
    done = subprocess.run([bare, "-c", code.format(names)], capture_output=True, text=True, check=True, cwd=bare.parent)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A toy that re-ranks the BM25 of the shared controls, which needs packages that a bare machine lacks."""
    project = add_toy(make_project(tmp_path_factory.mktemp("home"), ["baselines"]))
    card = project.folder / "papers" / "llm_rerankers" / "toy.yaml"
    card.write_text(card.read_text().replace("tables:\n", MINILM + "tables:\n", 1))
    return project


@pytest.fixture(scope="module")
def packed(home: Project) -> Path:
    folder = home.folder / "pack"
    said = home.python(
        "-m", "rankrepro", "pack", str(folder), "--scale", "quick", "--papers", "toy", "--piece-mb", "40"
    )
    assert "python run.py" in said.stdout and len(list(folder.glob("piece-*.tar"))) > 1
    return folder


@pytest.fixture(scope="module")
def came_back(packed: Path, bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`back` of the pack, run in another folder."""
    there = tmp_path_factory.mktemp("there") / "pack"
    shutil.copytree(packed, there)
    done = away(bare, there)
    assert done.returncode == 0, done.stdout + done.stderr
    return there / "back"


def away(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """run.py as on a machine of its own: another home, no cache of ours, no path to our code."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder.parent), "LANG": "C.UTF-8"}
    command = [str(python), str(folder / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder.parent, timeout=600)


def merge(home: Project, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return home.python("-m", "rankrepro", "merge", str(folder), *options, check=False)


def test_what_comes_back_is_byte_by_byte_a_run_at_home(home: Project, came_back: Path, tmp_path: Path) -> None:
    done = merge(home, came_back)
    assert done.returncode == 0, done.stderr
    merged = home.store()
    manifests = (json.loads(f.read_text()) for f in (home.results / "store").glob("*/manifest.json"))
    assert {"baselines.bm25", "toy.minilm", "toy.noise", "toy.overlap_over_noise"} <= {m["name"] for m in manifests}
    # the run goes on from there: nothing is computed, all is judged
    ran = home.run("papers=toy")
    assert "rule job" not in ran.stdout + ran.stderr and (home.results / "judged" / "toy" / "results.json").exists()

    alone = make_project(tmp_path / "alone", ["baselines"])
    shutil.copytree(home.folder / "methods", alone.folder / "methods", dirs_exist_ok=True)
    shutil.copytree(home.folder / "papers", alone.folder / "papers", dirs_exist_ok=True)
    alone.run("papers=toy")
    assert alone.store() == merged and len(merged) > 4


def test_no_truth_travels(packed: Path, tmp_path: Path) -> None:
    pack = run.read(packed / run.PACK)
    run.unpack(run.check_pieces(packed, pack["pieces"]), tmp_path)
    files = [f.relative_to(tmp_path).as_posix() for f in tmp_path.rglob("*") if f.is_file()]
    assert any("/benchmarks/vital-mini/fever/" in f for f in files) and not [f for f in files if "/truth/" in f]
    assert {"bm25s", "scipy"} <= set(pack["packages"]) and "torch" not in pack["packages"]


def _cut(folder: Path, told: dict[str, Any]) -> None:
    file = folder / told["pieces"][-1]["name"]
    file.write_bytes(file.read_bytes()[:-1])


def _flip(folder: Path, told: dict[str, Any]) -> None:
    file = folder / told["pieces"][0]["name"]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _lose(folder: Path, told: dict[str, Any]) -> None:
    (folder / told["pieces"][0]["name"]).unlink()


@pytest.mark.parametrize(
    ("damage", "words"), [(_cut, "has .* bytes, not"), (_flip, "its sha256 is another"), (_lose, "is missing: copy it")]
)
def test_a_damaged_pack_does_not_run(
    packed: Path, tmp_path: Path, damage: Callable[[Path, dict[str, Any]], None], words: str
) -> None:
    shutil.copytree(packed, tmp_path / "pack")
    damage(tmp_path / "pack", run.read(packed / run.PACK))
    done = away(Path(sys.executable), tmp_path / "pack")
    assert done.returncode == 1 and re.search(words, done.stderr), done.stderr
    assert not (tmp_path / "pack" / "work").exists()


def rewritten(back: Path, folder: Path, change: Callable[[Path], None]) -> Path:
    """What came back, unpacked, changed and packed again with right checksums: an honest error, or a dishonest one."""
    told = run.read(back / run.BACK)
    run.unpack(run.check_pieces(back, told["pieces"]), folder / "all")
    change(folder / "all")
    members = (
        (f, f.relative_to(folder / "all").as_posix()) for f in sorted((folder / "all").rglob("*")) if f.is_file()
    )
    told["digests"] = sorted(f.name for f in (folder / "all" / "store").iterdir())
    told["pieces"] = run.write_pieces(folder, "back", 10**9, members)
    (folder / run.BACK).write_text(json.dumps(told))
    return folder


def _result(folder: Path, name: str) -> Path:
    return next(
        f.parent for f in (folder / "store").glob("*/manifest.json") if json.loads(f.read_text())["name"] == name
    )


def _other_scores(folder: Path) -> None:
    file = _result(folder, "toy.overlap") / "output.json"
    file.write_text(file.read_text().replace("0.", "0.1", 1))


def _other_spec(folder: Path) -> None:
    file = _result(folder, "toy.overlap") / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["spec"]["params"]["batch"] = 3
    file.write_text(json.dumps(manifest))


def _foreign(folder: Path) -> None:
    result = _result(folder, "toy.overlap")
    result.rename(result.with_name("0" * 64))


def _another_file(folder: Path) -> None:
    (_result(folder, "toy.overlap") / "arrays.pkl").write_bytes(b"x")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_other_scores, "output.json has changed since it was computed"),
        (_other_spec, "has another digest"),
        (_foreign, "none that the code here would make"),
        (_another_file, "arrays.pkl is not listed"),
    ],
)
def test_a_result_that_is_not_what_it_says_is_refused_and_nothing_is_taken(
    home: Project, came_back: Path, tmp_path: Path, change: Callable[[Path], None], words: str
) -> None:
    before = sorted(p.name for p in (home.results / "store").glob("*"))
    done = merge(home, rewritten(came_back, tmp_path, change))
    assert done.returncode == 1 and words in done.stderr and "PackError" in done.stderr, done.stderr
    assert sorted(p.name for p in (home.results / "store").glob("*")) == before


def test_a_run_that_did_not_end_is_taken_only_where_that_is_meant(
    home: Project, packed: Path, bare: Path, tmp_path: Path
) -> None:
    shutil.copytree(packed, tmp_path / "pack")
    done = away(bare, tmp_path / "pack", "--minutes", "0.0001")
    assert done.returncode == 0 and "0 of" in done.stdout
    refused = merge(home, tmp_path / "pack")
    assert refused.returncode == 1 and "the run did not end: run it again there" in refused.stderr
    assert merge(home, tmp_path / "pack", "--partial").returncode == 0


def test_pieces_give_back_what_went_in(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(os.urandom(3000))
    (tmp_path / "b").write_bytes(b"")
    pieces = run.write_pieces(tmp_path, "piece", 1000, [(tmp_path / "a", "x/a"), (tmp_path / "b", "b")])
    assert len(pieces) > 3 and all(p["bytes"] <= 1000 for p in pieces)
    run.unpack(run.check_pieces(tmp_path, pieces), tmp_path / "out")
    assert (tmp_path / "out" / "x" / "a").read_bytes() == (tmp_path / "a").read_bytes()
    assert (tmp_path / "out" / "b").read_bytes() == b""


def test_nothing_is_written_outside_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    pieces = run.write_pieces(tmp_path, "piece", 10**6, [(tmp_path / "a", "../outside")])
    with pytest.raises(Exception, match="outside"):
        run.unpack(run.check_pieces(tmp_path, pieces), tmp_path / "out")
    assert not (tmp_path / "outside").exists()
