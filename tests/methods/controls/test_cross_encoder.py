"""The cross-encoder: its loss by hand, the encoder's own forward pass, what it learns from, what shares a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from methods.controls import cross_encoder
from methods.controls.cross_encoder import CrossEncoder, Lesson, Pairing, Pairs, Reading
from methods.parts.training.loop import Recipe
from methods.parts.training.weights import arrays, load
from methods.ranker_training import pairs
from rankrepro.benchmarks.base import Benchmark, Document, Query
from rankrepro.cell import Cell

MakeCell = Callable[..., Cell]
READING = Reading(top=2, query_tokens=8, passage_tokens=16)
LESSON = Lesson(lists=3, others=2, held_queries=2)
RECIPE = Recipe(tokens=700, rate=3e-4, every=4)
TOWNS = ["Oslo", "Lima", "Rome", "Cairo", "Delhi", "Quito", "Accra", "Hanoi", "Paris", "Sofia", "Tunis", "Dakar"]


@pytest.fixture(scope="module")
def towns() -> Benchmark:
    """Twelve towns and a question for each; every question has a second relevant town, the next one."""
    documents = {w: Document(w, w, f"{w} is town number {i}, with {i} bridges.") for i, w in enumerate(TOWNS)}
    split = dict.fromkeys(TOWNS[:9], "train") | dict.fromkeys(TOWNS[9:], "validation")
    queries = {f"q{w}": Query(f"q{w}", f"the town {w}", s) for w, s in split.items()}
    judged = {f"q{w}": {w: 1, TOWNS[i - 1]: 1, TOWNS[i - 2]: 0} for i, w in enumerate(TOWNS)}
    return Benchmark("test/towns", queries, documents, judgments=judged)


@pytest.fixture
def lesson(make_cell: MakeCell, encoder: Any, towns: Benchmark) -> Callable[[int], Cell]:
    """A cell to train in, with the negatives that its stage finds."""

    def cell(seed: int = 0) -> Cell:
        made = make_cell(benchmark=towns, models={"encoder": encoder}, seed=seed)
        made.inputs = {"negatives": pairs.negatives(made, k1=0.9, b=0.4, skip=0, count=3, held=4)}
        return made

    return cell


def test_the_loss_by_hand() -> None:
    # softmax of (ln 3, ln 1, ln 2) gives the first 3/6; of (ln 1, ln 1, ln 2) gives it 1/4
    s = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 2.0]]).log()
    assert cross_encoder.listwise(s).item() == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert cross_encoder.listwise(s + torch.tensor([[5.0], [-7.0]])).item() == pytest.approx(math.log(8) / 2)


def test_a_pair_is_what_the_tokenizer_makes_of_it(encoder: Any) -> None:
    queries, passages = ["which river", "board games for two"], ["The Rhine flows north.", "Chess"]
    made, own = Pairs(encoder, READING, queries, passages), encoder.tokenizer(queries, passages, padding=True)
    assert made.ids.tolist() == own["input_ids"]
    assert made.types.tolist() == own["token_type_ids"]
    assert made.mask.tolist() == own["attention_mask"]
    assert made.lengths == [sum(row) for row in own["attention_mask"]]


def test_both_texts_are_cut(encoder: Any) -> None:
    made = Pairs(encoder, READING, ["river " * 50], ["bridge " * 50])
    river, bridge = encoder.tokenizer.convert_tokens_to_ids(["river", "bridge"])
    assert made.lengths == [8 + 16 + 3]
    assert (made.ids == river).sum().item() == 8 and (made.ids == bridge).sum().item() == 16


@pytest.mark.parametrize("top", [1, 6])
def test_scores_are_the_encoders_first_state_times_the_head(encoder: Any, top: int) -> None:
    """Against the encoder's own forward pass, one pair at a time: without training only the head is new."""
    queries, passages = ["which river", "board games"], ["The Rhine flows through Germany to the North Sea.", "Chess"]
    model = CrossEncoder(encoder, top, seed=0)
    with torch.inference_mode():
        scores = model(Pairs(encoder, READING, queries, passages))
        for score, query, passage in zip(scores, queries, passages, strict=True):
            tokens = encoder.tokenizer(query, passage, return_tensors="pt")
            state = encoder.model(**tokens).last_hidden_state[0, 0]
            assert score.item() == pytest.approx((model.head.weight[0] @ state + model.head.bias).item(), abs=1e-5)


def test_trained_layers_and_head_get_gradients_and_the_encoder_none(lesson: Any, encoder: Any) -> None:
    task = Pairing(lesson(), READING, LESSON)
    task.step(0).value.backward()
    grouped = [p for group in task.groups() for p in group.parameters]
    assert {id(p) for p in grouped} == {id(p) for p in task.module.parameters()}
    moved = {name: p.grad is not None and bool(p.grad.abs().max() > 0) for name, p in task.module.named_parameters()}
    # a constant added to all scores of a query changes nothing: neither does the bias of the head
    # nor, within softmax, that of the keys; both have gradients of rounding errors at most
    assert all(value for name, value in moved.items() if not name.endswith(("head.bias", "key.bias")))
    assert all(p.grad is None for p in encoder.model.parameters())


def test_negatives_are_never_relevant(lesson: Any, towns: Benchmark) -> None:
    task, judged = Pairing(lesson(), READING, LESSON), {q.text: towns.judgments[q.id] for q in towns.queries.values()}
    seen = [item for i in range(12) for item in task.lists(i)]
    assert {text for text, _ in seen} == {q.text for q in towns.queries.values() if q.split == "train"}
    for text, (first, *others) in seen:
        assert judged[text][TOWNS[first]] == 1
        assert len(set(others)) == LESSON.others and not {TOWNS[d] for d in others} & judged[text].keys()


def test_validation_is_the_reciprocal_rank_of_the_best_relevant_passage(
    lesson: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With scores given by hand: of the relevant passages the higher one counts, and ties count against it."""
    task = Pairing(lesson(), READING, LESSON)
    task.held_relevant, task.held = [[0, 5], [7]], np.array([[1, 6, 9, 2], [1, 2, 3, 4]])
    scores = iter([torch.tensor([0.0, 5, 1, 6, 9, 2]), torch.tensor([7.0, 7, 1, 2, 3])])
    monkeypatch.setattr(task.module, "forward", lambda pairs: next(scores))
    assert task.validate() == {"RR": pytest.approx((1 / 3 + 1 / 2) / 2)}


def test_training_is_deterministic_and_the_seed_matters(lesson: Any) -> None:
    first, again, other = (
        cross_encoder.train(lesson(seed), reading=READING, lesson=LESSON, recipe=RECIPE) for seed in (0, 0, 1)
    )
    assert first.keys() == arrays(CrossEncoder(lesson().models["encoder"], 2, 0)).keys()
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["head.weight"], other["head.weight"])


def test_training_brings_the_relevant_passages_forward(lesson: Any) -> None:
    """The loss of the lists that it read again and again falls far below that of an equal share for each passage."""
    cell, recipe = lesson(), replace(RECIPE, tokens=12000, every=50)
    weights = cross_encoder.train(cell, reading=READING, lesson=LESSON, recipe=recipe)
    task = Pairing(cell, READING, LESSON)
    load(task.module, weights)
    with torch.no_grad():
        losses = [task.step(i).value.item() for i in range(6)]
    assert np.mean(losses) < 0.5 * math.log(1 + LESSON.others)


def test_neither_batch_nor_other_candidates_change_a_score(make_cell: MakeCell, encoder: Any) -> None:
    given = {"models": {"encoder": encoder}, "inputs": {"weights": arrays(CrossEncoder(encoder, 2, 0))}}
    cell = make_cell(**given)
    whole = cross_encoder.rerank(cell, reading=READING, batch=7).checked(cell).values
    alone = cross_encoder.rerank(make_cell(**given), reading=READING, batch=1).values
    few = make_cell(candidates={q: ["d5", "d3"] for q in cell.queries}, **given)
    for q, scores in cross_encoder.rerank(few, reading=READING, batch=7).values.items():
        assert alone[q] == pytest.approx(whole[q], abs=1e-5)
        assert scores == pytest.approx({d: whole[q][d] for d in scores}, abs=1e-5)
    read = Pairs(encoder, READING, [cell.queries["q1"]] * 7, [cell.document(d).content for d in cell.candidates["q1"]])
    assert cell.meter.units["q1"]["input_tokens"] == sum(read.lengths)
