"""`tau2/banking`: what a customer of a bank wants, to the documents of the bank that one must know to help.

The banking domain of tau2-bench (Barres et al. 2025). A query is the scenario given to whoever plays the customer. The
words of a scenario and of a policy hardly overlap, and one scenario needs ten documents.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankrepro.benchmarks import texts
from rankrepro.benchmarks.base import Benchmark, Document, Truth
from rankrepro.errors import BenchmarkError

FOLDER = "inspect_evals/tau2/data/domains/banking_knowledge"


def build(benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]) -> tuple[Benchmark, Truth]:
    """The benchmark. `sources`: the folder of the artifact inspect-evals. `params`: `shares`."""
    found = texts.Collection(benchmark_id)
    with gzip.open(texts.member(sources["inspect-evals"], f"{FOLDER}/documents.json.gz"), "rt", encoding="utf-8") as f:
        rows = json.load(f)
    found.documents = {r["id"]: Document(r["id"], texts.clean(r["title"]), texts.clean(r["content"])) for r in rows}
    scenarios = json.loads(texts.member(sources["inspect-evals"], f"{FOLDER}/tasks.json").read_text(encoding="utf-8"))
    for scenario in scenarios:
        query = found.query(scenario["user_scenario"]["instructions"], scenario["id"])
        for document in scenario["required_documents"]:
            if document not in found.documents:
                raise BenchmarkError(f"{benchmark_id}: {scenario['id']} needs {document}, which is no document")
            found.judge(query, document)
    return found.built("test")
