"""The controls of single cards against what they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from methods import controls
from methods.parts import llm
from methods.parts.encoder import encode
from methods.parts.listwise import Listwise, Window
from rankrepro.cell import Cell

MakeCell = Callable[..., Cell]
LISTWISE = {"passage_tokens": 12, "window": 4, "step": 2, "batch": 2}


def test_the_bi_encoder_scores_by_cosine(make_cell: MakeCell, encoder: Any) -> None:
    cell = make_cell(models={"encoder": encoder}, passage_tokens=40, query_tokens=64, batch=4)
    found = controls.bi_encoder(cell).checked(cell).values
    docs = list(cell.benchmark.corpus)
    texts = [cell.document(d).content for d in docs]
    for q, text in cell.queries.items():
        expected = encode(encoder, texts, 40, 32) @ encode(encoder, [text], 64, 1)[0]
        assert {d: found[q][d] for d in docs} == pytest.approx(
            dict(zip(docs, expected.tolist(), strict=True)), abs=2e-5
        )
    best = {q: cell.document(next(iter(scores))).title for q, scores in found.items()}
    assert best == {"q1": "Rhine", "q2": "Chess", "q3": "Paris"}


def test_a_passage_is_cut(make_cell: MakeCell, encoder: Any) -> None:
    params = {"query_tokens": 64, "batch": 4}
    short, long = (
        controls.bi_encoder(make_cell(models={"encoder": encoder}, passage_tokens=n, **params)).values["q1"]
        for n in (4, 64)
    )
    assert not np.allclose([short[d] for d in short], [long[d] for d in short], atol=1e-3)


@torch.inference_mode()
def test_first_token_orders_a_window_by_the_logits_of_one_uncached_pass(make_cell: MakeCell, lm: Any) -> None:
    docs = ["d0", "d1", "d5", "d2"]
    cell = make_cell({"q1": "which river flows through germany"}, {"q1": docs}, models={"llm": lm}, **LISTWISE)
    found = controls.first_token(cell).checked(cell).values["q1"]
    prompts = Listwise(lm, cell.meter, 12)
    window = Window("q1", cell.queries["q1"], tuple(map(cell.document, docs)))
    tokens = [*llm.turn(lm)[0], *prompts.prompt(window), *prompts.open]
    logits = lm.model(torch.tensor([tokens]), use_cache=False).logits[0, -1, prompts.letters[: len(docs)]]
    assert list(found) == [docs[i] for i in logits.argsort(descending=True).tolist()]
    units = cell.meter.units["q1"]
    assert units["generated_tokens"] == 0 and units["forward_passes"] == 2
    assert units["input_tokens"] == len(tokens) - len(llm.turn(lm)[0])


def test_first_token_slides_its_windows_and_batches_leave_no_trace(make_cell: MakeCell, lm: Any) -> None:
    cell = make_cell(models={"llm": lm}, **LISTWISE)
    alone = make_cell(models={"llm": lm}, **{**LISTWISE, "batch": 1})
    found = controls.first_token(cell).checked(cell).values
    assert found == controls.first_token(alone).checked(alone).values
    assert all(units["forward_passes"] >= 4 for units in cell.meter.units.values())  # three windows of seven documents
