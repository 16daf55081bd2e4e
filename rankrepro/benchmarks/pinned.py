"""`trec-dl/*`: topics and judgments without the corpus, for runs made elsewhere.

Only the number of passages is known: rankings of them can be judged, but their texts are not here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rankrepro.benchmarks import splits
from rankrepro.benchmarks.base import Benchmark, Document, Query, ReferredCorpus, Truth, read_truth, write
from rankrepro.errors import BenchmarkError

__all__ = ["build", "read", "read_truth", "write"]

FOLDER = "topics-and-qrels"  # of the artifact anserini-topics


class Numbered(ReferredCorpus):
    """Passages "0" to "n - 1" without their texts; asking for a text or for all of them raises BenchmarkError."""

    def __init__(self, passages: int) -> None:
        self.reference = {"passages": str(passages)}

    def __contains__(self, doc_id: object) -> bool:
        return isinstance(doc_id, str) and doc_id.isascii() and doc_id.isdigit() and int(doc_id) < len(self)

    def __getitem__(self, doc_id: str) -> Document:
        raise _no_texts()

    def __iter__(self) -> Iterator[str]:
        raise _no_texts()

    def __len__(self) -> int:
        return int(self.reference["passages"])

    def named(self, doc_id: str) -> Document:
        """A passage by its number, all that is known of it."""
        return Document(doc_id, f"passage {doc_id}", "")


def _no_texts() -> BenchmarkError:
    return BenchmarkError(
        "this benchmark has judgments but no texts: it judges runs made elsewhere (fn: elsewhere.run); methods run on "
        "msmarco-passage/trec-dl-2019/judged, which ir_datasets fetches"
    )


def build(benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]) -> tuple[Benchmark, Truth]:
    """One year. `sources`: the folder of anserini-topics. `params`: `topics`, `judgments` (files), `passages`."""
    truth = judgments(sources["anserini-topics"], params["judgments"])
    lines = (sources["anserini-topics"] / FOLDER / params["topics"]).read_text(encoding="utf-8").splitlines()
    texts = dict(line.split("\t", 1) for line in lines)
    if missing := sorted(set(truth.qrels) - set(texts)):
        raise BenchmarkError(f"{benchmark_id}: query {missing[0]} is judged and not in {params['topics']}")
    queries = {q: Query(q, texts[q].strip(), "test") for q in truth.qrels}
    return Benchmark(benchmark_id, queries, Numbered(params["passages"])), truth


def judgments(folder: Path, name: str) -> Truth:
    """A file of TREC's judgments; queries without a document of grade 1 or more are dropped, as `irds.build` does."""
    qrels: dict[str, dict[str, int]] = {}
    for line in (folder / FOLDER / name).read_text(encoding="utf-8").splitlines():
        query, _, document, grade = line.split()
        qrels.setdefault(query, {})[document] = int(grade)
    qrels = {q: judged for q, judged in qrels.items() if splits.relevant(judged)}
    return Truth(qrels, splits.clusters(qrels))


def read(folder: Path, benchmark_id: str) -> Benchmark:
    """Inputs only: this never opens `folder/truth`."""
    rows = map(json.loads, (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines())
    queries = {r["id"]: Query(r["id"], r["text"], r["split"]) for r in rows}
    reference = json.loads((folder / "corpus.json").read_text())
    return Benchmark(benchmark_id, queries, Numbered(int(reference["passages"])))
