"""What builders of text benchmarks share: reading a source's files, when two texts are the same, splits, assembly.

Two texts with the same words (`words`) are one document or one query: case, spaces and punctuation do not count. Two
documents that share a run of 13 words are kin, and kin stay on one side of a split (the rule by which Brown et al.
2020, appendix C, tell what a language model may have seen of a test).
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rankrepro.benchmarks import splits
from rankrepro.benchmarks.base import Benchmark, Document, Query, Truth, opaque_id, sample
from rankrepro.errors import BenchmarkError

TASKS = "bigbench-1.0.0/bigbench/benchmark_tasks"  # in the artifact bigbench
RUN = 13  # words
NOT_A_WORD = re.compile(r"\W+")


def member(folder: Path, path: str) -> Path:
    """A file of an artifact; BenchmarkError if it is missing."""
    if not (folder / path).is_file():
        raise BenchmarkError(f"{folder / path} is missing: delete {folder} and run again, it will be fetched again")
    return folder / path


def task(folder: Path, path: str) -> dict[str, Any]:
    """A JSON file of BIG-bench, by its path below `TASKS`; lines that begin with '#' are comments."""
    lines = member(folder, f"{TASKS}/{path}").read_text(encoding="utf-8").splitlines(keepends=True)
    return json.loads("".join(line for line in lines if not line.startswith("#")))


def clean(text: str) -> str:
    """NFC, without blanks at either end."""
    return unicodedata.normalize("NFC", text).strip()


def words(text: str) -> list[str]:
    """Lower-case words; two texts with the same words count as the same.

    >>> words("Who wrote `` Kings ''?")
    ['who', 'wrote', 'kings']
    """
    return NOT_A_WORD.sub(" ", unicodedata.normalize("NFC", text).lower()).split()


def spelled(text: str) -> str:
    """The words as one string: what two texts that count as the same have in common."""
    return " ".join(words(text))


def digest(text: str) -> str:
    """The beginning of its sha256: an id, or a place in an order that means nothing."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def kin(texts: Mapping[str, str]) -> dict[str, str]:
    """Document -> its group: those it shares a run of RUN words with, directly or through others.

    A text shorter than that is one run.
    """
    first: dict[str, str] = {}
    joined = {d: {first.setdefault(run, d): 1 for run in runs(text)} | {d: 1} for d, text in texts.items()}
    return splits.components(joined)


def runs(text: str) -> set[str]:
    """All runs of RUN consecutive words."""
    all_ = words(text)
    return {" ".join(all_[i : i + RUN]) for i in range(max(1, len(all_) - RUN + 1))}


@dataclass
class Collection:
    """Queries and documents as a builder finds them: equal texts become one, judgments are collected.

    Ids of documents and, unless the source has some, of queries are hashes of their words: neither order nor id of a
    query tells its documents.
    """

    id: str
    texts: dict[str, str] = field(default_factory=dict)  # query id -> text
    documents: dict[str, Document] = field(default_factory=dict)
    qrels: dict[str, dict[str, int]] = field(default_factory=dict)
    _queries: dict[str, str] = field(default_factory=dict)  # words -> query id

    def document(self, text: str, title: str = "") -> str:
        """The id of a document, which is added unless it is there."""
        text, title = clean(text), clean(title)
        doc_id = "d" + digest(spelled(f"{title} {text}"))
        self.documents.setdefault(doc_id, Document(doc_id, title, text))
        return doc_id

    def query(self, text: str, query_id: str = "") -> str:
        """The id of a query, which is added unless its words are there. `query_id`: the source's, if it has one."""
        key = spelled(text)
        known = self._queries.setdefault(key, query_id or opaque_id(self.id, key))
        self.texts.setdefault(known, clean(text))
        return known

    def judge(self, query: str, document: str, grade: int = 1) -> None:
        """A judgment; of several of one pair the highest grade counts."""
        judged = self.qrels.setdefault(query, {})
        judged[document] = max(grade, judged.get(document, 0))

    def keep(self, queries: Iterable[str], documents: Iterable[str]) -> None:
        """Drop all queries and documents but these, in the order they have."""
        kept, corpus = set(queries), set(documents)
        self.texts = {q: text for q, text in self.texts.items() if q in kept}
        self.documents = {d: document for d, document in self.documents.items() if d in corpus}
        self.qrels = {q: {d: g for d, g in self.qrels[q].items() if d in corpus} for q in self.texts}

    def built(
        self, split: Mapping[str, str] | str, clusters: Mapping[str, str] | None = None
    ) -> tuple[Benchmark, Truth]:
        """The benchmark. `split`: of each query, or one for all; `clusters`: unless those of `splits.clusters`."""
        if not self.texts:
            raise BenchmarkError(f"{self.id}: no query has a relevant document; check its artifacts")
        of = dict.fromkeys(self.texts, split) if isinstance(split, str) else split
        queries = {q: Query(q, text, of[q]) for q, text in self.texts.items()}
        qrels = {q: self.qrels[q] for q in queries}
        visible = {q: judged for q, judged in qrels.items() if of[q] != "test"}
        grouped = {q: clusters[q] for q in queries} if clusters else splits.clusters(qrels)
        return Benchmark(self.id, queries, self.documents, visible), Truth(qrels, grouped)


def by_kin(documents: Mapping[str, Document], qrels: splits.Qrels) -> dict[str, str]:
    """Query -> the group it stays with: queries are joined by relevant documents that are the same or kin."""
    group = kin({d: document.content for d, document in documents.items()})
    return splits.components({q: {group[d]: 1 for d in splits.relevant(judged)} for q, judged in qrels.items()})


def filled(chosen: Iterable[str], others: Iterable[str], seed: str, n: int) -> set[str]:
    """`n` documents: the chosen ones, and of the others a sample by hash."""
    kept = set(chosen)
    if len(kept) > n:
        raise BenchmarkError(f"{seed}: {len(kept)} documents are judged: raise `documents` ({n}) to at least that")
    return kept | set(sample(seed, sorted(set(others) - kept), n - len(kept)))
