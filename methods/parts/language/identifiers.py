"""The letters that name passages in an answer such as "[B] > [A]", as a model's own tokenizer writes them.

Llama 3 and Qwen2 begin an answer with the one token "[B" and go on with " [" and "A"; where "[O" is no token, an answer
may begin with "[" and "O" too. A model was trained on its own cut alone, and any other asks it for what it never wrote.
So the tokens of every identifier, at the first place of an answer and at a later one, are read off whole answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from methods.parts.language import llm
from methods.parts.language.llm import Context, Ids
from methods.parts.language.windows import LETTERS, written
from rankrepro.errors import ConfigError

Logits = Callable[[Tensor, Ids], Tensor]  # states [..., dim], n tokens -> [..., n]


class Place:
    """The identifiers that may stand at one place of an answer, as a tree of tokens with a leaf for each.

    paths   of each identifier: its tokens, from the end of the one before it through the token that holds its letter
    common  the tokens with which all paths begin
    nodes   what leads from there to each branching of the tree; the first is [], the root
    """

    def __init__(self, paths: Sequence[Ids]) -> None:
        self.paths = list(paths)
        start = min(llm.common(paths), min(map(len, paths)) - 1)
        self.common = self.paths[0][:start]
        # of each identifier: (node, the token taken there) from the root to its leaf
        self.steps = [[(tuple(p[start:i]), p[i]) for i in range(start, len(p))] for p in self.paths]
        self.nodes = [list(node) for node in dict.fromkeys(node for steps in self.steps for node, _ in steps)]

    @property
    def read(self) -> int:
        """Tokens read to score the identifiers."""
        return len(self.common) + sum(map(len, self.nodes))

    @property
    def passes(self) -> int:
        return bool(self.common) + len(self.nodes) - 1

    def chosen(self, identifier: int) -> Ids:
        """The tokens of an identifier after the common ones."""
        return [token for _, token in self.steps[identifier]]

    def states(self, context: Context, last: Tensor) -> list[Tensor]:
        """Hidden states [rows, dim] after each node; `last` are those after the common tokens. `context` stays."""
        slots, states = context.slots, [last]
        for node in self.nodes[1:]:
            states.append(context.read([node] * len(last))[:, -1])
            context.back_to(slots)
        return states

    def scores(self, states: Sequence[Tensor], logits: Logits, normaliser: Callable[[Tensor], Tensor]) -> Tensor:
        """Scores [..., identifiers] from the hidden states [..., dim] after each node.

        Logits where the tree branches once; else sums of log-probabilities, for which `normaliser` gives the log of the
        sum of e^logit over the vocabulary [...].
        """
        if len(self.nodes) == 1:
            return logits(states[0], [steps[0][1] for steps in self.steps])
        log_p: dict[tuple[tuple[int, ...], int], Tensor] = {}
        for node, state in zip(map(tuple, self.nodes), states, strict=True):
            tokens = list(dict.fromkeys(token for steps in self.steps for at, token in steps if at == node))
            values = logits(state, tokens) - normaliser(state)[..., None]
            log_p |= {(node, token): values[..., i] for i, token in enumerate(tokens)}
        return torch.stack([torch.stack([log_p[step] for step in steps]).sum(0) for steps in self.steps], -1)


class Identifiers:
    """Those of one model. ConfigError if its tokenizer cuts an identifier differently after different ones.

    rest  of each identifier: its tokens after the one that holds its letter, as "]"
    """

    def __init__(self, lm: Any) -> None:
        self._first: list[Ids] = []
        self._later: list[Ids] = []
        self.rest: list[Ids] = []
        for i in range(len(LETTERS)):
            tokens, [(letter, end)] = _cut(lm, [i])
            self._first.append(tokens[: letter + 1])
            self.rest.append(tokens[letter + 1 : end + 1])
            tokens, [(_, before), (letter, _)] = _cut(lm, [0 if i else 1, i])
            self._later.append(tokens[before + 1 : letter + 1])
        everyone = list(range(len(LETTERS)))
        for order in (everyone, everyone[::-1]):
            if self.answer(order) != _cut(lm, order)[0]:
                raise ConfigError(
                    f"{lm.id}: its tokenizer cuts an identifier of a listwise answer differently after different ones; "
                    "use another model, or write its cut in methods/parts/language/identifiers.py"
                )

    def first(self, n: int) -> Place:
        """The first n letters at the first place of an answer."""
        return Place(self._first[:n])

    def later(self, n: int) -> Place:
        """The first n letters after another one."""
        return Place(self._later[:n])

    def answer(self, order: Iterable[int]) -> Ids:
        """Tokens of an answer that names the passages in this order, without an end token."""
        first, *others = order
        tokens = self._first[first] + self.rest[first]
        return [*tokens, *(token for i in others for token in self._later[i] + self.rest[i])]


def _cut(lm: Any, order: Sequence[int]) -> tuple[Ids, list[tuple[int, int]]]:
    """Tokens of a whole answer, and which of them hold the letter and the closing bracket of each identifier."""
    answer = written(order)
    encoding = lm.tokenizer(answer, add_special_tokens=False)
    letters = [i for i, character in enumerate(answer) if character in LETTERS]
    return encoding["input_ids"], [(encoding.char_to_token(i), encoding.char_to_token(i + 1)) for i in letters]
