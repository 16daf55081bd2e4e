"""`qasc/facts`: questions of grade-school science to the two facts that answer them together.

QASC (Khot et al. 2020), as two tasks of Natural Instructions: one says which fact follows from two others, one asks for
what follows. A question is joined to its two facts by the fact in between; what several pairs of facts answer is no
query, its facts stay as documents.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rankrepro.benchmarks import splits, texts
from rankrepro.benchmarks.base import Benchmark, Truth
from rankrepro.errors import BenchmarkError

COMBINED = "natural_instructions/subtask038_qasc_combined_fact/task.json"
ASKED = "natural_instructions/subtask040_qasc_question_generation/task.json"
TWO_FACTS = re.compile(r"Fact 1: (.*)\nFact 2: (.*)", re.S)


def build(benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]) -> tuple[Benchmark, Truth]:
    """The benchmark. `sources`: the folder of the artifact bigbench. `params`: `shares`."""
    folder = sources["bigbench"]
    found = texts.Collection(benchmark_id)
    pairs: dict[str, set[frozenset[str]]] = defaultdict(set)  # words of the combined fact -> pairs of documents
    for facts, combined in combinations(folder):
        pair = frozenset(found.document(fact) for fact in facts)
        for fact in combined:
            pairs[texts.spelled(fact)].add(pair)
    needed: dict[str, set[frozenset[str]]] = defaultdict(set)  # query -> pairs of documents
    for fact, questions in asked(folder):
        for question in questions:
            if texts.spelled(question) and texts.spelled(fact) in pairs:
                needed[found.query(question)] |= pairs[texts.spelled(fact)]
    for query, several in needed.items():
        if len(several) == 1 and len(pair := next(iter(several))) == 2:
            for document in pair:
                found.judge(query, document)
    found.keep(found.qrels, found.documents)
    return found.built(splits.assign(benchmark_id, splits.components(found.qrels), params["shares"]))


def combinations(folder: Path) -> Iterator[tuple[tuple[str, str], list[str]]]:
    """Two facts, and what follows from them in several wordings."""
    for number, example in enumerate(texts.task(folder, COMBINED)["examples"]):
        match = TWO_FACTS.fullmatch(example["input"].strip())
        if not match:
            raise BenchmarkError(f"{folder}: {COMBINED}: example {number} has no two facts")
        yield (match[1], match[2]), example["target"]


def asked(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A fact, and questions that it answers."""
    for example in texts.task(folder, ASKED)["examples"]:
        yield example["input"].strip().removeprefix("Fact: "), example["target"]
