"""The queries shown behind an effect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrepro.benchmarks.base import Benchmark, Document, Query
from rankrepro.judge.examples import EACH_WAY, QUOTE, examples, quote

UNITS = [f"q{i}" for i in range(20)]
BENCHMARK = Benchmark(
    "b",
    {u: Query(u, f"text of {u}", "test") for u in UNITS},
    {d: Document(d, d.upper(), "word " * 90) for d in "vwxyz"},
)
QRELS = {u: {"x": 2} for u in UNITS}
A = {u: i / 20 for i, u in enumerate(UNITS)}
B = {u: 0.5 for u in UNITS[:-1]}
RANKING_A = {u: {"x": 3.0, "y": 2.0, "z": 1.0, "w": 0.5} for u in UNITS}
RANKING_B = {u: {"z": 3.0, "v": 2.0} for u in UNITS}


def test_the_largest_gains_and_losses_are_told_in_full() -> None:
    found = examples("nDCG@10", ("p.a", "p.b"), BENCHMARK, QRELS, (A, B), (RANKING_A, RANKING_B))
    assert found["differences"] == pytest.approx([A[u] - 0.5 for u in reversed(UNITS[:-1])])
    told = [d["unit"] for d in found["details"]]
    assert told == ["q18", "q17", "q16", "q15", "q14", "q4", "q3", "q2", "q1", "q0"]
    assert len(told) == 2 * EACH_WAY and found["details"][0]["query"] == "text of q18"
    first = found["details"][0]
    assert [(d["id"], d["title"], d["grade"]) for d in first["a"]] == [("x", "X", 2), ("y", "Y", 0), ("z", "Z", 0)]
    assert [d["id"] for d in first["b"]] == ["z", "v"]
    assert all(len(d["quote"]) <= QUOTE for detail in found["details"] for d in detail["a"])


def test_no_difference_is_neither_gain_nor_loss() -> None:
    found = examples("nDCG@10", ("p.a", "p.b"), BENCHMARK, QRELS, (B, B), (RANKING_A, RANKING_B))
    assert found["details"] == [] and set(found["differences"]) == {0}


@given(st.text(), st.integers(5, 40))
def test_a_quote_is_a_beginning_and_never_longer_than_allowed(text: str, limit: int) -> None:
    plain, found = " ".join(text.split()), quote(text, limit)
    assert len(found) <= limit
    assert found == plain or (found.endswith("…") and plain.startswith(found[:-1]))
