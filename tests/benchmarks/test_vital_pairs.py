"""`vital/pairs`: nothing of an article that a test asks for, nothing of a query left in its article."""

from __future__ import annotations

import pytest

from rankrepro import benchmarks
from rankrepro.benchmarks import splits, vital, vital_pairs
from rankrepro.benchmarks.base import Document

EVALUATION = ("vital/dbpedia-entity", "vital/climate-fever")


@pytest.fixture(scope="module", params=["vital/pairs", "vital-mini/pairs"])
def found(request, built):
    return built(request.param)


def test_no_training_pair_is_of_an_article_that_validates_or_tests(found, built):
    benchmark, _, _ = found
    fever, fever_truth, _ = built("vital/fever")
    closed = {
        d for q in fever.queries.values() if q.split != "train" for d in splits.relevant(fever_truth.qrels[q.id])
    }  # fmt: skip
    for name in EVALUATION:
        truth = built(name)[1]
        closed |= {d for judged in truth.qrels.values() for d in splits.relevant(judged)}
    trained = {d for q in benchmark.of_split("train") for d in benchmark.judgments[q]}
    assert trained and not trained & closed
    held = {d for q in benchmark.of_split("validation") for d in benchmark.judgments[q]}
    assert set(benchmark.corpus) & closed == held  # a negative can be no article of a test


def test_queries_are_those_of_the_rule(found, built):
    benchmark, _, _ = found
    fever = built("vital/fever")[0]
    for split in ("train", "validation"):
        ours = {q.id for q in benchmark.of_split(split).values() if q.tags == ("fever",)}
        assert ours <= set(fever.of_split(split))
    assert set(benchmark.of_split("validation")) == set(fever.of_split("validation"))
    assert not benchmark.of_split("test")
    for q in benchmark.queries.values():
        if q.tags != ("fever",):
            assert q.split == "train" and len(benchmark.judgments[q.id]) == 1
            assert len(q.text.split()) >= {"description": 3, "sentence": 8}[q.tags[0]]


def test_nothing_of_a_weak_query_is_left_in_its_article(found, sources):
    benchmark, _, _ = found
    articles = vital.read_articles(sources["vital-articles"])
    taken = 0
    for q in benchmark.queries.values():
        if q.tags == ("fever",):
            continue
        (d,) = benchmark.judgments[q.id]
        assert q.text.casefold() not in benchmark.corpus[d].content.casefold()
        if q.tags == ("sentence",):
            taken += 1
            assert q.text in articles[d].text and benchmark.corpus[d].text in (
                vital_pairs.without(articles[d], q.text).text
            )
    assert taken == benchmarks.get(benchmark.id).params["sentences"]


def test_sentences():
    article = Document("a", "A", "It is 3.5 m long. He said so (in 1990). The U.S. is big. Nothing else!")
    assert vital_pairs.sentences(article) == [
        "It is 3.5 m long.", "He said so (in 1990).", "The U.S. is big.", "Nothing else!"
    ]  # fmt: skip
    assert vital_pairs.without(article, "He said so (in 1990).").text == (
        "It is 3.5 m long. The U.S. is big. Nothing else!"
    )
