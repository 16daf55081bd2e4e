"""A cross-encoder: a small encoder reads query and passage together and gives the pair one score.

    [CLS] query [SEP] passage [SEP]  ->  s = w . h_[CLS] + b                     (Nogueira and Cho 2019, section 3)
    L = mean over queries of -log e^(s+) / (e^(s+) + sum of e^(s-) over the query's negatives)       (Gao et al. 2021)

The top layers and the head are trained, with negatives from the first stage whose order is to be improved: passages
that BM25 ranks highest and nobody judged relevant.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.parts.retrieval.outputs import Scores
from methods.parts.training.batches import shuffled
from methods.parts.training.loop import Group, Loss, Recipe, Task, trained
from methods.parts.training.weights import arrays, load
from rankrepro.cell import Cell, Ranking, Size, trains

HEAD_RATE = 10.0  # the head starts from nothing, the layers from a trained encoder


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is read of a pair, and with what.

    top                           number of the encoder's last layers that are trained
    query_tokens, passage_tokens  at most so many word pieces of each text, special ones aside
    """

    top: Annotated[int, Size(work=1, rehearsal=2)]
    query_tokens: Annotated[int, Size(rehearsal=16)]
    passage_tokens: Annotated[int, Size(work=1, rehearsal=8)]


class Pairs:
    """Tokens of pairs [pairs, longest], padded on the right: `ids`, `types` (1 in the passage), `mask` (0: padding)."""

    def __init__(self, encoder: Any, reading: Reading, queries: Sequence[str], passages: Sequence[str]) -> None:
        tokenizer = encoder.tokenizer
        asked = _pieces(tokenizer, queries, reading.query_tokens)
        read = _pieces(tokenizer, passages, reading.passage_tokens)
        firsts = [[tokenizer.cls_token_id, *ids, tokenizer.sep_token_id] for ids in asked]
        seconds = [[*ids, tokenizer.sep_token_id] for ids in read]
        longest = max(len(a) + len(b) for a, b in zip(firsts, seconds, strict=True))
        ids = np.full((len(firsts), longest), tokenizer.pad_token_id, dtype=np.int64)
        types, mask = np.zeros_like(ids), np.zeros_like(ids)
        for row, (a, b) in enumerate(zip(firsts, seconds, strict=True)):
            ids[row, : len(a) + len(b)] = a + b
            types[row, len(a) : len(a) + len(b)] = 1
            mask[row, : len(a) + len(b)] = 1
        self.ids, self.types, self.mask = (torch.from_numpy(x).to(encoder.device) for x in (ids, types, mask))
        self.lengths: list[int] = mask.sum(1).tolist()


def _pieces(tokenizer: Any, texts: Sequence[str], limit: int) -> list[list[int]]:
    cut = tokenizer(list(texts), add_special_tokens=False, truncation=True, max_length=limit)
    return cut["input_ids"]  # type: ignore[no-any-return]


class CrossEncoder(nn.Module):
    """A copy of an encoder's `top` last layers in single precision, and a linear head; the layers below stay frozen."""

    def __init__(self, encoder: Any, top: int, seed: int) -> None:
        super().__init__()
        layers, dim = encoder.model.encoder.layer, encoder.model.config.hidden_size
        self.layers = copy.deepcopy(layers[len(layers) - top :]).float()
        self.head = nn.Linear(dim, 1)
        self.head.weight.data.normal_(0, 0.02, generator=torch.Generator().manual_seed(seed))
        self.head.bias.data.zero_()
        self.head.to(encoder.device)
        self._below = [encoder.model.embeddings, layers[: len(layers) - top]]  # in a list: neither trained nor stored
        self.device, self.products = encoder.device, encoder.products
        self.requires_grad_(True).eval()  # without dropout: only batches and seeds differ

    def forward(self, pairs: Pairs) -> Tensor:
        """Scores [pairs]. Matrices are multiplied as the encoder multiplies them at this scale; sums are exact."""
        seen = pairs.mask[:, None, None, :].bool()
        embeddings, below = self._below
        with torch.autocast(self.device, torch.bfloat16, enabled=self.products == "bfloat16"):
            with torch.no_grad():
                x = embeddings(input_ids=pairs.ids, token_type_ids=pairs.types)
                for layer in below:
                    x = layer(x, seen)
            x = x.float()
            for layer in self.layers:
                x = layer(x, seen)
        return self.head(x[:, 0].float())[:, 0]


# --- training --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A batch has `lists` queries, each with one relevant passage and `others` of its negatives.

    Validation ranks the relevant passages of `held_queries` validation queries among BM25's best for them.
    """

    lists: Annotated[int, Size(rehearsal=2)]
    others: Annotated[int, Size(rehearsal=3)]
    held_queries: Annotated[int, Size(rehearsal=4)]


def listwise(s: Tensor) -> Tensor:
    """-log softmax of the first of each list's scores, mean over lists; s [lists, passages], the relevant one first."""
    return F.cross_entropy(s, torch.zeros(len(s), dtype=torch.long, device=s.device))


class Pairing(Task):
    """A cross-encoder and the lists that it learns from. inputs of the cell: negatives (pairs.negatives)."""

    watch, higher = "RR", True

    def __init__(self, cell: Cell, reading: Reading, lesson: Lesson) -> None:
        benchmark, self.encoder = cell.benchmark, cell.models["encoder"]
        self.reading, self.lesson, self.seed = reading, lesson, cell.seed
        self.module: CrossEncoder = CrossEncoder(self.encoder, reading.top, cell.seed)
        self.documents = list(benchmark.corpus.values())
        place = {d.id: i for i, d in enumerate(self.documents)}
        self.texts = [q.text for q in benchmark.of_split("train").values()]
        self.held_texts = [q.text for q in benchmark.of_split("validation").values()][: lesson.held_queries]
        self.relevant, self.held_relevant = (
            [[place[d] for d, grade in benchmark.judgments[q].items() if grade >= 1] for q in benchmark.of_split(split)]
            for split in ("train", "validation")
        )
        self.negatives, self.held = cell.inputs["negatives"]["negatives"], cell.inputs["negatives"]["held"]

    def groups(self) -> Sequence[Group]:
        return [Group(1.0, self.module.layers.parameters()), Group(HEAD_RATE, self.module.head.parameters())]

    def lists(self, i: int) -> list[tuple[str, list[int]]]:
        """Queries of batch i, each with positions in the corpus: a relevant passage, then negatives."""
        rng = np.random.default_rng((self.seed, i, 1))
        rows = shuffled(i, self.lesson.lists, len(self.texts), self.seed)
        drawn = [rng.choice(self.negatives[row], self.lesson.others, replace=False).tolist() for row in rows]
        return [(self.texts[r], [int(rng.choice(self.relevant[r])), *n]) for r, n in zip(rows, drawn, strict=True)]

    def step(self, i: int) -> Loss:
        lists = self.lists(i)
        pairs = self._pairs(lists)
        return Loss(listwise(self.module(pairs).view(len(lists), -1)), sum(pairs.lengths))

    def validate(self) -> dict[str, float]:
        """RR of the best relevant passage among a query's relevant and held ones; ties count against it."""
        reciprocal = []
        for text, relevant, held in zip(self.held_texts, self.held_relevant, self.held, strict=False):
            s = self.module(self._pairs([(text, [*relevant, *held.tolist()])]))
            reciprocal.append(1 / (1 + int((s[len(relevant) :] >= s[: len(relevant)].max()).sum())))
        return {"RR": float(np.mean(reciprocal))}

    def _pairs(self, lists: Sequence[tuple[str, Sequence[int]]]) -> Pairs:
        queries = [text for text, rows in lists for _ in rows]
        passages = [self.documents[row].content for _, rows in lists for row in rows]
        return Pairs(self.encoder, self.reading, queries, passages)


@trains
def train(cell: Cell, *, reading: Reading, lesson: Lesson, recipe: Recipe) -> dict[str, np.ndarray]:
    """Stage: the trained layers and head, by name. inputs: negatives (pairs.negatives)."""
    task, _ = trained(cell, lambda: Pairing(cell, reading, lesson), recipe)
    return arrays(task.module)


# --- re-ranking ------------------------------------------------------------------------------------------------------


def rerank(cell: Cell, *, reading: Reading, batch: Annotated[int, Size(rehearsal=8)]) -> Ranking:
    """The candidates by the score of their pair, `batch` pairs at a time. inputs: weights (train)."""
    encoder, weights = cell.models["encoder"], cell.inputs["weights"]
    model = load(CrossEncoder(encoder, reading.top, cell.seed), weights)

    def score(queries: list[str]) -> Mapping[str, Scores]:
        return {q: score_one(q) for q in queries}

    @torch.inference_mode()
    def score_one(q: str) -> Scores:
        candidates = list(cell.candidates[q])
        scores: Scores = {}
        for start in range(0, len(candidates), batch):
            part = candidates[start : start + batch]
            passages = [cell.document(d).content for d in part]
            pairs = Pairs(encoder, reading, [cell.queries[q]] * len(part), passages)
            scores.update(zip(part, model(pairs).tolist(), strict=True))
            cell.meter.add(q, input_tokens=sum(pairs.lengths), forward_passes=1)
        return scores

    return Ranking(cell.map(list(cell.queries), score))
