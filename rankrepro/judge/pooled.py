"""Pooled measures: values of many units at once, which no mean over units gives.

Each has the material of a unit, ready for JSON, and a `pool`: materials of all units -> a function from how often each
unit is counted [units] to the value, or from many such counts [draws, units] to as many values. What does not depend on
the counts is computed once, so that a bootstrap is fast.

The area under the ROC curve compares every relevant document of one query with the other documents of every query.
Those are a query's DEPTH best scored documents without a relevance judgment of 1 or more; a relevant document that was
not retrieved has the lowest score of its query's list, the highest it can have had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rankrepro.benchmarks.base import Truth
from rankrepro.cell import Likelihoods, Output
from rankrepro.errors import OutputError
from rankrepro.judge.statistics import Array

Value = Callable[[Array], Any]  # multiplicities [..., units] -> values [...]
Pool = Callable[[Sequence[Any]], Value]

DEPTH = 100
STEP = 256  # documents of a ROC curve walked through at once
FALSE_POSITIVES = (0.01, 0.05, 0.1, 0.2, 0.5)  # rates at which a ROC curve is read off


def likelihoods(output: Likelihoods, truth: Any) -> dict[str, list[float]]:
    """Block -> [nll, tokens]. OutputError where a block has not the tokens that the truth counts."""
    known = getattr(truth, "tokens", {})
    for block, (_, tokens) in output.values.items():
        if tokens != known.get(block, tokens):
            raise OutputError(f"'{block}' has {known[block]} tokens, the likelihood is of {tokens}: score every token")
    return {block: [float(nll), float(tokens)] for block, (nll, tokens) in output.values.items()}


def perplexity(blocks: Sequence[Sequence[float]]) -> Value:
    """exp of the mean negative log-likelihood a token."""
    nll, tokens = np.array(blocks, dtype=float).reshape(-1, 2).T
    return lambda counts: np.exp(counts @ nll / (counts @ tokens))


def scores(output: Output, truth: Truth) -> dict[str, list[list[float]]]:
    """Query -> [scores of its relevant documents, scores of its DEPTH best others]."""
    found = {}
    for q, ranked in output.values.items():
        relevant = {d for d, grade in truth.qrels.get(q, {}).items() if grade >= 1}
        if not relevant:
            continue
        lowest = min(ranked.values())
        others = sorted((s for d, s in ranked.items() if d not in relevant), reverse=True)[:DEPTH]
        found[q] = [[ranked.get(d, lowest) for d in sorted(relevant)], others]
    return found


def auc(units: Sequence[Sequence[Sequence[float]]]) -> Value:
    """The share of pairs (relevant, other), of all queries, in which the relevant one scores higher; ties are half."""
    positives, negatives = _sizes(units)
    ordered = [np.sort(other) for _, other in units]
    wins = np.empty((len(units), len(units)))  # of the relevant ones of i over the others of j
    every = np.concatenate([np.asarray(own, dtype=float) for own, _ in units])
    starts = np.concatenate(([0], np.cumsum(positives)[:-1])).astype(int)
    for j, other in enumerate(ordered):
        below = (np.searchsorted(other, every, "left") + np.searchsorted(other, every, "right")) / 2
        wins[:, j] = np.add.reduceat(below, starts)

    return lambda counts: ((counts @ wins) * counts).sum(-1) / ((counts @ positives) * (counts @ negatives))


def within_auc(output: Output, truth: Truth) -> dict[str, float]:
    """Query -> its own area under the curve: blind to how scores compare between queries; 1/2 without other documents.

    The mean over queries is a plain one: this measure is not pooled and stands beside the one that is.
    """
    return {q: float(auc([unit])(np.ones(1))) if unit[1] else 0.5 for q, unit in scores(output, truth).items()}


def true_positives(rate: float) -> Pool:
    """The share of relevant documents above the one threshold that lets `rate` of all others through."""

    def pool(units: Sequence[Sequence[Sequence[float]]]) -> Value:
        positives, _ = _sizes(units)
        own = np.concatenate([np.asarray(p, dtype=float) for p, _ in units])
        other = np.concatenate([np.asarray(n, dtype=float) for _, n in units])
        owner = np.repeat(np.arange(len(units)), [len(n) for _, n in units])
        down = np.argsort(-other, kind="stable")
        falling, owner = other[down], owner[down]
        holder = np.repeat(np.arange(len(units)), positives.astype(int))
        blocks = [np.bincount(owner[s : s + STEP], minlength=len(units)) for s in range(0, len(owner), STEP)]
        before = np.vstack([np.zeros(len(units)), np.cumsum(blocks, axis=0)])  # others of each unit above a block

        def one(counts: Array, reached: Array) -> float:
            goal = rate * reached[-1]
            block = min(int(np.searchsorted(reached, goal, "right")), len(blocks)) - 1
            here = slice(block * STEP, (block + 1) * STEP)
            passed = reached[block] + np.cumsum(counts[owner[here]])
            threshold = falling[min(here.start + int(np.searchsorted(passed, goal, "right")), len(falling) - 1)]
            return float(counts[holder] @ (own > threshold) / (counts @ positives))

        def value(counts: Array) -> Any:
            drawn = np.atleast_2d(counts)
            found = np.array([one(c, reached) for c, reached in zip(drawn, drawn @ before.T, strict=True)])
            return found if counts.ndim > 1 else found[0]

        return value

    return pool


def _sizes(units: Sequence[Sequence[Sequence[float]]]) -> tuple[Array, Array]:
    return np.array([len(p) for p, _ in units], dtype=float), np.array([len(n) for _, n in units], dtype=float)


# --- material on paper -----------------------------------------------------------------------------------------------

Scores = Mapping[str, Sequence[Sequence[Sequence[float]]]]  # unit -> per seed [scores of relevant ones, of others]


def packed(material: Scores) -> dict[str, list[list[list[int]]]]:
    """Material of `scores` with each score replaced by its place among all scores of its seed, 0 for the lowest.

    That order is all that a ROC curve depends on, and it takes a third of the room. Others fall: the first is a place,
    each that follows the number of places further down.
    """
    found: dict[str, list[list[list[int]]]] = {unit: [] for unit in material}
    for seed in range(max(map(len, material.values()), default=0)):
        parts = [part for seeds in material.values() for part in seeds[seed]]
        every = np.concatenate([np.asarray(part, dtype=float) for part in parts])
        places = np.unique(every, return_inverse=True)[1]
        own_and_others = iter(np.split(places, np.cumsum([len(part) for part in parts])[:-1]))
        for unit in material:
            own, others = next(own_and_others), next(own_and_others)
            found[unit].append([own.tolist(), [*others[:1].tolist(), *(-np.diff(others)).tolist()]])
    return found


def unpacked(material: Mapping[str, Sequence[Sequence[Sequence[int]]]]) -> dict[str, list[list[list[float]]]]:
    """Places as scores again: the same order, so the same value of every measure of a ROC curve."""
    return {
        unit: [
            [list(map(float, own)), (2 * others[0] - np.cumsum(others)).tolist() if others else []]
            for own, others in seeds
        ]
        for unit, seeds in material.items()
    }
