"""ICR: Attention in Large Language Models Yields Efficient Zero-Shot Re-Rankers (Chen et al., ICLR 2025).

One prompt holds all candidates, followed by the query. A document's score is the attention its tokens receive from the
query, less the attention they receive from the content-free query `N/A`. Nothing is trained, nothing generated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
Sums = dict[str, Tensor]  # see `attention`


def icr(
    cell: Cell,
    *,
    passage_tokens: Annotated[int, Size(work=1, rehearsal=8)],
    order: Literal["reversed", "original"],
    instruction: Literal["qa", "ie"],
    placebo: bool,
    batch: Annotated[int, Size(rehearsal=2)],
) -> dict[str, Output]:
    """In-context re-ranking: the documents are read once, and then each query put after them.

    full                   masked sum of s(j; q) - s(j; N/A) over a document's tokens
    full_middle            the same with the middle third of the layers
    query_last             sum of s(j; q): aggregated over the query's tokens, not calibrated
    attention_sorting      the last token's attention, not calibrated
    na_calibration_no_agg  the last token's attention, calibrated, not masked
    na_only                sum of s(j; N/A): the bias that calibration removes
    placebo                full with another query's text, if `placebo`

    order: `reversed` puts the first candidate last, next to the query. instruction: its words, see INSTRUCTION. batch:
    queries side by side.
    """
    lm = cell.models["llm"]

    def score(queries: list[str]) -> dict[str, dict[str, Scores]]:
        shown = {q: list(cell.candidates[q])[:: -1 if order == "reversed" else 1] for q in queries}
        parts = [document_part(lm, [cell.document(d) for d in shown[q]], passage_tokens) for q in queries]
        texts = [[CONTENT_FREE, cell.queries[q], *([cell.decoys[q]] if placebo else [])] for q in queries]
        tails = [[query_part(lm, text, instruction) for text in row] for row in texts]
        context = Context(lm, len(queries))
        context.read([prompt for prompt, _ in parts])
        lengths = [len(prompt) for prompt, _ in parts]
        sums = [attention(context, lengths, list(column)) for column in zip(*tails, strict=True)]
        scores = {}
        for row, q in enumerate(queries):
            cell.meter.add(q, input_tokens=lengths[row] + sum(map(len, tails[row])), forward_passes=len(tails[row]))
            values = variants(parts[row][1], *(of_tail[row] for of_tail in sums))
            scores[q] = {v: {d: float(x) for d, x in zip(shown[q], xs, strict=True)} for v, xs in values.items()}
        return scores

    return dict(by_variant(cell.map(list(cell.queries), score, batch=batch)))


def variants(spans: Sequence[Span], free: Sums, real: Sums, decoy: Sums | None = None) -> dict[str, list[Tensor]]:
    """Variant -> score per document, from the attention of the content-free query, of the query, and of another one."""
    scores = {
        "full": [masked_sum((real["all"] - free["all"])[a:b]) for a, b in spans],
        "full_middle": [masked_sum((real["middle"] - free["middle"])[a:b]) for a, b in spans],
        "query_last": [real["all"][a:b].sum() for a, b in spans],
        "attention_sorting": [real["last"][a:b].sum() for a, b in spans],
        "na_calibration_no_agg": [(real["last"] - free["last"])[a:b].sum() for a, b in spans],
        "na_only": [free["all"][a:b].sum() for a, b in spans],
    }
    if decoy is not None:
        scores["placebo"] = [masked_sum((decoy["all"] - free["all"])[a:b]) for a, b in spans]
    return scores


# --- the prompt ------------------------------------------------------------------------------------------------------


def document_part(lm: Any, documents: list[Document], passage_tokens: int) -> tuple[Ids, list[Span]]:
    """The prompt through the separator after the last document, and every document's span: its label and text alone."""
    tokens = [*llm.turn(lm)[0], *llm.ids(lm, OPENING)]
    spans = []
    for i, document in enumerate(documents, 1):
        tokens += llm.ids(lm, SEPARATOR)
        start = len(tokens)
        text = f" {document.title}\n{document.text}" if document.title else f" {document.text}"
        tokens += [*llm.ids(lm, f"[{i}]"), *llm.data_ids(lm, text, passage_tokens)]
        spans.append((start, len(tokens)))
    return [*tokens, *llm.ids(lm, SEPARATOR)], spans


def query_part(lm: Any, query: str, instruction: str) -> Ids:
    """The tail T: everything after the last document and its separator, up to the assistant's first token."""
    words = f"{INSTRUCTION[instruction]}{SEPARATOR}Query:"
    return [*llm.ids(lm, words), *llm.data_ids(lm, " " + query), *llm.turn(lm)[1]]


# --- attention -------------------------------------------------------------------------------------------------------


def attention(context: Context, lengths: Sequence[int], tails: Sequence[Ids]) -> list[Sums]:
    """Attention that each row's tail pays to the tokens the row has read; the context itself does not change.

    lengths [rows]: tokens that each row has read, in its first slots. Per row, on the processor:
    all     [length] s(j) = sum over layers and heads of the mean over t in the tail of a[l, h, t, j]
    middle  [length] the same over the middle third of the layers
    last    [length] sum over layers and heads of a[l, h, last t, j]
    """
    tap = Tap(context.lm.model.config.num_hidden_layers, context.slots, lengths, list(map(len, tails)))
    with tapped(context.lm.model):
        context.read(tails, chunk=max(map(len, tails)), tap=tap)
    context.back_to(tap.slots)
    return [{name: values.cpu() for name, values in sums.items()} for sums in tap.sums]


class Tap:
    """Sums, layer by layer, the attention that the tokens being read pay to those in the first `slots` slots."""

    def __init__(self, layers: int, slots: int, lengths: Sequence[int], tails: Sequence[int]) -> None:
        self.slots, self.lengths, self.tails = slots, lengths, tails
        self.middle = range(layers // 3, layers - layers // 3)
        self.sums: list[Sums] = [{} for _ in lengths]

    def add(self, layer: int, queries: Tensor, keys: Tensor, scaling: float) -> None:
        """queries [rows, heads, tail, dim] and keys [rows, key heads, slots + tail, dim], rotary embedding applied.

        Only the tail's rows of the attention map are computed, one layer at a time, in float32.
        """
        for row, (length, tail) in enumerate(zip(self.lengths, self.tails, strict=True)):
            own = slice(self.slots, self.slots + tail)
            with torch.autocast(queries.device.type, enabled=False):
                k = torch.cat([keys[row, :, :length], keys[row, :, own]], 1).float()
                weights = attention_map(queries[row, :, :tail].float(), k, scaling)[:, :, :length]
            mean = weights.mean(1).sum(0)
            self._sum(row, "all", mean)
            self._sum(row, "middle", mean if layer in self.middle else torch.zeros_like(mean))
            self._sum(row, "last", weights[:, -1].sum(0))

    def _sum(self, row: int, name: str, values: Tensor) -> None:
        sums = self.sums[row]
        sums[name] = sums[name] + values if name in sums else values


def attention_map(q: Tensor, k: Tensor, scaling: float) -> Tensor:
    """Causal attention [heads, tail, tokens] of the last tokens q [heads, tail, dim] to k [key heads, tokens, dim]."""
    heads, tail, dim = q.shape
    rows = q.reshape(len(k), heads // len(k) * tail, dim)  # heads that share a key head are stacked
    weights = (rows @ k.transpose(1, 2) * scaling).view(heads, tail, -1)
    unseen = torch.ones(tail, tail, dtype=torch.bool, device=q.device).triu(1)
    weights[:, :, -tail:].masked_fill_(unseen, -torch.inf)
    return weights.softmax(-1)


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
