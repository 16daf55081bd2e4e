"""Splits and clusters from the graph that joins every query to the documents relevant to it.

Queries that share a relevant document are not independent evidence: they stay on one side of a split and are resampled
together.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping

from rankrepro.benchmarks.base import SPLITS

Qrels = Mapping[str, Mapping[str, int]]

GIANT = 0.25  # a component with more than this share of the queries is too large to be resampled as one


def relevant(judged: Mapping[str, int]) -> list[str]:
    """Ids of the documents with grade 1 or more, sorted."""
    return sorted(d for d, grade in judged.items() if grade >= 1)


def components(qrels: Qrels) -> dict[str, str]:
    """Query -> its connected component, named by the component's first document id.

    Every query needs a relevant document.
    """
    parent: dict[str, str] = {}

    def root(doc: str) -> str:
        while parent.setdefault(doc, doc) != doc:
            parent[doc] = doc = parent[parent[doc]]
        return doc

    for judged in qrels.values():
        first, *others = relevant(judged)
        for other in others:
            low, high = sorted((root(first), root(other)))
            parent[high] = low
    return {q: root(relevant(judged)[0]) for q, judged in qrels.items()}


def hubs(qrels: Qrels) -> dict[str, str]:
    """Query -> the one of its relevant documents that is relevant to the most queries (ties: first id)."""
    degree = Counter(d for judged in qrels.values() for d in relevant(judged))
    return {q: min(relevant(judged), key=lambda d: (-degree[d], d)) for q, judged in qrels.items()}


def clusters(qrels: Qrels) -> dict[str, str]:
    """Query -> what it is resampled with: its component, or its hub where one component is a giant."""
    by_documents = components(qrels)
    return hubs(qrels) if largest(by_documents) > GIANT * len(by_documents) else by_documents


def largest(groups: Mapping[str, str]) -> int:
    """Number of queries in the largest group."""
    return max(Counter(groups.values()).values(), default=0)


def assign(seed: str, groups: Mapping[str, str], shares: Mapping[str, float]) -> dict[str, str]:
    """Query -> split. Groups in the order of their hash, each to the split that is furthest below its share.

    `shares` are shares of the queries, split -> fraction; a split it does not name stays empty.
    """
    members = defaultdict(list)
    for query, group in groups.items():
        members[group].append(query)
    room = {s: shares[s] * len(groups) for s in SPLITS if s in shares}
    split = {}
    for group in sorted(members, key=lambda g: hashlib.sha256(f"{seed}\t{g}".encode()).hexdigest()):
        chosen = max(room, key=lambda s: room[s])
        room[chosen] -= len(members[group])
        split.update(dict.fromkeys(members[group], chosen))
    return split
