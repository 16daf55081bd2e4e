"""Batched, padded, cached reading gives what one plain forward pass gives."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from methods.parts.language import llm
from rankrepro.benchmarks.base import Document

WORDS = ["The Danube flows through", "Chess is a board game for two players, and it", "Owls"]


@pytest.fixture
def rows(lm: Any) -> list[list[int]]:
    return [llm.ids(lm, text) for text in WORDS]


@torch.inference_mode()
def plain(lm: Any, tokens: list[int]) -> torch.Tensor:
    """Logits [tokens, vocabulary] of one sequence, no cache, no padding."""
    return lm.model(torch.tensor([tokens]), use_cache=False).logits[0]


@pytest.mark.parametrize("chunk", [None, 3, 4096])
def test_padded_batch_equals_single_forward(lm: Any, rows: list[list[int]], chunk: int | None) -> None:
    hidden = llm.Context(lm, len(rows)).read(rows, chunk=chunk)
    for row, states in zip(rows, hidden, strict=True):
        torch.testing.assert_close(llm.logits(lm, states[: len(row)]), plain(lm, row), atol=1e-3, rtol=0)


def test_shared_prefix_with_holes_equals_no_cache(lm: Any, rows: list[list[int]]) -> None:
    """Read a prefix once, continue it with rows of unequal length, pick and repeat rows, continue again."""
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


def test_a_read_from_the_first_token_on_has_no_mask_and_only_rows_with_holes_have_one(
    lm: Any, rows: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    masks: list[Any] = []
    hook = lm.model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: masks.append(kwargs["attention_mask"]), with_kwargs=True
    )
    try:
        whole = llm.Context(lm, 2)
        whole.read([rows[0], rows[0]])
        whole.read([rows[1], rows[1]], chunk=4)
        assert masks == [None] * len(masks) and len(masks) > 2
        masks.clear()
        holes = llm.Context(lm, len(rows))
        holes.read(rows)
        assert masks == [None]
        last = holes.select([1, 2]).read([[11], [12]])
        assert masks[1].tolist() == [
            [1] * len(rows[1]) + [1],
            [1] * len(rows[2]) + [0] * (len(rows[1]) - len(rows[2])) + [1],
        ]
    finally:
        hook.remove()
    for i, row in ((0, [*rows[1], 11]), (1, [*rows[2], 12])):
        torch.testing.assert_close(llm.logits(lm, last[i, 0]), plain(lm, row)[-1], atol=1e-3, rtol=0)


def test_passes_that_do_not_fit_are_halved(lm: Any, rows: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    base, widths = lm.model.base_model, []
    forward = base.forward

    def small(**given: Any) -> Any:
        widths.append(given["input_ids"].shape[1])
        output = forward(**given)
        if widths[-1] > 4:  # after the layers have put into the cache what they read
            raise torch.OutOfMemoryError
        return output

    monkeypatch.setattr(base, "forward", small)
    context = llm.Context(lm, len(rows))
    hidden = context.read(rows)
    assert max(widths[1:]) < widths[0] and context.slots == max(map(len, rows)) == context.cache.get_seq_length()
    monkeypatch.setattr(base, "forward", forward)
    for row, states in zip(rows, hidden, strict=True):
        torch.testing.assert_close(llm.logits(lm, states[: len(row)]), plain(lm, row), atol=1e-3, rtol=0)
    monkeypatch.setattr(base, "forward", small)
    with pytest.raises(torch.OutOfMemoryError):  # who says how wide a pass is needs it so
        context.read(rows, chunk=max(map(len, rows)))


def test_a_row_that_reads_nothing_keeps_its_last_state(lm: Any, rows: list[list[int]]) -> None:
    context = llm.Context(lm, 3)
    last = context.read_to_last(rows)
    after = context.read_to_last([[20, 21], [], [22]], last)
    assert torch.equal(after[1], last[1]) and context.read_to_last([[], [], []], last) is last
    torch.testing.assert_close(llm.logits(lm, after[2]), plain(lm, [*rows[2], 22])[-1], atol=1e-3, rtol=0)


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
    values = llm.mean_logprob(context, last, continuation)
    assert context.slots == before
    for row, value in zip(rows, values, strict=True):
        tokens = torch.tensor([row + continuation])
        labels = torch.tensor([[-100] * len(row) + continuation])
        with torch.inference_mode():
            assert value == pytest.approx(-lm.model(tokens, labels=labels).loss.item(), abs=1e-4)
    one = llm.mean_logprob(context, last, continuation[:1])
    assert one[0] == pytest.approx(plain(lm, rows[0])[-1].log_softmax(-1)[continuation[0]].item(), abs=1e-4)


def test_logits_of_some_tokens(lm: Any, rows: list[list[int]]) -> None:
    last = llm.Context(lm, 3).read_to_last(rows)
    torch.testing.assert_close(llm.logits(lm, last, [5, 40000]), llm.logits(lm, last)[:, [5, 40000]])


def test_chosen_logits_and_the_normaliser_of_half_precision_are_of_single_precision(tiny: Any) -> None:
    """The logits of bfloat16 come in steps of 0.125 and more at this size: too coarse to compare alternatives."""
    import copy

    half = SimpleNamespace(model=copy.deepcopy(tiny.model).to(torch.bfloat16), device="cpu")
    last = llm.Context(half).read_to_last(PROMPTS[:1])
    assert last.dtype is torch.bfloat16
    exact = (last.double() @ half.model.lm_head.weight.double().T)[0]
    tokens = [3, 7, 11]
    torch.testing.assert_close(llm.logits(half, last, tokens)[0].double(), exact[tokens], atol=1e-5, rtol=1e-5)
    assert llm.normaliser(half, last).item() == pytest.approx(exact.logsumexp(-1).item(), abs=1e-5)
    assert (llm.logits(half, last)[0].double() - exact).abs().max() > 1e-3
    values = llm.mean_logprob(llm.Context(half), last, [5])
    assert values == pytest.approx([(exact[5] - exact.logsumexp(-1)).item()], abs=1e-5)


def test_the_normaliser_takes_blocks(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    last = llm.Context(tiny).read_to_last(PROMPTS[:1])
    whole = llm.normaliser(tiny, last)
    monkeypatch.setattr(llm, "BLOCK", 5)
    torch.testing.assert_close(llm.normaliser(tiny, last), whole)


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


# --- sampling --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny() -> Any:
    """A model of Llama's build with random weights, two layers and a vocabulary of 12."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=12, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # far from uniform
    return SimpleNamespace(model=model, device="cpu")


PROMPTS = [[3, 1, 4, 1, 5], [2, 7], [9, 9, 8]]


def drawn(lm: Any, rows: list[list[int]], limit: int, seed: int, **more: Any) -> list[llm.Completion]:
    context = llm.Context(lm, len(rows))
    return llm.sample(context, context.read_to_last(rows), limit, torch.Generator().manual_seed(seed), **more)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_of_samples_are_those_of_a_plain_pass_and_of_the_pass_with_gradient(
    tiny: Any, temperature: float
) -> None:
    completions = drawn(tiny, PROMPTS, 6, 0, temperature=temperature, done=lambda row, tokens: len(tokens) == 4 + row)
    assert [len(c.tokens) for c in completions] == [4, 5, 6]
    again = llm.logprobs(tiny, PROMPTS, [c.tokens for c in completions], temperature)
    for prompt, completion, with_gradient in zip(PROMPTS, completions, again, strict=True):
        z = plain(tiny, [*prompt, *completion.tokens]) / temperature
        expected = z.log_softmax(-1)[range(len(prompt) - 1, len(z) - 1), completion.tokens]
        torch.testing.assert_close(completion.logprobs, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(with_gradient.detach(), expected, atol=1e-5, rtol=1e-5)


def test_the_gradient_is_that_of_each_row_by_itself(tiny: Any) -> None:
    completions, weights = [[5, 0], [11], [1, 2, 3]], [1.0, -2.0, 0.5]
    weight = tiny.model.model.layers[0].self_attn.q_proj.weight
    together = sum(w * x.sum() for w, x in zip(weights, llm.logprobs(tiny, PROMPTS, completions), strict=True))
    (gradient,) = torch.autograd.grad(together, weight)
    expected = torch.zeros_like(weight)
    for prompt, completion, w in zip(PROMPTS, completions, weights, strict=True):
        labels = torch.tensor([[-100] * len(prompt) + completion])
        loss = tiny.model(torch.tensor([prompt + completion]), labels=labels).loss  # the mean over a completion
        expected -= w * len(completion) * torch.autograd.grad(loss, weight)[0]
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)


def test_samples_go_by_the_generator_and_not_by_who_ends_when(tiny: Any) -> None:
    first, again, other = (drawn(tiny, PROMPTS, 8, seed) for seed in (0, 0, 1))
    assert [c.tokens for c in first] == [c.tokens for c in again] != [c.tokens for c in other]
    ended = drawn(tiny, PROMPTS, 8, 0, done=lambda row, tokens: row == 0)
    assert ended[0].tokens == first[0].tokens[:1] and [c.tokens for c in ended[1:]] == [c.tokens for c in first[1:]]


def test_tokens_come_as_often_as_the_model_says_and_the_cold_choose_the_likeliest(tiny: Any) -> None:
    context = llm.Context(tiny)
    last = context.read_to_last(PROMPTS[:1])
    n = 20_000
    many = llm.sample(context.select([0] * n), last.expand(n, -1), 1, torch.Generator().manual_seed(2), 2.0)
    p = (llm.logits(tiny, last)[0] / 2.0).softmax(-1)
    counts = torch.bincount(torch.tensor([c.tokens[0] for c in many]), minlength=12)
    assert ((counts / n - p).abs() <= 4 * (p * (1 - p) / n).sqrt() + 1 / n).all() and (p > 0.05).sum() >= 3
    cold = llm.sample(context.select([0] * 50), last.expand(50, -1), 1, torch.Generator().manual_seed(2), 1e-4)
    assert {c.tokens[0] for c in cold} == {int(p.argmax())}


def test_the_sampled_policy_gradient_of_one_token_is_the_exact_one(tiny: Any) -> None:
    """REINFORCE with what `sample` draws and `logprobs` derives, against the sum over the vocabulary."""
    prompt, n = PROMPTS[1], 4000
    rewards = torch.linspace(-1, 1, 12)[torch.randperm(12, generator=torch.Generator().manual_seed(1))]
    weight = tiny.model.lm_head.weight
    every = torch.cat(llm.logprobs(tiny, [prompt] * 12, [[t] for t in range(12)], 3.0))
    (exact,) = torch.autograd.grad((every.exp() * rewards).sum(), weight)
    context = llm.Context(tiny)
    last = context.read_to_last([prompt])
    draws = llm.sample(context.select([0] * n), last.expand(n, -1), 1, torch.Generator().manual_seed(3), 3.0)
    tokens = [c.tokens for c in draws]
    gains = rewards[torch.tensor(tokens)[:, 0]]
    halves = []
    for half in (slice(0, n // 2), slice(n // 2, n)):
        logprobs = torch.cat(llm.logprobs(tiny, [prompt] * (n // 2), tokens[half], 3.0))
        halves.append(torch.autograd.grad((logprobs * gains[half]).mean(), weight)[0])
    sampled = (halves[0] + halves[1]) / 2
    assert (sampled - exact).norm() < 0.1 * exact.norm()
    assert (halves[0] - halves[1]).norm() > 0  # otherwise nothing was sampled
