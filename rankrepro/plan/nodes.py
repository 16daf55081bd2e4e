"""What a plan is made of: nodes, the jobs they are packed into, and the identity of a node's result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rankrepro.store import digest_of


def digest(spec: Mapping[str, Any]) -> str:
    """The name of a node's result in the store."""
    return digest_of(identity(spec))


def identity(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a spec that determines its result.

    That is without where a function lies, what a benchmark is called, and on how many GPUs it is computed.
    """
    sides = {side: identity(spec[side]) for side in ("a", "b") if side in spec}
    rest = {k: v for k, v in spec.items() if k not in ("fn", "gpus")}
    return {**rest, **sides, "benchmark": spec["benchmark"]["digest"]}


@dataclass(frozen=True)
class Node:
    """A stage, cell or timing: `spec` says all that determines its result, `digest` is the hash of that."""

    name: str
    digest: str
    spec: Mapping[str, Any]
    seconds: float  # predicted
    level: int  # 1 + the highest level among its inputs

    @property
    def benchmark(self) -> str:
        return self.spec["benchmark"]["id"]

    def needs(self) -> list[str]:
        """Digests of the nodes this one reads."""
        spec = self.spec
        digests = [i["digest"] for i in spec["inputs"].values()]
        if spec["candidates"]:
            digests.append(spec["candidates"]["digest"])
        if spec["kind"] == "timing":
            digests += [d for side in ("a", "b") for d in _needs_of(spec[side])]
        return sorted(set(digests))


@dataclass(frozen=True)
class Job:
    """Nodes that one process computes one after the other."""

    id: str
    nodes: list[Node]
    needs: list[str]  # job ids
    benchmarks: list[str]
    models: list[str]  # artifact ids
    threads: int  # 0: the whole machine
    seconds: float

    @property
    def title(self) -> str:
        first, rest = self.nodes[0], len(self.nodes) - 1
        return f"{first.name} on {first.benchmark}" + (f" and {rest} more" if rest else "")


@dataclass
class Plan:
    scale: Mapping[str, Any]
    papers: list[str]
    nodes: dict[str, Node] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    # row id, with its size where that is not the largest -> benchmark -> [(seed, digest, variant)]
    rows: dict[str, dict[str, list[tuple[int, str, str]]]] = field(default_factory=dict)
    timings: dict[str, dict[str, str]] = field(default_factory=dict)  # paper -> timing name -> digest
    paper_nodes: dict[str, list[str]] = field(default_factory=dict)  # paper -> digests its page is made from
    benchmarks: dict[str, list[str]] = field(default_factory=dict)  # paper -> benchmark ids
    sizes: dict[str, list[str]] = field(default_factory=dict)  # paper -> sizes below the largest (`rankrepro.sizes`)


def _needs_of(spec: Mapping[str, Any]) -> list[str]:
    candidates = [spec["candidates"]["digest"]] if spec["candidates"] else []
    return candidates + [i["digest"] for i in spec["inputs"].values()]
