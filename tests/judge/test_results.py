"""The glue of the judge: totals, clean JSON, and what counts as registered."""

from __future__ import annotations

import math
from types import SimpleNamespace

from rankrepro.cards import load_cards
from rankrepro.judge.costs import union
from rankrepro.judge.results import clean, shown, units
from rankrepro.judge.values import Values


def test_union_of_intervals_counts_shared_time_once() -> None:
    assert union([]) == 0
    assert union([(0, 4), (2, 6), (10, 11), (2, 3)]) == 7


def test_json_holds_no_nan() -> None:
    assert clean({"a": [math.nan, (1.5, math.inf)], "b": -math.inf, "c": 3}) == {
        "a": [None, [1.5, None]],
        "b": None,
        "c": 3,
    }


def test_a_claim_on_a_pooled_measure_shows_no_queries_and_lists_no_material() -> None:
    """No query has a pooled area of its own; values of other measures are listed as they are."""
    card, values = load_cards()["mw_loss"], Values.__new__(Values)
    values.plan = SimpleNamespace(timings={}, rows={}, benchmarks={"mw_loss": ["b"]})  # type: ignore[assignment]
    values.left_out, values.store, values._benchmarks = [], None, {"b": None}  # type: ignore[assignment]
    material = {"q": [[[0.5, 0.1], [0.4, 0.1]]]}
    values.known = {
        ("ceiling of mw_loss.mw", "b", m): material if m in ("PooledAUC", "TPR@0.1") else {"q": [0.5]}
        for m in ("PooledAUC", "TPR@0.1", "nDCG@10", "WithinAUC")
    }  # type: ignore[assignment]
    values.labels = lambda benchmark, units: {"units": sorted(units)}  # type: ignore[method-assign, assignment]
    found = units(card, values)
    assert {row["measure"] for row in found["rows"]} == {"nDCG@10", "WithinAUC"}
    assert {row["measure"] for row in found["left_out"]} == {"PooledAUC", "TPR@0.1"}
    assert found["benchmarks"]["b"] == {"units": ["q"]}
    claim = {
        "id": "c", "kind": "superiority", "expr": "m(mw) - m(cl)", "measure": "PooledAUC", "guard": None,
        "benchmark": "b", "per_benchmark": [{"benchmark": "b"}],
    }  # fmt: skip
    assert shown(card, values, [claim])["claims"] == {}
