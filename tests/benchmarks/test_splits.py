"""The graph of queries and relevant documents: components against scipy, splits, hubs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rankrepro.benchmarks import splits


def by_scipy(qrels: splits.Qrels) -> list[frozenset[str]]:
    queries = list(qrels)
    docs = sorted({d for judged in qrels.values() for d in splits.relevant(judged)})
    pairs = [(i, len(queries) + docs.index(d)) for i, q in enumerate(queries) for d in splits.relevant(qrels[q])]
    rows, columns = np.array(pairs).T
    n = len(queries) + len(docs)
    _, label = connected_components(coo_array((np.ones(len(pairs)), (rows, columns)), shape=(n, n)), directed=False)
    groups: dict[int, set[str]] = {}
    for i, q in enumerate(queries):
        groups.setdefault(label[i], set()).add(q)
    return sorted(map(frozenset, groups.values()), key=min)


def grouped(groups: dict[str, str]) -> list[frozenset[str]]:
    return sorted((frozenset(q for q in groups if groups[q] == g) for g in set(groups.values())), key=min)


@pytest.mark.parametrize("seed", range(20))
def test_components_are_scipys(seed):
    rng = np.random.default_rng(seed)
    qrels = {
        f"q{i}": {f"d{d}": int(g) for d, g in zip(rng.choice(60, 3, False), (1, *rng.integers(0, 3, 2)), strict=True)}
        for i in range(30)
    }
    assert grouped(splits.components(qrels)) == by_scipy(qrels)


def test_components_of_the_real_graph(built):
    _, truth, _ = built("vital/climate-fever")
    assert grouped(splits.components(truth.qrels)) == by_scipy(truth.qrels)


def test_a_component_is_named_by_its_first_document_and_grade_0_joins_nothing():
    qrels = {"a": {"z": 1, "m": 2}, "b": {"m": 1, "c": 0}, "c": {"c": 1}}
    assert splits.components(qrels) == {"a": "m", "b": "m", "c": "c"}


def test_a_giant_component_falls_into_hubs():
    chain = {f"q{i}": {f"d{i}": 1, f"d{i + 1}": 1} for i in range(4)}
    alone = {f"r{i}": {f"e{i}": 1} for i in range(4)}
    assert splits.clusters(chain | alone) == splits.hubs(chain | alone)
    assert splits.hubs(chain) == {"q0": "d1", "q1": "d1", "q2": "d2", "q3": "d3"}
    many = alone | {f"s{i}": {f"f{i}": 1} for i in range(8)}  # 4 of 16 queries are no giant
    assert splits.clusters(chain | many) == splits.components(chain | many)


def test_shares_are_met_by_whole_groups():
    groups = {f"q{i}": f"g{i % 97}" for i in range(1000)}
    split = splits.assign("seed", groups, {"train": 0.5, "validation": 0.2, "test": 0.3})
    counts = Counter(split.values())
    assert abs(counts["train"] - 500) < 12 and abs(counts["validation"] - 200) < 12 and abs(counts["test"] - 300) < 12
    assert all(len({split[q] for q in groups if groups[q] == g}) == 1 for g in set(groups.values()))
    assert split == splits.assign(
        "seed", dict(reversed(groups.items())), {"test": 0.3, "validation": 0.2, "train": 0.5}
    )
    assert split != splits.assign("another seed", groups, {"train": 0.5, "validation": 0.2, "test": 0.3})
