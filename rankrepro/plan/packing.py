"""Nodes into batches, each for one process: a process takes seconds to start, import and load.

Packing changes no digest: how a batch is cut decides only what runs beside what.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from graphlib import TopologicalSorter
from typing import Any

from rankrepro.plan.nodes import Node

Batch = list[Node]


def packed(nodes: Collection[Node], scale: Mapping[str, Any], shortest: float) -> list[Batch]:
    """Batches of all nodes, each node in one of them, with no two batches waiting for each other.

    Nodes of one level and one set of models share a process until it has work for the scale's `job_seconds`, a third of
    that where they have no model to import and load. Batches with less work than `shortest` seconds join others;
    finally, batches that could never run side by side are merged.
    """
    groups: dict[tuple[Any, ...], Batch] = {}
    for node in nodes:
        ids = tuple(sorted(m["id"] for m in node.spec["models"].values()))
        groups.setdefault((node.level, ids, *_room(node)), []).append(node)
    enough = scale["job_seconds"]
    cut = [b for key in sorted(groups) for b in _cut(groups[key], enough if key[1] else enough / 3)]
    joined = _linked(list(_lengthened(cut, scale, shortest)), scale, shortest)
    return [sorted(batch, key=lambda n: n.level) for batch in joined]  # a node reads only from lower levels


def work(batch: Batch) -> float:
    """Predicted seconds."""
    return sum(n.seconds for n in batch)


def _cut(nodes: Batch, seconds: float) -> Iterator[Batch]:
    batch: Batch = []
    for node in sorted(nodes, key=lambda n: (-n.seconds, n.benchmark, n.name)):
        if batch and work(batch) + node.seconds > seconds:
            yield batch
            batch = []
        batch.append(node)
    if batch:
        yield batch


def _lengthened(batches: list[Batch], scale: Mapping[str, Any], shortest: float) -> Iterator[Batch]:
    """Level by level, merge batches with less work than `shortest` seconds into others.

    First into others of their level, then of the next level, but never further: two jobs could come to wait for each
    other. Batches with a thread count of their own (timings, which run alone) or several GPUs stay as they are.
    """
    carried: Batch = []
    for level in dict.fromkeys(b[0].level for b in batches):
        here = [b for b in batches if b[0].level == level]
        short = [b for b in here if work(b) < shortest and _room(b[0]) == (scale["threads"], 1)]
        jobs = [b for b in here if b not in short]
        pool = carried
        for batch in short:
            pool = pool + batch
            if work(pool) >= shortest:
                jobs.append(pool)
                pool = []
        hosts = [b for b in jobs if _room(b[0]) == (scale["threads"], 1)]
        host = min(hosts, key=work, default=None)
        if pool and host and work(host) + work(pool) <= max(scale["job_seconds"], 2 * shortest):
            jobs[jobs.index(host)] = pool + host
            pool = []
        if pool and jobs and pool[0].level < level:
            jobs.append(pool)
            pool = []
        carried = pool
        yield from jobs
    if carried:
        yield carried


def _linked(batches: list[Batch], scale: Mapping[str, Any], shortest: float) -> list[Batch]:
    """Merge two batches if only the second waits for the first, and everything else it needs the first needs too.

    They could never run side by side. They stay apart if together they would take twice as long as a job should, or
    if work that does not use a GPU would hold one.
    """
    home = {n.digest: i for i, b in enumerate(batches) for n in b}
    needs = {i: {home[d] for n in b for d in n.needs()} - {i} for i, b in enumerate(batches)}
    awaited: dict[int, set[int]] = defaultdict(set)
    for i, earlier in needs.items():
        for n in earlier:
            awaited[n].add(i)
    joined = dict(enumerate(batches))
    longest = max(2 * scale["job_seconds"], shortest)
    for i in reversed(list(TopologicalSorter(needs).static_order())):
        if len(awaited[i]) != 1:
            continue
        (j,) = awaited[i]
        first, second = joined[i], joined[j]
        if _room(first[0]) != _room(second[0]) or work(first) + work(second) > longest:
            continue
        if scale.get("gpu") and _models(first) != _models(second):
            continue
        if needs[j] - {i} <= _before(i, needs):
            joined[j] = first + second
            needs[j] = (needs[j] | needs.pop(i)) - {i}
            for n in needs[j]:
                awaited[n] = awaited[n] - {i} | {j}
            del joined[i]
    return list(joined.values())


def _room(node: Node) -> tuple[int, int]:
    """The threads and GPUs that a node runs on: the same for all nodes of a batch."""
    return node.spec["threads"], node.spec.get("gpus", 1)


def _models(batch: Batch) -> set[str]:
    return {m["id"] for n in batch for m in n.spec["models"].values()}


def _before(i: int, needs: Mapping[int, set[int]]) -> set[int]:
    """All batches that `i` waits for, directly or not."""
    before: set[int] = set()
    todo = [i]
    while todo:
        new = needs[todo.pop()] - before
        before |= new
        todo += new
    return before
