"""Causal language models: prompts as token ids, and forward passes over a KV cache that rows share and extend.

`lm` is a loaded model (rankrepro.models): `.model` with its head, `.tokenizer`, `.device`. Prompts are built by
concatenating the token ids of their segments, never by tokenising joined text, so that every segment's place is known
and a shared beginning is shared token by token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from rankrepro.cell import Document

Ids = list[int]
BLOCK = 16_384  # rows of the output matrix that are multiplied at a time


# --- prompts ---------------------------------------------------------------------------------------------------------


def ids(lm: Any, text: str) -> Ids:
    """Token ids of a segment of our own wording; special tokens in it are meant."""
    return lm.tokenizer(text, add_special_tokens=False)["input_ids"]


def data_ids(lm: Any, text: str, limit: int | None = None) -> Ids:
    """Token ids of text from the benchmark, at most `limit`; the spelling of a special token in it is plain text."""
    return lm.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"][:limit]


def passage(lm: Any, document: Document, limit: int) -> Ids:
    """The first `limit` tokens of `title. text`, after a space."""
    return data_ids(lm, " " + document.content, limit)


def turn(lm: Any) -> tuple[Ids, Ids]:
    """What the chat template puts before a user's message, and after it up to the assistant's first token."""
    mark = "MESSAGE"
    message = [{"role": "user", "content": mark}]
    text = lm.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    before, after = text.split(mark)
    return ids(lm, before), ids(lm, after)


def single_tokens(lm: Any, words: Sequence[str]) -> Ids:
    """Ids of those of `words` that are a single token."""
    return sorted({tokens[0] for word in words if len(tokens := ids(lm, word)) == 1})


def end_tokens(lm: Any) -> set[int]:
    """Tokens that end an answer."""
    end = lm.model.generation_config.eos_token_id
    return set(end) if isinstance(end, list) else {end}


def common(rows: Sequence[Ids]) -> int:
    """Number of tokens that all rows have in common at their beginning."""
    return next((i for i, tokens in enumerate(zip(*rows, strict=False)) if len(set(tokens)) > 1), min(map(len, rows)))


# --- forward passes --------------------------------------------------------------------------------------------------


def pass_tokens(device: str) -> int:
    """Tokens of all rows in one forward pass: whole prompts on a GPU, on a processor what its cache holds."""
    return 512 if device == "cpu" else 131_072


def shares_little(device: str) -> bool:
    """Whether a few tokens that prompts have in common are read once for all of them.

    On a GPU they are read again: causal attention from the first token on has a kernel of its own there.
    """
    return device == "cpu"


class Context:
    """What a batch of rows has read so far.

    Rows may have read different numbers of tokens: the cache slots of a shorter row's padding stay masked, and each row
    counts its own positions. So a common beginning is read once, and every row continues from it in its own way.
    """

    def __init__(self, lm: Any, rows: int = 1) -> None:
        self.lm = lm
        self.cache = DynamicCache(config=lm.model.config)
        self.real = torch.zeros(rows, 0, dtype=torch.long, device=lm.device)  # [rows, slots], 0 = padding
        self.padded = False  # whether `real` may have a 0

    @property
    def slots(self) -> int:
        return self.real.shape[1]

    @torch.inference_mode()
    def read(self, rows: Sequence[Ids], chunk: int | None = None, **attention: Any) -> Tensor:
        """Read `rows[i]` (may be empty) after all that row i has read; hidden states [rows, longest, dim].

        States of row i beyond its own tokens mean nothing. `chunk`: places of every row in one forward pass. Unless it
        is given, a pass that does not fit into a GPU's memory is halved. `attention` goes to the attention function.
        """
        assert len(rows) == len(self.real) and (self.slots or all(rows)), "a row has nothing to attend to"
        longest = max(map(len, rows))
        tokens = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=self.lm.device)
        real = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=self.lm.device)
        position = self.real.sum(1, keepdim=True) + torch.arange(longest, device=self.lm.device)
        width = chunk or max(1, pass_tokens(self.lm.device) // len(rows))
        hidden: list[Tensor] = []
        start = 0
        while start < longest:
            part = slice(start, min(start + width, longest))
            seen = torch.cat([self.real, real[:, part]], 1)
            padded = self.padded or any(len(row) < part.stop for row in rows)
            # no token sees padding to its right: a pass from the first slot on needs no mask, nor one without holes
            mask = seen if self.slots and padded else None
            try:
                output = self.lm.model.base_model(
                    input_ids=tokens[:, part],
                    position_ids=position[:, part],
                    attention_mask=mask,
                    past_key_values=self.cache,
                    use_cache=True,
                    **attention,
                )
            except torch.OutOfMemoryError:
                if chunk or width == 1:
                    raise
                width = (part.stop - start) // 2
                self.back_to(self.slots)  # the layers that were read before memory ran out
            else:
                hidden.append(output.last_hidden_state)
                self.real, self.padded, start = seen, padded, part.stop
        return torch.cat(hidden, 1)

    def read_to_last(self, rows: Sequence[Ids], last: Tensor | None = None) -> Tensor:
        """Read `rows`; the hidden state of each row's last token [rows, dim]. A row that reads nothing keeps `last`."""
        if last is not None and not any(rows):
            return last
        hidden = self.read(rows)
        states = hidden[torch.arange(len(rows)), torch.tensor([max(len(row) - 1, 0) for row in rows])]
        if last is None:
            assert all(rows), "a row has no last token"
            return states
        return torch.where(torch.tensor([[bool(row)] for row in rows], device=states.device), states, last)

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> Context:
        """A new context whose row i is a copy of row `rows[i]` of this one."""
        index = torch.tensor(rows, device=self.lm.device)
        copy = Context(self.lm, len(rows))
        copy.real, copy.padded = self.real[index], self.padded
        layers: list[Any] = self.cache.layers if self.slots else []
        for layer, old in enumerate(layers):
            copy.cache.update(old.keys[index], old.values[index], layer)
        return copy

    def back_to(self, slots: int) -> None:
        """Forget everything after the first `slots` slots."""
        layers: list[Any] = self.cache.layers
        for layer in layers:
            layer.crop(slots - layer.get_seq_length())
        self.real = self.real[:, :slots]


@torch.inference_mode()
def logits(lm: Any, hidden: Tensor, tokens: Ids | None = None) -> Tensor:
    """Next-token logits [..., vocabulary] of hidden states [..., dim], or only those of `tokens` [..., tokens].

    Those of chosen tokens are multiplied in float32: bfloat16 would round what is compared to steps of 0.125.
    """
    head = lm.model.get_output_embeddings()
    return head(hidden) if tokens is None else hidden.float() @ head.weight[tokens].float().T


@torch.inference_mode()
def normaliser(lm: Any, hidden: Tensor) -> Tensor:
    """The log of the sum of e^logit over the vocabulary [...] of hidden states [..., dim], in float32.

    Taken over blocks of the output matrix, since all logits at once would fill hundreds of megabytes.
    """
    blocks = lm.model.get_output_embeddings().weight.split(BLOCK)
    return torch.stack([(hidden.float() @ block.float().T).logsumexp(-1) for block in blocks]).logsumexp(0)


@torch.inference_mode()
def mean_logprob(context: Context, last: Tensor, continuation: Ids) -> list[float]:
    """Mean log-probability of the tokens of `continuation` in every row; the context itself does not change.

    `last` [rows, dim] is the hidden state after which the continuation starts, whose last token is never fed.
    """
    before = context.slots
    states = last[:, None]
    if len(continuation) > 1:
        states = torch.cat([states, context.read([continuation[:-1]] * len(last))], 1)
        context.back_to(before)
    of_tokens = torch.stack(
        [logits(context.lm, states[:, i], [token])[:, 0] for i, token in enumerate(continuation)], 1
    )
    return (of_tokens - normaliser(context.lm, states)).mean(1).tolist()


@torch.inference_mode()
def greedy(
    context: Context, last: Tensor, limit: int, done: Callable[[int, Ids], bool], banned: Sequence[int] = ()
) -> list[Ids]:
    """The likeliest tokens of every row, without `banned` ones, until `done(row, its tokens)` or `limit` of them.

    `last` [rows, dim] are the hidden states after which the answers start.
    """
    rows: list[Ids] = [[] for _ in last]
    live = set(range(len(rows)))
    for _ in range(limit):
        z = logits(context.lm, last)
        z[:, list(banned)] = -torch.inf
        choice = z.argmax(-1).tolist()
        for i in live:
            rows[i].append(choice[i])
        live = {i for i in live if len(rows[i]) < limit and not done(i, rows[i])}
        if not live:
            break
        last = context.read([rows[i][-1:] if i in live else [] for i in range(len(rows))])[:, 0]
    return rows


# --- sampling --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Completion:
    """Sampled tokens, and the log-probability [tokens] that each had when it was drawn (float32, on the processor)."""

    tokens: Ids
    logprobs: Tensor


@torch.inference_mode()
def sample(
    context: Context,
    last: Tensor,
    limit: int,
    generator: torch.Generator,
    temperature: float = 1.0,
    done: Callable[[int, Ids], bool] = lambda row, tokens: False,
) -> list[Completion]:
    """Tokens drawn from softmax(logits / temperature), one row each, until `done(row, its tokens)` or `limit` of them.

    `last` [rows, dim] are the hidden states after which the completions start. `generator` lies on the processor and
    gives a number for every row and place before the first token is drawn, so that draws are the same on every device
    and those of a row do not depend on when others end. For several completions of a prompt, `context.select` it.
    """
    draws = torch.rand(len(last), limit, generator=generator, dtype=torch.float64).to(last.device)
    rows: list[Ids] = [[] for _ in last]
    logprobs: list[list[float]] = [[] for _ in last]
    live = set(range(len(rows)))
    for place in range(limit):
        log_p = (logits(context.lm, last).float() / temperature).log_softmax(-1)  # [rows, vocabulary]
        ladder = log_p.double().exp().cumsum(-1)
        # the first token whose step of the ladder is above the draw; scaled, since the last step is only nearly 1
        chosen = torch.searchsorted(ladder, draws[:, place, None] * ladder[:, -1:], right=True)
        chosen = chosen.clamp_max(log_p.shape[1] - 1)
        of_chosen = log_p.gather(-1, chosen)[:, 0].tolist()
        for i in live:
            rows[i].append(int(chosen[i]))
            logprobs[i].append(of_chosen[i])
        live = {i for i in live if not done(i, rows[i])}
        if not live or place == limit - 1:
            break
        last = context.read([rows[i][-1:] if i in live else [] for i in range(len(rows))])[:, 0]
    return [Completion(tokens, torch.tensor(values)) for tokens, values in zip(rows, logprobs, strict=True)]


def logprobs(lm: Any, prompts: Sequence[Ids], completions: Sequence[Ids], temperature: float = 1.0) -> list[Tensor]:
    """Log-probability [tokens] of every token of each completion after its prompt (no prompt empty), with gradient.

    One pass over whole rows without a cache: the log-probabilities of `sample`, for a policy that is being trained.
    Rows are padded on the right, where a causal model does not look. The head is applied to completions only.
    """
    rows = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
    longest = max(map(len, rows))
    tokens = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=lm.device)
    hidden = lm.model.base_model(input_ids=tokens, use_cache=False).last_hidden_state  # [rows, longest, dim]
    head = lm.model.get_output_embeddings()
    out = []
    for states, prompt, completion in zip(hidden, prompts, completions, strict=True):
        z = head(states[len(prompt) - 1 : len(prompt) + len(completion) - 1]).float() / temperature
        target = torch.tensor(completion, device=z.device)[:, None]
        out.append(z.log_softmax(-1).gather(-1, target)[:, 0])
    return out
