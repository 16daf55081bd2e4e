"""What a job asks of a scheduler: its turn, minutes, memory, GPUs. Estimates from the plan; profiles can set others."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from rankrepro import artifacts, benchmarks, lock, signatures
from rankrepro.errors import ConfigError
from rankrepro.plan.nodes import Job

LONGEST = 1440  # minutes: a common limit of partitions; a job that reaches it continues from its shards when retried


def turns(jobs: Mapping[str, Job]) -> dict[str, int]:
    """Job id -> priority: predicted seconds of the job and of the longest chain of jobs that wait for it.

    Long chains start first, so that no core idles at the end beside a long job that started last. A job that wants the
    whole machine waits until the others are done.
    """
    waiting: dict[str, list[str]] = {id: [] for id in jobs}
    for job in jobs.values():
        for need in job.needs:
            if need in waiting:
                waiting[need].append(job.id)

    @cache
    def chain(id: str) -> float:
        return jobs[id].seconds + max(map(chain, waiting[id]), default=0.0)

    return {id: 1 + int(chain(id)) if job.threads else 0 for id, job in jobs.items()}


def minutes(job: Job, attempt: int = 1) -> int:
    """Wall time: three times the predicted seconds, ten minutes for a slow start, more with each attempt."""
    return min(attempt * (10 + int(job.seconds / 20)), LONGEST)


def memory_mb(job: Job, attempt: int = 1) -> int:
    """Memory of the machine: the process, weights as downloaded and as loaded, and 4 kB a document for the index.

    On several GPUs there is a process for each.
    """
    catalogue = artifacts.load_catalogue()
    weights = sum(catalogue[m].size for m in job.models) / 1e6
    documents = sum(benchmarks.get(b).documents for b in job.benchmarks)
    processes = max((n.spec.get("gpus", 1) for n in job.nodes), default=1)
    return attempt * processes * int(5500 + 2 * weights + documents / 250)


def gpus(job: Job, scale: Mapping[str, Any]) -> int:
    """At a scale that is meant for GPUs: as many as a node asks for, 1 for a job that a GPU makes faster, else none."""
    return max(n.spec.get("gpus", int(on_gpu(n.spec))) for n in job.nodes) if scale.get("gpu", False) else 0


def on_gpu(spec: Mapping[str, Any]) -> bool:
    """Whether a node loads a model, or trains one of its own that it puts on a GPU."""
    return bool(spec["models"]) or trains(spec)


def trains(spec: Mapping[str, Any]) -> bool:
    """Whether the function of a node, or one of those that it times, trains a model of its own (`cell.trains`)."""
    sides = [spec[side] for side in ("a", "b")] if spec["kind"] == "timing" else [spec]
    return any(signatures.of(side["fn"]).trains for side in sides)


def visible_gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES has for them."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in named.split(",") if name]
    return [str(i) for i in range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))]


def take_gpus(folder: Path, count: int) -> None:
    """Of more GPUs than `count`, give this process that many that no other job of `folder` uses, when they are free.

    Call it before CUDA is initialised. Does nothing where a scheduler gave the process `count` GPUs, or there is none.
    Raises ConfigError if there are some, but fewer.
    """
    names = visible_gpus()
    if 0 < len(names) < count:
        raise ConfigError(
            f"the job wants {count} GPUs and sees {len(names)}: run it on a machine that has them, or change `gpus` in "
            "the card"
        )
    if len(names) <= count:
        return
    taken: list[str] = []
    with lock.alone(folder / "gpus", math.inf):  # two jobs that each hold half of what they need would wait for ever
        while len(taken) < count:
            taken.append(lock.hold_one([folder / "gpus" / name for name in names if name not in taken]).name)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
