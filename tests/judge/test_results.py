"""The glue of the judge: totals, clean JSON, and what counts as registered."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rankrepro.benchmarks.base import Truth
from rankrepro.cards import load_cards
from rankrepro.judge.costs import union
from rankrepro.judge.results import clean, shown, units
from rankrepro.judge.values import INPUT, Values
from rankrepro.plan import Node, Plan


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


def test_the_order_that_an_arm_is_given_is_a_row_of_its_own(tmp_path: Path) -> None:
    """One relevant document, third of the first stage: what a re-ranker is given depends on depth and order."""
    ranking = {"q": {f"d{i}": 9.0 - i for i in range(6)}}
    specs: dict[str, Any] = {"words": {"fn": "first_stages.bm25", "candidates": None, "seed": 0}}
    for name, fn, order in (
        ("same", "x.y", "first_stage"),
        ("back", "x.y", "reversed"),
        ("echo", "floors.identity", ""),
    ):
        source = {"digest": "words", "variant": "main", "depth": 4, "order": order}
        specs[name] = {"fn": fn, "candidates": source, "seed": 0}
    values = Values(Plan({}, [], {name: Node(name, name, spec, 0.0, 0) for name, spec in specs.items()}), tmp_path)
    values.plan.rows = {f"x.{name}": {"b": [(0, name, "main")]} for name in specs}
    values._truths["b"] = Truth({"q": {"d2": 1}}, {})
    for name in specs:
        output = {"main": {"type": "ranking" if name != "words" else "retrieval", "values": ranking}}
        values.store.put(name, {}, {"units": {}}, output=output)
    assert values.per_unit(f"{INPUT}x.same", "b", "RR") == {"q": [pytest.approx(1 / 3)]}
    assert values.per_unit(f"{INPUT}x.back", "b", "RR") == {"q": [pytest.approx(1 / 2)]}
    for row in ("x.words", "x.echo"):  # retrieves; is the order that it is given, and says so
        with pytest.raises(KeyError):
            values.per_unit(INPUT + row, "b", "RR")
    assert values.ran(f"{INPUT}x.same", "b") and values.applies(f"{INPUT}x.same", "b", "RR")
