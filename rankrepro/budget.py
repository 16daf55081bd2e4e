"""docs/paper-scale.md: what scale paper costs, derived from its plan, and what a rehearsal cannot show."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from rankrepro import artifacts, benchmarks, signatures
from rankrepro.cards import Card
from rankrepro.plan import Node, Plan, make_plan
from rankrepro.plan.resources import on_gpu, trains

CORE = 75e9  # FLOP/s of one core in float32, as measured where the cards' seconds were
GPU = 125e12  # FLOP/s assumed of one GPU in bfloat16: 40 % of an A100's 312
SMALL = 100  # an encoder or vision model on a GPU, in cores: it is fed, not computing, most of the time
SMOLLM2 = 135e6  # parameters of the model that the cards' seconds were measured with
UNPACKED = 4  # disk of a data set of ir_datasets, in sizes of its download: the archive, its files, its store
PAGE = "docs/paper-scale.md"
WORDS = Path(__file__).parent / "rehearsal" / "paper-scale.md"  # the page without its figures


@dataclass(frozen=True)
class Budget:
    """Of one paper: hours of one GPU and of one core, bytes to download and on disk."""

    paper: str
    cells: int
    stages: int
    gpu_hours: float
    core_hours: float
    download: int
    disk: int


def budgets(cards: Mapping[str, Card]) -> list[Budget]:
    """Every paper with a method and benchmarks at scale paper, as the plan of that scale has it."""
    paper, desk = make_plan(cards, "paper"), make_plan(cards, "desk")
    known: dict[str, Node] = {}
    for node in desk.nodes.values():
        known.setdefault(node.name, node)
    return [_budget(key, paper, known) for key in paper.papers if cards[key].benchmarks_at("paper")]


def _budget(key: str, plan: Plan, desk: Mapping[str, Node]) -> Budget:
    nodes = [plan.nodes[d] for d in plan.paper_nodes[key]]
    kinds = [n.spec["kind"] for n in nodes]
    gpu = sum(gpu_seconds(n, desk.get(n.name)) for n in nodes if on_gpu(n.spec))
    core = sum(n.seconds * work(n, desk.get(n.name)) for n in nodes if not on_gpu(n.spec))
    download, disk = _bytes({m["id"] for n in nodes for m in n.spec["models"].values()}, {n.benchmark for n in nodes})
    return Budget(key, kinds.count("cell"), kinds.count("stage"), gpu / 3600, core / 3600, download, disk)


def gpu_seconds(node: Node, desk: Node | None) -> float:
    """Predicted seconds on one GPU."""
    sizes = [_parameters(m["id"]) for m in node.spec["models"].values()]
    larger = max((size / SMOLLM2 for size in sizes if size), default=0.0)
    larger = larger or float(trains(node.spec))
    return node.seconds * work(node, desk) * (larger * CORE / GPU if larger else 1 / SMALL)


def work(node: Node, desk: Node | None) -> float:
    """How much more work a unit is at scale paper than at desk, where its seconds were measured.

    A method says at a parameter how its work grows with it (`cell.Size`).
    """
    if desk is None or node.spec["kind"] == "timing":
        return 1.0
    now, then = node.spec["params"], desk.spec["params"]
    grows = {n: p.work for n, p in signatures.of(node.spec["fn"]).parameters.items() if p.work}
    return math.prod((_size(now[n]) / _size(then[n])) ** power for n, power in grows.items() if n in now and n in then)


def _size(value: Any) -> float:
    """A number, or the length of a list."""
    return len(value) if isinstance(value, list) else value


def _parameters(artifact_id: str) -> float:
    """Number of parameters of a hub's language model, from the size of its 16-bit weights; 0 for other models."""
    artifact = artifacts.load_catalogue()[artifact_id]
    return artifact.size / 2 if artifact.source == "hub" else 0.0


def _bytes(models: Iterable[str], ids: Iterable[str]) -> tuple[int, int]:
    """(download, disk) of models and benchmarks, each file once."""
    catalogue = artifacts.load_catalogue()
    entries = [benchmarks.get(b) for b in sorted(ids)]
    needed = [catalogue[a] for a in sorted({*models, *(a for e in entries for a in e.artifacts)})]
    data = sum({k: v for e in entries if e.builder == "irds" for k, v in _downloads(e.id).items()}.values())
    download = sum(a.size for a in needed) + data
    return download, sum(a.unpacked or a.size for a in needed) + UNPACKED * data


def _downloads(benchmark_id: str) -> dict[str, int]:
    """File -> bytes that ir_datasets downloads for the documents, topics and judgments of an id."""
    known: Any = json.loads(resources.files("ir_datasets").joinpath("etc/downloads.json").read_text(encoding="utf-8"))
    collection, name, *_ = benchmark_id.split("/")
    names = [name] if name in known[collection] else ["collectionandqueries", f"{name}/queries", f"{name}/qrels"]
    return {f"{collection}/{file}": known[collection][file]["size_hint"] for file in names}


def page(cards: Mapping[str, Card]) -> str:
    """The page as it should be today."""
    rows = "\n".join(
        f"| {b.paper} | {b.cells} | {b.stages} | {_hours(b.gpu_hours)} | {_hours(b.core_hours)} "
        f"| {b.download / 1e9:.1f} | {b.disk / 1e9:.1f} |"
        for b in budgets(cards)
    )
    numbers = {
        "{rows}": rows, "{core}": f"{CORE / 1e9:.0f}", "{gpu}": f"{GPU / 1e12:.0f}", "{small}": str(SMALL),
        "{unpacked}": str(UNPACKED),
    }  # fmt: skip
    words = WORDS.read_text(encoding="utf-8")
    for mark, value in numbers.items():
        words = words.replace(mark, value)
    return words


def _hours(hours: float) -> str:
    return "–" if hours == 0 else "< 0.1" if hours < 0.05 else f"{hours:,.1f}"
