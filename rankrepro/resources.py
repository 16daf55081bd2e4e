"""What a job asks of a scheduler: minutes, memory, GPUs. Estimates from the plan; a profile can set others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rankrepro import artifacts, benchmarks
from rankrepro.plan import Job

LONGEST = 1440  # minutes: a usual limit of partitions; a job that reaches it goes on from its shards when tried again


def minutes(job: Job, attempt: int = 1) -> int:
    """Wall time: three times the predicted seconds, ten minutes for a slow start, more with each attempt."""
    return min(attempt * (10 + int(job.seconds / 20)), LONGEST)


def memory_mb(job: Job, attempt: int = 1) -> int:
    """Memory of the machine: the process, weights as downloaded and as loaded, and 4 kB a document for the index."""
    catalogue = artifacts.load_catalogue()
    weights = sum(catalogue[m].size for m in job.models) / 1e6
    documents = sum(benchmarks.get(b).documents for b in job.benchmarks)
    return attempt * int(5500 + 2 * weights + documents / 250)


def gpus(job: Job, scale: Mapping[str, Any]) -> int:
    """1 for a job that loads a model, at a scale that is meant for GPUs."""
    return int(bool(job.models) and scale.get("gpu", False))
