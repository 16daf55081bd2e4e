"""First and last items of a benchmark by their hash: for texts that must not be quoted."""

from __future__ import annotations

import hashlib

from rankrepro.benchmarks.base import Benchmark


def ends(benchmark: Benchmark) -> list[str]:
    """The beginning of the sha256 of id, title and text: first and last document, first and last query."""
    documents, queries = list(benchmark.corpus.values()), list(benchmark.queries.values())
    items = [(d.id, d.title, d.text) for d in (documents[0], documents[-1])]
    items += [(q.id, q.split, q.text) for q in (queries[0], queries[-1])]
    return [hashlib.sha256("\n".join(item).encode()).hexdigest()[:12] for item in items]
