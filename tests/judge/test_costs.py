"""What a unit cost: measured where a method meters it, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rankrepro import claims
from rankrepro.benchmarks.base import Truth
from rankrepro.errors import OutputError
from rankrepro.judge import costs, measures
from rankrepro.judge.claims import judge_claims
from rankrepro.judge.values import Values
from rankrepro.store import Store

RANKED = {"type": "ranking", "values": {q: {"a": 1.0} for q in ("q1", "q2")}}
METERED = {
    "talks": {"q1": {"input_tokens": 10.0, "generated_tokens": 3.0, "seconds": 0.5}, "q2": {"input_tokens": 20.0}},
    "reads": {"q1": {"input_tokens": 5.0}, "q2": {"input_tokens": 5.0}, "training": {"input_tokens": 900.0}},
    "silent": {},
}


@pytest.fixture
def values(tmp_path: Path) -> Values:
    """Three arms: one generates, one only reads and has trained, one meters nothing."""
    store, digests = Store(tmp_path / "store"), {}
    for i, (arm, units) in enumerate(METERED.items()):
        digests[arm] = f"{i}" * 64
        cost = {"wall_s": 9.0, "cpu_s": 9.0, "peak_bytes": 1, "units": units, "started": 0.0, "ended": 9.0}
        store.put(digests[arm], {}, cost, output={"main": RANKED})
    rows = {f"p.{arm}": {"b": [(0, digest, "main")]} for arm, digest in digests.items()}
    values = Values(SimpleNamespace(rows=rows), tmp_path)  # type: ignore[arg-type]
    values._truths["b"] = Truth({"q1": {"a": 1}, "q2": {"a": 1}}, {})
    return values


def test_costs_are_measures_of_the_units_that_were_answered(values: Values) -> None:
    assert values.per_unit("p.talks", "b", "InputTokens") == {"q1": [10.0], "q2": [20.0]}
    assert values.per_unit("p.talks", "b", "GeneratedTokens") == {"q1": [3.0], "q2": [0.0]}  # it does meter them
    assert values.per_unit("p.reads", "b", "InputTokens") == {"q1": [5.0], "q2": [5.0]}  # training is no unit
    assert measures.get("Calls").direction == -1


def test_what_is_not_metered_is_absent_and_no_zero(values: Values) -> None:
    for arm, measure in (("reads", "GeneratedTokens"), ("silent", "InputTokens"), ("silent", "Seconds")):
        assert not values.applies(f"p.{arm}", "b", measure)
    assert values.applies("p.talks", "b", "Seconds") and not values.applies("ceiling of p.talks", "b", "Seconds")
    with pytest.raises(OutputError, match="'Calls' is read from a cell's meter"):
        measures.per_unit("Calls", values.output("0" * 64, "main"), values.truth("b"))


def test_a_claim_about_a_cost(values: Values) -> None:
    def judged(expr: str) -> dict[str, Any]:
        claim = claims.parse({"id": "c", "sentence": "-", "kind": "superiority", "expr": expr, "over": "all"}, "p")
        return judge_claims([claim], values.lookup, benchmarks=["b"], verdicts=False, n_boot=2000)[0]

    found = judged('m(talks, "InputTokens") - m(reads, "InputTokens")')
    assert found["effect"] == pytest.approx(10.0) and found["n"] == 2
    lacking = judged('m(talks, "GeneratedTokens") - m(reads, "GeneratedTokens")')
    assert lacking["verdict"] == "not run"


def test_a_row_costs_what_its_units_cost(values: Values) -> None:
    def row(arm: str, *units: str) -> dict[str, Any]:
        digest = values.plan.rows[f"p.{arm}"]["b"][0][1]
        return costs.per_unit_cost([values.store.cost(digest)], units or ("q1", "q2"))

    assert row("talks")["input_tokens"] == 15 and row("talks", "q1")["input_tokens"] == 10
    assert row("talks")["generated_tokens"] == 1.5 and row("talks")["calls"] is None
    assert row("reads")["input_tokens"] == 5
    # a random order takes no time that anybody measured: not the whole cell's seconds
    assert set(row("silent").values()) == {None, 1}


def test_a_timing_and_a_stored_result_say_what_they_did_not_meter(tmp_path: Path) -> None:
    store = Store(tmp_path)
    seconds = {side: {f"q{i}": 1.0 + 0.1 * i for i in range(4)} for side in ("a", "b", "aa")}
    work = {"a": {f"q{i}": {"input_tokens": 4.0} for i in range(4)}, "b": {f"q{i}": {} for i in range(4)}}
    store.put("c" * 64, {}, {"work": work}, output=seconds)
    found = costs.timing(store, "c" * 64)
    assert found["cost_a"]["input_tokens"] == 4 and found["cost_a"]["generated_tokens"] is None
    assert found["ratio"] == pytest.approx(1) and set(found["cost_b"].values()) == {None}
    assert costs._totals([]) == dict.fromkeys(costs.WORK) and not np.isnan(found["seconds_a"])


# --- can the clock be trusted? ---


def timed(folder: Path, kept: float, noise: float, number: int, n: int = 12) -> dict[str, Any]:
    """A timing of `n` units as it is judged: a second run of A takes `1 - kept` of the first, B twice of it."""
    draw = np.random.default_rng([number, n])
    seconds: dict[str, Any] = {"a": {}, "b": {}, "aa": {}, "order": {}}
    for unit in (f"q{i}" for i in range(n)):
        runs, needed = [str(run) for run in draw.permutation(["a", "b", "aa"])], draw.uniform(0.5, 2)
        seconds["order"][unit] = runs
        for run in runs:
            again = run != "b" and any(unit in seconds[other] for other in ("a", "aa"))
            cost = needed * (2 if run == "b" else 1 - kept if again else 1)
            seconds[run][unit] = cost * draw.lognormal(0, noise)
    store = Store(folder)
    store.put(f"{number:064d}", {}, {"work": None}, output=seconds)
    return costs.timing(store, f"{number:064d}")


@pytest.mark.parametrize("kept", [0.95, 0.5, 0.2])
def test_an_arm_that_keeps_results_from_run_to_run_is_caught(tmp_path: Path, kept: float) -> None:
    judged = [timed(tmp_path, kept, 0.05, i) for i in range(100)]
    assert not any(t["sound"] for t in judged)
    assert all(f"takes {1 - kept:.1f}"[:-1] in t["fault"] and "keeps something" in t["fault"] for t in judged)
    assert all(t["repeat"][1] < 1 for t in judged)
    blind = sum(t["aa"][0] <= 1 <= t["aa"][1] for t in judged)
    assert blind > 75, "the order at random hides a cache from A against itself"


def test_an_honest_clock_is_trusted(tmp_path: Path) -> None:
    judged = [timed(tmp_path, 0.02, 0.05, i) for i in range(100)]  # a processor's own caches
    assert sum(t["sound"] for t in judged) >= 90
    assert all(t["fault"] is None for t in judged if t["sound"])


def test_a_clock_too_unsteady_to_tell_is_not_trusted(tmp_path: Path) -> None:
    judged = [timed(tmp_path, 0.0, 0.6, i) for i in range(50)]
    assert sum(t["sound"] for t in judged) <= 5
    assert any("more than 0.8 to 1.25" in t["fault"] for t in judged if t["fault"])


def test_a_timing_whose_order_nobody_recorded_is_judged_by_what_it_says(tmp_path: Path) -> None:
    store = Store(tmp_path)
    seconds = {side: {f"q{i}": 1.0 + 0.1 * i for i in range(8)} for side in ("a", "b", "aa")}
    store.put("d" * 64, {}, {"work": None}, output=seconds)
    found = costs.timing(store, "d" * 64)
    assert (found["repeat"], found["sound"], found["fault"]) == (None, True, None)


def test_a_claim_says_why_its_clock_cannot_be_trusted(tmp_path: Path) -> None:
    given = {"id": "c", "sentence": "-", "kind": "ratio", "timing": "t"}
    unsound = {"t": {"a": "p.a", "b": "p.b", "benchmark": "b", **timed(tmp_path, 0.9, 0.05, 1)}}
    (found,) = judge_claims([claims.parse(given, "p")], lambda *_: ({}, {}), benchmarks=["b"], timings=unsound)
    assert found["verdict"] == "inconclusive" and "keeps something from run to run" in found["note"]
