"""Write a pack: the jobs of papers that are still to be run, and all that they need on a bare machine."""

from __future__ import annotations

import json
import logging
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rankrepro import artifacts, benchmarks, models, processes
from rankrepro.away import packages, run
from rankrepro.cards import ROOT, Card
from rankrepro.code import METHODS
from rankrepro.errors import PackError
from rankrepro.judge.registration import git
from rankrepro.plan import Job, Plan, make_plan, resources, write_jobs
from rankrepro.store import Store, digest_of

CODE = ("rankrepro", "methods", "papers", "config", "workflow/schemas")
MB = 1_000_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Packed:
    """What was written: the jobs, how many of the plan's are done already, and bytes in how many pieces."""

    jobs: int
    done: int
    seconds: float
    size: int
    pieces: int


def pack(
    folder: Path, cards: Mapping[str, Card], scale: str, papers: str, results: Path, piece_mb: int = 500
) -> Packed:
    """Write `folder`: run.py, pack.json and pieces. `results`: results/<scale>, where benchmarks are built first.

    Models are fetched, converted and packed as they are loaded; truth stays at home. Raises PackError where nothing is
    to be run, and what fetching and building raise.
    """
    plan = make_plan(cards, scale, papers)
    store = Store(results / "store")
    write_jobs(plan, results)
    jobs = [job for job in _in_order(plan) if not all(store.has(node.digest) for node in job.nodes)]
    if not jobs:
        raise PackError(f"nothing to pack: every result of {', '.join(plan.papers)} at scale {scale} is in {results}")
    cache = artifacts.cache_dir()
    _build(jobs, results, cache)
    taken = packages.carried(_modules(jobs))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        members = _members(jobs, plan, store, cache, taken, Path(scratch))
        pieces = run.write_pieces(folder, "piece", piece_mb * MB, members)
    described = _described(plan, jobs, taken) | {"piece_bytes": piece_mb * MB, "pieces": pieces}
    (folder / run.PACK).write_text(json.dumps({"pack": digest_of(described), **described}, indent=1) + "\n")
    shutil.copyfile(Path(run.__file__), folder / "run.py")
    size = sum(piece["bytes"] for piece in pieces)
    return Packed(len(jobs), len(plan.jobs) - len(jobs), sum(job.seconds for job in jobs), size, len(pieces))


def _in_order(plan: Plan) -> list[Job]:
    """Jobs after those they need, long chains first, those for the whole machine last of their level."""
    turns = resources.turns(plan.jobs)
    placed: set[str] = set()
    order = []
    todo = sorted(plan.jobs.values(), key=lambda job: (-turns[job.id], job.id))
    while todo:
        job = next(job for job in todo if placed.issuperset(job.needs))
        todo.remove(job)
        placed.add(job.id)
        order.append(job)
    return order


def _build(jobs: Sequence[Job], results: Path, cache: Path) -> None:
    """Models and benchmarks that are not there yet."""
    catalogue = artifacts.load_catalogue()
    for artifact in sorted({m for job in jobs for m in job.models}):
        log.info("model %s", artifact)
        models.prepare(catalogue[artifact], cache)
    for benchmark in sorted({b for job in jobs for b in job.benchmarks}):
        log.info("benchmark %s", benchmark)
        benchmarks.build(benchmark, cache, results / "benchmarks" / benchmark)


def _modules(jobs: Sequence[Job]) -> Iterator[str]:
    """The modules that the jobs begin with."""
    yield "rankrepro.runner"
    catalogue = artifacts.load_catalogue()
    for node in (node for job in jobs for node in job.nodes):
        if "gpus" in node.spec:
            yield processes.SHARDED
        sides = [node.spec[s] for s in ("a", "b")] if node.spec["kind"] == "timing" else [node.spec]
        for spec in sides:
            yield METHODS.find(spec["fn"])[0]
            for model in spec["models"].values():
                entry = catalogue[model["id"]].model
                assert entry is not None
                yield models.kind(entry.kind).__name__
        yield f"rankrepro.benchmarks.{benchmarks.get(node.benchmark).builder}"


def _members(
    jobs: Sequence[Job],
    plan: Plan,
    store: Store,
    cache: Path,
    taken: Iterable[metadata.Distribution],
    scratch: Path,
) -> Iterator[tuple[Path, str]]:
    """Everything that is packed: its path here, its path there."""
    for part in CODE:
        for file in sorted(p for p in (ROOT / part).rglob("*") if p.is_file() and "__pycache__" not in p.parts):
            yield file, f"code/{file.relative_to(ROOT).as_posix()}"
    for distribution in taken:
        for path, name in packages.files(distribution):
            yield path, f"packages/{name}"
    catalogue = artifacts.load_catalogue()
    for artifact in sorted({m for job in jobs for m in job.models}):
        for root in models.folders(catalogue[artifact], cache):
            for file in sorted(p for p in root.rglob("*") if p.is_file()):
                yield file, f"cache/{file.relative_to(cache).as_posix()}"
    results = store.folder.parent
    there = f"results/{plan.scale['scale']}"
    for benchmark in sorted({b for job in jobs for b in job.benchmarks}):
        built = results / "benchmarks" / benchmark
        for file in sorted(p for p in built.rglob("*") if p.is_file()):
            name = file.relative_to(built).as_posix()
            if not name.startswith(benchmarks.TRUTH):
                yield file, f"{there}/benchmarks/{benchmark}/{name}"
    for job in jobs:
        yield results / "jobs" / f"{job.id}.json", f"{there}/jobs/{job.id}.json"
    here = {digest for job in jobs for node in job.nodes for digest in (node.digest, *node.needs())}
    for digest in sorted(d for d in here if store.has(d)):
        for file in sorted(store.path(digest).iterdir()):
            yield file, f"{there}/store/{digest}/{file.name}"
    finished = {need for job in jobs for need in job.needs} - {job.id for job in jobs}
    for done in sorted(finished):
        marker = scratch / f"{done}.done"
        marker.write_text("{}")
        yield marker, f"{there}/jobs/{done}.done"


def _described(plan: Plan, jobs: Sequence[Job], taken: Sequence[metadata.Distribution]) -> dict[str, Any]:
    compiled = sorted(d.name for d in taken if packages.compiled(d))
    return {
        "scale": plan.scale["scale"],
        "papers": plan.papers,
        "commit": git("rev-parse", "HEAD"),
        "versions": {name: metadata.version(name) for name in run.NEEDED},
        "made_on": [f"{sys.version_info.major}.{sys.version_info.minor}", sys.platform, platform.machine()],
        "compiled": compiled,
        "packages": {d.name: d.version for d in taken},
        "jobs": [
            {"id": j.id, "title": j.title, "threads": j.threads, "needs": j.needs, "seconds": round(j.seconds, 1)}
            for j in jobs
        ],
        "digests": sorted({node.digest for job in jobs for node in job.nodes}),
    }
