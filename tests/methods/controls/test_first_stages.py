"""First stages against an independent computation of the same scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from methods.controls import first_stages
from rankrepro.benchmarks.base import Benchmark, Document, Query
from rankrepro.cell import Cell

MakeCell = Callable[..., Cell]
BM25 = {"k1": 0.9, "b": 0.4}


def test_bm25_is_the_formula(make_cell: MakeCell) -> None:
    """Lucene's BM25 by hand: stopwords gone, `rivers` and `river` one stem."""
    texts = ["river river bank", "the bank of money", "rivers and a long cold winter night"]
    words = [["river", "river", "bank"], ["bank", "money"], ["river", "long", "cold", "winter", "night"]]
    corpus = {f"d{i}": Document(f"d{i}", "", text) for i, text in enumerate(texts)}
    k1, b, average = 0.9, 0.4, sum(map(len, words)) / 3

    def score(query: list[str], document: list[str]) -> float:
        total = 0.0
        for t in query:
            df, tf = sum(t in w for w in words), document.count(t)
            idf = math.log(1 + (3 - df + 0.5) / (df + 0.5))
            total += idf * tf / (tf + k1 * (1 - b + b * len(document) / average))
        return total

    cell = make_cell({"q1": "the river", "q2": "money banks"}, {}, benchmark=Benchmark("b", {}, corpus))
    scores = first_stages.bm25(cell, k=3, k1=k1, b=b).checked(cell).values
    for q, query in (("q1", ["river"]), ("q2", ["money", "bank"])):
        assert scores[q] == pytest.approx({f"d{i}": score(query, w) for i, w in enumerate(words)}, abs=2e-5)


def test_bm25_keeps_k_skips_excluded_and_breaks_ties_by_id(make_cell: MakeCell) -> None:
    corpus = {d: Document(d, "", "same words") for d in ("d3", "d1", "d2")}
    cell = make_cell({"q": "words"}, {}, benchmark=Benchmark("b", {}, corpus))
    assert list(first_stages.bm25(cell, k=2, **BM25).checked(cell).values["q"]) == ["d1", "d2"]
    cell.benchmark = replace(cell.benchmark, queries={"q": Query("q", "words", "test", excluded=("d1",))})
    assert list(first_stages.bm25(cell, k=2, **BM25).checked(cell).values["q"]) == ["d2", "d3"]


@pytest.mark.parametrize("query", ["of the", "unheard", "   "])
def test_bm25_of_a_query_without_a_known_word(make_cell: MakeCell, query: str) -> None:
    cell = make_cell({"q": query, "p": f"{query} river"}, {})
    scores = first_stages.bm25(cell, k=2, **BM25).checked(cell).values
    assert scores["q"] == {"d0": 0, "d1": 0} and min(scores["p"].values()) > 0


def test_dense_is_mean_pooling(make_cell: MakeCell, encoder: Any) -> None:
    """Against transformers one text at a time: mean over tokens, cut at max_tokens, unit length."""
    cell = make_cell(candidates={}, models={"encoder": encoder})
    progress = []
    cell.progress = lambda done, total: progress.append((done, total))
    arrays = first_stages.encode_corpus(cell, max_tokens=8, batch=3)
    assert progress == [(3, 7), (6, 7), (7, 7)]
    cell.inputs = {"embeddings": arrays}
    scores = first_stages.dense(cell, k=4, max_tokens=8, batch=3).checked(cell).values

    @torch.inference_mode()
    def embed(text: str) -> np.ndarray:
        tokens = encoder.tokenizer(text, truncation=True, max_length=8, return_tensors="pt")
        mean = encoder.model(**tokens).last_hidden_state[0].mean(0)
        return (mean / mean.norm()).numpy()

    corpus = {d: embed(document.content) for d, document in cell.benchmark.corpus.items()}
    np.testing.assert_allclose(arrays["embeddings"], np.stack(list(corpus.values())), atol=1e-5)
    for q, text in cell.queries.items():
        expected = sorted(((embed(text) @ v, d) for d, v in corpus.items()), reverse=True)[:4]
        assert scores[q] == pytest.approx({d: float(s) for s, d in expected}, abs=2e-5)
