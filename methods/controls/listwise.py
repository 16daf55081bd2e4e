"""Listwise re-ranking by an untrained language model: written permutations, or the first letter's logits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np

from methods.parts.language.listwise import Listwise, Way, walk
from methods.parts.language.windows import Order, check_windows
from methods.parts.retrieval.outputs import from_order
from rankrepro.cell import Cell, Facts, Output, Ranking, Size


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
    """Listwise windows ranked by the logits of their first identifier (Reddy et al. 2024, zero-shot).

    Prompts, windows and batches are those of `rankgpt`; one reading of a window replaces writing a permutation.
    """
    check_windows(cell.name, window, step)
    prompts = Listwise(cell.models["llm"], cell.meter, passage_tokens)

    def rank(queries: list[str]) -> dict[str, Order]:
        walks = walk(cell, prompts, queries, window, step, ["single"])
        return {q: walks[q]["single"].order for q in queries}

    done = cell.map(list(cell.queries), rank, batch=batch)
    return Ranking({q: from_order(order) for q, order in done.items()})
