"""Cells for tests of methods, as the runner would make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankrepro.benchmarks.base import Benchmark, Document, Query
from rankrepro.cell import Cell

TEXTS = {
    "Danube": "The Danube is the second-longest river in Europe. It flows through ten countries.",
    "Chess": "Chess is a board game for two players, played on a board of 64 squares.",
    "Paris": "Paris is the capital and largest city of France [2], on the river Seine.",
    "Owl": "Owls are mostly solitary and nocturnal birds of prey.",
    "Copper": "Copper is a soft metal that conducts heat and electricity very well.",
    "Rhine": "The Rhine flows through Germany and the Netherlands to the North Sea.",
    "": "A text without a title, about nothing in particular.",
}
QUERIES = {"q1": "which river flows through germany", "q2": "board games", "q3": "What is the capital of France?"}
FEW = Benchmark("test/few", {}, {f"d{i}": Document(f"d{i}", *item) for i, item in enumerate(TEXTS.items())})


def make_cell(
    queries: Mapping[str, str] | None = None,
    candidates: Mapping[str, Sequence[str]] | None = None,
    *,
    benchmark: Any = FEW,
    models: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    seed: int = 0,
    shards: Path | None = None,
    name: str = "test",
) -> Cell:
    """A cell with all queries (or units) of its benchmark and all documents as their candidates, unless given others.

    A benchmark that has queries, or is none of texts, stays as it is; another is given those of the cell.
    """
    if queries is None and isinstance(benchmark, Benchmark):
        queries = {q.id: q.text for q in benchmark.queries.values()} or QUERIES
    elif queries is None:
        queries = {unit: unit for unit in benchmark.units}
    if isinstance(benchmark, Benchmark) and not benchmark.queries:
        benchmark = replace(benchmark, queries={q: Query(q, text, "test") for q, text in queries.items()})
    if candidates is None:
        candidates = {q: list(benchmark.corpus) for q in queries} if isinstance(benchmark, Benchmark) else {}
    texts, known = list(queries.values()), getattr(benchmark, "queries", {})
    return Cell(
        name=name,
        benchmark=benchmark,
        queries=queries,
        candidates=candidates,
        seed=seed,
        models=models or {},
        inputs=inputs or {},
        pictures={q: known[q].image for q in queries if q in known and known[q].image},
        decoys=dict(zip(queries, [*texts[1:], *texts[:1]], strict=True)),
        shards=shards,
    )
