"""What the runner gives a cell: candidates from its first stage, or an error that says what is missing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankrepro import runner as runners
from rankrepro.benchmarks.base import Benchmark, Document, Query
from rankrepro.cell import Cell, Ranking, Text
from rankrepro.errors import BenchmarkError, OutputError, UnknownName
from rankrepro.judge import costs
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


# --- what one node hands to the next ---

DOCUMENTS = {d: Document(d, "", f"text {d}") for d in ("d1", "d2")}
FEW = Benchmark("few", {"q1": Query("q1", "one", "test"), "q2": Query("q2", "two", "test")}, DOCUMENTS)


@pytest.fixture
def returned(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """returned(value, variant="", kind="stage"): store what a function returns, and read it as the next node would."""
    runner._benchmarks["few"] = FEW

    def store_and_read(value: Any, variant: str = "", kind: str = "stage") -> Any:
        monkeypatch.setattr(runners, "method", lambda fn: lambda cell: value)
        spec = {
            "kind": kind, "fn": "toy.write", "params": {}, "models": {}, "seed": 0, "threads": 1, "dtype": "float32",
            "benchmark": {"id": "few", "digest": ""}, "queries": {"split": ["test"], "sample": None, "mode": "own"},
            "candidates": None, "inputs": {},
        }  # fmt: skip
        digest = "a" * 64
        runner.compute({"name": "toy.write", "digest": digest, "spec": spec}, lambda done, total: None)
        try:
            return runner._input({"digest": digest, "variant": variant})
        finally:
            assert runner.store.has(digest)  # whatever a reader asks for, a result that is whole stays

    return store_and_read


def test_a_stage_hands_on_text_arrays_or_several_things(returned: Callable[..., Any], runner: Runner) -> None:
    assert returned(Text({"d1": "a generated summary"})) == {"d1": "a generated summary"}
    runner.store.path("a" * 64).rename(runner.folder / "earlier")
    several = {"kept": Text({"d1": "x"}), "order": Ranking({"q1": {"d2": 1.0, "d1": 2.0}})}
    assert returned(several) == {"kept": {"d1": "x"}, "order": {"q1": {"d1": 2.0, "d2": 1.0}}}
    assert returned(several, "kept") == {"d1": "x"}
    with pytest.raises(UnknownName, match=r"an input from toy\.write: unknown variant 'ordre'; did you mean 'order'"):
        returned(several, "ordre")


def test_a_stage_hands_on_arrays(returned: Callable[..., Any]) -> None:
    arrays = {"vectors": np.eye(2), "ids": np.array([3, 4])}
    assert {name: array.tolist() for name, array in returned(arrays).items()} == {
        "vectors": [[1, 0], [0, 1]],
        "ids": [3, 4],
    }
    assert returned(arrays, "ids").tolist() == [3, 4]


def test_what_is_no_output_is_named(returned: Callable[..., Any]) -> None:
    with pytest.raises(OutputError, match=r"toy\.write: variant 'b' is a list, not an Output .* or a numpy array"):
        returned({"a": np.ones(2), "b": [1, 2]})
    with pytest.raises(OutputError, match="'a' is an array, other variants are Outputs"):
        returned({"a": np.ones(2), "b": Text({"d1": "x"})})
    with pytest.raises(OutputError, match=r"toy\.write: variant 'a' is a ndarray, not an Output of rankrepro\.cell$"):
        returned({"a": np.ones(2)}, kind="cell")
    with pytest.raises(OutputError, match="2 of 2 units have no result"):
        returned(Text({"d1": "of an arm every query is wanted"}), kind="cell")


def test_a_decoy_brings_its_picture() -> None:
    pictured = {q: Query(q, "", "test", image=f"picture of {q}") for q in ("q1", "q2", "q3")}
    shown = runners.queries_of(Benchmark("few", pictured, {}), ["test"], None, "decoy")
    assert {q: query.image for q, query in shown.items() if query.image.endswith(q)} == {}


def test_a_job_keeps_jax_off_the_gpu_and_float32_exact() -> None:
    script = (
        "import os; from rankrepro.runner import _set_environment as s; s(2, {%r})\n"
        "print([os.environ.get(n) for n in ('OMP_NUM_THREADS', 'JAX_PLATFORMS', 'NVIDIA_TF32_OVERRIDE')])"
    )
    for dtype, exact in (("float32", "0"), ("bfloat16", None)):
        printed = subprocess.check_output([sys.executable, "-c", script % dtype], text=True)
        assert printed.strip() == str(["2", "cpu", exact])


def test_inputs_of_a_job_are_named_by_what_they_leave_behind(runner: Runner) -> None:
    cell = {
        "kind": "cell",
        "benchmark": {"id": "vital/fever"},
        "models": {"llm": {"id": "small"}},
        "inputs": {"embeddings": {"digest": "e" * 64, "variant": ""}},
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


# --- timings ---


def test_a_timing_records_the_order_of_its_runs_and_an_arm_that_caches_is_caught(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    units, known = [f"q{i}" for i in range(9)], set()
    runner._benchmarks["few"] = Benchmark("few", {q: Query(q, q, "test") for q in units}, DOCUMENTS)

    def caching(cell: Cell) -> Text:
        (text,) = cell.queries.values()
        if text not in known:
            time.sleep(0.01)
        known.add(text)
        return Text({text: ""})

    def plain(cell: Cell) -> Text:
        time.sleep(0.01)
        cell.inputs["kept"] = cell.models["kept"] = "what a run leaves in its cell is gone"  # type: ignore[index]
        return Text(dict.fromkeys(cell.queries, ""))

    monkeypatch.setattr(runners, "method", {"toy.caching": caching, "toy.plain": plain}.get)
    side = {
        "params": {}, "models": {}, "seed": 0, "threads": 1, "dtype": "float32", "candidates": None, "inputs": {},
        "benchmark": {"id": "few", "digest": ""}, "queries": {"split": ["test"], "sample": None, "mode": "own"},
    }  # fmt: skip
    sides = {"a": side | {"fn": "toy.caching"}, "b": side | {"fn": "toy.plain"}}
    node = {"name": "toy.timing", "digest": "b" * 64, "spec": side | {"kind": "timing", "n": 8} | sides}
    runner.compute(node, lambda done, total: None)
    stored = runner.store.output("b" * 64)
    assert set(stored["order"]) == set(stored["a"]) == set(stored["b"]) and len(stored["a"]) == 8
    assert all(sorted(runs) == ["a", "aa", "b"] for runs in stored["order"].values())
    assert len({tuple(runs) for runs in stored["order"].values()}) > 1
    assert "keeps something from run to run" in costs.timing(runner.store, "b" * 64)["fault"]
