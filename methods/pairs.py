"""Stages that turn a benchmark of training pairs into training data."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from rankrepro.cell import Cell
from rankrepro.errors import BenchmarkError


def negatives(cell: Cell) -> dict[str, np.ndarray]:
    """Stage: hard negatives of every training query from the first stage, positions in the corpus [queries, count].

    The rule: BM25's order of the corpus, less the articles judged for the query and all that a validation query is
    judged for; of the rest the `skip` best are passed over (an unjudged article at the top is often relevant), the
    next `count` are taken. Queries in the order of `benchmark.of_split("train")`.
    params: k1, b, skip, count.
    """
    from methods.baselines import bm25

    p, benchmark = cell.params, cell.benchmark
    queries = {q: query.text for q, query in benchmark.of_split("train").items()}
    held = {d for q in benchmark.of_split("validation") for d in benchmark.judgments[q]}
    most = max(len(benchmark.judgments[q]) for q in queries)
    first = replace(
        cell, queries=queries, params=SimpleNamespace(k1=p.k1, b=p.b, k=p.skip + p.count + most + len(held))
    )
    position = {d: i for i, d in enumerate(benchmark.corpus)}
    found = np.empty((len(queries), p.count), dtype=np.int32)
    for row, (q, ranked) in enumerate(bm25(first).values.items()):
        free = [position[d] for d in ranked if d not in held and d not in benchmark.judgments[q]]
        if len(free) < p.skip + p.count:
            raise BenchmarkError(
                f"{cell.name}: the corpus of {benchmark.id} is too small for {p.count} negatives of '{q}' after "
                f"{p.skip}; lower `count` or `skip` in the card"
            )
        found[row] = free[p.skip : p.skip + p.count]
    return {"negatives": found}
