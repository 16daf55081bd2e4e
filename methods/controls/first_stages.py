"""First stages: rankings of a whole corpus, from which re-rankers start."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from methods.parts.retrieval.bm25 import Index
from methods.parts.retrieval.outputs import Scores
from methods.parts.retrieval.topk import best
from rankrepro.cell import Cell, Retrieval, Size


def bm25(cell: Cell, *, k: int, k1: float, b: float) -> Retrieval:
    """BM25 over the whole corpus: the `k` best documents."""
    corpus = cell.benchmark.corpus
    index = Index([d.content for d in corpus.values()], k1, b)
    ids = list(corpus)

    def search(queries: list[str]) -> dict[str, Scores]:
        scores = index.scores([cell.queries[q] for q in queries])
        return {q: best(ids, s, k, cell.benchmark.queries[q].excluded) for q, s in zip(queries, scores, strict=True)}

    return Retrieval(cell.map(list(cell.queries), search, batch=64))


def encode_corpus(
    cell: Cell, *, max_tokens: Annotated[int, Size(rehearsal=32)], batch: Annotated[int, Size(rehearsal=8)]
) -> dict[str, np.ndarray]:
    """Stage: embeddings [documents, dim] of the corpus in its order, from the first `max_tokens` tokens of a text."""
    from methods.parts.retrieval.encoder import encode

    texts = [d.content for d in cell.benchmark.corpus.values()]
    return {"embeddings": encode(cell.models["encoder"], texts, max_tokens, batch, cell.progress)}


def dense(
    cell: Cell, *, k: int, max_tokens: Annotated[int, Size(rehearsal=32)], batch: Annotated[int, Size(rehearsal=8)]
) -> Retrieval:
    """Exact search by cosine of sentence embeddings: the `k` best documents. inputs: embeddings (encode_corpus)."""
    from methods.parts.retrieval.encoder import encode

    ids, corpus = list(cell.benchmark.corpus), cell.inputs["embeddings"]["embeddings"]

    def search(queries: list[str]) -> dict[str, Scores]:
        vectors = encode(cell.models["encoder"], [cell.queries[q] for q in queries], max_tokens, batch)
        return {
            q: best(ids, corpus @ v, k, cell.benchmark.queries[q].excluded)
            for q, v in zip(queries, vectors, strict=True)
        }

    by_length = sorted(cell.queries, key=lambda q: (len(cell.queries[q]), q))
    return Retrieval(cell.map(by_length, search, batch=batch))
