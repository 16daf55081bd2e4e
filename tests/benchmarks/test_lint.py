"""lint/rules: nothing of an example leaks into its document, nothing of the rule into its query."""

from __future__ import annotations

import re

import pytest

from rankrepro import benchmarks
from rankrepro.benchmarks import lint
from rankrepro.benchmarks.base import opaque_id
from rankrepro.errors import BenchmarkError


@pytest.fixture(scope="module")
def rules():
    return lint.read_rules("0.17.6")


def qid(code: str) -> str:
    return opaque_id("lint/rules", code)


def blankless(text: str) -> str:
    return "".join(text.split())


def test_first_and_last(built):
    benchmark, truth, _ = built("lint/rules")
    documents = list(benchmark.corpus.values())
    assert (documents[0].id, documents[0].title) == ("A001", "builtin variable shadowing")
    assert documents[-1].id == "unnecessary-regular-expression-compile"  # one of the four rules without a code
    assert documents[0].text.startswith("## What it does\nChecks for variable (and function) assignments that use")
    assert benchmark.queries[qid("A001")].text.startswith("def find_max(list_of_lists):\n    max = 0\n")
    assert truth.qrels[qid("A001")] == {"A001": 1}


def test_no_line_of_a_query_is_in_a_document_relevant_to_it(built):
    benchmark, truth, _ = built("lint/rules")
    for query in benchmark.queries.values():
        for doc in truth.qrels[query.id]:
            content = blankless(benchmark.corpus[doc].content)
            quoted = [s for s in map(blankless, query.text.split("\n")) if len(s) >= 12 and s in content]
            assert not quoted, (doc, quoted)


def test_the_example_would_leak_if_the_explanation_were_left_whole(built, rules):
    """The test above can fail: it does for nearly every rule as ruff prints it."""
    benchmark, _, _ = built("lint/rules")
    leaks = 0
    for rule in rules:
        query = benchmark.queries.get(qid(lint.rule_id(rule)))
        lines = map(blankless, query.text.split("\n")) if query else ()
        leaks += any(len(s) >= 12 and s in blankless(rule["explanation"]) for s in lines)
    assert leaks > 750


def test_no_query_names_its_rule(built, rules):
    benchmark, _, _ = built("lint/rules")
    for rule in rules:
        query = benchmark.queries.get(qid(lint.rule_id(rule)))
        if query and rule["code"]:
            assert not re.search(rf"\b{rule['code']}\b", query.text), rule["code"]
        if query and "-" in rule["name"]:
            assert rule["name"] not in query.text, rule["name"]


def test_documents_hold_no_code_block_and_no_better_version(built):
    for document in built("lint/rules")[0].corpus.values():
        assert "```" not in document.text and "Use instead:" not in document.text
        assert not re.search(r"^## Example", document.text, re.M)
        assert "## What it does" in document.text and "## Why is this bad?" in document.text


def test_comments_stay_only_where_they_are_the_matter(built):
    queries = built("lint/rules")[0].queries
    assert queries[qid("F401")].text.startswith("import numpy as np\n")  # it said: unused import
    assert queries[qid("B012")].text.count("#") == 0  # it said: `ValueError` is silenced
    assert "# noqa: F401" in queries[qid("RUF100")].text
    assert "#Block comment" in queries[qid("E265")].text


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = 1  # why\ny = 2", "x = 1\ny = 2"),
        ("# all\nx = 1", "x = 1"),
        ("x = '#1'  # one", "x = '#1'"),
        ('x = """\n# text\n"""', 'x = """\n# text\n"""'),
        ("x = '\\'#'", "x = '\\'#'"),
        ("# nothing else", ""),
    ],
)
def test_without_comments(code, expected):
    assert lint.without_comments(code) == expected


def test_rules_that_share_an_example_explain_each_others(built):
    benchmark, truth, _ = built("lint/rules")
    assert truth.qrels[qid("D410")] == {"D410": 1, "D411": 1, "D413": 1}
    assert truth.clusters[qid("D410")] == truth.clusters[qid("D413")] == "D410"
    texts = [q.text for q in benchmark.queries.values()]
    assert len(texts) - len(set(texts)) == 9


def test_tags(built, rules):
    tags = [q.tags for q in built("lint/rules")[0].queries.values()]
    assert (tags.count(("novel",)), tags.count(("familiar",))) == (142, 722)
    since = {r["code"]: lint.is_novel(r, "0.8.0") for r in rules}
    assert since["RUF105"] and not since["F401"]  # preview since 0.15.22, stable since 0.0.18
    assert not lint.is_novel({"status": {"Removed": {"since": "0.9.0"}}}, "0.8.0")
    assert lint.is_novel({"status": {"Stable": {"since": "0.10.0"}}}, "0.8.0")


def test_another_ruff():
    with pytest.raises(
        BenchmarkError, match=r"made from ruff 0\.1\.0, 0\.17\.6 is installed: pip install ruff==0\.1\.0"
    ):
        lint.read_rules("0.1.0")


def test_rules_without_examples():
    rule = {"code": "X1", "name": "x", "summary": "", "explanation": "## What it does\nNothing.", "status": {}}
    with pytest.raises(BenchmarkError, match="none of 1 rules has an example"):
        lint.from_rules("lint/rules", [rule], benchmarks.get("lint/rules").params)
