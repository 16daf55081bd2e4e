"""Controls of single cards: re-rankers that a comparison needs and the shared baselines do not have."""

from __future__ import annotations

from methods.parts.outputs import Scores, from_order
from methods.parts.windows import Order, slide
from rankrepro.cell import Cell, Ranking


def bi_encoder(cell: Cell) -> Ranking:
    """Candidates by cosine of sentence embeddings of query and passage (Reimers and Gurevych 2019).

    params: passage_tokens (word pieces of a passage that are read), query_tokens, batch.
    """
    from methods.parts.encoder import encode

    p, encoder = cell.params, cell.models["encoder"]

    def score(queries: list[str]) -> dict[str, Scores]:
        vectors = encode(encoder, [cell.queries[q] for q in queries], p.query_tokens, p.batch)
        result = {}
        for q, vector in zip(queries, vectors, strict=True):
            docs = list(cell.candidates[q])
            passages = encode(encoder, [cell.document(d).content for d in docs], p.passage_tokens, p.batch)
            result[q] = {d: float(s) for d, s in zip(docs, passages @ vector, strict=True)}
        return result

    return Ranking(cell.map(list(cell.queries), score, batch=8))


def first_token(cell: Cell) -> Ranking:
    """Listwise windows ranked by the logits of their first identifier (Reddy et al. 2024, zero-shot).

    The prompts, windows and batches of `baselines.rankgpt`; one reading of a window replaces writing a permutation.
    params: passage_tokens, window, step, batch (queries side by side).
    """
    from methods.parts import llm
    from methods.parts.listwise import Listwise, Window

    p = cell.params
    prompts = Listwise(cell.models["llm"], cell.meter, p.passage_tokens)

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

        return slide({q: cell.candidates[q] for q in queries}, p.window, p.step, permute)

    done = cell.map(list(cell.queries), rank, batch=p.batch)
    return Ranking({q: from_order(order) for q, order in done.items()})
