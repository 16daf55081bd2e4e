"""What the runner gives a cell: candidates from its first stage, or an error that says what is missing."""

from __future__ import annotations

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
