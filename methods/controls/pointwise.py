"""Pointwise scores: each passage alone, by a language model or by a sentence encoder."""

from __future__ import annotations

from typing import Annotated

from methods.parts.retrieval.outputs import Scores, by_variant
from rankrepro.cell import Cell, Output, Ranking, Size

PASSAGE = "Passage:"
WRITE = "\nWrite a query that this passage answers."
JUDGE = "\nDoes the passage answer the query? Answer Yes or No."
YES = ("Yes", " Yes", "yes", " yes", "YES", " YES")
NO = ("No", " No", "no", " no", "NO", " NO")


def pointwise(
    cell: Cell, *, passage_tokens: Annotated[int, Size(work=1, rehearsal=8)], placebo: bool
) -> dict[str, Output]:
    """Each passage judged alone, by yes/no and by query likelihood; it is read once for both.

    pointwise               logit(yes) - logit(no) after a question whether the passage answers the query
    query_likelihood        mean log-probability of the query's tokens given the passage (Sachan et al. 2022, eq. 3)
    query_likelihood_decoy  the same with another query's text, if `placebo`
    """
    from methods.parts.language import llm

    lm = cell.models["llm"]
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
        passages = [llm.passage(lm, cell.document(d), passage_tokens) for d in docs]
        context = prefix.select([0] * n)
        context.read(passages)
        slots = context.slots

        last = context.read_to_last([write] * n)
        texts = {"query_likelihood": cell.queries[q]}
        if placebo:
            texts["query_likelihood_decoy"] = cell.decoys[q]
        queries = {variant: llm.data_ids(lm, text) for variant, text in texts.items()}
        scores = {variant: llm.mean_logprob(context, last, query) for variant, query in queries.items()}

        context.back_to(slots)
        question = [*llm.ids(lm, "\nQuery:"), *llm.data_ids(lm, " " + cell.queries[q]), *judge]
        z = llm.logits(lm, context.read_to_last([question] * n), yes + no)  # [documents, words]
        scores["pointwise"] = (z[:, : len(yes)].logsumexp(-1) - z[:, len(yes) :].logsumexp(-1)).tolist()

        tokens = len(write) + sum(len(query) - 1 for query in queries.values()) + len(question)
        cell.meter.add(q, input_tokens=sum(map(len, passages)) + n * tokens, forward_passes=3 + len(queries))
        return {variant: dict(zip(docs, values, strict=True)) for variant, values in scores.items()}

    return dict(by_variant(cell.map(list(cell.queries), score)))


def bi_encoder(
    cell: Cell,
    *,
    passage_tokens: Annotated[int, Size(work=1, rehearsal=8)],
    query_tokens: Annotated[int, Size(rehearsal=16)],
    batch: Annotated[int, Size(rehearsal=8)],
) -> Ranking:
    """Candidates by cosine of sentence embeddings of query and passage (Reimers and Gurevych 2019).

    passage_tokens, query_tokens: number of word pieces read, the two special ones included.
    """
    from methods.parts.retrieval.encoder import encode

    encoder = cell.models["encoder"]

    def score(queries: list[str]) -> dict[str, Scores]:
        vectors = encode(encoder, [cell.queries[q] for q in queries], query_tokens, batch)
        scores = {}
        for q, vector in zip(queries, vectors, strict=True):
            docs = list(cell.candidates[q])
            passages = encode(encoder, [cell.document(d).content for d in docs], passage_tokens, batch)
            scores[q] = {d: float(s) for d, s in zip(docs, passages @ vector, strict=True)}
        return scores

    return Ranking(cell.map(list(cell.queries), score, batch=8))
