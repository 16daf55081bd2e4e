"""Walks over windows with several ways of decoding: each against the same way alone, and against the model itself."""

from __future__ import annotations

from typing import Any

import torch
from cells import make_cell

from methods.parts.language import llm
from methods.parts.language.listwise import Listwise, Walk, Window, walk
from rankrepro.cell import Cell


@torch.inference_mode()
def test_one_token_orders_passages_by_the_logits_of_a_pass_without_cache(lm: Any) -> None:
    cell = make_cell(models={"llm": lm})
    prompts = Listwise(lm, cell.meter, 12)
    documents = ["d0", "d1", "d5", "d2"]
    windows = [Window(q, text, tuple(map(cell.document, documents))) for q, text in cell.queries.items()]
    context, last = prompts.read(windows)
    letters = [llm.ids(lm, f"[{letter}]")[1] for letter in "ABCD"]
    for window, order in zip(windows, prompts.single(context, last, windows), strict=True):
        tokens = [*llm.turn(lm)[0], *prompts.prompt(window), *llm.ids(lm, "[")]
        z = lm.model(torch.tensor([tokens]), use_cache=False).logits[0, -1, letters]
        assert order == z.argsort(descending=True).tolist()


@torch.inference_mode()
def test_devices_that_read_a_short_beginning_again_see_the_same(lm: Any, monkeypatch: Any) -> None:
    cell = make_cell(models={"llm": lm})
    documents = tuple(map(cell.document, ["d0", "d1", "d5", "d2"]))
    windows = [Window(q, text, documents[: 2 + i]) for i, (q, text) in enumerate(cell.queries.items())]
    orders = []
    for shares in (True, False):
        monkeypatch.setattr(llm, "shares_little", lambda device, shares=shares: shares)
        prompts = Listwise(lm, cell.meter, 12)
        context, last = prompts.read(windows)
        orders.append((prompts.constrained(context, last, windows), last))
    assert orders[0][0] == orders[1][0]
    torch.testing.assert_close(orders[0][1], orders[1][1], atol=1e-3, rtol=1e-3)


def test_ways_walk_side_by_side_as_each_does_alone_and_share_the_reading(lm: Any) -> None:
    def walked(*ways: Any) -> tuple[Cell, dict[str, dict[Any, Walk]]]:
        cell = make_cell(queries={"q1": "board games"}, candidates={"q1": ["d0", "d1", "d2", "d3", "d4"]})
        return cell, walk(cell, Listwise(lm, cell.meter, 12), list(cell.queries), 4, 2, ways)

    ways = ("single", "constrained", "prompt")
    shared, by_query = walked(*ways)
    apart = 0.0
    for way in ways:
        cell, alone = walked(way)
        assert {q: walks[way] for q, walks in by_query.items()} == {q: walks[way] for q, walks in alone.items()}
        apart += sum(units["input_tokens"] for units in cell.meter.units.values())
    for q, walks in by_query.items():
        assert walks["prompt"].order == list(shared.candidates[q]) != walks["single"].order
        assert all(sorted(w.order) == sorted(shared.candidates[q]) and len(w.malformed) == 2 for w in walks.values())
        assert not any(walks["single"].malformed + walks["constrained"].malformed)
    assert sum(units["input_tokens"] for units in shared.meter.units.values()) < 0.9 * apart
