"""`multirc/sentences`: questions over a paragraph to the sentences of it that are needed for the answer.

MultiRC (Khashabi et al. 2018), as a task of Natural Instructions. The corpus has the sentences of all paragraphs; nine
questions in ten need two or more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rankrepro.benchmarks import splits, texts
from rankrepro.benchmarks.base import Benchmark, Truth
from rankrepro.errors import BenchmarkError

TASK = "natural_instructions/subtask049_multirc_questions_needed_to_answer/task.json"
INPUT = re.compile(r"Paragraph- (.*?) ?\nQuestion: (.*?)\.?", re.S)
SENTENCE = re.compile(r"Sent (\d+): ")


def build(benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]) -> tuple[Benchmark, Truth]:
    """The benchmark. `sources`: the folder of the artifact bigbench. `params`: `shares`.

    Questions of one paragraph, or of paragraphs that share a sentence, stay together.
    """
    found = texts.Collection(benchmark_id)
    paragraphs: dict[str, dict[str, int]] = {}  # query -> all sentences of its paragraphs
    for sentences, question, needed in questions(sources["bigbench"]):
        documents = {n: found.document(s) for n, s in sentences.items() if texts.words(s)}
        query = found.query(question)
        paragraphs.setdefault(query, {}).update(dict.fromkeys(documents.values(), 1))
        for number in needed & set(documents):
            found.judge(query, documents[number])
    groups = splits.components({q: paragraphs[q] for q in found.qrels})
    found.keep(found.qrels, found.documents)
    return found.built(splits.assign(benchmark_id, groups, params["shares"]), groups)


def questions(folder: Path) -> Iterator[tuple[dict[int, str], str, set[int]]]:
    """Sentences of a paragraph by number, a question, and the numbers of the sentences it needs."""
    for number, example in enumerate(texts.task(folder, TASK)["examples"]):
        match = INPUT.fullmatch(example["input"].strip())
        if not match:
            raise BenchmarkError(f"{folder}: {TASK}: example {number} is no paragraph with a question")
        _, *parts = SENTENCE.split(match[1])
        sentences = dict(zip(map(int, parts[::2]), parts[1::2], strict=True))
        yield sentences, match[2], {int(n) for n in re.findall(r"\d+", " ".join(example["target"]))}
