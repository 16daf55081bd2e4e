"""`qasc/facts` and `multirc/sentences`: questions that need two documents or more."""

from __future__ import annotations

from collections import Counter

import pytest
from ends import ends

from rankrepro.benchmarks import multirc, qasc, texts
from rankrepro.errors import BenchmarkError


def test_first_and_last(built):
    assert ends(built("qasc/facts")[0]) == ["b8f75ca45c20", "f1ce14203473", "62fbce9d96e6", "2946a50e4090"]
    assert ends(built("multirc/sentences")[0]) == ["d84851a0931a", "9d041cd6acc3", "69aeecc3c404", "4451f7dd6caf"]


def test_a_question_of_qasc_needs_the_two_facts_from_which_its_fact_follows(built, sources):
    benchmark, truth, _ = built("qasc/facts")
    follows: dict[str, set[frozenset[str]]] = {}
    for facts, combined in qasc.combinations(sources["bigbench"]):
        for fact in combined:
            follows.setdefault(texts.spelled(fact), set()).add(frozenset(map(texts.spelled, facts)))
    pairs: dict[str, set[frozenset[str]]] = {}
    for fact, questions in qasc.asked(sources["bigbench"]):
        for question in questions:
            pairs.setdefault(texts.spelled(question), set()).update(follows.get(texts.spelled(fact), ()))
    for query, judged in truth.qrels.items():
        facts = frozenset(texts.spelled(benchmark.corpus[d].text) for d in judged)
        assert len(facts) == 2 and pairs[texts.spelled(benchmark.queries[query].text)] == {facts}
    assert sum(len(p) == 1 for p in pairs.values()) == len(benchmark.queries)
    assert sum(len(p) > 1 for p in pairs.values()) == 234


def test_a_question_of_multirc_needs_sentences_of_its_paragraph(built, sources):
    benchmark, truth, _ = built("multirc/sentences")
    needed: dict[str, set[str]] = {}
    for sentences, question, numbers in multirc.questions(sources["bigbench"]):
        chosen = {texts.spelled(sentences[n]) for n in numbers} - {""}
        needed.setdefault(texts.spelled(question), set()).update(chosen)
    for query, judged in truth.qrels.items():
        assert {texts.spelled(benchmark.corpus[d].text) for d in judged} == (
            needed[texts.spelled(benchmark.queries[query].text)]
        )
    sizes = Counter(min(len(judged), 3) for judged in truth.qrels.values())
    assert sizes == {1: 555, 2: 4386, 3: 1545}


def test_questions_of_one_paragraph_stay_together(built, sources):
    benchmark, truth, _ = built("multirc/sentences")
    query_of = {texts.spelled(q.text): q for q in benchmark.queries.values()}
    paragraphs: dict[str, set[tuple[str, str]]] = {}
    for sentences, question, _ in multirc.questions(sources["bigbench"]):
        if query := query_of.get(texts.spelled(question)):
            paragraphs.setdefault(" ".join(sentences.values()), set()).add((query.split, truth.clusters[query.id]))
    assert len(paragraphs) == 676 and all(len(sides) == 1 for sides in paragraphs.values())


@pytest.mark.parametrize(("module", "file"), [(qasc, qasc.COMBINED), (multirc, multirc.TASK)])
def test_another_file(tmp_path, module, file):
    path = tmp_path / texts.TASKS / file
    path.parent.mkdir(parents=True)
    path.write_text('{"examples": [{"input": "none", "target": ["x"]}]}', encoding="utf-8")
    with pytest.raises(BenchmarkError, match=r"task.json: example 0 (has|is) no"):
        module.build("x/y", {"bigbench": tmp_path}, {"shares": {"test": 1.0}})
