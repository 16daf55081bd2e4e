"""What a plan needs from outside, and what of that is not in the cache yet."""

from __future__ import annotations

from pathlib import Path

from rankrepro import artifacts, benchmarks
from rankrepro.artifacts import Artifact
from rankrepro.artifacts.install import megabytes
from rankrepro.plan import Plan


def needed(plan: Plan) -> set[str]:
    """Ids of the artifacts that the jobs of a plan load, and that their benchmarks are built from."""
    built = {b for job in plan.jobs.values() for b in job.benchmarks}
    return {m for job in plan.jobs.values() for m in job.models} | {
        a for b in built for a in benchmarks.get(b).artifacts
    }


def missing(plan: Plan, cache: Path) -> list[Artifact]:
    """Those still to be downloaded, the largest first. What ir_datasets keeps only it can tell: never among them."""
    catalogue = artifacts.load_catalogue()
    found = [a for a in map(catalogue.__getitem__, needed(plan)) if a.size and artifacts.fetched(a, cache) is None]
    stood_in = plan.scale.get("stand_ins", False)
    return sorted((a for a in found if not (stood_in and a.source == "hub")), key=lambda a: (-a.size, a.id))


def summary(plan: Plan, cache: Path) -> str:
    """The downloads ahead with their sizes, in a line."""
    ahead = missing(plan, cache)
    if not ahead:
        return f"nothing to download: all artifacts are in {cache}"
    total = megabytes(sum(a.size for a in ahead))
    return f"to download to {cache}: {total} ({', '.join(f'{a.id} {megabytes(a.size)}' for a in ahead)})"
