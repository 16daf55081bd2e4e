"""What the runner gives a cell: candidates from its first stage, or an error that says what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rankrepro.errors import BenchmarkError
from rankrepro.runner import Runner


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    runner = Runner(tmp_path, threads=1, cache=tmp_path / "cache")
    values = {"q1": {"a": 3.0, "b": 2.0, "c": 1.0}, "q2": {}}
    runner.store.put("f" * 64, {}, {}, output={"main": {"type": "retrieval", "values": values}})
    return runner


def spec(depth: int, order: str = "first_stage") -> dict:
    return {"candidates": {"digest": "f" * 64, "variant": "main", "depth": depth, "order": order}, "seed": 0}


def test_candidates_are_the_top_of_the_first_stage(runner: Runner) -> None:
    assert runner._candidates("x.arm", spec(2), {"q1": "text"}) == {"q1": ["a", "b"]}
    assert runner._candidates("x.arm", spec(3, "reversed"), {"q1": "text"}) == {"q1": ["c", "b", "a"]}
    assert runner._candidates("x.arm", {"candidates": None, "seed": 0}, {"q1": "text"}) == {}


@pytest.mark.parametrize("query", ["q2", "q3"])
def test_a_query_without_candidates_is_named(runner: Runner, query: str) -> None:
    with pytest.raises(BenchmarkError, match=f"x.arm: query {query} has no candidates from its first stage"):
        runner._candidates("x.arm", spec(2), {query: "text"})


def test_inputs_of_a_job_are_named_by_what_they_leave_behind(runner: Runner) -> None:
    cell = {
        "kind": "cell",
        "benchmark": {"id": "vital/fever"},
        "models": {"llm": {"id": "small"}},
        "inputs": {"embeddings": {"digest": "e" * 64, "variant": "arrays"}},
        **spec(2),
    }
    timing = {**cell, "kind": "timing", "models": {}, "inputs": {}, "candidates": None, "a": cell, "b": cell}
    wanted = {
        "benchmarks/vital/fever/benchmark.json",
        "artifacts/small.json",
        f"store/{'e' * 64}/manifest.json",
        f"store/{'f' * 64}/manifest.json",
    }
    for kind in (cell, timing):
        assert {p.relative_to(runner.folder).as_posix() for p in runner.needs([{"spec": kind}])} == wanted


def test_a_result_that_a_process_left_alive_computes_is_waited_for(runner: Runner) -> None:
    """The main process may be killed alone; its job works on, and the next run has the same job."""
    digest = "a" * 64
    script = (
        "import sys, time; from pathlib import Path; from rankrepro.runner import Runner\n"
        "class Slow(Runner):\n"
        "    def compute(self, node, progress):\n"
        "        print('computing', flush=True); time.sleep(1)\n"
        "        self.store.put(node['digest'], {}, {}, output={'by': 'the orphan'})\n"
        "folder = Path(sys.argv[1])\n"
        f"Slow(folder, 1, folder).alone({{'digest': '{digest}'}}, None)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(runner.folder)], stdout=subprocess.PIPE) as orphan:
        assert orphan.stdout and orphan.stdout.readline() == b"computing\n"
        runner.alone({"digest": digest}, None)  # would fail: there is nothing to compute in this node
    assert orphan.returncode == 0
    assert runner.store.output(digest) == {"by": "the orphan"}
    assert not list((runner.folder / "shards").iterdir())


def test_a_folder_without_room(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys; from pathlib import Path; from rankrepro.runner import writable\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "writable(Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert "StoreError: no space left for" in done.stderr and "free disk space" in done.stderr
    assert list(tmp_path.iterdir()) == []
