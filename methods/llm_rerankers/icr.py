"""ICR: Attention in Large Language Models Yields Efficient Zero-Shot Re-Rankers (Chen et al., ICLR 2025).

One prompt holds all candidates, followed by the query. A document's score is the attention its tokens receive from the
query, less the attention they receive from the content-free query `N/A`. Nothing is trained, nothing generated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from methods.parts.language import llm
from methods.parts.language.llm import Context, Ids
from methods.parts.retrieval.outputs import Scores, by_variant
from rankrepro.cell import Cell, Document, Output, Size

OPENING = "Here are some paragraphs:"
SEPARATOR = "\n\n"
INSTRUCTION = {
    "qa": "Answer the question below with the paragraphs above.",
    "ie": "Find the information in the paragraphs above that is relevant to the query below.",
}
CONTENT_FREE = "N/A"
Span = tuple[int, int]  # first token of a document in the prompt, and the one after its last


def icr(
    cell: Cell,
    *,
    passage_tokens: Annotated[int, Size(work=1, rehearsal=8)],
    order: Literal["reversed", "original"],
    instruction: Literal["qa", "ie"],
    placebo: bool,
) -> dict[str, Output]:
    """In-context re-ranking: the documents are read once, and then each query put after them.

    full                   masked sum of s(j; q) - s(j; N/A) over a document's tokens
    full_middle            the same with the middle third of the layers
    query_last             sum of s(j; q): aggregated over the query's tokens, not calibrated
    attention_sorting      the last token's attention, not calibrated
    na_calibration_no_agg  the last token's attention, calibrated, not masked
    na_only                sum of s(j; N/A): the bias that calibration removes
    placebo                full with another query's text, if `placebo`

    order: `reversed` puts the first candidate last, next to the query. instruction: its words, see INSTRUCTION.
    """
    lm = cell.models["llm"]

    def score(q: str) -> dict[str, Scores]:
        docs = list(cell.candidates[q])
        if order == "reversed":
            docs.reverse()
        prompt, spans = document_part(lm, [cell.document(d) for d in docs], passage_tokens)
        tails = [query_part(lm, text, instruction) for text in [CONTENT_FREE, cell.queries[q], *decoy(q)]]
        context = Context(lm)
        context.read([prompt])
        free, real, *others = [attention(context, tail) for tail in tails]
        cell.meter.add(q, input_tokens=len(prompt) + sum(map(len, tails)), forward_passes=len(tails))

        variants = {
            "full": [masked_sum((real["all"] - free["all"])[a:b]) for a, b in spans],
            "full_middle": [masked_sum((real["middle"] - free["middle"])[a:b]) for a, b in spans],
            "query_last": [real["all"][a:b].sum() for a, b in spans],
            "attention_sorting": [real["last"][a:b].sum() for a, b in spans],
            "na_calibration_no_agg": [(real["last"] - free["last"])[a:b].sum() for a, b in spans],
            "na_only": [free["all"][a:b].sum() for a, b in spans],
        }
        for other in others:
            variants["placebo"] = [masked_sum((other["all"] - free["all"])[a:b]) for a, b in spans]
        return {v: {d: float(s) for d, s in zip(docs, scores, strict=True)} for v, scores in variants.items()}

    def decoy(q: str) -> list[str]:
        return [cell.decoys[q]] if placebo else []

    return dict(by_variant(cell.map(list(cell.queries), lambda queries: {q: score(q) for q in queries})))


# --- the prompt ------------------------------------------------------------------------------------------------------


def document_part(lm: Any, documents: list[Document], passage_tokens: int) -> tuple[Ids, list[Span]]:
    """The prompt up to the last document, and every document's span: its label and text, without the separator."""
    tokens = [*llm.turn(lm)[0], *llm.ids(lm, OPENING)]
    spans = []
    for i, document in enumerate(documents, 1):
        tokens += llm.ids(lm, SEPARATOR)
        start = len(tokens)
        text = f" {document.title}\n{document.text}" if document.title else f" {document.text}"
        tokens += [*llm.ids(lm, f"[{i}]"), *llm.data_ids(lm, text, passage_tokens)]
        spans.append((start, len(tokens)))
    return tokens, spans


def query_part(lm: Any, query: str, instruction: str) -> Ids:
    """The tail T: everything after the last document, up to the assistant's first token."""
    words = f"{SEPARATOR}{INSTRUCTION[instruction]}{SEPARATOR}Query:"
    return [*llm.ids(lm, words), *llm.data_ids(lm, " " + query), *llm.turn(lm)[1]]


# --- attention -------------------------------------------------------------------------------------------------------


def attention(context: Context, tail: Ids) -> dict[str, Tensor]:
    """Attention [tokens read] that `tail` pays to what the context has read; the context itself does not change.

    all     s(j) = sum over layers and heads of the mean over t in the tail of a[l, h, t, j]
    middle  the same over the middle third of the layers
    last    sum over layers and heads of a[l, h, last t, j]
    """
    tap = Tap(context.lm.model.config.num_hidden_layers, context.slots)
    with tapped(context.lm.model):
        context.read([tail], chunk=len(tail), tap=tap)
    context.back_to(tap.read)
    return tap.sums


class Tap:
    """Sums, layer by layer, the attention that the tokens being read pay to the first `read` tokens."""

    def __init__(self, layers: int, read: int) -> None:
        self.read = read
        self.middle = range(layers // 3, layers - layers // 3)
        self.sums: dict[str, Tensor] = {name: torch.zeros(read) for name in ("all", "middle", "last")}

    def add(self, layer: int, q: Tensor, k: Tensor, scaling: float) -> None:
        """q [1, heads, tail, dim] and k [1, key heads, read + tail, dim], rotary embedding applied.

        Only the tail's rows of the attention map are computed, one layer at a time.
        """
        _, heads, tail, dim = q.shape
        groups = k.shape[1]
        rows = q[0].reshape(groups, heads // groups * tail, dim)  # heads that share a key head are stacked
        weights = (rows @ k[0].transpose(1, 2) * scaling).float().view(heads, tail, -1)
        unseen = torch.ones(tail, tail, dtype=torch.bool, device=q.device).triu(1)
        weights[:, :, self.read :].masked_fill_(unseen, -torch.inf)
        weights = weights.softmax(-1)[:, :, : self.read].cpu()  # [heads, tail, read]
        mean = weights.mean(1).sum(0)
        self.sums["all"] += mean
        self.sums["last"] += weights[:, -1].sum(0)
        if layer in self.middle:
            self.sums["middle"] += mean


def _attend(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, tap: Tap, **options: Any
) -> tuple[Tensor, None]:
    """SDPA, unchanged, whose queries and keys `tap` sees too."""
    tap.add(module.layer_idx, query, key, options["scaling"])  # type: ignore[arg-type]
    return sdpa_attention_forward(module, query, key, value, mask, **options)


AttentionInterface.register("icr_tapped", _attend)
AttentionMaskInterface.register("icr_tapped", sdpa_mask)


@contextmanager
def tapped(model: Any) -> Iterator[None]:
    """Inside the block, attention of `model` goes through `_attend`."""
    before = model.config._attn_implementation
    model.set_attn_implementation("icr_tapped")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


# --- the score -------------------------------------------------------------------------------------------------------


def masked_sum(c: Tensor) -> Tensor:
    """Sum of c [tokens of a document] over the tokens with c_j > mean(c) - 2 std(c), std with n - 1.

    This drops abnormally negative tokens, separators and sinks. A single token has no deviation and is kept.
    """
    if len(c) < 2:
        return c.sum()
    return c[c > c.mean() - 2 * c.std()].sum()
