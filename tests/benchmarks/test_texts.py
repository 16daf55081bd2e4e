"""What builders of texts share: which texts are one, which are kin, what a benchmark gets of them."""

from __future__ import annotations

import pytest

from rankrepro.benchmarks import texts
from rankrepro.benchmarks.base import Document
from rankrepro.errors import BenchmarkError

ALPHABET = [f"w{i}" for i in range(40)]


def passage(start: int, stop: int) -> str:
    return " ".join(ALPHABET[start:stop])


def test_words_are_what_counts():
    assert texts.words("Who wrote `` Kings ''?") == texts.words("  who wrote\nKINGS") == ["who", "wrote", "kings"]


def test_kin_share_thirteen_words_directly_or_through_others():
    group = texts.kin({"a": passage(0, 20), "b": passage(7, 27), "c": passage(14, 34), "d": passage(22, 40)})
    assert group["a"] == group["b"] == group["c"]  # a and c share six words, and b with either
    assert group["d"] == "d" != group["c"]  # twelve words in common


def test_short_texts_are_kin_only_if_they_are_one():
    group = texts.kin({"a": "one two three", "b": "One, two, three!", "c": "one two"})
    assert group["a"] == group["b"] != group["c"]


def test_queries_stay_with_kin():
    documents = {d: Document(d, "", t) for d, t in {"a": passage(0, 20), "b": passage(5, 25), "c": "x"}.items()}
    group = texts.by_kin(documents, {"p": {"a": 1}, "q": {"b": 1, "c": 0}, "r": {"c": 1}})
    assert group["p"] == group["q"] != group["r"]


def test_a_collection_joins_equal_texts_and_keeps_the_highest_grade():
    found = texts.Collection("x/y")
    one, same, other = found.document("A cat."), found.document("a  cat"), found.document("A dog")
    assert one == same != other and found.documents[one].text == "A cat."
    q = found.query("Which animal?")
    assert found.query("which animal") == q != found.query("which one", "mine") == "mine"
    for grade in (1, 2, 0):
        found.judge(q, one, grade)
    found.judge("mine", other)
    benchmark, truth = found.built({q: "train", "mine": "test"})
    assert truth.qrels == {q: {one: 2}, "mine": {other: 1}} and benchmark.judgments == {q: {one: 2}}
    assert truth.clusters[q] != truth.clusters["mine"]


def test_keep():
    found = texts.Collection("x/y")
    for question, passage_ in (("one?", "first"), ("two?", "second")):
        found.judge(found.query(question), found.document(passage_))
    first, second = found.documents
    query = next(iter(found.texts))
    found.judge(query, second)
    found.keep([query], [first])
    assert (list(found.texts), list(found.documents), found.qrels) == ([query], [first], {query: {first: 1}})


def test_nothing_left():
    with pytest.raises(BenchmarkError, match="x/y: no query has a relevant document; check its artifacts"):
        texts.Collection("x/y").built("test")


def test_filled():
    others = [f"d{i}" for i in range(20)]
    chosen = texts.filled(["d3"], others, "seed", 5)
    assert "d3" in chosen and len(chosen) == 5 and chosen < texts.filled(["d3"], others, "seed", 6)
    with pytest.raises(BenchmarkError, match=r"seed: 2 documents are judged: raise `documents` \(1\)"):
        texts.filled(["d3", "d4"], others, "seed", 1)


def test_a_missing_file_and_comments_in_json(tmp_path):
    file = tmp_path / texts.TASKS / "some" / "task.json"
    with pytest.raises(BenchmarkError, match=r"task.json is missing: delete .* and run again"):
        texts.task(tmp_path, "some/task.json")
    file.parent.mkdir(parents=True)
    file.write_text('# a comment\n{"examples": ["# none"]}\n', encoding="utf-8")
    assert texts.task(tmp_path, "some/task.json") == {"examples": ["# none"]}
