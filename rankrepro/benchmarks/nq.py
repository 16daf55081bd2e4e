"""`nq/*` and `nq-mini/*`: questions of Natural Questions to the passage of Wikipedia that answers them.

The source is BIG-bench's task of knowledge conflicts (Longpre et al. 2021), which put another name in the place of each
answer. `target` is the name that was put there and the other key of `target_scores` the answer; putting the answer back
restores the passage.

Questions of DPR's development set test. No passage of theirs, and none that is kin to one, is left for training.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rankrepro.benchmarks import splits, texts
from rankrepro.benchmarks.base import Benchmark, Truth, sample
from rankrepro.errors import BenchmarkError

TASK = "contextual_parametric_knowledge_conflicts/task.json"
TOPICS = "topics-and-qrels/topics.dpr.nq.dev.txt"  # of the artifact anserini-topics: question, tab, answers
INPUT = re.compile(r"\s*Question: (.*?)\?\nContext: (.*)", re.S)


def build(benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]) -> tuple[Benchmark, Truth]:
    """One benchmark. `sources`: folders of the artifacts bigbench and anserini-topics.

    `params`: `shares` of training and validation among the questions that are left for them; with `test` the test
    questions are part of the benchmark, without it neither they nor their passages are. `sizes`: null, or at most so
    many questions of each split and so many `documents`, by hash.
    """
    found = collection(sources["bigbench"])
    tested = test_questions(found, sources["anserini-topics"])
    groups = texts.by_kin(found.documents, found.qrels)
    closed = {groups[q] for q in tested}
    open_ = {q: group for q, group in groups.items() if group not in closed}
    shares = {s: share for s, share in params["shares"].items() if s != "test"}
    split = splits.assign("nq/passages", open_, shares)
    corpus = {d for q in open_ for d in found.qrels[q]}
    if "test" in params["shares"]:
        split |= dict.fromkeys(tested, "test")
        corpus = set(found.documents)
    if sizes := params["sizes"]:
        split = {q: s for s in params["shares"] for q, s in _smaller(split, s, sizes[s]).items()}
        judged = {d for q in split for d in found.qrels[q]}
        corpus = texts.filled(judged, corpus, "nq-mini", sizes["documents"])
    found.id = benchmark_id
    found.keep(split, corpus)
    return found.built(split, groups)


def collection(folder: Path) -> texts.Collection:
    """All questions and passages of the source."""
    found = texts.Collection("nq/passages")  # the parent's id, so that a question has one id in all of them
    for question, passage in pairs(folder):
        found.judge(found.query(question), found.document(passage))
    return found


def pairs(folder: Path) -> Iterator[tuple[str, str]]:
    """Question and passage, with the answer back in its place."""
    for number, example in enumerate(texts.task(folder, TASK)["examples"]):
        match = INPUT.fullmatch(example["input"])
        if not match or example["target"] not in match[2]:
            raise BenchmarkError(f"{folder}: {TASK}: example {number} is no question with its passage")
        put = example["target"]
        answer = next((name for name in example["target_scores"] if name != put), put)
        yield match[1], match[2].replace(put, answer)


def test_questions(found: texts.Collection, folder: Path) -> set[str]:
    """Ids of the questions whose words are those of a question of DPR's development set."""
    lines = texts.member(folder, TOPICS).read_text(encoding="utf-8").splitlines()
    known = {texts.spelled(line.split("\t", 1)[0]) for line in lines}
    return {q for q, text in found.texts.items() if texts.spelled(text) in known}


def _smaller(split: Mapping[str, str], name: str, n: int) -> dict[str, str]:
    return dict.fromkeys(sample(f"nq-mini {name}", [q for q, s in split.items() if s == name], n), name)
