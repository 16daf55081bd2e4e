"""`vital/pairs` and `vital-mini/pairs`: what rankers may be trained on, and the queries that say when to stop.

An article is closed if it is relevant to any query of `vital/*` that validates or tests: FEVER's validation and test
queries, all of DBpedia-Entity and CLIMATE-FEVER. Training pairs are of open articles alone, each with a tag:

    fever        a training query of vital/fever and its articles, if none of them is closed
    description  the article's short description, if no other article has it, it has MIN_WORDS words or more and it is
                 not in the article word by word
    sentence     the second sentence of the article, if it has SENTENCE_WORDS words or more; it is taken out of the
                 article, which must have a third

Validation queries are those of vital/fever. The corpus has the open articles and those relevant to validation queries,
so that a hard negative cannot be an article relevant to a query of a test.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankrepro.benchmarks import splits, vital
from rankrepro.benchmarks.base import Benchmark, Document, Query, Truth, opaque_id, sample
from rankrepro.errors import BenchmarkError

MIN_WORDS, SENTENCE_WORDS = 3, 8
END_OF_SENTENCE = re.compile(r"(?<=[a-z0-9)\"][.!?]) +(?=[A-Z])")


def build(benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]) -> tuple[Benchmark, Truth]:
    """One benchmark. `sources`: folders of the artifacts vital-articles and anserini-topics.

    `params`: `fever` (the shares of vital/fever's splits), `descriptions` and `sentences` (at most so many pairs, by
    hash), `documents` (null for all articles, or the size of vital-mini's corpus).
    """
    topics = sources["anserini-topics"]
    all_articles = vital.read_articles(sources["vital-articles"])
    judged = {t: vital.restrict(vital.read_qrels(topics, t), all_articles) for t in vital.BEIR}
    split = splits.assign("vital/fever", splits.components(judged["fever"]), params["fever"])
    articles = vital.shrink(all_articles, topics, params["documents"]) if params["documents"] else dict(all_articles)
    closed = closed_articles(judged, split)
    training = {d: article for d, article in articles.items() if d not in closed}

    texts = vital.read_queries(topics, "fever")
    queries: dict[str, Query] = {}
    qrels: dict[str, dict[str, int]] = {}
    for q, rows in judged["fever"].items():
        if split[q] == "validation" or (split[q] == "train" and not set(rows) & closed):
            queries[q], qrels[q] = Query(q, texts[q], split[q], ("fever",)), dict(rows)
    weak = {"description": descriptions(sources["vital-articles"], training)}
    weak["sentence"] = {d: parts[1] for d, article in training.items() if len(parts := sentences(article)) > 2}
    weak["sentence"] = {d: s for d, s in weak["sentence"].items() if len(s.split()) >= SENTENCE_WORDS}
    for kind, text_of in weak.items():
        for d in sample(f"vital/pairs {kind}", list(text_of), params[f"{kind}s"]):
            q = opaque_id("vital/pairs", f"{kind}\t{d}")
            queries[q], qrels[q] = Query(q, text_of[d], "train", (kind,)), {d: 1}
            if kind == "sentence":
                training[d] = without(training[d], text_of[d])
    held = {d for q, rows in qrels.items() if queries[q].split == "validation" for d in splits.relevant(rows)}
    corpus = {d: training.get(d, article) for d, article in articles.items() if d in training or d in held}
    if not any(q.split == "train" for q in queries.values()):
        raise BenchmarkError(f"{benchmark_id}: no training pair is left; raise descriptions, sentences or documents")
    return Benchmark(benchmark_id, queries, corpus, qrels), Truth(qrels, splits.clusters(qrels))


def fingerprint() -> str:
    """The module that reads articles, queries and judgments."""
    return f"vital.py {hashlib.sha256(Path(vital.__file__).read_bytes()).hexdigest()}"


def closed_articles(judged: Mapping[str, splits.Qrels], split: Mapping[str, str]) -> set[str]:
    """Articles relevant to a query that validates or tests. `split` is that of FEVER's queries."""
    rows = (row for t, qrels in judged.items() for q, row in qrels.items() if t != "fever" or split[q] != "train")
    return {d for row in rows for d in splits.relevant(row)}


def descriptions(folder: Path, articles: Mapping[str, Document]) -> dict[str, str]:
    """Article -> its description, by the rule of the module."""
    rows = json.loads((folder / vital.ARTICLES).read_text(encoding="utf-8")).values()
    by_title = {unicodedata.normalize("NFC", r["title"]): unicodedata.normalize("NFC", r["description"]) for r in rows}
    often = Counter(text.casefold() for text in by_title.values())
    return {
        d: by_title[d].strip()
        for d, article in articles.items()
        if often[by_title[d].casefold()] == 1
        and len(by_title[d].split()) >= MIN_WORDS
        and by_title[d].casefold() not in article.content.casefold()
    }


def sentences(article: Document) -> list[str]:
    return END_OF_SENTENCE.split(article.text)


def without(article: Document, sentence: str) -> Document:
    """The article without one of its sentences."""
    return Document(article.id, article.title, " ".join(s for s in sentences(article) if s != sentence))
