"""What may go, and what must stay: on a toy paper that was run, then changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests_support import Project


@pytest.fixture
def ran(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project that ran at scale quick, with a cache of its own."""
    monkeypatch.setenv("RANKREPRO_CACHE", str(tmp_path / "cache"))
    return finished


def clean(project: Project, *options: str) -> list[dict[str, Any]]:
    return json.loads(project.python("-m", "rankrepro", "clean", "--json", *options).stdout)


def files(project: Project) -> set[Path]:
    return {f.relative_to(project.folder) for f in (project.folder / "results").rglob("*") if f.is_file()}


def change_method(project: Project) -> None:
    """A number of a helper: lexical and overlap are new, and noise too, whose candidates are lexical's."""
    file = project.folder / "methods" / "parts" / "toy_words.py"
    file.write_text(file.read_text().replace("len(w) > 3", "len(w) > 2"))


def test_nothing_to_clean_after_a_run(ran: Project) -> None:
    assert clean(ran) == []
    before = files(ran)
    assert "nothing to clean" in ran.python("-m", "rankrepro", "clean", "--yes").stdout
    assert files(ran) == before


def test_what_a_change_left_behind_goes_and_the_rest_stays(ran: Project) -> None:
    before = files(ran)
    change_method(ran)
    leftovers = clean(ran)
    jobs = [f for f in before if f.parts[2:3] == ("jobs",) or f.parts[2:4] == ("logs", "jobs")]
    assert len(jobs) >= 6  # json, done and log of each
    assert Counter(x["kind"] for x in leftovers) == {"store": 5, "job": len(jobs), "run": 2}
    assert all(x["bytes"] == sum(f.stat().st_size for f in _files(Path(x["path"]))) for x in leftovers)
    assert files(ran) == before, "without --yes nothing goes"
    assert "nothing was deleted; --yes does" in ran.python("-m", "rankrepro", "clean").stdout

    output = ran.python("-m", "rankrepro", "clean", "--yes").stdout
    assert f"{len(leftovers)} deleted" in output
    gone = before - files(ran)
    assert gone == {f for f in before if any((ran.folder / f).is_relative_to(x["path"]) for x in leftovers)}
    assert {"benchmarks", "judged"} < {f.parts[2] for f in files(ran) if len(f.parts) > 3}
    assert clean(ran) == []
    ran.run("papers=toy")  # what is new is computed, on the benchmark that stayed
    assert clean(ran) == []


def _files(path: Path) -> list[Path]:
    return [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else [path]


def test_results_of_another_scale_are_needed_here_too(ran: Project) -> None:
    """A result that only desk's plan names, in quick's store, is not deleted."""
    card = ran.folder / "papers" / "llm_rerankers" / "toy.yaml"
    card.write_text(card.read_text().replace("quick: {sample: {all: 12}}", "quick: {sample: {all: 11}}"))
    assert len([x for x in clean(ran) if x["kind"] == "store"]) == 5  # samples of 12 are of no plan now
    card.write_text(card.read_text().replace("desk: {sample: {all: 60}}", "desk: {sample: {all: 12}}"))
    left = [x for x in clean(ran) if x["kind"] == "store"]
    assert len(left) == 1  # the timing: desk has none


def test_leftovers_of_killed_processes_and_removed_papers(ran: Project) -> None:
    results = ran.results
    for folder in ("store/.tmp-abc-1", "shards/" + "0" * 64, "judged/gone"):
        (results / folder).mkdir(parents=True)
        (results / folder / "x.json").write_text("{}")
    kinds = {(x["kind"], Path(x["path"]).name) for x in clean(ran)}
    assert kinds == {("store", ".tmp-abc-1"), ("shards", "0" * 64), ("judged", "gone")}


def test_a_benchmark_built_otherwise_is_rebuilt_anyway(ran: Project) -> None:
    (marker,) = (ran.results / "benchmarks").rglob("benchmark.json")
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"digest": "0" * 64}))
    assert [(x["kind"], x["path"]) for x in clean(ran)] == [("benchmark", str(marker.parent))]


def test_a_clean_that_was_killed_is_finished_by_the_next(ran: Project) -> None:
    (marker,) = (ran.results / "benchmarks").rglob("benchmark.json")
    half = marker.parent.with_name(".tmp-gone-1-fever")
    shutil.copytree(marker.parent, half)
    assert [x["path"] for x in clean(ran)] == [str(half)]


def test_a_running_job_is_not_disturbed(ran: Project) -> None:
    change_method(ran)
    before = files(ran)
    hold = "import sys, time; from pathlib import Path; from rankrepro import lock; lock.hold(Path(sys.argv[1])); "
    hold += "print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(ran.results)], cwd=ran.folder, env=ran.env(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        done = ran.python("-m", "rankrepro", "clean", "--yes", check=False)
        assert done.returncode == 1 and f"another run (process {holder.pid}) works in" in done.stderr
        assert before <= files(ran) | {Path("results/quick/.lock")}
        assert clean(ran), "listing needs no lock"
    finally:
        holder.kill()
        holder.wait()
    assert "deleted" in ran.python("-m", "rankrepro", "clean", "--yes").stdout


def test_a_card_that_cannot_be_planned_keeps_everything(ran: Project) -> None:
    before = files(ran)
    card = ran.folder / "papers" / "llm_rerankers" / "toy.yaml"
    card.write_text(card.read_text().replace("fn: toy.noise", "fn: toy.nois"))
    done = ran.python("-m", "rankrepro", "clean", "--yes", check=False)
    assert done.returncode == 1 and "did you mean 'noise'" in done.stderr
    assert files(ran) == before


def test_the_shared_cache_goes_only_when_asked(ran: Project, tmp_path: Path) -> None:
    from rankrepro import artifacts

    catalogue = artifacts.load_catalogue()
    used = tmp_path / "cache" / "artifacts" / catalogue["vital-articles"].folder
    old = tmp_path / "cache" / "artifacts" / "vital-articles-0.0.6-000000000000"
    unused = tmp_path / "cache" / "artifacts" / catalogue["keel-data"].folder  # the toy needs no tables
    for folder in (used, old, unused):
        folder.mkdir(parents=True)
        (folder / "data").write_text("x" * 100)
    (tmp_path / "cache" / "artifacts" / ".x.lock").touch()
    leftovers = clean(ran)
    assert {(x["path"], x["shared"], x["bytes"]) for x in leftovers} == {
        (str(old), True, 100),
        (str(unused), True, 100),
    }
    assert "0 deleted" in ran.python("-m", "rankrepro", "clean", "--yes").stdout
    assert old.exists() and unused.exists()
    assert "2 deleted, 200 B freed" in ran.python("-m", "rankrepro", "clean", "--yes", "--cache").stdout
    assert used.exists() and not old.exists() and not unused.exists()
