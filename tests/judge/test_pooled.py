"""Pooled measures against scikit-learn and against values worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from rankrepro.benchmarks.base import Truth
from rankrepro.benchmarks.vital_lm import LmTruth
from rankrepro.cell import Likelihoods, Retrieval
from rankrepro.errors import OutputError
from rankrepro.judge import measures, pooled

TRUTH = Truth({"q1": {"a": 1, "z": 2, "b": 0}, "q2": {"c": 1}, "q3": {"a": 0}}, {})
RUN = Retrieval({
    "q1": {"a": 0.9, "b": 0.8, "c": 0.1},
    "q2": {"a": 0.5, "c": 0.4, "b": 0.2},
    "q3": {"a": 1.0},
})  # fmt: skip


def units(rng: np.random.Generator, n: int = 20) -> list:
    """Scores with ties within and between queries."""

    def some(mean: float, most: int) -> list[float]:
        return rng.normal(mean, 1, rng.integers(1, most)).round(1).tolist()

    return [[some(0.5, 4), some(0, 9)] for _ in range(n)]


def test_material_of_a_query():
    found = measures.per_unit("PooledAUC", RUN, TRUTH)
    assert found == {"q1": [[0.9, 0.1], [0.8, 0.1]], "q2": [[0.4], [0.5, 0.2]]}  # z: not retrieved; q3: none relevant


def test_by_hand():
    value = pooled.auc(list(measures.per_unit("PooledAUC", RUN, TRUTH).values()))
    # 0.9 beats all four; 0.1 ties 0.1; 0.4 beats 0.1 and 0.2
    assert value(np.ones(2)) == pytest.approx((4 + 0.5 + 2) / 12)
    assert value(np.array([0.0, 2.0])) == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(4))
def test_pooled_auc_is_that_of_scikit_learn_for_any_resample(seed):
    rng = np.random.default_rng(seed)
    material = units(rng)
    value = pooled.auc(material)
    for counts in (np.ones(20), rng.multinomial(20, np.full(20, 0.05))):
        chosen = [u for u, c in zip(material, counts, strict=True) for _ in range(int(c))]
        y = [label for own, other in chosen for label in [1] * len(own) + [0] * len(other)]
        s = [x for own, other in chosen for x in [*own, *other]]
        assert value(counts.astype(float)) == pytest.approx(roc_auc_score(y, s), abs=1e-12)


@pytest.mark.parametrize("step", [1, 3, 256])
@pytest.mark.parametrize("rate", [0.0, 0.05, 0.3, 0.999, 1.0])
def test_points_of_a_resample_are_those_of_its_documents_walked_one_by_one(rate, step, monkeypatch):
    monkeypatch.setattr(pooled, "STEP", step)
    rng = np.random.default_rng(11)
    material = units(rng)
    counts = np.vstack([np.ones(20), rng.multinomial(20, np.full(20, 0.05), 30)]).astype(float)
    expected = []
    for drawn in counts:
        chosen = [u for u, c in zip(material, drawn, strict=True) for _ in range(int(c))]
        own, other = (np.array([x for u in chosen for x in u[k]]) for k in (0, 1))
        falling = np.sort(other)[::-1]
        threshold = falling[min(int(rate * len(other)), len(other) - 1)]  # the first that would be one too many
        expected.append((own > threshold).mean())
    found = pooled.true_positives(rate)(material)(counts)
    assert found == pytest.approx(expected)
    assert pooled.true_positives(rate)(material)(counts[3]) == found[3]


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_points_of_the_curve_are_those_of_scikit_learn(rate):
    rng = np.random.default_rng(7)
    material = [[own + rng.random(len(own)).round(6), other + rng.random(len(other))] for own, other in units(rng)]
    y = [label for own, other in material for label in [1] * len(own) + [0] * len(other)]
    s = np.concatenate([np.concatenate(u) for u in material])
    false, true, _ = roc_curve(y, s, drop_intermediate=False)
    expected = true[false <= rate].max()  # the highest point that lets no more through
    assert pooled.true_positives(rate)(material)(np.ones(20)) == pytest.approx(expected)


def test_an_offset_of_a_query_changes_the_pooled_area_alone():
    rng = np.random.default_rng(3)
    material = [[np.array(own), np.array(other)] for own, other in units(rng)]
    moved = [[own + g, other + g] for (own, other), g in zip(material, rng.normal(0, 5, 20), strict=True)]
    one = np.ones(20)
    for before, after in zip(material, moved, strict=True):
        assert pooled.auc([after])(np.ones(1)) == pytest.approx(pooled.auc([before])(np.ones(1)))
    assert abs(pooled.auc(moved)(one) - 0.5) < abs(pooled.auc(material)(one) - 0.5)


def test_within_auc_is_the_mean_of_each_query_alone():
    run = Retrieval({"q1": {"a": 5.0, "b": 4.0}, "q2": {"a": 9.0, "c": 1.0, "b": 0.5}})
    truth = Truth({"q1": {"a": 1}, "q2": {"c": 1}}, {})
    assert measures.per_unit("WithinAUC", run, truth) == {"q1": 1.0, "q2": 0.5}


def test_depth_cuts_the_others_and_not_the_relevant():
    run = {f"d{i}": float(-i) for i in range(150)}
    own, other = pooled.scores(Retrieval({"q": run}), Truth({"q": {"d149": 1}}, {}))["q"]
    assert own == [-149.0] and other == [float(-i) for i in range(100)]


def test_perplexity_needs_every_token():
    truth = LmTruth({"a": 3, "b": 2}, {})
    term = measures.as_term("Perplexity", [[m] for m in measures.per_unit(
        "Perplexity", Likelihoods({"a": (3.0, 3), "b": (4.0, 2)}), truth).values()])  # fmt: skip
    assert term.values[0](np.ones((1, 2)))[0] == pytest.approx(np.exp(7 / 5))
    assert term.values[0](np.array([[2.0, 1]]))[0] == pytest.approx(np.exp(10 / 8))
    with pytest.raises(OutputError, match="'a' has 3 tokens, the likelihood is of 2"):
        measures.per_unit("Perplexity", Likelihoods({"a": (3.0, 2)}), truth)


@pytest.mark.parametrize("seed", range(3))
def test_packed_material_gives_the_same_values(seed):
    rng = np.random.default_rng(seed)
    seeds = [units(rng), units(rng)]
    seeds[0][0][1] = []  # a query all of whose documents are relevant
    for one in (other for part in seeds for other in part):
        one[1].sort(reverse=True)
    material = {f"q{i}": list(both) for i, both in enumerate(zip(*seeds, strict=True))}
    packed = json.loads(json.dumps(pooled.packed(material)))
    assert all(type(place) is int and place >= 0 for q in packed.values() for s in q for part in s for place in part)
    again = pooled.unpacked(packed)
    counts = rng.multinomial(20, np.full(20, 0.05), 5).astype(float)
    for i in range(2):
        for pool in (pooled.auc, pooled.true_positives(0.05)):
            one, other = (pool([material[q][i] for q in material]) for material in (material, again))
            np.testing.assert_array_equal(one(counts), other(counts))
