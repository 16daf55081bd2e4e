"""Listwise re-ranking by a language model that nobody trained: written permutations, or the first letter's logits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np

from methods.parts import llm
from methods.parts.listwise import Listwise, Window
from methods.parts.outputs import from_order
from methods.parts.windows import Order, check_windows, repair, slide, well_formed
from rankrepro.cell import Cell, Facts, Output, Ranking, Size

Key = tuple[str, str]  # query id, way of decoding


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

    Both start from the same list, and every prompt is read once as far as it is the same for both.
    batch: queries side by side. stop `length`: free answers always take the tokens of a full permutation.
    """
    check_windows(cell.name, window, step)
    prompts = Listwise(cell.models["llm"], cell.meter, passage_tokens)

    def rank(queries: list[str]) -> dict[str, dict[str, Any]]:
        malformed: dict[str, list[bool]] = {q: [] for q in queries}

        def permute(windows: dict[Key, Order]) -> dict[Key, Order]:
            asked = {k: Window(k[0], cell.queries[k[0]], tuple(map(cell.document, d))) for k, d in windows.items()}
            distinct = list(dict.fromkeys(asked.values()))
            context, last = prompts.read(distinct)
            out: dict[Key, Order] = {}
            for way in decoding:
                keys = [key for key in windows if key[1] == way]
                rows = [distinct.index(asked[key]) for key in keys]
                batch = [distinct[row] for row in rows]
                if way == "constrained":
                    answers = prompts.constrained(context.select(rows), batch)
                else:
                    answers = prompts.free(context.select(rows), last[rows], batch, stop)
                for key, answer in zip(keys, answers, strict=True):
                    docs = windows[key]
                    out[key] = [docs[i] for i in repair(answer, len(docs))]
                    if way == "free":
                        malformed[key[0]].append(not well_formed(answer, len(docs)))
            return out

        starts = {(q, way): cell.candidates[q] for q in queries for way in decoding}
        orders = slide(starts, window, step, permute)
        return {q: {d: orders[q, d] for d in decoding} | {"malformed": malformed[q]} for q in queries}

    done = cell.map(list(cell.queries), rank, batch=batch)
    out: dict[str, Output] = {}
    if "constrained" in decoding:
        out["rankgpt"] = Ranking({q: from_order(result["constrained"]) for q, result in done.items()})
    if "free" in decoding:
        out["rankgpt_free"] = Ranking({q: from_order(result["free"]) for q, result in done.items()})
        out["rankgpt_malformed"] = Facts(
            {q: {"malformed_rate": float(np.mean(r["malformed"]))} for q, r in done.items()}
        )
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

    The prompts, windows and batches of `rankgpt`; one reading of a window replaces writing a permutation.
    """
    check_windows(cell.name, window, step)
    prompts = Listwise(cell.models["llm"], cell.meter, passage_tokens)

    def rank(queries: list[str]) -> dict[str, Order]:
        def permute(windows: dict[str, Order]) -> dict[str, Order]:
            asked = [Window(q, cell.queries[q], tuple(map(cell.document, docs))) for q, docs in windows.items()]
            context, _ = prompts.read(asked)
            hidden = context.read([prompts.open] * len(asked))[:, -1]
            logits = llm.logits(prompts.lm, hidden, prompts.letters).tolist()  # [windows, letters]
            for q in windows:
                cell.meter.add(q, input_tokens=len(prompts.open), forward_passes=1)
            return {
                q: [docs[i] for i in sorted(range(len(docs)), key=lambda i: -z[i])]
                for (q, docs), z in zip(windows.items(), logits, strict=True)
            }

        return slide({q: cell.candidates[q] for q in queries}, window, step, permute)

    done = cell.map(list(cell.queries), rank, batch=batch)
    return Ranking({q: from_order(order) for q, order in done.items()})
