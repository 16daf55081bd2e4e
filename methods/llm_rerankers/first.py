"""FIRST (arXiv 2406.15657): the logits of the first identifier order a window; a ranking loss trains them.

A listwise prompt names passages by letters. s_k is the logit of the k-th letter where an answer's first identifier is
decided, after "[" in most tokenizers, and the score of the k-th passage (methods/parts/language/identifiers.py).

    L_LM   = mean NLL of the tokens of "[B] > [A] > ... <eos>", the teacher's permutation
    L_rank = mean over pairs r_i < r_j of 1 / (r_i + r_j) log(1 + e^(s_j - s_i))
    L      = L_LM + 10 L_rank

Training reads s where ranking reads it. Only the top layers of the model are
trained (methods/parts/training/llm_tops.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from methods.parts.language import llm
from methods.parts.language.identifiers import Identifiers
from methods.parts.language.listwise import Listwise, Window, walk
from methods.parts.language.llm import Ids
from methods.parts.language.windows import LETTERS, check_windows
from methods.parts.retrieval.encoder import encode
from methods.parts.retrieval.feedback import refine
from methods.parts.retrieval.outputs import Scores, from_order
from methods.parts.retrieval.topk import best
from methods.parts.training.batches import shuffled
from methods.parts.training.llm_tops import Top, installed, joined, truncated
from methods.parts.training.loop import Loss, Recipe, Task, searched, trained
from methods.parts.training.rankloss import LOSSES
from methods.parts.training.weights import arrays
from rankrepro.cell import MODEL, Cell, Facts, Output, Ranking, Retrieval, Size
from rankrepro.errors import ConfigError

IGNORED = -100  # as a target, it is no part of torch's cross-entropy

# --- training windows ------------------------------------------------------------------------------------------------


def windows(
    cell: Cell,
    *,
    window: int,
    windows: Annotated[int, Size(rehearsal=8)],
    held_windows: Annotated[int, Size(rehearsal=2)],
    passage_tokens: Annotated[int, Size(work=1, rehearsal=8)],
    query_tokens: Annotated[int, Size(rehearsal=16)],
) -> dict[str, np.ndarray]:
    """Stage: listwise windows of training and validation queries, and the teacher's ranks.

    queries [n]            rows of `benchmark.of_split("train", "validation")`
    documents [n, window]  positions in the corpus, in the order shown, which is shuffled with a seed per window
    ranks [n, window]      the teacher's: judged articles first, then by MiniLM's cosine; 1 is the best
    permuted [n, window]   ranks drawn at random (placebo)
    relevant [n, window]   whether an article is judged relevant
    train [n]              whether the query is one of training

    inputs: negatives (pairs.negatives with `count` and `held` of at least window - 1). models: encoder.
    """
    benchmark, hard = cell.benchmark, cell.inputs["negatives"]
    if not 1 < window <= len(LETTERS):
        raise ConfigError(f"{cell.name}: window {window}: need 2 to {len(LETTERS)} passages, a letter each")
    corpus = list(benchmark.corpus)
    place = {d: i for i, d in enumerate(corpus)}
    questions = benchmark.of_split("train", "validation")
    rows: list[int] = []
    orders: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    is_train: list[bool] = []
    for split, negatives, limit in (("train", hard["negatives"], windows), ("validation", hard["held"], held_windows)):
        queries = list(benchmark.of_split(split))
        sample = np.random.default_rng((len(rows), 0)).permutation(len(queries))[:limit]
        for i in np.sort(sample):
            relevant = [place[d] for d, grade in benchmark.judgments[queries[i]].items() if grade >= 1][: window - 1]
            documents = np.array([*relevant, *negatives[i][: window - len(relevant)]])
            order = np.random.default_rng((len(rows), 1)).permutation(window)
            rows.append(list(questions).index(queries[i]))
            orders.append(documents[order])
            masks.append((np.arange(window) < len(relevant))[order])
            is_train.append(split == "train")
    texts = [question.text for question in questions.values()]
    distinct = sorted({int(d) for documents in orders for d in documents})
    passages = [benchmark.corpus[corpus[d]].content for d in distinct]
    vectors = dict(zip(distinct, encode(cell.models["encoder"], passages, passage_tokens, 32), strict=True))
    query_vectors = encode(cell.models["encoder"], [texts[r] for r in rows], query_tokens, 32)
    ranks = []
    for query_vector, documents, is_relevant in zip(query_vectors, orders, masks, strict=True):
        cosines = np.array([vectors[int(d)] @ query_vector for d in documents])
        ranks.append(ranks_of(cosines + 10.0 * is_relevant))
    permuted = [1 + np.random.default_rng((i, 2)).permutation(window) for i in range(len(rows))]
    return {
        "queries": np.array(rows, dtype=np.int32), "documents": np.array(orders, dtype=np.int32),
        "ranks": np.array(ranks, dtype=np.int32), "permuted": np.array(permuted, dtype=np.int32),
        "relevant": np.array(masks), "train": np.array(is_train),
    }  # fmt: skip


def ranks_of(scores: np.ndarray) -> np.ndarray:
    """Ranks [items] of scores [items]: 1 for the highest; equal scores in the order given."""
    ranks = np.empty(len(scores), dtype=np.int32)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return ranks


def answer(prompts: Listwise, ranks: np.ndarray) -> Ids:
    """Tokens of "[B] > [A] > ...", passages A, B, ... sorted by their ranks, and the end token."""
    return [*prompts.identifiers.answer(np.argsort(ranks).tolist()), min(llm.end_tokens(prompts.lm))]


def lower(
    cell: Cell,
    *,
    top: Annotated[int, Size(rehearsal=2)],
    passage_tokens: Annotated[int, Size(work=1, rehearsal=8)],
    batch: Annotated[int, Size(rehearsal=8)],
) -> dict[str, np.ndarray]:
    """Stage: states of the frozen layers for all windows: prompts once, and both teachers' answers after them.

    prompts [n, longest, dim] float16     lengths [n], in tokens
    own, permuted [n, answer, dim]        of the answers without the end token
    own_tokens, permuted_tokens [n, answer + 1], -100 after a shorter answer
    node0, node1, ... [n, read, dim]      of what is read after a prompt to reach each node of the first `Place`

    inputs: windows.
    """
    lm, data = cell.models["llm"], cell.inputs["windows"]
    listwise = Listwise(lm, cell.meter, passage_tokens)
    before, _ = llm.turn(lm)
    documents = list(cell.benchmark.corpus.values())
    queries = list(cell.benchmark.of_split("train", "validation").values())
    prompts = [
        [*before, *listwise.prompt(Window(str(i), queries[q].text, tuple(documents[d] for d in shown)))]
        for i, (q, shown) in enumerate(zip(data["queries"], data["documents"], strict=True))
    ]
    n, lengths = len(prompts), np.array(list(map(len, prompts)), dtype=np.int32)
    dim = lm.model.config.hidden_size
    states: dict[str, np.ndarray] = {"prompts": np.zeros((n, lengths.max(), dim), np.float16), "lengths": lengths}
    tails: dict[str, list[Ids]] = {}  # what is read after the prompts
    for name, ranks in (("own", "ranks"), ("permuted", "permuted")):
        answers = [answer(listwise, r) for r in data[ranks]]
        longest = max(map(len, answers))
        tokens = np.array([a + [IGNORED] * (longest - len(a)) for a in answers], dtype=np.int32)
        states[f"{name}_tokens"] = tokens
        tails[name] = tokens[:, :-1].clip(0).tolist()
    place = listwise.identifiers.first(data["ranks"].shape[1])
    for k, node in enumerate(place.nodes):
        tails[f"node{k}"] = [[*place.common, *node]] * n
    states |= {name: np.zeros((n, len(tail[0]), dim), np.float16) for name, tail in tails.items()}
    order = np.argsort(-lengths, kind="stable")
    with truncated(lm, top):
        for start in range(0, n, batch):
            part = order[start : start + batch]
            context = llm.Context(lm, len(part))
            hidden = context.read([prompts[i] for i in part])
            states["prompts"][part, : hidden.shape[1]] = hidden.half().cpu().numpy()
            slots = context.slots
            for name, tail in tails.items():
                if tail[0]:
                    hidden = context.read([tail[i] for i in part])
                    states[name][part] = hidden.half().cpu().numpy()
                    context.back_to(slots)
            cell.progress(min(start + batch, n), n)
    return states


# --- training --------------------------------------------------------------------------------------------------------


def objective(
    kind: str, z: Tensor | None, tokens: Tensor, s: Tensor, ranks: Tensor, loss: str, weight: float
) -> Tensor:
    """L at the top of this module. z [B, T, vocabulary] predicts tokens [B, T]; s, ranks [B, m]; weight is lambda."""
    total = s.new_zeros(())
    if kind != "rank":
        assert z is not None
        total = total + F.cross_entropy(z.flatten(0, 1), tokens.flatten(), ignore_index=IGNORED)
    return total if kind == "lm" else total + weight * LOSSES[loss](s, ranks)


Precision = Literal["float32", "bfloat16"]


class Windows:
    """Windows as states of the frozen layers, and the top layers that read them.

    teacher: own or permuted. precision: of the top layers' computation; weights and logits are float32 in either case.
    """

    def __init__(self, cell: Cell, top: Top, teacher: str, precision: Precision) -> None:
        self.top, self.states, self.data = top, cell.inputs["lower"], cell.inputs["windows"]
        self.autocast = torch.autocast(torch.device(top.device).type, torch.bfloat16, precision == "bfloat16")
        self.answers = self.states[teacher]
        self.tokens = self.states[f"{teacher}_tokens"]
        self.ranks = self.data["ranks" if teacher == "own" else "permuted"]
        self.place = Identifiers(cell.models["llm"]).first(self.ranks.shape[1])

    def read(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Hidden states [B, T, dim] that predict the answers' tokens, and the letters' scores s [B, m].

        The place before an answer's first token predicts that token, and that after the common tokens the letter.
        """
        hidden = self._hidden(rows, self.answers, self.tokens.shape[1])
        return hidden, self._scores([hidden[:, len(self.place.common)], *self._nodes(rows, 1)])

    @torch.no_grad()
    def scores(self, rows: np.ndarray, batch: int = 8) -> np.ndarray:
        """s [rows, m], without reading beyond the first identifier."""
        parts = [rows[start : start + batch] for start in range(0, len(rows), batch)]
        return np.concatenate([self._scores(self._nodes(part)).cpu().numpy() for part in parts])

    def _nodes(self, rows: np.ndarray, start: int = 0) -> list[Tensor]:
        """Hidden states [B, dim] after each node of the first identifier, from node `start` on."""
        return [self._hidden(rows, self.states[f"node{k}"], 1)[:, 0] for k in range(start, len(self.place.nodes))]

    def _hidden(self, rows: np.ndarray, tails: np.ndarray, places: int) -> Tensor:
        """Hidden states [B, places, dim] at the last `places` of prompts that `tails` [n, tokens, dim] follow."""
        lengths = self.states["lengths"][rows]
        states = joined(self.states["prompts"][rows], lengths, tails[rows])
        with self.autocast:
            return self.top(states, lengths[:, None] + tails.shape[1] - places + np.arange(places))

    def _scores(self, states: Sequence[Tensor]) -> Tensor:
        return self.place.scores(states, self.top.logits, lambda x: self.top.logits(x).logsumexp(-1))

    def validation(self) -> dict[str, float]:
        """On held-out windows: agreement with the teacher (never the permuted one), and RR of judged articles."""
        held = np.flatnonzero(~self.data["train"])
        s = self.scores(held)
        pairs = [agreement(x, -r) for x, r in zip(s, self.data["ranks"][held], strict=True)]
        first = [ranks_of(x)[relevant].min() for x, relevant in zip(s, self.data["relevant"][held], strict=True)]
        return {"agreement": float(np.mean(pairs)), "RR": float(np.mean(1 / np.array(first)))}


def agreement(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Share of pairs that scores a and b (no ties in b) put in the same order; Kendall's tau is 2 x - 1."""
    a, b = np.asarray(a), np.asarray(b)
    i, j = np.triu_indices(len(a), 1)
    return float((1 + np.sign(a[i] - a[j]) * np.sign(b[i] - b[j])).mean() / 2)


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is trained, and on what.

    top        number of the model's last layers that are trained
    objective  L_LM, L, or L_rank alone
    loss       the ranking loss in L_rank; the paper's is weighted_ranknet
    weight     lambda
    teacher    permuted: ranks drawn at random (placebo)
    batch      number of windows
    precision  see `Windows`
    """

    top: Annotated[int, Size(work=1, rehearsal=2)]
    objective: Literal["lm", "joint", "rank"]
    loss: Literal["weighted_ranknet", "ranknet", "listnet"]
    weight: float
    teacher: Literal["own", "permuted"]
    batch: Annotated[int, Size(rehearsal=8)]
    precision: Literal["float32", "bfloat16"]


class Student(Task):
    """The top layers learn to rank windows as the teacher does."""

    watch, higher = "agreement", True

    def __init__(self, cell: Cell, lesson: Lesson) -> None:
        self.lesson, self.seed = lesson, cell.seed
        self.module: Top = Top(cell.models["llm"], lesson.top)
        self.windows = Windows(cell, self.module, lesson.teacher, lesson.precision)
        self.rows = np.flatnonzero(self.windows.data["train"])

    def step(self, i: int) -> Loss:
        lesson, windows = self.lesson, self.windows
        rows = self.rows[shuffled(i, lesson.batch, len(self.rows), self.seed)]
        hidden, s = windows.read(rows)
        z = None if lesson.objective == "rank" else self.module.logits(hidden)
        tokens, ranks = (torch.from_numpy(a[rows]).long().to(s.device) for a in (windows.tokens, windows.ranks))
        loss = objective(lesson.objective, z, tokens, s, ranks, lesson.loss, lesson.weight)
        return Loss(loss, int(windows.states["lengths"][rows].sum()) + int((tokens != IGNORED).sum()))

    def validate(self) -> dict[str, float]:
        return self.windows.validation()


def search(
    cell: Cell,
    *,
    rates: Annotated[list[float], Size(rehearsal=2)],
    search_share: float,
    lesson: Lesson,
    recipe: Recipe,
) -> dict[str, np.ndarray]:
    """Stage: the validation agreement of every learning rate after `search_share` of the budget.

    inputs: windows, lower.
    """
    return searched(cell, lambda: Student(cell, lesson), recipe, rates, search_share)


def train(cell: Cell, *, lesson: Lesson, recipe: Recipe) -> dict[str, np.ndarray]:
    """Stage: the top layers after training, by name; `agreement` and `RR` on held-out windows; the `rate`.

    inputs: windows, lower, search.
    """
    task, fit = trained(cell, lambda: Student(cell, lesson), recipe, cell.inputs["search"])
    return _weights(task.windows, fit.rate)


def start(
    cell: Cell, *, top: Annotated[int, Size(rehearsal=2)], precision: Literal["float32", "bfloat16"]
) -> dict[str, np.ndarray]:
    """Stage: the top layers before training, with the same values as `train`. inputs: windows, lower."""
    return _weights(Windows(cell, Top(cell.models["llm"], top), "own", precision), 0.0)


def _weights(windows: Windows, rate: float) -> dict[str, np.ndarray]:
    values = windows.validation() | {"rate": rate}
    return arrays(windows.top) | {name: np.array([value]) for name, value in values.items()}


# --- re-ranking ------------------------------------------------------------------------------------------------------


def rerank(
    cell: Cell,
    *,
    top: Annotated[int, Size(rehearsal=2)],
    passage_tokens: Annotated[int, Size(work=1, rehearsal=8)],
    window: int,
    step: int,
    batch: Annotated[int, Size(rehearsal=8)],
    decoding: Literal["single", "natural", "length", "prompt"],
) -> dict[str, Output]:
    """Listwise re-ranking over sliding windows, from tail to head, by trained top layers; `batch` queries side by side.

    ranking    the order. decoding `single`: by the logits of the first identifier; `natural`, `length`: by a generated
               permutation, parsed and repaired (see Listwise.free); `prompt`: prompts are read and nothing is decided,
               which is what prefill costs
    tau        query -> Kendall's tau between this order and MiniLM's of the same candidates
    malformed  query -> share of windows whose answer was no permutation (0 for single and prompt)
    agreement  with the teacher on held-out training windows

    inputs: weights, minilm (a ranking of the same candidates).
    """
    check_windows(cell.name, window, step)
    weights = cell.inputs["weights"]
    with installed(cell.models["llm"], top, weights):
        prompts = Listwise(cell.models["llm"], cell.meter, passage_tokens)

        def rank(queries: list[str]) -> dict[str, dict[str, Any]]:
            walks = walk(cell, prompts, queries, window, step, [decoding])
            return {q: vars(ways[decoding]) for q, ways in walks.items()}

        done = cell.map(list(cell.queries), rank, batch=batch)
    orders = {q: from_order(row["order"]) for q, row in done.items()}
    tau = {q: kendall(scores, cell.inputs["minilm"][q]) for q, scores in orders.items()}
    return {
        "ranking": Ranking(orders),
        "tau": Facts({q: {"tau": value} for q, value in tau.items()}),
        "malformed": Facts({q: {"malformed_rate": float(np.mean(row["malformed"]))} for q, row in done.items()}),
        "agreement": Facts({MODEL: {"agreement": float(weights["agreement"][0])}}),
    }


def kendall(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """Kendall's tau of two scorings of the same documents; ties of b are broken by id. 1 for a single document."""
    if len(a) < 2:
        return 1.0
    order = sorted(a, key=lambda d: (-b[d], d))
    return 2 * agreement([a[d] for d in order], -np.arange(len(order))) - 1


# --- relevance feedback ----------------------------------------------------------------------------------------------


def feedback(
    cell: Cell,
    *,
    teacher: Literal["none", "given", "random"],
    steps: int,
    rate: float,
    k: int,
    max_tokens: Annotated[int, Size(rehearsal=32)],
    batch: Annotated[int, Size(rehearsal=8)],
) -> Retrieval:
    """Dense retrieval with a query vector moved towards a teacher's order of a few passages.

    teacher: none (the query vector as it is), given (the ranking's order), random (its documents in an order drawn from
    seed and query). steps, rate: see `refine`.
    inputs: embeddings (first_stages.encode_corpus), teacher (a ranking; not read if `teacher` is none).
    """
    corpus, ids = cell.inputs["embeddings"]["embeddings"], list(cell.benchmark.corpus)
    place = {d: i for i, d in enumerate(ids)}
    ranking = cell.inputs.get("teacher", {})

    def moved(q: str, vector: np.ndarray) -> np.ndarray:
        if teacher == "none":
            return vector
        order = list(ranking[q])
        if teacher == "random":
            key = int.from_bytes(hashlib.sha256(q.encode()).digest()[:8], "big")
            order = [order[i] for i in np.random.default_rng([cell.seed, key]).permutation(len(order))]
        return refine(vector, corpus[[place[d] for d in order]], steps, rate)

    def nearest(queries: list[str]) -> dict[str, Scores]:
        vectors = encode(cell.models["encoder"], [cell.queries[q] for q in queries], max_tokens, batch)
        return {
            q: best(ids, corpus @ moved(q, vector), k, cell.benchmark.queries[q].excluded)
            for q, vector in zip(queries, vectors, strict=True)
        }

    return Retrieval(cell.map(list(cell.queries), nearest, batch=batch))
