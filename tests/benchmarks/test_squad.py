"""`squad/*` and `disfl/squad`: five domains of one task, and its questions as people say them."""

from __future__ import annotations

import pytest
from ends import ends

from rankrepro.benchmarks import texts

DOMAINS = {
    "squad/wiki": ["0270af7fe3be", "34452267db92", "0c5d2ec4ebc0", "d556784b9816"],
    "squad/new-wiki": ["ce58c35a015c", "72d7f08b9282", "1d53b9652339", "d4110e72170d"],
    "squad/nyt": ["0f995f0a9e67", "e4ae8edf30fc", "27f8c2695598", "3aa7866d5997"],
    "squad/reddit": ["fe2e0c927e3a", "f0e9592ea569", "c1a681dd9a35", "eb22004c5b26"],
    "squad/amazon": ["a1118ff0210d", "81a3995e3577", "f26b67eaedaa", "089811d8436e"],
    "disfl/squad": ["e7d84bb1ea7b", "09faab1ee53c", "2fd1918ac5fb", "8de16770bd58"],
}


@pytest.mark.parametrize("benchmark_id", DOMAINS)
def test_first_and_last(built, benchmark_id):
    benchmark = built(benchmark_id)[0]
    assert ends(benchmark) == DOMAINS[benchmark_id]
    assert {q.split for q in benchmark.queries.values()} == {"test"} and not benchmark.judgments
    assert not any(d.title for d in benchmark.corpus.values())


def test_domains_share_no_paragraph(built):
    corpora = [set(built(f"squad/{d}")[0].corpus) for d in ("wiki", "new-wiki", "nyt", "reddit", "amazon")]
    assert len(set.union(*corpora)) == sum(map(len, corpora)) == 9748


def test_a_question_asked_of_several_paragraphs_has_them_all(built, sources):
    benchmark, truth, _ = built("squad/amazon")
    asked = {}
    for article in texts.task(sources["bigbench"], "squad_shifts/amazon_reviews_v1.0.json")["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                asked.setdefault(texts.spelled(qa["question"]), set()).add(texts.spelled(paragraph["context"]))
    assert len(asked) == len(benchmark.queries)
    for query, judged in truth.qrels.items():
        texts_ = {texts.spelled(benchmark.corpus[d].text) for d in judged}
        assert texts_ == asked[texts.spelled(benchmark.queries[query].text)]
    assert max(len(judged) for judged in truth.qrels.values()) > 20
