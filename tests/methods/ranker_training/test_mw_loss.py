"""MW loss: the formulas, the lemma, the batches; training on top of frozen layers is training the encoder's top."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from cells import make_cell
from sklearn.metrics import roc_auc_score

from methods.parts.retrieval.encoder import encode
from methods.parts.training.loop import Recipe
from methods.parts.training.tops import Top, states
from methods.parts.training.weights import arrays, load
from methods.ranker_training import mw_loss, pairs
from methods.ranker_training.mw_loss import (
    LOSSES,
    Batch,
    Data,
    Lesson,
    batch_of,
    contrastive,
    mann_whitney,
    within_query,
)
from rankrepro.benchmarks.base import Benchmark, Document, Query
from rankrepro.cell import MODEL, Cell
from rankrepro.errors import BenchmarkError, ConfigError

TAU = 0.1


def batch(b: int = 5, h: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores of b queries with b + b h passages; passage i is the positive of query i."""
    s = torch.rand(b, b + b * h, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    positive = torch.arange(b)
    return s, positive, ~torch.nn.functional.one_hot(positive, s.shape[1]).bool()


# --- the losses ------------------------------------------------------------------------------------------------------


def test_the_losses_are_the_printed_sums():
    s, positive, negative = batch()
    scores = [s[i, positive[i]].item() for i in range(5)]
    others = [s[i][negative[i]].tolist() for i in range(5)]
    assert len(others[0]) == 2 * 5 + 4  # H B + (B - 1)
    cl = [-math.log(math.exp(p / TAU) / (math.exp(p / TAU) + sum(math.exp(x / TAU) for x in n)))
          for p, n in zip(scores, others, strict=True)]  # fmt: skip
    assert contrastive(s, positive, negative, TAU).item() == pytest.approx(np.mean(cl))
    union = [x for n in others for x in n]
    mw = [math.log1p(math.exp(-(p - x) / TAU)) for p in scores for x in union]
    assert len(mw) == 5 * 5 * (2 * 5 + 4)
    assert mann_whitney(s, positive, negative, TAU).item() == pytest.approx(np.mean(mw))
    within = [np.mean([math.log1p(math.exp(-(p - x) / TAU)) for x in n]) for p, n in zip(scores, others, strict=True)]
    assert within_query(s, positive, negative, TAU).item() == pytest.approx(np.mean(within))


def test_an_offset_of_a_query_leaves_the_contrastive_loss_and_not_the_mw_loss():
    """The paper's lemma: the contrastive loss does not see a constant added to all scores of a query."""
    s, positive, negative = batch()
    moved = s + torch.randn(5, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for loss in (contrastive, within_query):
        assert loss(moved, positive, negative, TAU).item() == pytest.approx(loss(s, positive, negative, TAU).item())
    assert abs(mann_whitney(moved, positive, negative, TAU) - mann_whitney(s, positive, negative, TAU)) > 0.1


def test_only_the_mw_loss_pulls_the_levels_of_queries_together():
    """The gradient of a query's offset is 0 except for the MW loss, which pulls it to the others."""
    s, positive, negative = batch()
    high = torch.zeros(5, 1, dtype=torch.float64)
    high[2] = 1.0
    pulls = {}
    for name, loss in LOSSES.items():
        offset = high.clone().requires_grad_(True)
        loss(s + offset, positive, negative, TAU).backward()
        pulls[name] = offset.grad[:, 0]
    assert pulls["contrastive"].abs().max() < 1e-12 and pulls["within"].abs().max() < 1e-12
    assert pulls["mw"].argmax() == 2 and pulls["mw"][2] > 0.1  # descent lowers the query that stands too high


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tau", [0.01, 0.1, 1.0])
def test_it_bounds_the_area_above_the_pooled_curve(seed, tau):
    s, positive, negative = batch(seed=seed)
    y = torch.cat([torch.ones(5), torch.zeros(int(negative.sum()))])
    scores = torch.cat([s[torch.arange(5), positive], s[negative]])
    loss = mann_whitney(s, positive, negative, tau).item()
    assert 1 - roc_auc_score(y, scores) <= loss / math.log(2) + 1e-12


def test_a_tau_of_a_hundredth_neither_overflows_nor_loses_its_gradient():
    for loss in LOSSES.values():
        s = torch.tensor([[-1.0, 1.0], [1.0, -1.0]], requires_grad=True)
        value = loss(s, torch.tensor([0, 1]), torch.tensor([[False, True], [True, False]]), 0.01)
        value.backward()
        assert value.item() == pytest.approx(200, rel=0.01) and s.grad.abs().min() > 0.1


# --- batches ---------------------------------------------------------------------------------------------------------


def data(n: int = 12) -> Data:
    arrays = {"rows": np.arange(20), "queries": np.zeros((n + 2, 1, 1)), "passages": np.zeros((20, 1, 1))}
    positives = [[0, 1] if q == 0 else [q // 2 + 1] for q in range(n + 2)]
    return Data(arrays, np.arange(n), np.arange(n, n + 2), positives, np.full((n, 1), 19))


def test_a_passage_relevant_to_a_query_is_never_its_negative():
    d = data()
    seen = set()
    for i in range(6):
        b = batch_of(d, i, 4, 0, permuted=False)
        assert isinstance(b, Batch) and len(b.passages) == 8
        for row, place, negative in zip(b.rows, b.positive, b.negative, strict=True):
            assert b.passages[place] in d.positives[row]
            assert not set(b.passages[negative.numpy()]) & set(d.positives[row])
        seen |= set(b.rows.tolist())
    assert seen == set(range(12))


def test_batches_are_a_function_of_seed_and_number_and_permuted_labels_are_any_passage():
    d = data()
    a, b, c = (batch_of(d, i, 4, seed, False) for i, seed in ((2, 0), (2, 0), (2, 1)))
    assert (a.rows == b.rows).all() and (a.passages == b.passages).all() and (a.rows != c.rows).any()
    positives = torch.cat([batch_of(d, i, 4, 0, True).positive for i in range(60)])
    assert set(positives.tolist()) == set(range(8))
    placebo = batch_of(d, 0, 4, 0, True)
    assert (placebo.negative.sum(1) == 7).all() and not placebo.negative[torch.arange(4), placebo.positive].any()


# --- frozen layers and the top ---------------------------------------------------------------------------------------

TEXTS = [
    "The Danube flows through ten countries.",
    "Chess",
    "Copper conducts heat and electricity very well.",
]


def test_states_and_top_are_the_encoder(encoder):
    for top in (1, 2, 6):
        vectors = Top(encoder, top).vectors(*states(encoder, TEXTS, top, 12))
        assert np.abs(vectors - encode(encoder, TEXTS, 12, 8)).max() < 2e-3  # half precision between the two


def test_restart_redraws_the_whole_top_and_load_restores_it(encoder):
    top = Top(encoder, 2)
    before = arrays(top)
    again = arrays(Top(encoder, 2).restart(3))
    assert all(np.abs(again[n] - before[n]).max() > 0 for n in before if n.endswith("weight"))
    assert all((again[n] == arrays(Top(encoder, 2).restart(3))[n]).all() for n in again)
    assert all((arrays(load(top.restart(1), before))[n] == before[n]).all() for n in before)
    assert (arrays(Top(encoder, 2))["layers.0.output.dense.weight"] == before["layers.0.output.dense.weight"]).all()


# --- stages ----------------------------------------------------------------------------------------------------------

WORDS = ["river", "chess", "copper", "owl", "paris", "violin", "desert", "comet", "bridge", "tiger", "salt", "piano"]


@pytest.fixture(scope="module")
def small() -> Benchmark:
    corpus = {w: Document(w, w.title(), f"The {w} is a thing, this text says so in a few words.") for w in WORDS}
    queries = {
        f"q{w}": Query(f"q{w}", f"what is a {w}", "validation" if i > 8 else "train") for i, w in enumerate(WORDS)
    }
    return Benchmark("t/pairs", queries, corpus, {q: {q[1:]: 1} for q in queries})


NEGATIVES: dict[str, Any] = {"k1": 0.9, "b": 0.4, "skip": 1, "count": 2, "held": 3}
LOWER: dict[str, Any] = {"top": 1, "query_tokens": 8, "passage_tokens": 16}
RECIPE = Recipe(tokens=4000, every=3, keep="best")


def lesson(**more: Any) -> Lesson:
    given = {"top": 1, "start": "restarted", "loss": "mw", "labels": "own", "tau": 0.05, "batch": 4, "hard": 2}
    return Lesson(**{**given, **more})


@pytest.fixture(scope="module")
def prepared(small, encoder):
    negatives = pairs.negatives(make_cell(benchmark=small), **NEGATIVES)
    c = make_cell(benchmark=small, models={"encoder": encoder}, inputs={"negatives": negatives})
    return {"negatives": negatives, "lower": mw_loss.lower(c, **LOWER)}


def train_cell(small, encoder, prepared, rate: float) -> Cell:
    inputs = {**prepared, "search": {"best": np.array([rate])}}
    return make_cell(benchmark=small, models={"encoder": encoder}, inputs=inputs)


def test_negatives_are_neither_judged_nor_relevant_to_validation(small, prepared):
    rows = prepared["negatives"]["negatives"]
    training = list(small.of_split("train"))
    assert rows.shape == (9, 2)
    for q, row in zip(training, rows, strict=True):
        names = {WORDS[i] for i in row}
        assert len(names) == 2 and q[1:] not in names and not names & set(WORDS[9:])
    held = prepared["negatives"]["held"]
    for q, row in zip(small.of_split("validation"), held, strict=True):
        assert len({WORDS[i] for i in row} - {q[1:]}) == 3
    pool = {WORDS[i] for i in prepared["lower"]["rows"][prepared["lower"]["pool"]]}
    assert pool == set(WORDS[9:]) | {WORDS[i] for i in held.ravel()}
    with pytest.raises(BenchmarkError, match="too small for 9 negatives"):
        pairs.negatives(make_cell(benchmark=small), **{**NEGATIVES, "count": 9})


def test_validation_by_hand():
    s = np.array([[0.9, 0.5, 0.1], [0.2, 0.3, 0.4]])
    values = mw_loss.validation(s, [[0], [1]])
    assert values["RR"] == pytest.approx((1 + 1 / 2) / 2)
    assert values["AUC"] == pytest.approx(roc_auc_score([1, 0, 0, 0, 1, 0], s.ravel()))


@pytest.mark.parametrize("loss", list(LOSSES))
def test_every_loss_gets_redrawn_layers_off_the_floor(small, encoder, prepared, loss):
    c = train_cell(small, encoder, prepared, 1e-3)
    out = mw_loss.train(c, lesson=lesson(loss=loss), recipe=RECIPE)
    curve = dict(map(tuple, c.history.record()["training_loss"]))
    assert list(curve.values())[-1] < 0.7 * next(iter(curve.values()))
    assert out["steps_to_best"].shape == (1,) and set(out) == {*arrays(Top(encoder, 1)), "steps_to_best"}


def test_the_best_layers_are_kept_and_the_step_that_gave_them(small, encoder, prepared):
    c = train_cell(small, encoder, prepared, 1e-3)
    out = mw_loss.train(c, lesson=lesson(), recipe=RECIPE)
    curve = dict(map(tuple, c.history.record()["RR"]))
    assert curve[int(out["steps_to_best"][0])] == max(value for step, value in curve.items() if step > 0)
    task = mw_loss.Encoding(c, lesson())
    load(task.module, out)
    assert task.validate()["RR"] == curve[int(out["steps_to_best"][0])]


def test_a_batch_has_as_many_hard_negatives_as_asked_for(small, encoder, prepared):
    """The first of those that were found; asking for more is an error."""
    c = train_cell(small, encoder, prepared, 1e-3)
    found = prepared["lower"]["rows"][Data.of(c, 1).negatives]
    assert (found == prepared["negatives"]["negatives"][:, :1]).all()
    sizes = [len(batch_of(mw_loss.Encoding(c, lesson(hard=h)).data, 0, 4, 0, False).passages) for h in (1, 2)]
    assert sizes == [8, 12]
    with pytest.raises(ConfigError, match=r"3 hard negatives .* finds 2"):
        Data.of(c, 3)


def test_a_recipe_with_a_rate_needs_no_search(small, encoder, prepared):
    c = make_cell(benchmark=small, models={"encoder": encoder}, inputs=prepared)
    fixed = mw_loss.train(c, lesson=lesson(), recipe=replace(RECIPE, rate=1e-3))
    searched = mw_loss.train(train_cell(small, encoder, prepared, 1e-3), lesson=lesson(), recipe=RECIPE)
    assert all((fixed[name] == searched[name]).all() for name in searched)
    with pytest.raises(ConfigError, match="no learning rate"):
        mw_loss.train(c, lesson=lesson(), recipe=RECIPE)


def test_arms_share_batches_and_budget(small, encoder, prepared):
    spent = []
    for loss in LOSSES:
        c = train_cell(small, encoder, prepared, 1e-4)
        mw_loss.train(c, lesson=lesson(loss=loss), recipe=RECIPE)
        spent.append(c.meter.record()["units"]["training"])
    assert len({(s["input_tokens"], s["forward_passes"]) for s in spent}) == 1


def test_the_search_gives_every_rate_the_same_budget_and_takes_its_best_value(small, encoder, prepared):
    c = make_cell(benchmark=small, models={"encoder": encoder}, inputs=prepared)
    result = mw_loss.search(c, rates=[1e-9, 1e-4, 1e-2], search_share=0.5, lesson=lesson(), recipe=RECIPE)
    curves = [c.history.record()[f"rate_{rate}_RR"] for rate in (1e-9, 1e-4, 1e-2)]
    best = [max(value for step, value in curve if step > 0) for curve in curves]
    assert result["values"].tolist() == best
    assert result["best"][0] == result["rates"][best.index(max(best))]
    read = [c.meter.units[f"rate_{rate}"]["input_tokens"] for rate in (1e-9, 1e-4, 1e-2)]
    assert read[0] == read[1] == read[2] and 2000 <= read[0] < 2300


def test_a_card_may_name_every_loss():
    assert set(get_args(get_type_hints(Lesson)["loss"])) == set(LOSSES)


def test_retrieval_of_the_untouched_encoder_is_dense_search(small, encoder):
    """Order and scores are those of `encode`'s cosines."""
    c = make_cell(benchmark=small, models={"encoder": encoder})
    c.inputs = {"lower_corpus": mw_loss.lower_corpus(c, top=1, passage_tokens=16)}
    c.inputs |= {"weights": mw_loss.start(c, top=1, start="tuned")}
    c.inputs |= {"embeddings": mw_loss.embed(c, top=1)}
    out = {name: o.checked(c).values for name, o in mw_loss.retrieve(c, top=1, query_tokens=8, k=5).items()}
    vectors = encode(encoder, [d.content for d in small.corpus.values()], 16, 8)
    for q, text in c.queries.items():
        s = vectors @ encode(encoder, [text], 8, 1)[0]
        assert list(out["plain"][q]) == [WORDS[i] for i in np.argsort(-s)[:5]]
        assert list(out["plain"][q].values()) == pytest.approx(np.sort(s)[::-1][:5], abs=2e-3)
        assert list(out["standardised"][q]) == list(out["plain"][q])  # another level, the same ranking
    assert out["steps"] == {MODEL: {"steps_to_best": 0.0}}


def test_standardised_by_hand():
    assert mw_loss.standardised({"a": 5.0, "b": 3.0, "c": 1.0}) == pytest.approx(
        {"a": math.sqrt(1.5), "b": 0.0, "c": -math.sqrt(1.5)}
    )
    assert mw_loss.standardised({"a": 2.0, "b": 2.0}) == {"a": 0.0, "b": 0.0}
