"""Data sets of ir_datasets as benchmarks (scale paper): `beir/...`, `msmarco-passage/trec-dl-...`, any other id.

Queries and judgments are copied; the corpus, often millions of passages, stays where ir_datasets keeps it.
"""

from __future__ import annotations

import fcntl
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, ValuesView
from pathlib import Path
from typing import Any

from rankrepro.benchmarks import base, splits
from rankrepro.benchmarks.base import Benchmark, Document, Query, ReferredCorpus, Truth
from rankrepro.errors import BenchmarkError, UnknownName

# their queries are documents too; BEIR's evaluation drops a query's own document from its results
QUERY_IS_DOCUMENT = ("beir/arguana", "beir/quora")


class Corpus(ReferredCorpus):
    """The documents of an ir_datasets id, looked up one by one."""

    def __init__(self, ir_datasets: str) -> None:
        self.reference = {"ir_datasets": ir_datasets}
        self._dataset = dataset(ir_datasets)
        self._store: Any = None

    def __getitem__(self, doc_id: str) -> Document:
        self._store = self._store or store(self._dataset)
        return _document(self._store.get(doc_id))

    def __iter__(self) -> Iterator[str]:
        return (doc.doc_id for doc in self._dataset.docs_iter())

    def __len__(self) -> int:
        return self._dataset.docs_count()

    def values(self) -> Documents:
        return Documents(self)

    def stream(self) -> Iterator[Document]:
        """All documents in the order of the collection, without looking each one up."""
        return map(_document, self._dataset.docs_iter())


class Documents(ValuesView[Document]):
    """The values of a corpus, read in one go: millions of look-ups would take hours."""

    _mapping: Corpus

    def __iter__(self) -> Iterator[Document]:
        return self._mapping.stream()


def build(benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]) -> tuple[Benchmark, Truth]:
    """The data set whose id is the benchmark's (or `params["dataset"]`); all its judged queries are test queries."""
    name = params.get("dataset", benchmark_id)
    data = dataset(name)
    for part in ("docs", "queries", "qrels"):
        if not data.has(part):
            raise BenchmarkError(f"{name} of ir_datasets has no {part}: choose a subset that has, such as {name}/test")
    qrels: dict[str, dict[str, int]] = defaultdict(dict)
    for judgment in data.qrels_iter():
        qrels[judgment.query_id][judgment.doc_id] = int(judgment.relevance)
    qrels = {q: judged for q, judged in qrels.items() if splits.relevant(judged)}
    query_is_document = name.startswith(QUERY_IS_DOCUMENT)
    queries = {
        q.query_id: Query(q.query_id, q.default_text(), "test", excluded=(q.query_id,) if query_is_document else ())
        for q in data.queries_iter()
        if q.query_id in qrels
    }
    qrels = {q: qrels[q] for q in queries}
    if not queries:
        raise BenchmarkError(f"{benchmark_id}: no query of {name} has a relevant document")
    return Benchmark(benchmark_id, queries, Corpus(name)), Truth(qrels, splits.clusters(qrels))


def read(folder: Path, benchmark_id: str) -> Benchmark:
    """Inputs; the corpus stays where ir_datasets keeps it."""
    return base.read(folder, benchmark_id, lambda f: Corpus(**json.loads((f / "corpus.json").read_text())))


def dataset(name: str) -> Any:
    """The data set of that id, or UnknownName with the nearest one."""
    import ir_datasets

    try:
        return ir_datasets.load(name)
    except KeyError:
        raise UnknownName("ir_datasets id", name, map(str, ir_datasets.registry)) from None


def store(data: Any) -> Any:
    """The look-up store of a data set. One process at a time builds it: benchmarks may share their documents."""
    import ir_datasets

    home = ir_datasets.util.home_path()
    home.mkdir(parents=True, exist_ok=True)
    with (home / "rankrepro.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        documents = data.docs_store()
        if hasattr(documents, "build"):
            documents.build()
    return documents


def _document(doc: Any) -> Document:
    title = getattr(doc, "title", "") or ""
    text = getattr(doc, "text", None)
    return Document(doc.doc_id, title, doc.default_text() if text is None else text)
