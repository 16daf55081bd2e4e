"""Listwise re-ranking by an untrained language model: written permutations, or the first identifier's scores.

`planted` asks whether a model follows the prompt at all: where it does not, its rows are no rivals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np

from methods.parts.language.listwise import Listwise, Way, Window, walk
from methods.parts.language.windows import Order, check_windows
from methods.parts.retrieval.outputs import from_order
from rankrepro.cell import Cell, Document, Facts, Output, Ranking, Size


def rankgpt(
    cell: Cell,
    *,
    passage_tokens: Annotated[int, Size(work=1, rehearsal=8)],
    window: int,
    step: int,
    batch: Annotated[int, Size(rehearsal=8)],
    decoding: list[Literal["constrained", "free"]],
    stop: Literal["natural", "length"],
) -> dict[str, Output]:
    """Listwise permutation generation over sliding windows (Sun et al. 2023).

    rankgpt            constrained: each step takes the likeliest identifier not used yet
    rankgpt_free       plain greedy decoding, parsed and repaired
    rankgpt_malformed  query -> share of the free variant's windows whose answer was no permutation

    Both decodings start from the same list; a prompt that is the same for both is read once.
    batch: queries side by side. stop: `length` gives free answers as many tokens as a full permutation has.
    """
    check_windows(cell.name, window, step)
    prompts = Listwise(cell.models["llm"], cell.meter, passage_tokens)

    ways: dict[str, Way] = {"constrained": "constrained", "free": stop}

    def rank(queries: list[str]) -> dict[str, dict[str, Any]]:
        walks = walk(cell, prompts, queries, window, step, [ways[name] for name in decoding])
        return {q: {name: vars(walks[q][ways[name]]) for name in decoding} for q in queries}

    done = cell.map(list(cell.queries), rank, batch=batch)
    out: dict[str, Output] = {}
    if "constrained" in decoding:
        out["rankgpt"] = Ranking({q: from_order(walks["constrained"]["order"]) for q, walks in done.items()})
    if "free" in decoding:
        malformed = {q: {"malformed_rate": float(np.mean(walks["free"]["malformed"]))} for q, walks in done.items()}
        out["rankgpt_free"] = Ranking({q: from_order(walks["free"]["order"]) for q, walks in done.items()})
        out["rankgpt_malformed"] = Facts(malformed)
    return out


def first_token(
    cell: Cell,
    *,
    passage_tokens: Annotated[int, Size(work=1, rehearsal=8)],
    window: int,
    step: int,
    batch: Annotated[int, Size(rehearsal=8)],
) -> Ranking:
    """Listwise windows ranked by the scores of their first identifier (Reddy et al. 2024, zero-shot).

    Prompts, windows and batches are those of `rankgpt`; one reading of a window replaces writing a permutation.
    """
    check_windows(cell.name, window, step)
    prompts = Listwise(cell.models["llm"], cell.meter, passage_tokens)

    def rank(queries: list[str]) -> dict[str, Order]:
        walks = walk(cell, prompts, queries, window, step, ["single"])
        return {q: walks[q]["single"].order for q in queries}

    done = cell.map(list(cell.queries), rank, batch=batch)
    return Ranking({q: from_order(order) for q, order in done.items()})


def planted(
    cell: Cell,
    *,
    passage_tokens: Annotated[int, Size(work=1, rehearsal=8)],
    window: int,
    batch: Annotated[int, Size(rehearsal=8)],
) -> Facts:
    """Whether a model follows the listwise prompt: of a window, one passage quotes the query, the others are foreign.

    first   1 where the scores of the first identifier, with which constrained answers begin too, put it first; or 0
    RR      reciprocal of its rank by these scores
    chance  1 / window, the expectation of `first` for whoever does not read

    No judgment is needed. Prompts are those of `rankgpt` and `first_token`.
    """
    check_windows(cell.name, window, window)
    prompts = Listwise(cell.models["llm"], cell.meter, passage_tokens)
    corpus = sorted(cell.benchmark.corpus)

    def rank(queries: list[str]) -> dict[str, dict[str, float]]:
        shown = {q: planted_window(cell, corpus, q, window) for q in queries}
        windows = [w for w, _ in shown.values()]
        orders = prompts.decode("single", *prompts.read(windows), windows)
        ranks = {q: 1 + order.index(place) for (q, (_, place)), order in zip(shown.items(), orders, strict=True)}
        return {q: {"first": float(r == 1), "RR": 1 / r, "chance": 1 / window} for q, r in ranks.items()}

    return Facts(cell.map(list(cell.queries), rank, batch=batch))


def planted_window(cell: Cell, corpus: Sequence[str], q: str, size: int) -> tuple[Window, int]:
    """A window of passages of `corpus` without the query's candidates, and the place of the one that quotes the query.

    The quoting passage is one of those drawn with the query before it. Passages and place are drawn by seed and query.
    """
    key = int.from_bytes(hashlib.sha256(q.encode()).digest()[:8], "big")
    rng = np.random.default_rng([cell.seed, key])
    near = {*cell.candidates.get(q, ()), *cell.benchmark.queries[q].excluded}
    foreign = [d for d in corpus if d not in near]
    documents = [cell.document(foreign[i]) for i in rng.choice(len(foreign), size, replace=False)]
    place = int(rng.integers(size))
    host = documents[place]
    documents[place] = Document(host.id, "", f"{cell.queries[q]} {host.content}")
    return Window(q, cell.queries[q], tuple(documents)), place
