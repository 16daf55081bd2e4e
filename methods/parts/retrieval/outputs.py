"""Turn what `cell.map` returns into outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rankrepro.cell import Ranking

Scores = dict[str, float]  # document id -> score


def by_variant(results: Mapping[str, Mapping[str, Scores]]) -> dict[str, Ranking]:
    """query -> variant -> scores, turned into variant -> Ranking."""
    variants = list(next(iter(results.values()), {}))
    return {v: Ranking({q: result[v] for q, result in results.items()}) for v in variants}


def from_order(order: Sequence[str]) -> Scores:
    """Scores that rank documents as listed, best first: n, n - 1, ..., 1."""
    return {d: float(len(order) - rank) for rank, d in enumerate(order)}
