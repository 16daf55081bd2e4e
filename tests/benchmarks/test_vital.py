"""vital/* and vital-mini/*: golden items, spellings, the first stage's figures."""

from __future__ import annotations

import shutil

import pytest

from rankrepro import benchmarks
from rankrepro.benchmarks import vital
from rankrepro.errors import BenchmarkError

FIRST_AND_LAST = {
    "vital/dbpedia-entity": ("INEX_LD-20120221", "guitar classical flamenco", "TREC_Entity-6"),
    "vital/fever": ("163803", "Ukrainian Soviet Socialist Republic was a founding participant of the UN.", "8538"),
    "vital/climate-fever": ("0", "Global warming is driving polar bears toward extinction", "3131"),
}


@pytest.mark.parametrize("benchmark_id", FIRST_AND_LAST)
def test_first_and_last(built, benchmark_id):
    benchmark, _, _ = built(benchmark_id)
    queries, articles = list(benchmark.queries.values()), list(benchmark.corpus.values())
    assert (queries[0].id, queries[0].text, queries[-1].id) == FIRST_AND_LAST[benchmark_id]
    assert (articles[0].id, articles[-1].id) == ("20th-century classical music", "Zoroastrianism")
    assert articles[-1].content.startswith("Zoroastrianism. Zoroastrianism, also called Mazdayasna and Behdin, is an ")


def test_judgments(built):
    assert built("vital/fever")[1].qrels["163803"] == {"United Nations": 1}
    assert built("vital/climate-fever")[1].qrels["0"] == {"Polar bear": 1}
    graded = built("vital/dbpedia-entity")[1].qrels
    assert graded["INEX_LD-20120221"] == {"Flamenco": 1, "Guitar": 1, "Paco de Lucía": 0}
    assert {g for judged in graded.values() for g in judged.values()} == {0, 1, 2}


@pytest.mark.parametrize(
    ("doc_id", "title"),
    [
        ("2001-COLON-_A_Space_Odyssey", "2001: A Space Odyssey"),
        ("Casablanca_-LRB-film-RRB-", "Casablanca (film)"),
        ("<dbpedia:Antonín_Dvořák>", "Antonín Dvořák"),
        ("Anton\u0069\u0301n_Dvor\u030ca\u0301k", "Antonín Dvořák"),
        ("Jean-Luc_Godard", "Jean-Luc Godard"),
    ],
)
def test_spellings(built, doc_id, title):
    assert vital.title(doc_id) == title
    assert title in built("vital/fever")[0].corpus


@pytest.mark.parametrize("topics", vital.BEIR)
def test_what_falls_away_is_what_the_card_says(sources, topics):
    expected = benchmarks.get(f"vital/{topics}").lost
    assert vital.lost(sources, topics) == pytest.approx(expected, abs=0.0005)
    assert benchmarks.get(f"vital-mini/{topics}").lost == expected


@pytest.mark.parametrize("topics", vital.BEIR)
def test_mini_is_the_parent_over_fewer_articles(built, topics):
    parent, parent_truth, _ = built(f"vital/{topics}")
    mini, truth, _ = built(f"vital-mini/{topics}")
    assert mini.queries == parent.queries and truth == parent_truth
    assert set(mini.corpus) < set(parent.corpus)
    judged = {d for t in vital.BEIR for row in built(f"vital/{t}")[1].qrels.values() for d in row}
    assert judged < set(mini.corpus) and len(mini.corpus) == 2000


def bm25(benchmark, truth) -> float:
    """nDCG@10 of BM25 over all judged queries."""
    import bm25s
    import ir_measures
    import Stemmer

    stem = Stemmer.Stemmer("english")

    def tokens(texts):
        return bm25s.tokenize(texts, stopwords="en", stemmer=stem, show_progress=False)

    index = bm25s.BM25(k1=0.9, b=0.4)
    index.index(tokens([d.content for d in benchmark.corpus.values()]), show_progress=False)
    ids = list(benchmark.corpus)
    documents, scores = index.retrieve(tokens([q.text for q in benchmark.queries.values()]), k=10, show_progress=False)
    run = {
        q: {ids[d]: float(s) for d, s in zip(docs, row, strict=True)}
        for q, docs, row in zip(benchmark.queries, documents, scores, strict=True)
    }
    measure = ir_measures.nDCG @ 10
    return ir_measures.calc_aggregate([measure], truth.qrels, run)[measure]


@pytest.mark.parametrize(
    ("benchmark_id", "expected"),
    [("vital/dbpedia-entity", 0.524), ("vital/fever", 0.725), ("vital/climate-fever", 0.269)],
)
def test_bm25_finds_what_it_should(built, benchmark_id, expected):
    benchmark, truth, _ = built(benchmark_id)
    assert bm25(benchmark, truth) == pytest.approx(expected, abs=0.01)


def test_a_missing_file_is_named(sources, tmp_path):
    params = benchmarks.get("vital/fever").params
    with pytest.raises(BenchmarkError, match=r"summaries_en-us\.json is missing: delete .* and run again"):
        vital.build("vital/fever", {**sources, "vital-articles": tmp_path}, params)
    with pytest.raises(BenchmarkError, match=r"topics\.beir-v1\.0\.0-fever\.test\.tsv\.gz is missing"):
        vital.build("vital/fever", {**sources, "anserini-topics": tmp_path}, params)


def test_no_query_with_a_relevant_article(sources, tmp_path):
    shutil.copytree(sources["anserini-topics"], tmp_path / "topics")
    qrels = tmp_path / "topics" / vital.QRELS.format("fever")
    qrels.write_text("".join(line for line in qrels.open() if line.endswith(" 0\n")))
    broken = {**sources, "anserini-topics": tmp_path / "topics"}
    with pytest.raises(BenchmarkError, match="no query of fever has a relevant article"):
        vital.build("vital/fever", broken, benchmarks.get("vital/fever").params)


def test_a_mini_corpus_smaller_than_what_is_judged(sources):
    params = {**benchmarks.get("vital-mini/fever").params, "corpus": {"documents": 100}}
    with pytest.raises(BenchmarkError, match=r"articles are judged: raise corpus\.documents \(100\)"):
        vital.build("vital-mini/fever", sources, params)
