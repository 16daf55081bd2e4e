"""`vitaminc/evidence`: verdicts as grades, pages on one side, nothing of FEVER to train on."""

from __future__ import annotations

from collections import Counter

from ends import ends

from rankrepro.benchmarks import texts, vital, vitaminc


def test_first_and_last(built):
    assert ends(built("vitaminc/evidence")[0]) == ["ac19777c9280", "68d64c991c2d", "9750dadc1c40", "a967baf3f0d4"]


def test_sentences_that_decide_a_claim_are_relevant_and_others_judged(built, sources):
    benchmark, truth, _ = built("vitaminc/evidence")
    verdicts: dict[tuple[str, str], set[str]] = {}
    for page, sentence, claim, verdict in vitaminc.evidence(sources["bigbench"]):
        verdicts.setdefault((texts.spelled(claim), texts.spelled(f"{page} {sentence}")), set()).add(verdict)
    spelled = {d: texts.spelled(f"{document.title} {document.text}") for d, document in benchmark.corpus.items()}
    grades = Counter()
    for query, judged in truth.qrels.items():
        claim = texts.spelled(benchmark.queries[query].text)
        for d, grade in judged.items():
            assert grade == bool(verdicts[claim, spelled[d]] - {"Neither"})
            grades[grade] += 1
    assert grades == {1: 47_375, 0: 7_244}


def test_no_page_and_no_claim_of_fever_is_on_both_sides(built, sources):
    benchmark, truth, _ = built("vitaminc/evidence")
    pages: dict[str, set[str]] = {}
    for query, judged in truth.qrels.items():
        for d, grade in judged.items():
            if grade:
                pages.setdefault(benchmark.corpus[d].title, set()).add(benchmark.queries[query].split)
    assert len(pages) > 3000 and all(len(sides) == 1 for sides in pages.values())
    fever = {texts.spelled(claim) for claim in vital.read_queries(sources["anserini-topics"], "fever").values()}
    split = Counter(q.split for q in benchmark.queries.values() if texts.spelled(q.text) in fever)
    assert split == {"test": 4114}


def test_brackets_are_spelled(built):
    benchmark = built("vitaminc/evidence")[0]
    assert not [d.id for d in benchmark.corpus.values() if "-LRB-" in d.content or "-RRB-" in d.content]
    assert not [q.id for q in benchmark.queries.values() if "-LRB-" in q.text]
