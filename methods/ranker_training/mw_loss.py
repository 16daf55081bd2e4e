"""MW loss (arXiv 2510.00137): every positive score is compared with the negative scores of all queries.

    L_CL = -1/B sum_i log e^(s+_i / tau) / (e^(s+_i / tau) + sum_{s in S-_i} e^(s / tau))
    L_MW = mean over i and over s in the union of all S-_j of log(1 + e^(-(s+_i - s) / tau))

A batch has B queries with a positive each and H hard negatives each; S-_i are the scores of query i with every other
passage of the batch. L_CL does not change if a constant is added to all scores of a query, so it does not fix the level
of a query's scores; L_MW / log 2 bounds the area above the ROC curve of all scores pooled. L_MW is a mean, where the
paper prints a sum over S-: the learning rate is searched for each loss.

Only the top layers of the encoder are trained (methods/parts/training/tops.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from methods.parts.retrieval.topk import best
from methods.parts.training.batches import shuffled
from methods.parts.training.loop import Loss, Recipe, Task, searched, trained
from methods.parts.training.tops import Top, states
from methods.parts.training.weights import arrays, load
from rankrepro.cell import MODEL, Cell, Facts, Output, Retrieval, Size
from rankrepro.errors import ConfigError

DEPTH = 100  # negatives per query in the validation AUC


# --- the losses ------------------------------------------------------------------------------------------------------


def contrastive(s: Tensor, positive: Tensor, negative: Tensor, tau: float) -> Tensor:
    """L_CL. s [B, N] scores, positive [B] column of each row's positive, negative [B, N] true for S-_i."""
    is_positive = F.one_hot(positive, s.shape[1]).bool()
    return F.cross_entropy((s / tau).masked_fill(~(is_positive | negative), -torch.inf), positive)


def mann_whitney(s: Tensor, positive: Tensor, negative: Tensor, tau: float) -> Tensor:
    """L_MW: all pairs of a positive and a negative, whichever query each belongs to."""
    positives = s.gather(1, positive[:, None])  # [B, 1]
    return F.softplus((s[negative][None] - positives) / tau).mean()


def within_query(s: Tensor, positive: Tensor, negative: Tensor, tau: float) -> Tensor:
    """L_MW over pairs of the same query only (RankNet's): what is left without the comparison across queries."""
    positives = s.gather(1, positive[:, None])
    pairs = F.softplus((s - positives) / tau) * negative
    return (pairs.sum(1) / negative.sum(1).clamp_min(1)).mean()


LOSSES: Mapping[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {
    "contrastive": contrastive,
    "mw": mann_whitney,
    "within": within_query,
}


# --- training data ---------------------------------------------------------------------------------------------------


def lower(
    cell: Cell,
    *,
    top: Annotated[int, Size(rehearsal=2)],
    query_tokens: Annotated[int, Size(rehearsal=16)],
    passage_tokens: Annotated[int, Size(work=1, rehearsal=8)],
) -> dict[str, np.ndarray]:
    """Stage: states of the frozen layers for all texts of training and validation.

    queries [queries, tokens, dim] of train and validation in the order of `benchmark.of_split("train", "validation")`,
    passages [passages, tokens, dim] and `rows`, their positions in the corpus: every positive and every negative.
    `pool`: the places in `rows` of the positives and negatives of validation queries, which validation ranks.
    inputs: negatives.
    """
    benchmark, encoder = cell.benchmark, cell.models["encoder"]
    position = {d: i for i, d in enumerate(benchmark.corpus)}
    queries = benchmark.of_split("train", "validation")
    hard = cell.inputs["negatives"]
    held = {position[d] for q in benchmark.of_split("validation") for d in benchmark.judgments[q]}
    held |= set(hard["held"].ravel().tolist())
    positives = {position[d] for q in benchmark.of_split("train") for d in benchmark.judgments[q]}
    rows = np.array(sorted(held | positives | set(hard["negatives"].ravel().tolist())))
    documents = list(benchmark.corpus.values())
    texts = [documents[i].content for i in rows]
    passages, passage_lengths = states(encoder, texts, top, passage_tokens, progress=cell.progress)
    questions, query_lengths = states(encoder, [q.text for q in queries.values()], top, query_tokens)
    pool = np.flatnonzero(np.isin(rows, sorted(held)))
    return {
        "passages": passages, "passage_lengths": passage_lengths, "rows": rows.astype(np.int32),
        "pool": pool.astype(np.int32), "queries": questions, "query_lengths": query_lengths,
    }  # fmt: skip


@dataclass(frozen=True)
class Data:
    """Training data: what stage `lower` returned, and positions in its arrays.

    train, held  rows of `queries` for training and for validation
    positives    query row -> positions of the passages relevant to it
    negatives    [train, H] positions of passages
    """

    arrays: Mapping[str, np.ndarray]
    train: np.ndarray
    held: np.ndarray
    positives: list[list[int]]
    negatives: np.ndarray

    @classmethod
    def of(cls, cell: Cell, hard: int) -> Data:
        benchmark, arrays = cell.benchmark, cell.inputs["lower"]
        queries = benchmark.of_split("train", "validation")
        corpus = {d: i for i, d in enumerate(benchmark.corpus)}
        place = {int(row): i for i, row in enumerate(arrays["rows"])}
        positives = [[place[corpus[d]] for d, grade in benchmark.judgments[q].items() if grade >= 1] for q in queries]
        is_train = np.array([q.split == "train" for q in queries.values()])
        found = cell.inputs["negatives"]["negatives"]
        if found.shape[1] < hard:
            raise ConfigError(
                f"{cell.name}: {hard} hard negatives per query are asked for, stage `negatives` finds "
                f"{found.shape[1]}: lower `hard` or raise `count` in the card"
            )
        negatives = np.vectorize(place.__getitem__)(found[:, :hard])
        return cls(arrays, np.flatnonzero(is_train), np.flatnonzero(~is_train), positives, negatives)

    def passages(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.arrays["passages"][rows], self.arrays["passage_lengths"][rows]

    def queries(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.arrays["queries"][rows], self.arrays["query_lengths"][rows]


@dataclass(frozen=True)
class Batch:
    """rows [B] of queries, passages [B + B H] (positives first), positive [B], negative [B, B + B H]."""

    rows: np.ndarray
    passages: np.ndarray
    positive: Tensor
    negative: Tensor


def batch_of(data: Data, i: int, size: int, seed: int, permuted: bool) -> Batch:
    """Batch i of a seed, the same for every loss. A passage relevant to a query is never its negative.

    permuted: every query's positive is drawn from all passages of the batch; the others are its negatives (placebo).
    """
    rng = np.random.default_rng((seed, i, 1))
    chosen = shuffled(i, size, len(data.train), seed)
    rows = data.train[chosen]
    positives = np.array([rng.choice(data.positives[r]) for r in rows])
    passages = np.concatenate([positives, data.negatives[chosen].ravel()])
    if permuted:
        positive = torch.from_numpy(rng.integers(len(passages), size=size))
        return Batch(rows, passages, positive, ~F.one_hot(positive, len(passages)).bool())
    relevant = torch.from_numpy(np.stack([np.isin(passages, data.positives[r]) for r in rows]))
    return Batch(rows, passages, torch.arange(size), ~relevant)


# --- training --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is trained, and with which loss.

    top     number of the encoder's last layers that are trained
    start   of their weights: as they are in the encoder, or redrawn at random
    labels  permuted: see `batch_of`
    tau     temperature of the loss
    batch   number of queries
    hard    hard negatives of each: the first of those that stage `negatives` found
    """

    top: Annotated[int, Size(work=1, rehearsal=2)]
    start: Literal["tuned", "restarted"]
    loss: Literal["contrastive", "mw", "within"]
    labels: Literal["own", "permuted"]
    tau: float
    batch: Annotated[int, Size(rehearsal=8)]
    hard: int


class Encoding(Task):
    """The top layers of the encoder, trained on the scores of queries with passages."""

    watch, higher = "RR", True

    def __init__(self, cell: Cell, lesson: Lesson) -> None:
        self.lesson, self.seed, self.data = lesson, cell.seed, Data.of(cell, lesson.hard)
        self.module: Top = layers_of(cell, lesson.top, lesson.start)
        place = {int(passage): i for i, passage in enumerate(self.data.arrays["pool"])}
        self.relevant = [[place[passage] for passage in self.data.positives[r]] for r in self.data.held]

    def step(self, i: int) -> Loss:
        lesson, data, top = self.lesson, self.data, self.module
        b = batch_of(data, i, lesson.batch, self.seed, lesson.labels == "permuted")
        queries, passages = data.queries(b.rows), data.passages(b.passages)
        s = top(*queries) @ top(*passages).T
        loss = LOSSES[lesson.loss](s, b.positive.to(s.device), b.negative.to(s.device), lesson.tau)
        return Loss(loss, int(queries[1].sum() + passages[1].sum()))

    def validate(self) -> dict[str, float]:
        data, top = self.data, self.module
        s = top.vectors(*data.queries(data.held)) @ top.vectors(*data.passages(data.arrays["pool"])).T
        return validation(s, self.relevant)


def layers_of(cell: Cell, top: int, start: str) -> Top:
    """The encoder's top layers before training."""
    layers = Top(cell.models["encoder"], top)
    return layers.restart(cell.seed) if start == "restarted" else layers


def validation(s: np.ndarray, positives: list[list[int]]) -> dict[str, float]:
    """RR (cut at 10) and pooled AUC (against the DEPTH best others of each query) of scores s [queries, passages]."""
    ranks, relevant_scores, other_scores = [], [], []
    for row, relevant in zip(s, positives, strict=True):
        best = row[relevant].max()
        ranks.append(1 + int((row > best).sum()))
        relevant_scores.append(row[relevant])
        other_scores.append(np.sort(np.delete(row, relevant))[::-1][:DEPTH])
    negatives = np.sort(np.concatenate(other_scores))
    higher = np.searchsorted(negatives, np.concatenate(relevant_scores)) / len(negatives)
    return {"RR": float(np.mean([1 / r if r <= 10 else 0.0 for r in ranks])), "AUC": float(higher.mean())}


def search(
    cell: Cell,
    *,
    rates: Annotated[list[float], Size(rehearsal=2)],
    search_share: float,
    lesson: Lesson,
    recipe: Recipe,
) -> dict[str, np.ndarray]:
    """Stage: the best validation RR of every learning rate with `search_share` of the budget.

    inputs: negatives, lower.
    """
    return searched(cell, lambda: Encoding(cell, lesson), recipe, rates, search_share)


def train(cell: Cell, *, lesson: Lesson, recipe: Recipe) -> dict[str, np.ndarray]:
    """Stage: the top layers after training, by name, and `steps_to_best`.

    inputs: negatives, lower, and search unless the recipe has a rate.
    """
    task, fit = trained(cell, lambda: Encoding(cell, lesson), recipe, cell.inputs.get("search"))
    return {**arrays(task.module), "steps_to_best": np.array([fit.best_step])}


def start(
    cell: Cell, *, top: Annotated[int, Size(rehearsal=2)], start: Literal["tuned", "restarted"]
) -> dict[str, np.ndarray]:
    """Stage: the top layers before training."""
    return {**arrays(layers_of(cell, top, start)), "steps_to_best": np.array([0])}


# --- retrieval -------------------------------------------------------------------------------------------------------


def lower_corpus(
    cell: Cell, *, top: Annotated[int, Size(rehearsal=2)], passage_tokens: Annotated[int, Size(work=1, rehearsal=8)]
) -> dict[str, np.ndarray]:
    """Stage: states of the frozen layers for the corpus, in its order."""
    texts = [d.content for d in cell.benchmark.corpus.values()]
    passages, lengths = states(cell.models["encoder"], texts, top, passage_tokens, progress=cell.progress)
    return {"passages": passages, "passage_lengths": lengths}


def embed(cell: Cell, *, top: Annotated[int, Size(rehearsal=2)]) -> dict[str, np.ndarray]:
    """Stage: embeddings [documents, dim] of the corpus. inputs: lower_corpus, weights."""
    corpus = cell.inputs["lower_corpus"]
    layers = load(Top(cell.models["encoder"], top), cell.inputs["weights"])
    return {"embeddings": layers.vectors(corpus["passages"], corpus["passage_lengths"])}


def retrieve(
    cell: Cell,
    *,
    top: Annotated[int, Size(rehearsal=2)],
    query_tokens: Annotated[int, Size(rehearsal=16)],
    k: int,
) -> dict[str, Output]:
    """Exact search by cosine.

    plain         cosines
    standardised  the same with each query's scores brought to mean 0 and deviation 1: a calibration after training
    steps         training steps to the best checkpoint

    inputs: weights, embeddings.
    """
    encoder, ids, corpus = cell.models["encoder"], list(cell.benchmark.corpus), cell.inputs["embeddings"]["embeddings"]
    layers = load(Top(encoder, top), cell.inputs["weights"])

    def nearest(queries: list[str]) -> dict[str, dict[str, float]]:
        vectors = layers.vectors(*states(encoder, [cell.queries[q] for q in queries], top, query_tokens))
        return {
            q: best(ids, corpus @ vector, k, cell.benchmark.queries[q].excluded)
            for q, vector in zip(queries, vectors, strict=True)
        }

    scores = cell.map(sorted(cell.queries, key=lambda q: (len(cell.queries[q]), q)), nearest, batch=32)
    calibrated = {q: standardised(row) for q, row in scores.items()}
    steps = {"steps_to_best": float(cell.inputs["weights"]["steps_to_best"][0])}
    return {"plain": Retrieval(scores), "standardised": Retrieval(calibrated), "steps": Facts({MODEL: steps})}


def standardised(scores: Mapping[str, float]) -> dict[str, float]:
    """One query's scores with mean 0 and deviation 1 over the documents it retrieved."""
    values = np.array(list(scores.values()))
    deviation: Any = values.std() or 1.0
    return {d: float((s - values.mean()) / deviation) for d, s in scores.items()}
