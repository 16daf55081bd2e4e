"""Pointwise scores against the models' own, one passage and one text at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from methods.controls import pointwise
from methods.parts.language import llm
from methods.parts.retrieval.encoder import encode
from rankrepro.cell import Cell

MakeCell = Callable[..., Cell]


@pytest.fixture(scope="module")
def short() -> dict[str, list[str]]:
    """Candidates of q1: short, long and untitled passages."""
    return {"q1": ["d5", "d1", "d6"]}


def scored(make_cell: MakeCell, lm: Any, docs: dict[str, list[str]], query: str, decoy: str = "x") -> tuple[Cell, Any]:
    cell = make_cell({"q1": query}, docs, models={"llm": lm})
    cell.decoys = {"q1": decoy}
    return cell, pointwise.pointwise(cell, passage_tokens=12, placebo=True)


def test_query_likelihood_and_yes_no_are_the_models_own(
    make_cell: MakeCell, lm: Any, uncached: Callable[[list[int]], torch.Tensor], short: Any
) -> None:
    query = "which river flows through germany"
    cell, outputs = scored(make_cell, lm, short, query, "board games")
    scores = {variant: output.checked(cell).values["q1"] for variant, output in outputs.items()}
    assert set(scores) == {"pointwise", "query_likelihood", "query_likelihood_decoy"}
    ids = lambda text: lm.tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    message = [{"role": "user", "content": "@"}]
    chat = lm.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    before, after = map(ids, chat.split("@"))
    words = [[ids(form)[0] for form in forms if len(ids(form)) == 1] for forms in (pointwise.YES, pointwise.NO)]
    for d in short["q1"]:
        passage = ids(" " + cell.document(d).content)[:12]
        start = [*before, *ids("Passage:"), *passage]

        for variant, text in (("query_likelihood", query), ("query_likelihood_decoy", "board games")):
            prompt = [*start, *ids(pointwise.WRITE), *after]
            labels = torch.tensor([[-100] * len(prompt) + ids(text)])
            with torch.inference_mode():
                loss = lm.model(torch.tensor([prompt + ids(text)]), labels=labels).loss.item()
            assert scores[variant][d] == pytest.approx(-loss, abs=1e-3)

        z = uncached([*start, *ids("\nQuery:"), *ids(" " + query), *ids(pointwise.JUDGE), *after])[-1].exp()
        yes, no = (z[list(set(tokens))].sum() for tokens in words)
        assert scores["pointwise"][d] == pytest.approx((yes / no).log().item(), abs=1e-3)


def test_the_placebo_is_query_likelihood_of_the_decoy(make_cell: MakeCell, lm: Any, short: Any) -> None:
    _, one = scored(make_cell, lm, short, "which river", "board games")
    _, two = scored(make_cell, lm, short, "board games")
    expected = two["query_likelihood"].values["q1"]
    assert one["query_likelihood_decoy"].values["q1"] == pytest.approx(expected, abs=1e-4)


def test_pointwise_counts_every_token_it_feeds(make_cell: MakeCell, lm: Any, short: Any, monkeypatch: Any) -> None:
    sizes = []
    read = llm.Context.read
    monkeypatch.setattr(
        llm.Context, "read", lambda self, rows, **kw: sizes.append(sum(map(len, rows))) or read(self, rows, **kw)
    )
    cell, _ = scored(make_cell, lm, short, "which river flows", "board games")
    _prefix, *readings = sizes  # the shared beginning belongs to the cell
    assert cell.meter.units["q1"]["input_tokens"] == sum(readings)
    assert cell.meter.units["q1"]["forward_passes"] == len(readings)


def test_the_bi_encoder_scores_by_cosine(make_cell: MakeCell, encoder: Any) -> None:
    cell = make_cell(models={"encoder": encoder})
    scores = pointwise.bi_encoder(cell, passage_tokens=40, query_tokens=64, batch=4).checked(cell).values
    docs = list(cell.benchmark.corpus)
    texts = [cell.document(d).content for d in docs]
    for q, text in cell.queries.items():
        expected = encode(encoder, texts, 40, 32) @ encode(encoder, [text], 64, 1)[0]
        assert {d: scores[q][d] for d in docs} == pytest.approx(
            dict(zip(docs, expected.tolist(), strict=True)), abs=2e-5
        )
    best = {q: cell.document(next(iter(ranked))).title for q, ranked in scores.items()}
    assert best == {"q1": "Rhine", "q2": "Chess", "q3": "Paris"}


def test_a_passage_is_cut(make_cell: MakeCell, encoder: Any) -> None:
    cell = make_cell(models={"encoder": encoder})
    short, long = (pointwise.bi_encoder(cell, passage_tokens=n, query_tokens=64, batch=4).values["q1"] for n in (4, 64))
    assert not np.allclose([short[d] for d in short], [long[d] for d in short], atol=1e-3)
