"""Controls every re-ranking paper is held against, each with the care (cache, batches, stop rule) its rivals get."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from methods.parts.outputs import Scores, by_variant, from_order
from methods.parts.params import check
from methods.parts.windows import LETTERS, Order, repair, slide, well_formed
from rankrepro.cell import Cell, Facts, Output, Ranking, Retrieval
from rankrepro.errors import ConfigError

Key = tuple[str, str]  # query id, way of decoding


# --- first stages ----------------------------------------------------------------------------------------------------


def bm25(cell: Cell) -> Retrieval:
    """BM25 over the whole corpus (Robertson et al. 1994; bm25s), English stopwords, Snowball stems.

    params: k (documents kept), k1, b.
    """
    import bm25s
    import Stemmer

    def terms(texts: Sequence[str], **form: Any) -> Any:
        return bm25s.tokenize(texts, stopwords="en", stemmer=Stemmer.Stemmer("english"), show_progress=False, **form)

    p = cell.params
    best = _top(cell)
    index = bm25s.BM25(k1=p.k1, b=p.b)
    index.index(terms([d.content for d in cell.benchmark.corpus.values()]), show_progress=False)

    def search(queries: list[str]) -> dict[str, Scores]:
        words = terms([cell.queries[q] for q in queries], return_ids=False)
        # a query of nothing but stopwords finds nothing: every document scores 0
        scores = (index.get_scores(w) if w else np.zeros(len(cell.benchmark.corpus)) for w in words)
        return {q: best(q, s) for q, s in zip(queries, scores, strict=True)}

    return Retrieval(cell.map(list(cell.queries), search, batch=64))


def encode_corpus(cell: Cell) -> dict[str, np.ndarray]:
    """Stage: embeddings [documents, dim] of the corpus in its own order. params: max_tokens, batch."""
    from methods.parts.encoder import encode

    texts = [d.content for d in cell.benchmark.corpus.values()]
    p = cell.params
    return {"embeddings": encode(cell.models["encoder"], texts, p.max_tokens, p.batch, cell.progress)}


def dense(cell: Cell) -> Retrieval:
    """Exact search by cosine of sentence embeddings.

    inputs: embeddings (encode_corpus). params: k, max_tokens, batch.
    """
    from methods.parts.encoder import encode

    p = cell.params
    best, corpus = _top(cell), cell.inputs["embeddings"]["embeddings"]

    def search(queries: list[str]) -> dict[str, Scores]:
        vectors = encode(cell.models["encoder"], [cell.queries[q] for q in queries], p.max_tokens, p.batch)
        return {q: best(q, corpus @ v) for q, v in zip(queries, vectors, strict=True)}

    by_length = sorted(cell.queries, key=lambda q: (len(cell.queries[q]), q))
    return Retrieval(cell.map(by_length, search, batch=p.batch))


def _top(cell: Cell) -> Callable[[str, np.ndarray], Scores]:
    """best(query, scores [documents]) -> its params.k best documents; equal to 5 decimals, they go by document id."""
    ids = list(cell.benchmark.corpus)
    place = np.empty(len(ids), dtype=np.int64)  # of every document in the order of ids
    place[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))

    def best(q: str, scores: np.ndarray) -> Scores:
        excluded = cell.benchmark.queries[q].excluded
        order = np.lexsort((place, -scores.astype(np.float64).round(5)))[: cell.params.k + len(excluded)]
        kept = [i for i in order if ids[i] not in excluded]
        return {ids[i]: float(scores[i]) for i in kept[: cell.params.k]}

    return best


# --- floors ----------------------------------------------------------------------------------------------------------


def identity(cell: Cell) -> Ranking:
    """The order the candidates came in."""
    return Ranking({q: from_order(candidates) for q, candidates in cell.candidates.items()})


def constant(cell: Cell) -> Ranking:
    """No opinion: every score is 0, document ids break the ties."""
    return Ranking({q: dict.fromkeys(candidates, 0.0) for q, candidates in cell.candidates.items()})


def random(cell: Cell) -> Ranking:
    """A permutation drawn per (seed, query), whatever order the candidates came in."""

    def shuffled(q: str) -> Scores:
        key = int.from_bytes(hashlib.sha256(q.encode()).digest()[:8], "big")  # hash() differs between processes
        drawn = np.random.default_rng([cell.seed, key]).permutation(sorted(cell.candidates[q]))
        return from_order([str(d) for d in drawn])

    return Ranking({q: shuffled(q) for q in cell.candidates})


# --- pointwise scores of a language model ----------------------------------------------------------------------------

PASSAGE = "Passage:"
WRITE = "\nWrite a query that this passage answers."
JUDGE = "\nDoes the passage answer the query? Answer Yes or No."
YES = ("Yes", " Yes", "yes", " yes", "YES", " YES")
NO = ("No", " No", "no", " no", "NO", " NO")


def pointwise(cell: Cell) -> dict[str, Output]:
    """Each passage judged alone, by yes/no and by query likelihood: the passage is read once for both.

    pointwise               logit(yes) - logit(no) after a question whether the passage answers the query
    query_likelihood        mean log-probability of the query's tokens given the passage (Sachan et al. 2022, eq. 3)
    query_likelihood_decoy  the same with another query's text (params.placebo)

    params: passage_tokens, placebo.
    """
    from methods.parts import llm

    lm, p = cell.models["llm"], cell.params
    before, after = llm.turn(lm)
    write, judge = [*llm.ids(lm, WRITE), *after], [*llm.ids(lm, JUDGE), *after]
    yes, no = llm.single_tokens(lm, YES), llm.single_tokens(lm, NO)
    prefix = llm.Context(lm)
    prefix.read([[*before, *llm.ids(lm, PASSAGE)]])

    def score(queries: list[str]) -> dict[str, dict[str, Scores]]:
        return {q: score_one(q) for q in queries}

    def score_one(q: str) -> dict[str, Scores]:
        docs = cell.candidates[q]
        n = len(docs)
        passages = [llm.passage(lm, cell.document(d), p.passage_tokens) for d in docs]
        context = prefix.select([0] * n)
        context.read(passages)
        read = context.slots

        last = context.read_to_last([write] * n)
        texts = {"query_likelihood": cell.queries[q]}
        if p.placebo:
            texts["query_likelihood_decoy"] = cell.decoys[q]
        queries = {variant: llm.data_ids(lm, text) for variant, text in texts.items()}
        scores = {variant: llm.mean_logprob(context, last, query) for variant, query in queries.items()}

        context.back_to(read)
        question = [*llm.ids(lm, "\nQuery:"), *llm.data_ids(lm, " " + cell.queries[q]), *judge]
        z = llm.logits(lm, context.read_to_last([question] * n), yes + no)  # [documents, words]
        scores["pointwise"] = (z[:, : len(yes)].logsumexp(-1) - z[:, len(yes) :].logsumexp(-1)).tolist()

        fed = len(write) + sum(len(query) - 1 for query in queries.values()) + len(question)
        cell.meter.add(q, input_tokens=sum(map(len, passages)) + n * fed, forward_passes=3 + len(queries))
        return {variant: dict(zip(docs, values, strict=True)) for variant, values in scores.items()}

    return dict(by_variant(cell.map(list(cell.queries), score)))


# --- listwise generation ---------------------------------------------------------------------------------------------


def rankgpt(cell: Cell) -> dict[str, Output]:
    """Listwise permutation generation over sliding windows (Sun et al. 2023).

    rankgpt            constrained: each step takes the likeliest identifier not used yet
    rankgpt_free       plain greedy decoding, parsed and repaired
    rankgpt_malformed  query -> share of the free variant's windows whose answer was no permutation

    Both start from the same list, and every prompt is read once as far as it is the same for both.
    params: passage_tokens, window, step, batch (queries side by side), decoding (of constrained, free), stop (natural,
    or length: free answers always take the tokens of a full permutation).
    """
    from methods.parts.listwise import Listwise, Window

    p = cell.params
    check(cell, decoding=("constrained", "free"), stop=("natural", "length"))
    if not 0 < p.step <= p.window <= len(LETTERS):
        raise ConfigError(f"{cell.name}: window {p.window}, step {p.step}: need 0 < step <= window <= {len(LETTERS)}")
    prompts = Listwise(cell.models["llm"], cell.meter, p.passage_tokens)

    def rank(queries: list[str]) -> dict[str, dict[str, Any]]:
        malformed: dict[str, list[bool]] = {q: [] for q in queries}

        def permute(windows: dict[Key, Order]) -> dict[Key, Order]:
            asked = {k: Window(k[0], cell.queries[k[0]], tuple(map(cell.document, d))) for k, d in windows.items()}
            distinct = list(dict.fromkeys(asked.values()))
            context, last = prompts.read(distinct)
            out: dict[Key, Order] = {}
            for decoding in p.decoding:
                keys = [key for key in windows if key[1] == decoding]
                rows = [distinct.index(asked[key]) for key in keys]
                batch = [distinct[row] for row in rows]
                if decoding == "constrained":
                    answers = prompts.constrained(context.select(rows), batch)
                else:
                    answers = prompts.free(context.select(rows), last[rows], batch, p.stop)
                for key, answer in zip(keys, answers, strict=True):
                    docs = windows[key]
                    out[key] = [docs[i] for i in repair(answer, len(docs))]
                    if decoding == "free":
                        malformed[key[0]].append(not well_formed(answer, len(docs)))
            return out

        starts = {(q, decoding): cell.candidates[q] for q in queries for decoding in p.decoding}
        orders = slide(starts, p.window, p.step, permute)
        return {q: {d: orders[q, d] for d in p.decoding} | {"malformed": malformed[q]} for q in queries}

    done = cell.map(list(cell.queries), rank, batch=p.batch)
    out: dict[str, Output] = {}
    if "constrained" in p.decoding:
        out["rankgpt"] = Ranking({q: from_order(result["constrained"]) for q, result in done.items()})
    if "free" in p.decoding:
        out["rankgpt_free"] = Ranking({q: from_order(result["free"]) for q, result in done.items()})
        out["rankgpt_malformed"] = Facts({q: float(np.mean(result["malformed"])) for q, result in done.items()})
    return out
