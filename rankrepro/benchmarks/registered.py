"""Our benchmarks as data sets of ir_datasets, in this process: `ir_datasets.load("rankrepro/vital/fever/test")`.

The command line of ir_datasets does not see them; `rankrepro benchmarks export` writes folders for other tools.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import ir_datasets
from ir_datasets.datasets.base import Dataset
from ir_datasets.formats import BaseDocs, BaseQrels, BaseQueries, GenericQrel, GenericQuery
from ir_datasets.indices import Docstore

from rankrepro.benchmarks.base import SPLITS, Benchmark, Document, Truth

PREFIX = "rankrepro/"
GRADES = {2: "highly relevant", 1: "relevant", 0: "not relevant"}


class Doc(NamedTuple):
    doc_id: str
    title: str
    text: str

    def default_text(self) -> str:
        """Title and text, as every text method of the project reads a document."""
        return Document(self.doc_id, self.title, self.text).content


class Loaded:
    """A benchmark read at first use."""

    def __init__(self, load: Callable[[], tuple[Benchmark, Truth]]) -> None:
        self.both = cache(load)

    @property
    def benchmark(self) -> Benchmark:
        return self.both()[0]

    @property
    def truth(self) -> Truth:
        return self.both()[1]


class Store(Docstore):
    """Documents in memory: the stock store would write pickles."""

    def __init__(self, corpus: Mapping[str, Document]) -> None:
        super().__init__(Doc, "doc_id")
        self.corpus = corpus

    def get_many_iter(self, doc_ids: Iterable[str]) -> Iterator[Doc]:
        return (_doc(self.corpus[i]) for i in doc_ids if i in self.corpus)


class Docs(BaseDocs):
    def __init__(self, loaded: Loaded, namespace: str) -> None:
        self._loaded, self._namespace = loaded, namespace

    def docs_iter(self) -> Iterator[Doc]:
        return map(_doc, self._loaded.benchmark.corpus.values())

    def docs_store(self, options: object = None) -> Store:
        return Store(self._loaded.benchmark.corpus)

    def docs_count(self) -> int:
        return len(self._loaded.benchmark.corpus)

    def docs_cls(self) -> type[Doc]:
        return Doc

    def docs_namespace(self) -> str:
        return self._namespace

    def docs_lang(self) -> str:
        return "en"


class Queries(BaseQueries):
    def __init__(self, loaded: Loaded, splits: tuple[str, ...], namespace: str) -> None:
        self._loaded, self._splits, self._namespace = loaded, splits, namespace

    def queries_iter(self) -> Iterator[GenericQuery]:
        return (GenericQuery(q.id, q.text) for q in self._loaded.benchmark.of_split(*self._splits).values())

    def queries_count(self) -> int:
        return len(self._loaded.benchmark.of_split(*self._splits))

    def queries_namespace(self) -> str:
        return self._namespace

    def queries_lang(self) -> str:
        return "en"


class Qrels(BaseQrels):
    def __init__(self, loaded: Loaded, splits: tuple[str, ...]) -> None:
        self._loaded, self._splits = loaded, splits

    def qrels_iter(self) -> Iterator[GenericQrel]:
        qrels = self._loaded.truth.qrels
        queries = self._loaded.benchmark.of_split(*self._splits)
        return chain.from_iterable((GenericQrel(q, d, g) for d, g in sorted(qrels[q].items())) for q in queries)

    def qrels_defs(self) -> dict[int, str]:
        return GRADES


def register(benchmarks: Mapping[str, tuple[str, ...]], load: Callable[[str], tuple[Benchmark, Truth]]) -> list[str]:
    """Register each benchmark id (with the splits it has) and each of its splits; returns the new ids.

    `load` is called with a benchmark id when something of it is first read. Registered ids are left alone.
    """
    known = set(ir_datasets.registry)
    new: list[str] = []
    for benchmark_id, splits in benchmarks.items():
        loaded = Loaded(lambda i=benchmark_id: load(i))  # type: ignore[misc]
        docs = Docs(loaded, PREFIX + benchmark_id)
        parts: dict[str, tuple[str, ...]] = {PREFIX + benchmark_id: SPLITS}
        parts |= {f"{PREFIX}{benchmark_id}/{split}": (split,) for split in splits}
        for name, chosen in parts.items():
            if name not in known:
                queries: Any = Queries(loaded, chosen, PREFIX + benchmark_id)
                ir_datasets.registry.register(name, Dataset(docs, queries, Qrels(loaded, chosen)))
                new.append(name)
    return new


def default_loader(results: Path | None) -> Callable[[str], tuple[Benchmark, Truth]]:
    """Reads a benchmark from `results` (a folder of built ones), after building it there if necessary.

    Without a folder the shared cache is used.
    """
    from rankrepro import artifacts, benchmarks

    folder = results or artifacts.cache_dir() / "benchmarks"

    def load(benchmark_id: str) -> tuple[Benchmark, Truth]:
        built = benchmarks.build(benchmark_id, artifacts.cache_dir(), folder / benchmark_id)
        return benchmarks.load(built, benchmark_id), benchmarks.load_truth(built)

    return load


def _doc(document: Document) -> Doc:
    return Doc(document.id, document.title, document.text)
