"""FIRST (arXiv 2406.15657): the logits of the first identifier order a window; a ranking loss trains them.

A listwise prompt names passages by letters. After "[" is fed, s_k is the logit of the k-th letter; passages go by s_k.

    L_LM   = mean NLL of the tokens of "[B] > [A] > ... <eos>", the teacher's permutation
    L_rank = mean over pairs r_i < r_j of 1 / (r_i + r_j) log(1 + e^(s_j - s_i))
    L      = L_LM + 10 L_rank

s is read in training where it is read at test: at the token "[" that opens the answer. Only the top layers of the
model are trained (methods/parts/llm_tops.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from methods.parts import llm
from methods.parts.batches import shuffled
from methods.parts.encoder import encode
from methods.parts.feedback import refine
from methods.parts.listwise import Listwise, Window
from methods.parts.llm import Ids
from methods.parts.llm_tops import Top, installed, joined, truncated
from methods.parts.outputs import Scores, from_order
from methods.parts.params import check
from methods.parts.rankloss import LOSSES
from methods.parts.training import Fit, Recipe, fit
from methods.parts.training import search as search_rates
from methods.parts.windows import LETTERS, Order, repair, slide, well_formed
from rankrepro.cell import Cell, Facts, Output, Ranking, Retrieval
from rankrepro.errors import ConfigError

OBJECTIVES = ("lm", "joint", "rank")


# --- training windows ------------------------------------------------------------------------------------------------


def windows(cell: Cell) -> dict[str, np.ndarray]:
    """Stage: listwise instances of training (`train` true) and validation queries, and what the teacher says.

    queries [n]            rows of `benchmark.of_split("train", "validation")`
    documents [n, window]  positions in the corpus, in the order they are shown: shuffled by an instance's own seed
    ranks [n, window]      the teacher's: judged articles first, then by MiniLM's cosine; 1 is the best
    permuted [n, window]   ranks drawn at random (placebo)
    relevant [n, window]   whether an article is judged relevant

    inputs: negatives (pairs.negatives with count and held of window - 1 or more). models: encoder.
    params: window, windows, held_windows, passage_tokens, query_tokens.
    """
    p, benchmark, hard = cell.params, cell.benchmark, cell.inputs["negatives"]
    if not 1 < p.window <= len(LETTERS):
        raise ConfigError(f"{cell.name}: window {p.window}: need 2 to {len(LETTERS)} passages, a letter each")
    corpus = list(benchmark.corpus)
    place = {d: i for i, d in enumerate(corpus)}
    asked = benchmark.of_split("train", "validation")
    rows: list[int] = []
    shown: list[np.ndarray] = []
    judged: list[np.ndarray] = []
    trains: list[bool] = []
    for split, others, most in (("train", hard["negatives"], p.windows), ("validation", hard["held"], p.held_windows)):
        queries = list(benchmark.of_split(split))
        drawn = np.random.default_rng((len(rows), 0)).permutation(len(queries))[:most]
        for i in np.sort(drawn):
            own = [place[d] for d, grade in benchmark.judgments[queries[i]].items() if grade >= 1][: p.window - 1]
            documents = np.array([*own, *others[i][: p.window - len(own)]])
            order = np.random.default_rng((len(rows), 1)).permutation(p.window)
            rows.append(list(asked).index(queries[i]))
            shown.append(documents[order])
            judged.append((np.arange(p.window) < len(own))[order])
            trains.append(split == "train")
    texts = list(asked.values())
    used = sorted({int(d) for documents in shown for d in documents})
    found = encode(cell.models["encoder"], [benchmark.corpus[corpus[d]].content for d in used], p.passage_tokens, 32)
    vectors = dict(zip(used, found, strict=True))
    questions = encode(cell.models["encoder"], [texts[r].text for r in rows], p.query_tokens, 32)
    ranks = []
    for question, documents, relevant in zip(questions, shown, judged, strict=True):
        cosines = np.array([vectors[int(d)] @ question for d in documents])
        ranks.append(ranks_of(cosines + 10.0 * relevant))
    permuted = [1 + np.random.default_rng((i, 2)).permutation(p.window) for i in range(len(rows))]
    return {
        "queries": np.array(rows, dtype=np.int32), "documents": np.array(shown, dtype=np.int32),
        "ranks": np.array(ranks, dtype=np.int32), "permuted": np.array(permuted, dtype=np.int32),
        "relevant": np.array(judged), "train": np.array(trains),
    }  # fmt: skip


def ranks_of(scores: np.ndarray) -> np.ndarray:
    """1 for the highest score [items], 2 for the next; equal ones in the order given."""
    ranks = np.empty(len(scores), dtype=np.int32)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return ranks


def answer(prompts: Listwise, ranks: np.ndarray) -> Ids:
    """Tokens of "[B] > [A] > ..." by the ranks of passages A, B, ..., and the end token."""
    order = np.argsort(ranks)
    tokens = [*prompts.open, prompts.letters[order[0]]]
    for i in order[1:]:
        tokens += [*prompts.between, prompts.letters[i]]
    return [*tokens, *llm.ids(prompts.lm, "[A]")[len(prompts.open) + 1 :], min(llm.end_tokens(prompts.lm))]


def lower(cell: Cell) -> dict[str, np.ndarray]:
    """Stage: states of the frozen layers for all windows, prompts once and both teachers' answers after them.

    prompts [n, longest, dim] float16 and lengths [n]; own, permuted [n, answer, dim], all but the end token, and
    own_tokens, permuted_tokens [n, answer + 1].
    inputs: windows. params: top, passage_tokens, batch.
    """
    p, lm, data = cell.params, cell.models["llm"], cell.inputs["windows"]
    listwise = Listwise(lm, cell.meter, p.passage_tokens)
    before, _ = llm.turn(lm)
    documents = list(cell.benchmark.corpus.values())
    queries = list(cell.benchmark.of_split("train", "validation").values())
    prompts = [
        [*before, *listwise.prompt(Window(str(i), queries[q].text, tuple(documents[d] for d in shown)))]
        for i, (q, shown) in enumerate(zip(data["queries"], data["documents"], strict=True))
    ]
    n, lengths = len(prompts), np.array(list(map(len, prompts)), dtype=np.int32)
    dim = lm.model.config.hidden_size
    found: dict[str, np.ndarray] = {"prompts": np.zeros((n, lengths.max(), dim), np.float16), "lengths": lengths}
    for name, ranks in (("own", "ranks"), ("permuted", "permuted")):
        tokens = np.array([answer(listwise, r) for r in data[ranks]], dtype=np.int32)
        found |= {f"{name}_tokens": tokens, name: np.zeros((n, tokens.shape[1] - 1, dim), np.float16)}
    order = np.argsort(-lengths, kind="stable")
    with truncated(lm, p.top):
        for start in range(0, n, p.batch):
            part = order[start : start + p.batch]
            context = llm.Context(lm, len(part))
            hidden = context.read([prompts[i] for i in part])
            found["prompts"][part, : hidden.shape[1]] = hidden.half().cpu().numpy()
            slots = context.slots
            for name in ("own", "permuted"):
                hidden = context.read(found[f"{name}_tokens"][part, :-1].tolist())
                found[name][part] = hidden.half().cpu().numpy()
                context.back_to(slots)
            cell.progress(min(start + p.batch, n), n)
    return found


# --- training --------------------------------------------------------------------------------------------------------


def objective(
    kind: str, z: Tensor | None, tokens: Tensor, s: Tensor, ranks: Tensor, loss: str, weight: float
) -> Tensor:
    """L of the module's head. z [B, T, vocabulary] predicts tokens [B, T]; s, ranks [B, m]; weight is lambda."""
    total = s.new_zeros(())
    if kind != "rank":
        assert z is not None
        total = total + F.cross_entropy(z.flatten(0, 1), tokens.flatten())
    return total if kind == "lm" else total + weight * LOSSES[loss](s, ranks)


class Windows:
    """Windows as states of the frozen layers, and the top layers that read them. teacher: own or permuted.

    params: precision (float32, bfloat16) in which the top layers compute; weights and logits are float32 in both.
    """

    def __init__(self, cell: Cell, top: Top, teacher: str) -> None:
        check(cell, precision=("float32", "bfloat16"))
        self.top, self.states, self.data = top, cell.inputs["lower"], cell.inputs["windows"]
        self.half = torch.autocast(torch.device(top.device).type, torch.bfloat16, cell.params.precision == "bfloat16")
        self.answers = self.states[teacher]
        self.tokens = self.states[f"{teacher}_tokens"]
        self.ranks = self.data["ranks" if teacher == "own" else "permuted"]
        lm = cell.models["llm"]
        self.letters = Listwise(lm, cell.meter, 1).letters[: self.ranks.shape[1]]
        self.opened = len(llm.ids(lm, "["))

    def read(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Hidden states [B, T, dim] that predict the answers' tokens, and the letters' scores s [B, m].

        The place before an answer's first token predicts that token; s comes from the token "[" itself.
        """
        lengths = self.states["lengths"][rows]
        found = joined(self.states["prompts"][rows], lengths, self.answers[rows])
        with self.half:
            hidden = self.top(found, lengths[:, None] - 1 + np.arange(self.tokens.shape[1]))
        return hidden, self.top.logits(hidden[:, self.opened], self.letters)

    @torch.no_grad()
    def scores(self, rows: np.ndarray, batch: int = 8) -> np.ndarray:
        """s [rows, m], reading no further than "["."""
        found = []
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            lengths = self.states["lengths"][part]
            x = joined(self.states["prompts"][part], lengths, self.answers[part, : self.opened])
            with self.half:
                hidden = self.top(x, lengths[:, None] + self.opened - 1)
            found.append(self.top.logits(hidden[:, 0], self.letters).cpu().numpy())
        return np.concatenate(found)

    def validation(self) -> dict[str, float]:
        """Of held-out windows: agreement with the teacher of judged articles and MiniLM, and RR of the judged."""
        held = np.flatnonzero(~self.data["train"])
        s = self.scores(held)
        pairs = [agreement(x, -r) for x, r in zip(s, self.data["ranks"][held], strict=True)]
        first = [ranks_of(x)[own].min() for x, own in zip(s, self.data["relevant"][held], strict=True)]
        return {"agreement": float(np.mean(pairs)), "RR": float(np.mean(1 / np.array(first)))}


def agreement(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Share of pairs that scores a and b (no ties in b) put in the same order; Kendall's tau is 2 x - 1."""
    a, b = np.asarray(a), np.asarray(b)
    i, j = np.triu_indices(len(a), 1)
    return float((1 + np.sign(a[i] - a[j]) * np.sign(b[i] - b[j])).mean() / 2)


def _trained(cell: Cell, part: str, recipe: Recipe, label: str = "") -> tuple[Windows, Fit]:
    p = cell.params
    check(cell, objective=OBJECTIVES, loss=LOSSES, teacher=("own", "permuted"))
    top = Top(cell.models["llm"], p.top)
    data = Windows(cell, top, p.teacher)
    trains = np.flatnonzero(data.data["train"])

    def step(i: int) -> tuple[Tensor, int]:
        rows = trains[shuffled(i, p.batch, len(trains), cell.seed)]
        hidden, s = data.read(rows)
        z = None if p.objective == "rank" else top.logits(hidden)
        tokens, ranks = (torch.from_numpy(a[rows]).long().to(s.device) for a in (data.tokens, data.ranks))
        read = int(data.states["lengths"][rows].sum()) + tokens.numel()
        return objective(p.objective, z, tokens, s, ranks, p.loss, p.weight), read

    return data, fit(cell, part, dict(top.named_parameters()), recipe, step, data.validation, label)


def search(cell: Cell) -> dict[str, np.ndarray]:
    """Stage: the validation agreement of every learning rate after `search_share` of the budget.

    inputs: windows, lower. params: rates, search_share and those of `train`.
    """
    p = cell.params

    def run(rate: float) -> Fit:
        recipe = _recipe(cell, tokens=int(p.tokens * p.search_share), rate=rate)
        return _trained(cell, f"rate_{rate}", recipe, f"rate_{rate}_")[1]

    found = search_rates(p.rates, run, higher=True)
    values = [max(value, 0.0) for value in found.values.values()]
    return {"rates": np.array(p.rates), "values": np.array(values), "best": np.array([found.best])}


def train(cell: Cell) -> dict[str, np.ndarray]:
    """Stage: the top layers after training, by name; `agreement` and `RR` on held-out windows; the `rate`.

    inputs: windows, lower, search. params: top, objective (lm, joint, rank), loss (weighted_ranknet, ranknet, listnet),
    weight (lambda), teacher (own, permuted), batch, those of Windows and of Recipe.
    """
    rate = float(cell.inputs["search"]["best"][0])
    data, _ = _trained(cell, "training", _recipe(cell, rate=rate))
    return _weights(data) | {"rate": np.array([rate])}


def start(cell: Cell) -> dict[str, np.ndarray]:
    """Stage: the top layers before training, with the same values. inputs: windows, lower. params: top, precision."""
    return _weights(Windows(cell, Top(cell.models["llm"], cell.params.top), "own")) | {"rate": np.array([0.0])}


def _recipe(cell: Cell, **more: Any) -> Recipe:
    return Recipe.of(cell.params, watch="agreement", higher=True, **more)


def _weights(data: Windows) -> dict[str, np.ndarray]:
    return data.top.arrays() | {name: np.array([value]) for name, value in data.validation().items()}


# --- re-ranking ------------------------------------------------------------------------------------------------------


def rerank(cell: Cell) -> dict[str, Output]:
    """Listwise re-ranking over sliding windows, tail to head, by trained top layers.

    ranking    decoding `single`: one reading of a window, by the logits of the first identifier; `natural` and
               `length`: a generated permutation, parsed and repaired (see Listwise.free); `prompt`: the prompts are
               read and nothing is decided, which is what prefill costs
    tau        query -> Kendall's tau of the order to MiniLM's order of the same candidates
    malformed  query -> share of windows whose answer was no permutation (0 for single and prompt)
    agreement  with the teacher on held-out training windows

    inputs: weights, minilm (a ranking of the same candidates). params: top, passage_tokens, window, step, batch,
    decoding.
    """
    p = cell.params
    check(cell, decoding=("single", "natural", "length", "prompt"))
    if not 0 < p.step <= p.window <= len(LETTERS):
        raise ConfigError(f"{cell.name}: window {p.window}, step {p.step}: need 0 < step <= window <= {len(LETTERS)}")
    weights = cell.inputs["weights"]
    with installed(cell.models["llm"], p.top, weights):
        prompts = Listwise(cell.models["llm"], cell.meter, p.passage_tokens)
        done = cell.map(list(cell.queries), lambda queries: _slide(cell, prompts, queries), batch=p.batch)
    orders = {q: from_order(row["order"]) for q, row in done.items()}
    tau = {q: kendall(scores, cell.inputs["minilm"][q]) for q, scores in orders.items()}
    return {
        "ranking": Ranking(orders),
        "tau": Facts(tau),
        "malformed": Facts({q: float(np.mean(row["malformed"])) for q, row in done.items()}),
        "agreement": Facts({"agreement": float(weights["agreement"][0])}),
    }


def _slide(cell: Cell, prompts: Listwise, queries: list[str]) -> dict[str, dict[str, Any]]:
    malformed: dict[str, list[bool]] = {q: [] for q in queries}

    def permute(shown: dict[str, Order]) -> dict[str, Order]:
        asked = [Window(q, cell.queries[q], tuple(map(cell.document, docs))) for q, docs in shown.items()]
        found = {}
        for (q, docs), named in zip(shown.items(), _permutations(cell, prompts, asked), strict=True):
            malformed[q].append(not well_formed(named, len(docs)))
            found[q] = [docs[i] for i in repair(named, len(docs))]
        return found

    orders = slide({q: cell.candidates[q] for q in queries}, cell.params.window, cell.params.step, permute)
    return {q: {"order": orders[q], "malformed": malformed[q]} for q in queries}


def _permutations(cell: Cell, prompts: Listwise, asked: Sequence[Window]) -> list[list[int]]:
    context, last = prompts.read(asked)
    if cell.params.decoding == "prompt":
        return [list(range(len(window.documents))) for window in asked]
    if cell.params.decoding != "single":
        return prompts.free(context, last, asked, cell.params.decoding)
    hidden = context.read([prompts.open] * len(asked))[:, -1]
    scores = llm.logits(prompts.lm, hidden, prompts.letters).tolist()  # [windows, letters]
    for window in asked:
        cell.meter.add(window.unit, input_tokens=len(prompts.open), forward_passes=1)
    return [sorted(range(len(window.documents)), key=lambda i: -s[i]) for window, s in zip(asked, scores, strict=True)]


def kendall(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """Kendall's tau of two scorings of the same documents; ties of b are broken by id. One document: 1."""
    if len(a) < 2:
        return 1.0
    order = sorted(a, key=lambda d: (-b[d], d))
    return 2 * agreement([a[d] for d in order], -np.arange(len(order))) - 1


# --- relevance feedback ----------------------------------------------------------------------------------------------


def feedback(cell: Cell) -> Retrieval:
    """Dense retrieval with a query vector moved towards a teacher's order of a few passages.

    inputs: embeddings (baselines.encode_corpus), teacher (a ranking; unread if `teacher` is none).
    params: teacher (none: the query vector as it is; given: the ranking's order; random: its documents in an order
    drawn by seed and query), steps, rate, k, max_tokens, batch.
    """
    p, corpus, ids = cell.params, cell.inputs["embeddings"]["embeddings"], list(cell.benchmark.corpus)
    check(cell, teacher=("none", "given", "random"))
    place = {d: i for i, d in enumerate(ids)}

    def search_(queries: list[str]) -> dict[str, Scores]:
        vectors = encode(cell.models["encoder"], [cell.queries[q] for q in queries], p.max_tokens, p.batch)
        return {q: retrieve(q, v) for q, v in zip(queries, vectors, strict=True)}

    def retrieve(q: str, vector: np.ndarray) -> Scores:
        if p.teacher != "none":
            order = list(cell.inputs["teacher"][q])
            if p.teacher == "random":
                key = int.from_bytes(hashlib.sha256(q.encode()).digest()[:8], "big")
                order = [order[i] for i in np.random.default_rng([cell.seed, key]).permutation(len(order))]
            vector = refine(vector, corpus[[place[d] for d in order]], p.steps, p.rate)
        scores = corpus @ vector
        excluded = cell.benchmark.queries[q].excluded
        best = np.argsort(-scores, kind="stable")[: p.k + len(excluded)]
        return {ids[i]: float(scores[i]) for i in [i for i in best if ids[i] not in excluded][: p.k]}

    return Retrieval(cell.map(list(cell.queries), search_, batch=p.batch))
