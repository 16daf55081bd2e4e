"""ICR against attention maps that transformers returns, and against its own definitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import pytest
import torch

from methods.llm_rerankers import icr
from methods.parts.language import llm
from methods.parts.language.llm import Context
from rankrepro.benchmarks.base import Benchmark, Document
from rankrepro.cell import Cell

MakeCell = Callable[..., Cell]
PARAMS: dict[str, Any] = {"passage_tokens": 12, "order": "reversed", "instruction": "qa", "placebo": True, "batch": 2}
DOCS = ["d5", "d1", "d6", "d2"]


@pytest.fixture
def cell(make_cell: MakeCell, lm: Any) -> Cell:
    queries = {"q1": "which river flows through germany", "q2": "board games"}
    return make_cell(queries, dict.fromkeys(queries, DOCS), models={"llm": lm})


@pytest.fixture
def parts(cell: Cell, lm: Any) -> tuple[list[int], list[tuple[int, int]], list[int]]:
    tokens, spans = icr.document_part(lm, [cell.document(d) for d in DOCS], 12)
    return tokens, spans, icr.query_part(lm, "which river flows", "qa")


@torch.inference_mode()
def eager(lm: Any, tokens: list[int], tail: list[int]) -> dict[str, torch.Tensor]:
    """The three sums from whole attention maps of one uncached pass."""
    lm.model.set_attn_implementation("eager")
    try:
        maps = lm.model(torch.tensor([tokens + tail]), output_attentions=True, use_cache=False).attentions
    finally:
        lm.model.set_attn_implementation("sdpa")
    rows = torch.stack([layer[0, :, len(tokens) :, : len(tokens)] for layer in maps])  # [layers, heads, tail, tokens]
    assert len(maps) == 30
    return {
        "all": rows.mean(2).sum((0, 1)),
        "middle": rows[10:20].mean(2).sum((0, 1)),
        "last": rows[:, :, -1].sum((0, 1)),
    }


def test_attention_equals_eager_maps(lm: Any, parts: Any) -> None:
    tokens, _, tail = parts
    context = Context(lm)
    context.read([tokens])
    (sums,), expected = icr.attention(context, [len(tokens)], [tail]), eager(lm, tokens, tail)
    assert set(sums) == set(expected)
    for name in expected:
        torch.testing.assert_close(sums[name], expected[name], atol=1e-4, rtol=1e-4)
    assert lm.model.config._attn_implementation == "sdpa"


def test_a_second_query_after_the_first_equals_a_fresh_pass(lm: Any, parts: Any) -> None:
    tokens, _, tail = parts
    free = icr.query_part(lm, icr.CONTENT_FREE, "qa")
    used, fresh = Context(lm), Context(lm)
    used.read([tokens])
    fresh.read([tokens])
    icr.attention(used, [len(tokens)], [free])
    assert used.slots == len(tokens)
    (first,), (second,) = icr.attention(used, [len(tokens)], [tail]), icr.attention(fresh, [len(tokens)], [tail])
    for name in first:
        torch.testing.assert_close(first[name], second[name])


def test_rows_of_other_lengths_leave_no_trace(lm: Any, parts: Any) -> None:
    tokens, _, tail = parts
    free = icr.query_part(lm, icr.CONTENT_FREE, "qa")
    context = Context(lm, 2)
    context.read([tokens, tokens[:40]])
    for sums, (read, asked) in zip(
        icr.attention(context, [len(tokens), 40], [free, tail]), ((tokens, free), (tokens[:40], tail)), strict=True
    ):
        expected = eager(lm, read, asked)
        for name in expected:
            torch.testing.assert_close(sums[name], expected[name], atol=1e-4, rtol=1e-4)


def test_the_query_begins_after_the_separator_that_follows_the_last_document(lm: Any, cell: Cell) -> None:
    """`query_last` by hand: one whole prompt, its attention maps, and the span counted from the prompt's end."""
    docs, query = DOCS[::-1], cell.queries["q1"]
    prompt, spans = icr.document_part(lm, [cell.document(d) for d in docs], 12)
    before, after = (lm.tokenizer.decode(ids) for ids in llm.turn(lm))
    whole = prompt + icr.query_part(lm, query, "qa")
    texts = [lm.tokenizer.decode(whole[a:b]) for a, b in spans]
    ending = f"{icr.INSTRUCTION['qa']}\n\nQuery: {query}"
    assert lm.tokenizer.decode(whole) == f"{before}{icr.OPENING}\n\n" + "\n\n".join([*texts, ending]) + after
    asked = len(llm.ids(lm, ending + after))  # tokens of the span: instruction, query and what closes the turn
    with torch.inference_mode():
        lm.model.set_attn_implementation("eager")
        maps = lm.model(torch.tensor([whole]), output_attentions=True, use_cache=False).attentions
        lm.model.set_attn_implementation("sdpa")
    received = torch.stack([layer[0, :, -asked:].mean(1).sum(0) for layer in maps]).sum(0)  # [tokens]
    expected = {d: received[a:b].sum().item() for d, (a, b) in zip(docs, spans, strict=True)}
    assert icr.icr(cell, **PARAMS)["query_last"].values["q1"] == pytest.approx(expected, rel=1e-3)
    assert prompt[spans[-1][1] :] == llm.ids(lm, "\n\n")


def test_spans_hold_label_and_text_without_separator(lm: Any, cell: Cell, parts: Any) -> None:
    tokens, spans, tail = parts
    texts = [lm.tokenizer.decode(tokens[a:b]) for a, b in spans]
    assert texts[0].startswith("[1] Rhine\nThe Rhine flows") and texts[2].startswith("[3] A text without")
    whole = lm.tokenizer.decode(tokens + tail)
    assert whole.split("\n\n")[1:5] == texts  # nothing but separators between them
    assert whole.endswith("Query: which river flows<|im_end|>\n<|im_start|>assistant\n")


def test_variants_are_their_definitions(lm: Any, cell: Cell) -> None:
    outputs = icr.icr(cell, **PARAMS)
    by_variant = {variant: output.checked(cell).values["q1"] for variant, output in outputs.items()}
    docs = DOCS[::-1]
    tokens, spans = icr.document_part(lm, [cell.document(d) for d in docs], 12)
    real = eager(lm, tokens, icr.query_part(lm, cell.queries["q1"], "qa"))
    free = eager(lm, tokens, icr.query_part(lm, "N/A", "qa"))
    decoy = eager(lm, tokens, icr.query_part(lm, cell.queries["q2"], "qa"))
    for d, (a, b) in zip(docs, spans, strict=True):
        expected = {
            "full": masked(real["all"][a:b] - free["all"][a:b]),
            "full_middle": masked(real["middle"][a:b] - free["middle"][a:b]),
            "placebo": masked(decoy["all"][a:b] - free["all"][a:b]),
            "query_last": real["all"][a:b].sum().item(),
            "attention_sorting": real["last"][a:b].sum().item(),
            "na_calibration_no_agg": (real["last"] - free["last"])[a:b].sum().item(),
            "na_only": free["all"][a:b].sum().item(),
        }
        assert {variant: scores[d] for variant, scores in by_variant.items()} == pytest.approx(expected, abs=1e-3)


def masked(c: torch.Tensor) -> float:
    values = c.double().tolist()
    mean = sum(values) / len(values)
    deviation = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    return sum(v for v in values if v > mean - 2 * deviation)


def test_the_content_free_query_scores_nothing(cell: Cell) -> None:
    """With `N/A` as the query, c_j = 0 for every token."""
    cell.queries = {"q1": "N/A"}
    outputs = icr.icr(cell, **PARAMS)
    for variant in ("full", "full_middle", "na_calibration_no_agg"):
        assert outputs[variant].values["q1"] == pytest.approx(dict.fromkeys(DOCS, 0.0), abs=1e-5)
    assert min(outputs["query_last"].values["q1"].values()) > 0


def test_reversing_twice_is_the_original_order(cell: Cell) -> None:
    params = {**PARAMS, "placebo": False}
    one = icr.icr(cell, **params)
    cell.candidates = {q: docs[::-1] for q, docs in cell.candidates.items()}
    two = icr.icr(cell, **{**params, "order": "original"})
    assert set(one) == set(two) and "placebo" not in one
    for variant in one:
        assert one[variant].values == two[variant].values


def test_every_instruction_that_a_card_may_name_has_words() -> None:
    assert set(get_args(get_type_hints(icr.icr)["instruction"])) == set(icr.INSTRUCTION)


def test_mask_by_hand() -> None:
    # mean 0, sum of squares 110, n = 11: std = sqrt(11) = 3.3, threshold -6.6: the -10 goes
    c = torch.tensor([1.0] * 10 + [-10.0])
    assert icr.masked_sum(c).item() == 10
    assert icr.masked_sum(c.clone().index_fill_(0, torch.tensor([10]), 1.5)).item() == 11.5
    # strict: what equals the threshold goes, and without deviation every token does
    assert icr.masked_sum(torch.zeros(4)).item() == 0
    assert icr.masked_sum(torch.tensor([0.5, 0.5])).item() == 0
    # n - 1: with n, the threshold of [0, 0, 0, 0, -1] would be -1 = the token itself, and it would go
    assert icr.masked_sum(torch.tensor([0.0, 0.0, 0.0, 0.0, -1.0])).item() == -1
    assert icr.masked_sum(torch.tensor([-3.0])).item() == -3


def test_documents_are_read_once_for_all_modes(make_cell: MakeCell, lm: Any) -> None:
    """Tokens counted where they enter the model: both tails cost less than a third more than one reading of it all."""
    corpus = {f"d{i}": Document(f"d{i}", "A title", f"word {i} " * 30) for i in range(8)}
    queries = {"q1": "a claim of ten words about rivers and their lengths", "q2": "owls"}
    cell = make_cell(queries, models={"llm": lm}, benchmark=Benchmark("test/long", {}, corpus))
    fed: list[int] = []
    hook = lm.model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: fed.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    try:
        icr.icr(cell, passage_tokens=48, order="reversed", instruction="ie", placebo=False, batch=1)
    finally:
        hook.remove()
    assert sum(units["input_tokens"] for units in cell.meter.units.values()) == sum(fed)

    def whole(q: str) -> int:
        documents, spans = icr.document_part(lm, list(corpus.values()), 48)
        assert all(b - a > 48 for a, b in spans)  # every passage is cut
        return len(documents) + len(icr.query_part(lm, queries[q], "ie"))

    for q, units in cell.meter.units.items():
        assert whole(q) < units["input_tokens"] < 4 / 3 * whole(q)
