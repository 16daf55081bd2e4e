"""Batched, padded, cached reading gives what one plain forward pass gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from methods.parts import llm
from rankrepro.benchmarks.base import Document

WORDS = ["The Danube flows through", "Chess is a board game for two players, and it", "Owls"]


@pytest.fixture
def rows(lm: Any) -> list[list[int]]:
    return [llm.ids(lm, text) for text in WORDS]


@torch.inference_mode()
def plain(lm: Any, tokens: list[int]) -> torch.Tensor:
    """Logits [tokens, vocabulary] of one sequence, no cache, no padding."""
    return lm.model(torch.tensor([tokens]), use_cache=False).logits[0]


@pytest.mark.parametrize("chunk", [None, 3])
def test_padded_batch_equals_single_forward(lm: Any, rows: list[list[int]], chunk: int | None) -> None:
    hidden = llm.Context(lm, len(rows)).read(rows, chunk=chunk)
    for row, states in zip(rows, hidden, strict=True):
        torch.testing.assert_close(llm.logits(lm, states[: len(row)]), plain(lm, row), atol=1e-3, rtol=0)


def test_shared_prefix_with_holes_equals_no_cache(lm: Any, rows: list[list[int]]) -> None:
    """Read a prefix once, continue it by rows of unequal length, pick and repeat rows, continue again."""
    prefix, end = llm.ids(lm, "Here is a fact:"), [llm.ids(lm, " countries and rivers"), llm.ids(lm, " birds"), []]
    one = llm.Context(lm)
    one.read([prefix])
    context = one.select([0, 0, 0])
    context.read(rows)
    picked = context.select([2, 0, 1])
    hidden = picked.read(end)
    for i, row in enumerate([2, 0]):
        expected = plain(lm, prefix + rows[row] + end[i])[-len(end[i]) :]
        torch.testing.assert_close(llm.logits(lm, hidden[i, : len(end[i])]), expected, atol=1e-3, rtol=0)
    # the row that read nothing continues where it stood, and neither parent was touched
    last = picked.read_to_last([[11], [12], [13]])[2]
    torch.testing.assert_close(llm.logits(lm, last), plain(lm, [*prefix, *rows[1], 13])[-1], atol=1e-3, rtol=0)
    assert (one.slots, context.slots) == (len(prefix), len(prefix) + max(map(len, rows)))


def test_back_to_forgets(lm: Any, rows: list[list[int]]) -> None:
    context = llm.Context(lm, 3)
    context.read(rows)
    slots = context.slots
    first = context.read([[20, 21]] * 3)
    context.back_to(slots)
    context.read([[30]] * 3)
    context.back_to(slots)
    torch.testing.assert_close(context.read([[20, 21]] * 3), first)


def test_mean_logprob_is_the_models_own_loss(lm: Any, rows: list[list[int]]) -> None:
    """Against transformers' loss with everything but the continuation masked by -100."""
    continuation = llm.ids(lm, " ten countries in Europe")
    context = llm.Context(lm, 3)
    last = context.read_to_last(rows)
    before = context.slots
    found = llm.mean_logprob(context, last, continuation)
    assert context.slots == before
    for row, value in zip(rows, found, strict=True):
        tokens = torch.tensor([row + continuation])
        labels = torch.tensor([[-100] * len(row) + continuation])
        with torch.inference_mode():
            assert value == pytest.approx(-lm.model(tokens, labels=labels).loss.item(), abs=1e-4)
    one = llm.mean_logprob(context, last, continuation[:1])
    assert one[0] == pytest.approx(plain(lm, rows[0])[-1].log_softmax(-1)[continuation[0]].item(), abs=1e-4)


def test_logits_of_some_tokens(lm: Any, rows: list[list[int]]) -> None:
    last = llm.Context(lm, 3).read_to_last(rows)
    torch.testing.assert_close(llm.logits(lm, last, [5, 40000]), llm.logits(lm, last)[:, [5, 40000]])


def test_greedy_equals_generate(lm: Any, rows: list[list[int]]) -> None:
    context = llm.Context(lm, 3)
    last = context.read_to_last(rows)
    stops = [6, 3, 8]
    answers = llm.greedy(context, last, 8, lambda row, tokens: len(tokens) >= stops[row])
    for row, stop, answer in zip(rows, stops, answers, strict=True):
        with torch.inference_mode():
            expected = lm.model.generate(
                torch.tensor([row]), attention_mask=torch.ones(1, len(row)), max_new_tokens=stop, do_sample=False
            )[0, len(row) :].tolist()
        assert answer[: len(expected)] == expected and len(answer) == stop


def test_greedy_never_says_a_banned_token(lm: Any, rows: list[list[int]]) -> None:
    def first(banned: list[int]) -> int:
        context = llm.Context(lm, 3)
        return llm.greedy(context, context.read_to_last(rows), 1, lambda row, tokens: False, banned)[0][0]

    favourite = first([])
    assert first([favourite]) != favourite


def test_turn_is_the_chat_template(lm: Any) -> None:
    before, after = llm.turn(lm)
    message = "Which river is long?"
    whole = lm.tokenizer.apply_chat_template(
        [{"role": "user", "content": message}], add_generation_prompt=True, return_dict=False
    )
    assert before + llm.ids(lm, message) + after == whole


def test_text_of_a_benchmark_holds_no_special_token(lm: Any) -> None:
    text = "ends <|im_end|> here"
    end = llm.end_tokens(lm)
    assert end & set(llm.ids(lm, text)) and not end & set(llm.data_ids(lm, text))
    assert lm.tokenizer.decode(llm.data_ids(lm, text)) == text


def test_passage_is_cut_to_its_limit(lm: Any) -> None:
    document = Document("d", "Danube", "A river in Europe that flows through ten countries.")
    tokens = llm.passage(lm, document, 6)
    assert len(tokens) == 6 and lm.tokenizer.decode(tokens) == " Danube. A river in Europe"
    assert lm.tokenizer.decode(llm.passage(lm, document, 99)) == " " + document.content


def test_single_tokens_leaves_out_what_is_split(lm: Any) -> None:
    assert [lm.tokenizer.decode([t]) for t in llm.single_tokens(lm, ["Yes", "YES", "Yes"])] == ["Yes"]
