"""Measures of image retrieval: landmarks as revisited Oxford counts them, places as Street-Level Sequences does.

Landmarks (Radenovic et al. 2018): a setting says which grades are right and which are junk; junk is dropped from the
ranking first, and a query without a right picture in a setting is left out of it. Places (Warburg et al. 2020): a query
counts if one of the first k pictures is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from rankrepro.benchmarks.base import Truth
from rankrepro.benchmarks.images import ImageTruth, windows
from rankrepro.cell import Output, ordered

EASY, HARD, JUNK = 2, 1, -1
SETTINGS = {  # setting -> grades that are right, grades that are junk
    "E": ({EASY}, {JUNK, HARD}),
    "M": ({EASY, HARD}, {JUNK}),
    "H": ({HARD}, {JUNK, EASY}),
}
TASKS = ("im2im", "seq2im", "im2seq", "seq2seq")  # what is asked with, and what is answered with
WINDOW = 3  # frames of a sequence
Measure = Callable[[Output, Truth], dict[str, float]]


def trapezoid(ranks: Sequence[int], n_right: int) -> float:
    """Average precision as the area under precision over recall, by trapezoids.

    ranks: of the right pictures found, 0 the first, rising; n_right: of all there are.
    """
    area = 0.0
    for j, rank in enumerate(ranks):
        before = j / rank if rank else 1.0
        area += (before + (j + 1) / (rank + 1)) / 2
    return area / n_right


def precision(ranks: Sequence[int], k: int) -> float:
    """Share of right pictures among the first k, or down to the last right one if that comes sooner."""
    depth = min(k, ranks[-1] + 1) if ranks else k
    return sum(rank < depth for rank in ranks) / depth


def landmark_measures() -> dict[str, Measure]:
    """mAP-E, mAP-M, mAP-H and mP@1, mP@5, mP@10 of each setting: name -> (output, truth) -> query -> value."""
    found: dict[str, Measure] = {}
    for setting in SETTINGS:
        found[f"mAP-{setting}"] = partial(_landmark, setting, trapezoid)
        for k in (1, 5, 10):
            found[f"mP@{k}-{setting}"] = partial(_landmark, setting, _precision_at(k))
    return found


def _precision_at(k: int) -> Callable[[Sequence[int], int], float]:
    return lambda ranks, n_right: precision(ranks, k)


def _landmark(
    setting: str, value: Callable[[Sequence[int], int], float], output: Output, truth: Truth
) -> dict[str, float]:
    right, junk = SETTINGS[setting]
    out = {}
    for q, scores in output.values.items():
        grades = truth.qrels.get(q, {})
        n_right = sum(grade in right for grade in grades.values())
        if n_right:
            kept = [d for d in ordered(scores) if grades.get(d) not in junk]
            out[q] = value([i for i, d in enumerate(kept) if grades.get(d) in right], n_right)
    return out


def place_measures() -> dict[str, Measure]:
    """PlaceRecall@k (25 m and 40 degrees), PlaceRecall25m@k (whatever the heading), PlaceRecall-<task>@k."""
    found: dict[str, Measure] = {}
    for k in (1, 5, 10, 20):
        found[f"PlaceRecall@{k}"] = partial(_place, k, 1)
        found[f"PlaceRecall25m@{k}"] = partial(_place, k, 0)
        for task in TASKS[1:]:
            asked, answered = task.split("2")
            found[f"PlaceRecall-{task}@{k}"] = partial(_sequence, k, asked, answered)
    return found


def _place(k: int, least: int, output: Output, truth: Truth) -> dict[str, float]:
    return {
        q: float(any(truth.qrels[q].get(d, -1) >= least for d in ordered(scores)[:k]))
        for q, scores in output.values.items()
        if q in truth.qrels
    }


def _sequence(k: int, asked: str, answered: str, output: Output, truth: ImageTruth) -> dict[str, float]:
    """Units are the centre frames; two sequences match if any frame of one is positive to any of the other.

    Queries that are in the middle of no whole window are left out; so are frames that answer for none.
    """
    around = windows(truth.walks, WINDOW)
    out = {}
    for q, scores in output.values.items():
        if q not in truth.qrels or (asked == "seq" and q not in around):
            continue
        frames = around[q] if asked == "seq" else [q]
        right = {d for f in frames for d, grade in truth.qrels.get(f, {}).items() if grade >= 1}
        order = [d for d in ordered(scores) if answered == "im" or d in around]
        out[q] = float(any(right & set(around[d] if answered == "seq" else [d]) for d in order[:k]))
    return out
