"""`disfl/squad`: questions of SQuAD as people say them, with restarts and corrections, to their paragraphs.

Disfl-QA (Gupta et al. 2021). All questions test.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankrepro.benchmarks import texts
from rankrepro.benchmarks.base import Benchmark, Truth


def build(benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]) -> tuple[Benchmark, Truth]:
    """The benchmark. `sources`: the folder of the artifact bigbench. `params`: `shares`."""
    found = texts.Collection(benchmark_id)
    for example in texts.task(sources["bigbench"], "disfl_qa/task.json")["examples"]:
        question, paragraph = example["input"].split("\ncontext:", 1)
        found.judge(found.query(question), found.document(paragraph))
    return found.built("test")
