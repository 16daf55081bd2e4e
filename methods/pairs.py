"""Stages that turn a benchmark of training pairs into training data."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from rankrepro.cell import Cell
from rankrepro.errors import BenchmarkError


def negatives(cell: Cell) -> dict[str, np.ndarray]:
    """Stage: hard negatives from the first stage, as positions in the corpus.

    negatives [training queries, count]: BM25's order, less the articles judged for the query and all that a validation
    query is judged for; of the rest the `skip` best are passed over (an unjudged article at the top is often relevant),
    the next `count` are taken.
    held [validation queries, held]: BM25's best that are not judged for the query, to rank the judged ones among.

    Queries in the order of `benchmark.of_split`. params: k1, b, skip, count, held.
    """
    p, benchmark = cell.params, cell.benchmark
    closed = {d for q in benchmark.of_split("validation") for d in benchmark.judgments[q]}
    return {
        "negatives": _best(cell, "train", closed, p.skip, p.count),
        "held": _best(cell, "validation", set(), 0, p.held),
    }


def _best(cell: Cell, split: str, closed: set[str], skip: int, count: int) -> np.ndarray:
    from methods.baselines import bm25

    benchmark = cell.benchmark
    queries = {q: query.text for q, query in benchmark.of_split(split).items()}
    most = max(len(benchmark.judgments[q]) for q in queries)
    params = SimpleNamespace(k1=cell.params.k1, b=cell.params.b, k=skip + count + most + len(closed))
    ranked = bm25(replace(cell, queries=queries, params=params, shards=None)).values
    position = {d: i for i, d in enumerate(benchmark.corpus)}
    found = np.empty((len(queries), count), dtype=np.int32)
    for row, q in enumerate(queries):
        free = [position[d] for d in ranked[q] if d not in closed and d not in benchmark.judgments[q]]
        if len(free) < skip + count:
            raise BenchmarkError(
                f"{cell.name}: the corpus of {benchmark.id} is too small for {count} negatives of '{q}' after {skip}; "
                "lower `count`, `held` or `skip` in the card"
            )
        found[row] = free[skip : skip + count]
    return found
