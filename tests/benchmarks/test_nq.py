"""`nq/*`: answers put back, nothing of a test question or of a near copy of its passage left to train on."""

from __future__ import annotations

import pytest
from ends import ends

from rankrepro import benchmarks
from rankrepro.benchmarks import nq, splits, texts

FULL = "nq/passages"


def test_first_and_last(built):
    assert ends(built(FULL)[0]) == ["c2009e79b6b4", "b3d5cb6645d6", "27f769d43cbd", "a5c65f1beffe"]
    assert ends(built("nq-mini/pairs")[0]) == ["d5411f2e4890", "a3d9b49ac8e9", "a38b8866d007", "5a8660708c41"]


def test_every_answer_is_back_in_its_passage(sources):
    examples = texts.task(sources["bigbench"], nq.TASK)["examples"]
    pairs = list(nq.pairs(sources["bigbench"]))
    assert len(pairs) == len(examples) == 17_528
    unchanged = 0
    for example, (question, passage) in zip(examples, pairs, strict=True):
        answers = [name for name in example["target_scores"] if name != example["target"]]
        assert f"Question: {question}?" in example["input"]
        assert all(answer in passage for answer in answers)
        unchanged += passage in example["input"]
    assert unchanged == 1  # of one question the source has no other name than its target


def test_test_questions_are_those_of_dprs_development_set(built, sources):
    benchmark, _, _ = built(FULL)
    lines = texts.member(sources["anserini-topics"], nq.TOPICS).read_text(encoding="utf-8").splitlines()
    known = {texts.spelled(line.split("\t")[0]) for line in lines}
    assert len(known) > 8000
    for query in benchmark.queries.values():
        assert (texts.spelled(query.text) in known) == (query.split == "test")


def test_nothing_of_a_test_is_left_to_train_on(built):
    """No run of 13 words of a test passage is in a passage of another split, and none in the corpus of nq/pairs."""
    benchmark, truth, _ = built(FULL)
    group = texts.kin({d: document.content for d, document in benchmark.corpus.items()})
    of_split = {
        s: {group[d] for q in benchmark.of_split(s) for d in splits.relevant(truth.qrels[q])}
        for s in ("train", "validation", "test")
    }
    assert not of_split["test"] & (of_split["train"] | of_split["validation"])
    assert not of_split["train"] & of_split["validation"]
    runs = {run for q in benchmark.of_split("test") for d in truth.qrels[q]
            for run in texts.runs(benchmark.corpus[d].content)}  # fmt: skip
    pairs, _, _ = built("nq/pairs")
    assert not [d for d in pairs.corpus.values() if texts.runs(d.content) & runs]


def test_pairs_are_the_questions_of_the_parent_with_their_splits(built):
    benchmark, truth, _ = built(FULL)
    pairs, pairs_truth, _ = built("nq/pairs")
    assert pairs.queries == benchmark.of_split("train", "validation")
    assert pairs_truth.qrels == {q: truth.qrels[q] for q in pairs.queries} == pairs.judgments


@pytest.mark.parametrize("name", ["passages", "pairs"])
def test_mini_keeps_ids_and_splits(built, name):
    large, small = built(f"nq/{name}")[0], built(f"nq-mini/{name}")[0]
    assert all(large.queries[q] == query for q, query in small.queries.items())
    assert all(large.corpus[d] == document for d, document in small.corpus.items())
    assert benchmarks.get(small.id).splits == benchmarks.get(large.id).splits


def test_most_questions_that_share_no_passage_are_lost_to_near_copies(built, sources):
    """The rule is needed: by equal passages alone, half of the 2,322 questions left out would train."""
    found = nq.collection(sources["bigbench"])
    tested = nq.test_questions(found, sources["anserini-topics"])

    def joined(groups):
        closed = {groups[q] for q in tested}
        return sum(group in closed for group in groups.values()) - len(tested)

    assert joined(splits.components(found.qrels)) == 1202
    assert joined(texts.by_kin(found.documents, found.qrels)) == 2322
    assert len(found.texts) - len(tested) - 2322 == len(built("nq/pairs")[0].queries)
