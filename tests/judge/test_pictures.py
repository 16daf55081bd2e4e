"""Landmarks and places: cases worked out by hand, and the formula of revisited Oxford written once more."""

from __future__ import annotations

import numpy as np
import pytest

from rankrepro.benchmarks.base import Truth
from rankrepro.benchmarks.images import ImageTruth, windows
from rankrepro.cell import Retrieval
from rankrepro.judge import measures
from rankrepro.judge.pictures import precision, trapezoid

# ranking: junk, easy, wrong, hard, easy, wrong; one hard picture is not found
QRELS = {"q": {"a": -1, "b": 2, "d": 1, "e": 2, "missing": 1}, "no_hard": {"b": 2}, "wrong": {"z": 1}}
TRUTH = Truth(QRELS, {})
RUN = Retrieval({q: {d: -float(i) for i, d in enumerate("abcdef")} for q in QRELS})


def test_settings_by_hand() -> None:
    value = {m: measures.per_unit(m, RUN, TRUTH) for m in ("mAP-E", "mAP-M", "mAP-H", "mP@10-H", "mP@1-M", "mP@5-E")}
    # easy: a and d are junk; ranking b c e f; right at 0 and 2
    assert value["mAP-E"]["q"] == pytest.approx(((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2) / 2)
    # medium: a is junk; ranking b c d e f; right at 0, 2, 3 of four
    assert value["mAP-M"]["q"] == pytest.approx((1 + (1 / 2 + 2 / 3) / 2 + (2 / 3 + 3 / 4) / 2) / 4)
    # hard: a, b, e are junk; ranking c d f; right at 1 of two
    assert value["mAP-H"]["q"] == pytest.approx((0 / 1 + 1 / 2) / 2 / 2)
    assert value["mP@10-H"]["q"] == 0.5  # the last right one is the second: depth 2
    assert value["mP@1-M"]["q"] == 1.0
    assert value["mP@5-E"]["q"] == pytest.approx(2 / 3)
    assert set(value["mAP-H"]) == {"q", "wrong"} and set(value["mAP-E"]) == {"q", "no_hard"}  # no right picture
    assert value["mAP-H"]["wrong"] == value["mP@10-H"]["wrong"] == 0.0  # there is one, not found


def compute_map(ranks: np.ndarray, ok: list[int], junk: list[int], k: int) -> tuple[float, float]:
    """Revisited Oxford's definition, in the order of its steps: positions, minus the junk before each, trapezoids."""
    pos = np.arange(len(ranks))[np.isin(ranks, ok)]
    bad = np.arange(len(ranks))[np.isin(ranks, junk)]
    pos = np.array([p - (bad < p).sum() for p in pos], dtype=int)
    ap, step = 0.0, 1.0 / len(ok)
    for j, rank in enumerate(pos):
        left = 1.0 if rank == 0 else float(j) / rank
        ap += (left + float(j + 1) / (rank + 1)) * step / 2.0
    pos = pos + 1
    depth = min(max(pos), k)
    return ap, (pos <= depth).sum() / depth


@pytest.mark.parametrize("setting, right, junk", [("E", (2,), (-1, 1)), ("M", (2, 1), (-1,)), ("H", (1,), (-1, 2))])
def test_agrees_with_the_definition_on_random_rankings(setting, right, junk) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        n = int(rng.integers(20, 60))
        grades = rng.choice([0, 0, 0, 1, 2, -1], n)
        grades[:2] = right[0], junk[0]
        ranks = rng.permutation(n)
        truth = Truth({"q": {f"d{i}": int(g) for i, g in enumerate(grades) if g}}, {})
        run = Retrieval({"q": {f"d{i}": -float(r) for r, i in enumerate(ranks)}})
        ok, bad = (np.flatnonzero(np.isin(grades, some)).tolist() for some in (right, junk))
        expected = compute_map(ranks, ok, bad, 10)
        got = [measures.per_unit(f"{m}-{setting}", run, truth)["q"] for m in ("mAP", "mP@10")]
        assert got == pytest.approx(expected)


def test_a_perfect_ranking_is_1_and_junk_does_not_move_it() -> None:
    assert trapezoid([0, 1, 2], 3) == 1.0 and precision([0, 1, 2], 10) == 1.0 and precision([], 10) == 0.0
    clean = measures.per_unit("mAP-M", Retrieval({"q": {"b": 3, "c": 2, "d": 1, "e": 0}}), TRUTH)["q"]
    junk_first = measures.per_unit("mAP-M", Retrieval({"q": {"a": 9, "b": 3, "c": 2, "d": 1, "e": 0}}), TRUTH)["q"]
    assert clean == junk_first


WALKS = {"w": ["q1", "q2", "q3"], "v": ["d1", "d2", "d3", "d4"], "lone": ["d5"]}
PLACES = ImageTruth(
    {"q1": {"d1": 1}, "q2": {"d5": 1, "d2": 0}, "q3": {"d4": 1}}, {}, poses={}, walks=WALKS
)  # fmt: skip


def test_places_count_the_first_k_and_may_ignore_the_heading() -> None:
    run = Retrieval({"q1": {"d2": 2, "d1": 1}, "q2": {"d2": 2, "d1": 1}, "q3": {"d1": 1}})
    assert measures.per_unit("PlaceRecall@1", run, PLACES) == {"q1": 0, "q2": 0, "q3": 0}
    assert measures.per_unit("PlaceRecall@5", run, PLACES) == {"q1": 1, "q2": 0, "q3": 0}
    assert measures.per_unit("PlaceRecall25m@1", run, PLACES) == {"q1": 0, "q2": 1, "q3": 0}  # d2 looks elsewhere


def test_sequences_match_if_any_pair_of_frames_does() -> None:
    assert windows(WALKS, 3) == {"q2": ["q1", "q2", "q3"], "d2": ["d1", "d2", "d3"], "d3": ["d2", "d3", "d4"]}

    def recall(task: str, *order: str) -> dict[str, float]:
        run = Retrieval({q: {d: -i for i, d in enumerate(order)} for q in ("q1", "q2", "q3")})
        return measures.per_unit(f"PlaceRecall-{task}@1", run, PLACES)

    assert recall("seq2im", "d4") == {"q2": 1}  # d4 is positive to q3; q1 and q3 have no whole window
    assert recall("seq2im", "d3") == {"q2": 0}
    assert recall("im2seq", "d5", "d1", "d2") == {"q1": 1, "q2": 0, "q3": 0}  # d5 and d1 are no centre of a window
    assert recall("seq2seq", "d3") == {"q2": 1}  # d3's window holds d4
