"""SuperGlobal: identities of its pooling and re-ranking, its controls, and pictures through the real network."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch

from methods.parts.vision.features import feature_map, middle_map, tensor
from methods.vision import superglobal
from methods.vision.superglobal import (
    alpha_expansion,
    database_only,
    gem,
    matches,
    over_scales,
    query_only,
    refined,
    regional,
    unit,
    whitening,
    with_tail,
)
from rankrepro import models
from rankrepro.artifacts import load_catalogue
from rankrepro.benchmarks.base import Document, Query
from rankrepro.benchmarks.images import ImageBenchmark
from rankrepro.cell import Cell, Ranking

MakeCell = Callable[..., Cell]
PLAIN: dict[str, Any] = {"mode": "superglobal", "configuration": "all"}
GRID = {"m": [10], "k": [3], "beta": [0.15]}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# --- pooling ---------------------------------------------------------------------------------------------------------


def test_gem_goes_from_the_mean_to_the_maximum() -> None:
    x = torch.rand(2, 5, 6, 8, dtype=torch.float64)
    assert torch.allclose(gem(x, 1), x.mean((2, 3)))
    assert torch.allclose(gem(x, 400), x.amax((2, 3)), atol=0.02)
    values = torch.stack([gem(x, p) for p in (1, 3, 4.6, 8)])
    assert (values.diff(dim=0) > 0).all()  # power means rise with p
    assert torch.allclose(gem(3 * x, 4.6), 3 * gem(x, 4.6))


def test_regional_gem_by_hand() -> None:
    x = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    x[0, 0, 2, 2] = 2.0
    y = regional(x, 3)
    local = (2**2.5 / 9) ** (1 / 2.5)
    assert y[0, 0, 2, 2] == pytest.approx(0.5 * local + 1.0) and y[0, 0, 1, 1] == pytest.approx(0.5 * local)
    assert y[0, 0, 0, 0] == pytest.approx(0, abs=1e-6)
    constant = torch.full((1, 3, 4, 6), 1.7)
    assert torch.allclose(regional(constant, 5), constant)  # borders are reflected, not padded with zeros
    assert regional(x, 3).shape == x.shape
    x[0, 0, 2, 2], x[0, 0, 1, 0] = 0.0, 2.0  # reflected at the border: column 1 stands in for column -1
    assert regional(x, 3)[0, 0, 1, 0] == pytest.approx(0.5 * local + 1.0)


def test_scales_are_pooled_by_maximum_or_mean() -> None:
    d = np.array([[[0.6, 0.8]], [[0.8, 0.6]]])
    assert over_scales(d, "max") == pytest.approx(unit(np.array([[0.8, 0.8]])))
    assert over_scales(d, "mean") == pytest.approx(unit(np.array([[0.7, 0.7]])))
    assert over_scales(d[:1], "max") == pytest.approx(d[0])  # one scale: nothing happens


def test_whitening_makes_numbers_uncorrelated(rng: np.random.Generator) -> None:
    g = rng.normal(size=(400, 12)) @ rng.normal(size=(12, 12)) + 3
    mean, projection = whitening(g, 5)
    assert np.cov((g - mean) @ projection, rowvar=False) == pytest.approx(np.eye(5), abs=1e-6)
    assert whitening(g[:4], 5)[1].shape == (12, 3)  # four points span three directions


# --- re-ranking ------------------------------------------------------------------------------------------------------


def by_the_book(q: np.ndarray, v: np.ndarray, k: int, beta: float) -> np.ndarray:
    """The re-ranker, written with loops."""
    m = len(v)
    out = np.empty_like(v)
    for i in range(m):
        others = sorted((j for j in range(m) if j != i), key=lambda j: -v[i] @ v[j])[:k]
        weights = [1.0] + [beta * float(v[i] @ v[j]) for j in others]
        out[i] = sum(w * v[j] for w, j in zip(weights, [i, *others], strict=True)) / sum(weights)
    s1 = np.array([q @ x for x in out])
    best = sorted(range(m), key=lambda i: -s1[i])[: k + 1]
    expanded = [max(out[i][c] for i in best) for c in range(v.shape[1])]
    return (s1 + out @ np.array(expanded)) / 2


@pytest.fixture
def vectors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return unit(rng.normal(size=16)), unit(np.abs(rng.normal(size=(30, 16))))


def test_the_reranker_is_the_papers(vectors) -> None:
    q, v = vectors
    for k, beta in ((9, 0.15), (3, 1.0), (29, 0.5)):
        assert superglobal.superglobal(q, v, k, beta) == pytest.approx(by_the_book(q, v, k, beta))


def test_the_halves_are_what_is_left_when_the_other_is_switched_off(vectors) -> None:
    q, v = vectors
    # beta = 0: nothing is refined, and only the query is expanded
    assert refined(v, 9, 0.0) == pytest.approx(v)
    assert superglobal.superglobal(q, v, 9, 0.0) == pytest.approx(query_only(q, v, 9, 0.15))
    # the refined database alone gives the scores s1
    assert database_only(q, v, 9, 0.15) == pytest.approx(refined(v, 9, 0.15) @ q)
    # one neighbour, nothing refined: the expanded query is the best candidate itself
    best = v[np.argmax(v @ q)]
    assert query_only(q, v, 0, 0.0) == pytest.approx((v @ q + v @ best) / 2)


def test_refined_vectors_are_averages_and_not_normalised_again(vectors) -> None:
    _, v = vectors
    norms = np.linalg.norm(refined(v, 9, 0.15), axis=1)
    assert norms.max() < 1 and norms.min() > 0.5
    same = np.repeat(v[:1], 12, 0)  # twins: an average of equals is the same again
    assert refined(same, 9, 0.15) == pytest.approx(same)


def test_alpha_expansion(vectors) -> None:
    q, v = vectors
    top = np.argsort(-(v @ q))[:3]
    assert alpha_expansion(q, v, 3, 0) == pytest.approx(v @ unit(q + v[top].sum(0)))  # alpha 0: plain average
    for query in (v[0] + v[1], -v[0]):  # with near neighbours, and with none: a negative cosine weighs nothing
        top = np.argsort(-(v @ query))[:3]
        weights = np.maximum(v[top] @ query, 0) ** 2
        assert alpha_expansion(query, v, 3, 2) == pytest.approx(v @ unit(query + weights @ v[top]))
    assert alpha_expansion(q, v, 0, 3) == pytest.approx(v @ q)


@pytest.fixture
def cell(make_cell: MakeCell, rng: np.random.Generator) -> Cell:
    """Queries and documents with random vectors; two queries are of the validation split and have judgments."""
    documents, queries = [f"d{i:02d}" for i in range(40)], [f"q{i}" for i in range(6)]
    pixels = {name: np.zeros((2, 2, 3), np.uint8) for name in documents + queries}
    split = dict.fromkeys(queries, "test") | dict.fromkeys(queries[:2], "validation")
    benchmark = ImageBenchmark(
        "test/pictures", {q: Query(q, "", split[q], image=q) for q in queries},
        {d: Document(d, "", "", image=d) for d in documents},
        {q: {documents[3]: 1, documents[5]: 2, documents[7]: -1} for q in queries[:2]}, pixels,
    )  # fmt: skip
    vectors = unit(rng.normal(size=(len(pixels), 8)))
    first = {q: list(rng.permutation(documents)) for q in queries}
    return make_cell(candidates=first, inputs={"descriptors": {"all": vectors}}, benchmark=benchmark)


def test_the_first_m_stay_the_first_m(cell: Cell) -> None:
    ranked = superglobal.rerank(cell, **PLAIN, grid=GRID).checked(cell).values
    for q, docs in cell.candidates.items():
        order = list(ranked[q])
        assert set(order[:10]) == set(docs[:10]) and order[10:] == docs[10:]
        assert order[:10] != docs[:10]  # and something happened


def test_a_permuted_cell_gives_candidates_the_scores_of_others(cell: Cell) -> None:
    plain, shuffled = (
        superglobal.rerank(cell, **PLAIN, grid=GRID, permuted=permuted).values for permuted in (False, True)
    )
    for q, docs in cell.candidates.items():
        assert sorted(plain[q].values()) == pytest.approx(sorted(shuffled[q].values()), abs=1e-5)
        assert [plain[q][d] for d in docs[:10]] != pytest.approx([shuffled[q][d] for d in docs[:10]])


def test_settings_are_chosen_on_validation_queries_alone(cell: Cell) -> None:
    grid = {"m": [5, 20], "k": [2, 5], "beta": [0.0, 1.0]}
    chosen = superglobal.tuned(cell, **PLAIN, grid=grid).values
    singles = {
        settings: superglobal.rerank(cell, **PLAIN, grid={n: [v] for n, v in zip(grid, settings, strict=True)}).values
        for settings in itertools.product(*grid.values())
    }

    # of one hard picture, 1 / rank after easy and junk ones are dropped
    def precision(values) -> float:
        ranks = [
            [d for d in sorted(values[q], key=lambda d: -values[q][d]) if d not in ("d05", "d07")] for q in ("q0", "q1")
        ]
        return float(np.mean([1 / (1 + order.index("d03")) for order in ranks]))

    precisions = {settings: precision(values) for settings, values in singles.items()}
    assert precision(chosen) == max(precisions.values()) > min(precisions.values()) and chosen in singles.values()


def test_every_mode_that_a_card_may_name_is_one() -> None:
    assert set(get_args(get_type_hints(superglobal.rerank)["mode"])) == set(superglobal.MODES)


def test_the_tail_keeps_its_order_below() -> None:
    scores = with_tail(["a", "b", "c", "d"], np.array([-3.0, 0.5]))
    assert sorted(scores, key=lambda d: -scores[d]) == ["b", "a", "c", "d"]


# --- search ----------------------------------------------------------------------------------------------------------


def test_search_is_cosine_and_chance_shuffles_the_database(cell: Cell) -> None:
    outputs = superglobal.search(cell, depth=7, permuted="all")
    vectors, order = cell.inputs["descriptors"]["all"], superglobal.names(cell)
    for q, scores in outputs["all"].values.items():
        cosines = {x: float(vectors[order.index(q)] @ vectors[order.index(x)]) for x in cell.benchmark.corpus}
        assert list(scores) == sorted(cosines, key=lambda x: -cosines[x])[:7]
        assert scores == pytest.approx({x: cosines[x] for x in scores}, abs=1e-5)
        assert list(scores) != list(outputs["chance"].values[q])


def test_sequences_average_three_frames(cell: Cell) -> None:
    walks = {"w": ["q0", "q1", "q2"], "v": ["d00", "d01", "d02"]}
    cell.benchmark = replace(cell.benchmark, walks=walks)  # type: ignore[call-arg]
    outputs = superglobal.sequences(cell, depth=40, configuration="all")
    d = dict(zip(superglobal.names(cell), cell.inputs["descriptors"]["all"], strict=True))
    q, x = (unit(np.mean([d[f] for f in frames], 0)) for frames in walks.values())
    expected = {
        ("seq2seq", "q1"): q @ x,
        ("seq2im", "q1"): q @ d["d01"],
        ("im2seq", "q1"): d["q1"] @ x,
        ("seq2im", "q0"): d["q0"] @ d["d01"],  # no neighbour before it
    }
    scores = {(variant, query): outputs[variant].values[query]["d01"] for variant, query in expected}
    assert scores == pytest.approx(expected, abs=1e-5)


# --- local matching --------------------------------------------------------------------------------------------------


def test_a_shifted_map_matches_and_a_random_one_does_not(rng: np.random.Generator) -> None:
    world = unit(rng.normal(size=(12, 20, 32)))
    a, b = world[:, :16], world[:, 3:19]
    assert matches(a, b, 24) == 12 * 13  # all cells that both have
    assert matches(a, a, 24) == 12 * 16
    assert matches(a, unit(rng.normal(size=(12, 16, 32))), 24) < 30
    assert matches(a[:1, :3], b[:1, :3], 24) == 0  # too few matches for a map


def test_matching_is_repeatable_and_keeps_ties_in_order(cell: Cell, rng: np.random.Generator) -> None:
    local = np.repeat(unit(rng.normal(size=(1, 4, 5, 16))), len(cell.benchmark.images), 0)  # all pictures the same
    cell.inputs = {"local": {"local": local.astype(np.float16)}}
    ranked, again = (superglobal.match_local(cell, m=5, pixels=24) for _ in range(2))
    assert isinstance(ranked, Ranking) and ranked.values == again.values
    for q, docs in cell.candidates.items():
        assert list(ranked.checked(cell).values[q]) == docs


# --- the network -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vision():
    return models.load(models.spec(load_catalogue()["efficientnet-lite0"]), threads=1)


@torch.inference_mode()
def test_relup_lifts_the_floor_of_early_clamps_alone(vision) -> None:
    x = tensor([np.random.default_rng(0).integers(0, 256, (192, 256, 3), dtype=np.uint8)])
    plain, lifted = feature_map(vision, x), feature_map(vision, x, 0.014)
    assert plain.shape == (1, 1280, 6, 8) and plain.min() == 0 == lifted.min() and plain.max() <= 6
    assert 0.001 < (plain - lifted).abs().mean() < 0.5
    assert torch.equal(plain, feature_map(vision, x, 0.0))
    assert middle_map(vision, x, 11).shape == (1, 112, 12, 16)
    assert tensor([np.zeros((192, 256, 3), np.uint8)], 0.7071).shape == (1, 3, 136, 181)


def test_features_and_descriptors_of_a_few_pictures(vision, make_cell: MakeCell, rng: np.random.Generator) -> None:
    names = [f"q{i}" for i in range(5)]
    pixels = {n: rng.integers(0, 256, (192, 256, 3), dtype=np.uint8) for n in names}
    queries = {n: Query(n, "", "train" if n != "q4" else "test", image=n) for n in names}
    cell = make_cell(models={"vision": vision}, benchmark=ImageBenchmark("test/pictures", queries, {}, {}, pixels))
    f = superglobal.features(cell, scales=[0.7071, 1.0], floor=0.0, pools=[[0, 3], [5, 4.6]], batch=2)
    assert {k: v.shape for k, v in f.items()} == {"0_3": (2, 5, 1280), "5_4.6": (2, 5, 1280)}
    one = gem(feature_map(vision, tensor([pixels["q2"]])), 3)[0].numpy()
    assert f["0_3"][1, 2] == pytest.approx(one, rel=2e-3, abs=1e-5)  # alone or in a batch, in half precision
    cell.inputs = {"f": f}
    configurations = {
        "white": {"from": "f", "pool": "0_3", "scales": "max"},
        "raw": {"from": "f", "pool": "5_4.6", "scales": "mean", "dims": 0},
    }
    d = superglobal.descriptors(cell, dims=3, configurations=configurations)
    assert d["white"].shape == (5, 3) and d["raw"].shape == (5, 1280)
    for v in d.values():
        assert np.linalg.norm(v, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
