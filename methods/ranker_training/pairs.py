"""Stages that turn a benchmark of training pairs into training data."""

from __future__ import annotations

import numpy as np

from methods.parts.retrieval.bm25 import Index
from methods.parts.retrieval.topk import best
from rankrepro.cell import Cell
from rankrepro.errors import BenchmarkError


def negatives(cell: Cell, *, k1: float, b: float, skip: int, count: int, held: int) -> dict[str, np.ndarray]:
    """Stage: hard negatives from the first stage, as positions in the corpus.

    negatives [training queries, count]: BM25's order without the articles judged for the query or for any validation
    query. The `skip` best are left out, since an unjudged article at the top is often relevant; the next `count` are
    taken.
    held [validation queries, held]: BM25's best that are not judged for the query; validation ranks the judged ones
    among them.

    Queries are in the order of `benchmark.of_split`.
    """
    benchmark = cell.benchmark
    index = Index([d.content for d in benchmark.corpus.values()], k1, b)
    closed = {d for q in benchmark.of_split("validation") for d in benchmark.judgments[q]}
    return {
        "negatives": _hardest(cell, index, "train", closed, skip, count),
        "held": _hardest(cell, index, "validation", set(), 0, held),
    }


def _hardest(cell: Cell, index: Index, split: str, closed: set[str], skip: int, count: int) -> np.ndarray:
    benchmark, ids = cell.benchmark, list(cell.benchmark.corpus)
    queries = {q: query.text for q, query in benchmark.of_split(split).items()}
    most_judged = max(len(benchmark.judgments[q]) for q in queries)
    place = {d: i for i, d in enumerate(ids)}
    rows = np.empty((len(queries), count), dtype=np.int32)
    for row, (q, scores) in enumerate(zip(queries, index.scores(list(queries.values())), strict=True)):
        ranked = best(ids, scores, skip + count + most_judged + len(closed), benchmark.queries[q].excluded)
        free = [place[d] for d in ranked if d not in closed and d not in benchmark.judgments[q]]
        if len(free) < skip + count:
            raise BenchmarkError(
                f"{cell.name}: the corpus of {benchmark.id} is too small for {count} negatives of '{q}' after {skip}; "
                "lower `count`, `held` or `skip` in the card"
            )
        rows[row] = free[skip : skip + count]
    return rows
