"""The real models, and a few short documents for them to rank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from rankrepro import models
from rankrepro.artifacts import load_catalogue
from rankrepro.benchmarks.base import Benchmark, Document, Query
from rankrepro.cell import Cell
from rankrepro.models import LoadedModel

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


@pytest.fixture(scope="session")
def lm() -> LoadedModel:
    return models.load(models.spec(load_catalogue()["smollm2-135m-instruct"]), threads=1)


@pytest.fixture(scope="session")
def encoder() -> LoadedModel:
    return models.load(models.spec(load_catalogue()["all-minilm-l6-v2"]), threads=1)


@pytest.fixture(scope="session")
def benchmark_() -> Benchmark:
    documents = [Document(f"d{i}", title, text) for i, (title, text) in enumerate(TEXTS.items())]
    return Benchmark("test/few", {}, {d.id: d for d in documents})


@pytest.fixture
def uncached(lm: LoadedModel) -> Callable[[list[int]], torch.Tensor]:
    """uncached(tokens): logits [tokens, vocabulary] of one sequence, read at once, without cache or padding."""

    @torch.inference_mode()
    def logits(tokens: list[int]) -> torch.Tensor:
        return lm.model(torch.tensor([tokens]), use_cache=False).logits[0]

    return logits


@pytest.fixture
def make_cell(benchmark_: Benchmark) -> Callable[..., Cell]:
    """make_cell(queries=, candidates=, models=, ...): every query gets all documents unless told.

    A benchmark that has queries, or is none of texts, stays as it is; another is given those of the cell.
    """

    def make(
        queries: dict[str, str] | None = None, candidates: Any = None, models: Any = None, seed: int = 0,
        inputs: Any = None, benchmark: Any = benchmark_, shards: Any = None,
    ) -> Cell:  # fmt: skip
        if queries is None:
            queries = {q.id: q.text for q in benchmark.queries.values()} or QUERIES
        if isinstance(benchmark, Benchmark) and not benchmark.queries:
            benchmark = replace(benchmark, queries={q: Query(q, text, "test") for q, text in queries.items()})
        ring = list(queries)
        return Cell(
            name="test",
            benchmark=benchmark,
            queries=queries,
            candidates={q: list(benchmark.corpus) for q in queries} if candidates is None else candidates,
            seed=seed,
            models=models or {},
            inputs=inputs or {},
            decoys={q: queries[ring[(i + 1) % len(ring)]] for i, q in enumerate(ring)},
            shards=shards,
        )

    return make
