"""Listwise prompts: a query and the lettered passages of a window, read in batches and answered with a permutation.

Identifiers are read and written as the model's tokenizer cuts them (methods/parts/language/identifiers.py).

`walk` slides such windows over the candidates of queries, with one or several ways of decoding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from methods.parts.language import llm
from methods.parts.language.identifiers import Identifiers, Place
from methods.parts.language.llm import Context, Ids
from methods.parts.language.windows import LETTERS, Order, parse, plain, repair, slide, well_formed
from rankrepro.cell import Cell, Document, Meter

TASK = "I give you {n} passages, each marked with a letter in brackets. Rank them by relevance to the query:"
ASK = (
    "\nRank the {n} passages above by relevance to the query, most relevant first. Name every letter once, as in"
    " [B] > [A]. Answer with the ranking and nothing else."
)
Way = Literal["single", "constrained", "natural", "length", "prompt"]  # of decoding: see `Listwise.decode`
ROOM = 5  # tokens per identifier that a free answer may have; a perfect answer has 4, as in "A", "]", " >", " ["


@dataclass(frozen=True)
class Window:
    unit: str  # query id
    query: str
    documents: tuple[Document, ...]


class Listwise:
    """Prompts for one model. Identifiers are letters, since a number above 9 is several tokens (Reddy et al. 2024)."""

    def __init__(self, lm: Any, meter: Meter, passage_tokens: int) -> None:
        self.lm, self.meter, self.passage_tokens = lm, meter, passage_tokens
        before, self.after = llm.turn(lm)
        self.prefix = llm.Context(lm)
        self.opening = before  # what is left of the beginning for every prompt to read
        if llm.shares_little(lm.device):
            self.prefix.read([before])
            self.opening = []
        self.identifiers = Identifiers(lm)

    def prompt(self, window: Window) -> Ids:
        """The tokens from the beginning of the user's message to the assistant's first token."""
        lm, n = self.lm, len(window.documents)
        query = llm.data_ids(lm, " " + window.query)
        tokens = [*llm.ids(lm, TASK.format(n=n)), *query]
        for letter, document in zip(LETTERS, window.documents, strict=False):
            text = " " + plain(document.content)
            tokens += [*llm.ids(lm, f"\n[{letter}]"), *llm.data_ids(lm, text, self.passage_tokens)]
        return [*tokens, *llm.ids(lm, "\nQuery:"), *query, *llm.ids(lm, ASK.format(n=n)), *self.after]

    def read(self, windows: Sequence[Window]) -> tuple[Context, Tensor]:
        """Context and last hidden states [windows, dim] after the prompts. Prompts of a query share their beginning."""
        prompts = [self.prompt(window) for window in windows]
        units = list(dict.fromkeys(window.unit for window in windows))
        group = [units.index(window.unit) for window in windows]
        members = [[p for p, g in zip(prompts, group, strict=True) if g == i] for i in range(len(units))]
        shared = [llm.common(m) if len(m) > 1 else len(m[0]) for m in members]
        # a lone prompt is cut where the others diverge, or their endings would be padded to its whole length
        cut = min((n for n, m in zip(shared, members, strict=True) if len(m) > 1), default=max(shared))
        shared = [min(n if len(m) > 1 else cut, len(m[0]) - 1) for n, m in zip(shared, members, strict=True)]
        endings = [prompt[shared[g] :] for prompt, g in zip(prompts, group, strict=True)]

        context = self.prefix.select([0] * len(units))
        context.read([[*self.opening, *m[0][:n]] for n, m in zip(shared, members, strict=True)])
        context = context.select(group)
        for unit, n in zip(units, shared, strict=True):
            self.meter.add(unit, input_tokens=n, forward_passes=1)
        for window, ending in zip(windows, endings, strict=True):
            self.meter.add(window.unit, input_tokens=len(ending))
        return context, context.read_to_last(endings)

    def decode(self, way: Way, context: Context, last: Tensor, windows: Sequence[Window]) -> list[list[int]]:
        """Indices of each window's passages in the order of its answer.

        single           permutations by the scores of the first identifier (`single`)
        constrained      permutations by the likeliest identifier not used yet, one after another (`constrained`)
        natural, length  what plain greedy answers name, which may be no permutation (`free`)
        prompt           the order shown: nothing is decided, which is what prefill alone costs

        `context` has read the prompts and is read on; `last` [windows, dim] are their last hidden states.
        """
        if way == "single":
            return self.single(context, last, windows)
        if way == "constrained":
            return self.constrained(context, last, windows)
        if way == "prompt":
            return [list(range(len(window.documents))) for window in windows]
        return self.free(context, last, windows, way)

    @torch.inference_mode()
    def single(self, context: Context, last: Tensor, windows: Sequence[Window]) -> list[list[int]]:
        """Permutations by the scores of the first identifier, read once after the prompt (Reddy et al. 2024)."""
        place = self.identifiers.first(_most(windows))
        scores = self.scores(context, context.read_to_last([place.common] * len(windows), last), place).tolist()
        for window in windows:
            self.meter.add(window.unit, input_tokens=place.read, forward_passes=place.passes)
        return [
            sorted(range(len(window.documents)), key=lambda i: -s[i]) for window, s in zip(windows, scores, strict=True)
        ]

    @torch.inference_mode()
    def constrained(self, context: Context, last: Tensor, windows: Sequence[Window]) -> list[list[int]]:
        """Permutations by the likeliest identifier not used yet; what separates two is fed along with the first.

        Stops when one identifier is unused, since nothing remains to be decided.
        """
        unused = [list(range(len(window.documents))) for window in windows]
        permutations: list[list[int]] = [[] for _ in windows]
        place, later = self.identifiers.first(_most(windows)), self.identifiers.later(_most(windows))
        feed = [place.common] * len(windows)
        rest: list[Ids] = [[] for _ in windows]  # of the identifier chosen last
        while any(len(indices) > 1 for indices in unused):
            feed = [tokens if len(indices) > 1 else [] for tokens, indices in zip(feed, unused, strict=True)]
            last = context.read_to_last(feed, last)
            scores = self.scores(context, last, place).tolist()
            for row, window in enumerate(windows):
                if len(unused[row]) > 1:
                    best = max(unused[row], key=scores[row].__getitem__)
                    unused[row].remove(best)
                    permutations[row].append(best)
                    chosen, read = place.chosen(best), len(rest[row]) + place.read
                    self.meter.add(
                        window.unit, input_tokens=read, generated_tokens=len(chosen), forward_passes=place.passes
                    )
                    rest[row] = self.identifiers.rest[best]
                    feed[row] = [*chosen, *rest[row], *later.common]
            place = later
        return [permutation + last for permutation, last in zip(permutations, unused, strict=True)]

    def scores(self, context: Context, last: Tensor, place: Place) -> Tensor:
        """Scores [windows, letters] of a place, whose common tokens were read last."""
        states = place.states(context, last)
        return place.scores(states, partial(llm.logits, self.lm), partial(llm.normaliser, self.lm))

    @torch.inference_mode()
    def free(self, context: Context, last: Tensor, windows: Sequence[Window], stop: str) -> list[list[int]]:
        """Indices named by plain greedy answers, in the order and as often as they are named.

        stop: `natural` ends an answer at the end token, at a complete permutation or after ROOM tokens per identifier;
        `length` gives every answer as many tokens as a full permutation has.
        """
        n = _most(windows)
        end = llm.end_tokens(self.lm)
        if stop == "length":
            full = len(self.identifiers.answer(range(n)))
            answers = llm.greedy(context, last, full, lambda row, tokens: False, banned=sorted(end))
        else:

            def done(row: int, tokens: Ids) -> bool:
                size = len(windows[row].documents)
                return tokens[-1] in end or len(tokens) >= ROOM * size or well_formed(self.indices(tokens), size)

            answers = llm.greedy(context, last, ROOM * n, done)
        for window, answer in zip(windows, answers, strict=True):
            self.meter.add(window.unit, generated_tokens=len(answer), forward_passes=len(answer) - 1)
        return [self.indices(answer) for answer in answers]

    def indices(self, answer: Ids) -> list[int]:
        return parse(self.lm.tokenizer.decode(answer, skip_special_tokens=True))


def _most(windows: Sequence[Window]) -> int:
    """Passages of the largest window."""
    return max(len(window.documents) for window in windows)


@dataclass
class Walk:
    """Result of a walk over windows: the order of a query's documents, and which answers were no permutation."""

    order: Order
    malformed: list[bool]  # per window, tail first


def walk(
    cell: Cell, prompts: Listwise, queries: Sequence[str], window: int, step: int, ways: Sequence[Way]
) -> dict[str, dict[Way, Walk]]:
    """Query -> way of decoding -> its candidates re-ranked by sliding windows, all queries and ways side by side.

    Answers are repaired. A prompt that is the same for several ways is read once.
    """
    malformed: dict[tuple[str, Way], list[bool]] = {(q, way): [] for q in queries for way in ways}

    def permute(shown: Mapping[tuple[str, Way], Order]) -> dict[tuple[str, Way], Order]:
        windows = {key: Window(key[0], cell.queries[key[0]], tuple(map(cell.document, d))) for key, d in shown.items()}
        distinct = list(dict.fromkeys(windows.values()))
        context, last = prompts.read(distinct)
        permuted = {}
        for way in ways:
            keys = [key for key in shown if key[1] == way]
            rows = [distinct.index(windows[key]) for key in keys]
            copy = context if len(ways) == 1 else context.select(rows)  # each way continues from the prompts
            answers = prompts.decode(way, copy, last[rows], [distinct[row] for row in rows])
            for key, answer in zip(keys, answers, strict=True):
                documents = shown[key]
                permuted[key] = [documents[i] for i in repair(answer, len(documents))]
                malformed[key].append(not well_formed(answer, len(documents)))
        return permuted

    orders = slide({key: cell.candidates[key[0]] for key in malformed}, window, step, permute)
    return {q: {way: Walk(orders[q, way], malformed[q, way]) for way in ways} for q in queries}
