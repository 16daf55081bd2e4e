"""`squad/*`: the questions of SQuAD's development set and of its four shifts (Miller et al. 2020) to their paragraphs.

One task in five domains: the wiki of SQuAD, other articles of Wikipedia, New York Times, Reddit, Amazon reviews. All
questions test.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankrepro.benchmarks import texts
from rankrepro.benchmarks.base import Benchmark, Truth


def build(benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]) -> tuple[Benchmark, Truth]:
    """One domain. `sources`: the folder of the artifact bigbench. `params`: `file` (below squad_shifts), `shares`."""
    found = texts.Collection(benchmark_id)
    for article in texts.task(sources["bigbench"], f"squad_shifts/{params['file']}")["data"]:
        for paragraph in article["paragraphs"]:
            document = found.document(paragraph["context"])
            for asked in paragraph["qas"]:
                found.judge(found.query(asked["question"], asked["id"]), document)
    return found.built("test")
