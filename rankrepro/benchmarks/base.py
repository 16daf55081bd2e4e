"""What a benchmark is: inputs that every cell may see, and truth that only the judge may see."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rankrepro.errors import BenchmarkError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Document:
    """A text, a picture, or a picture with a text."""

    id: str
    title: str
    text: str
    image: str = ""  # the name of its picture in a benchmark that has pictures (rankrepro.benchmarks.images)

    @property
    def content(self) -> str:
        """Title and text as one string, the form every text method reads."""
        return f"{self.title}. {self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked: a text, a picture, or both."""

    id: str
    text: str
    split: str  # one of SPLITS
    tags: tuple[str, ...] = ()  # e.g. ("novel",): slices a claim or table may ask for
    excluded: tuple[str, ...] = ()  # documents that cannot be candidates for this query: retrieval must skip them
    image: str = ""  # as a document's


class ReferredCorpus(Mapping[str, Document]):
    """A corpus too large to copy: `write` stores `reference`, from which `read` finds it again."""

    reference: dict[str, str]


@dataclass(frozen=True)
class Benchmark:
    """Inputs of one benchmark. Holds no test judgment.

    `judgments` has the judgments of training and validation queries only: query id -> document id -> grade.
    """

    id: str
    queries: Mapping[str, Query]
    corpus: Mapping[str, Document]
    judgments: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def of_split(self, *splits: str) -> dict[str, Query]:
        return {q.id: q for q in self.queries.values() if q.split in splits}


@dataclass(frozen=True)
class Truth:
    """Judgments of all queries and the cluster each query is resampled with."""

    qrels: Mapping[str, Mapping[str, int]]
    clusters: Mapping[str, str]


def sample(benchmark_id: str, ids: list[str], n: int | None) -> list[str]:
    """The first `n` ids by hash: always the same, and a smaller sample is part of every larger one."""
    order = sorted(ids, key=lambda i: hashlib.sha256(f"{benchmark_id}\t{i}".encode()).hexdigest())
    return sorted(order if n is None else order[:n])


def opaque_id(benchmark_id: str, name: str) -> str:
    """An id that does not tell `name`: for a query made from its own document, which must not have the document's id.

    (Tools for BEIR also drop the document whose id is the query's from its results.)
    """
    return "q" + hashlib.sha256(f"{benchmark_id}\t{name}".encode()).hexdigest()[:10]


def write(folder: Path, benchmark: Benchmark, truth: Truth) -> None:
    """Write inputs to `folder` and truth to `folder/truth`; `folder` must exist and is filled, not replaced."""
    _write_lines(folder / "queries.jsonl", map(asdict, benchmark.queries.values()))
    if isinstance(benchmark.corpus, ReferredCorpus):
        (folder / "corpus.json").write_text(_dumps(benchmark.corpus.reference))
    else:
        _write_lines(folder / "corpus.jsonl", map(asdict, benchmark.corpus.values()))
    (folder / "judgments.json").write_text(_dumps(benchmark.judgments))
    (folder / "truth").mkdir()
    (folder / "truth" / "qrels.json").write_text(_dumps(truth.qrels))
    (folder / "truth" / "clusters.json").write_text(_dumps(truth.clusters))


def read_corpus(folder: Path) -> dict[str, Document]:
    """A corpus that was copied into the folder."""
    corpus = (Document(r["id"], r["title"], r["text"], r["image"]) for r in _read_lines(folder / "corpus.jsonl"))
    return {d.id: d for d in corpus}


def read(folder: Path, benchmark_id: str, corpus: Callable[[Path], Mapping[str, Document]] = read_corpus) -> Benchmark:
    """Inputs only: this never opens `folder/truth`. `corpus` reads one that was not copied."""
    queries = [
        Query(r["id"], r["text"], r["split"], tuple(r["tags"]), tuple(r["excluded"]), r["image"])
        for r in _read_lines(folder / "queries.jsonl")
    ]
    judgments = json.loads((folder / "judgments.json").read_text())
    return Benchmark(benchmark_id, {q.id: q for q in queries}, corpus(folder), judgments)


def read_truth(folder: Path) -> Truth:
    """Truth, for the judge alone."""
    load = {n: json.loads((folder / "truth" / f"{n}.json").read_text()) for n in ("qrels", "clusters")}
    return Truth(load["qrels"], load["clusters"])


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, indent=0)


def _write_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")


def _read_lines(path: Path) -> Iterator[dict]:
    if not path.exists():
        raise BenchmarkError(f"{path} is missing: delete {path.parent} and run again, it will be rebuilt")
    with path.open(encoding="utf-8") as f:
        for line in f:
            yield json.loads(line)
