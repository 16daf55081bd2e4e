"""The real models, and a few short documents for them to rank."""

from __future__ import annotations

from collections.abc import Callable

import cells
import pytest
import torch

from rankrepro import models
from rankrepro.artifacts import load_catalogue
from rankrepro.benchmarks.base import Benchmark
from rankrepro.cell import Cell
from rankrepro.models import LoadedModel


@pytest.fixture(scope="session")
def lm() -> LoadedModel:
    return models.load(models.spec(load_catalogue()["smollm2-135m-instruct"]), threads=1)


@pytest.fixture(scope="session")
def encoder() -> LoadedModel:
    return models.load(models.spec(load_catalogue()["all-minilm-l6-v2"]), threads=1)


@pytest.fixture(scope="session")
def benchmark_() -> Benchmark:
    return cells.FEW


@pytest.fixture
def uncached(lm: LoadedModel) -> Callable[[list[int]], torch.Tensor]:
    """uncached(tokens): logits [tokens, vocabulary] of one sequence, read at once, without cache or padding."""

    @torch.inference_mode()
    def logits(tokens: list[int]) -> torch.Tensor:
        return lm.model(torch.tensor([tokens]), use_cache=False).logits[0]

    return logits


@pytest.fixture
def make_cell() -> Callable[..., Cell]:
    """make_cell(queries, candidates, benchmark=, models=, ...): see `cells.make_cell`."""
    return cells.make_cell
