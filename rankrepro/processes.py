"""One process for each GPU of a job: together they train a model that one GPU cannot hold.

A node whose spec says `gpus: 4` is computed by four processes of one machine, which torch's elastic agent starts and
ends if one of them fails. All do the same work, apart from training: there each takes its share of every step
(`methods/parts/training/sharded.py`). The main one alone writes. Where there is no GPU they are processes on the CPU.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from rankrepro.cell import Cell
from rankrepro.errors import OutputError
from rankrepro.plan import resources

T = TypeVar("T")
SHARDED = "methods.parts.training.sharded"  # imported by those that need it: it wants accelerate
PATIENCE = timedelta(hours=6)  # how long one process waits for the others: longer than a validation takes
DEATH = 1  # prctl: the signal that the kernel sends to a process whose parent has ended


class Alone:
    """A process that computes its job by itself."""

    count, main = 1, True

    def agreed(self, value: T) -> T:
        """The main process's value, in all processes."""
        return value

    def cell(self, **given: Any) -> Cell:
        return Cell(**given)


ALONE = Alone()


class Together(Alone):
    """One of the processes that compute a job together. Made before anything is put on a GPU."""

    def __init__(self) -> None:
        ctypes.CDLL(None).prctl(DEATH, signal.SIGKILL)  # when the job is killed, its GPUs are free
        accelerator = importlib.import_module(SHARDED).take_over(PATIENCE)
        self.count, self.main = accelerator.num_processes, accelerator.is_main_process

    def agreed(self, value: T) -> T:
        from torch.distributed import broadcast_object_list

        values = [value]
        broadcast_object_list(values)
        return values[0]

    def cell(self, **given: Any) -> Cell:
        return SharedCell(**given, process=self)


@dataclass
class SharedCell(Cell):
    """A cell that several processes compute. Training resumes from its checkpoints; `map` keeps no shards.

    Checkpoints are those of one process: whole tensors, written by the main process and read by all.
    """

    process: Alone = ALONE

    def map(self, *args: Any, **options: Any) -> dict[str, Any]:
        shards, self.shards = self.shards, None  # all processes have the same units before them, or some would wait
        try:
            return super().map(*args, **options)
        finally:
            self.shards = shards

    def save(self, part: str, tensors: Mapping[str, Any], state: Any) -> None:
        whole: dict[str, Any] = {}
        for name, tensor in tensors.items():  # one after the other: a GPU does not hold all of them
            gathered = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
            whole |= {name: gathered.cpu()} if self.process.main else {}
        if self.process.main:
            super().save(part, whole, state)

    def saved(self, part: str) -> tuple[dict[str, Any], Any] | None:
        found = super().saved(part) if self.process.main else None  # deletes damaged ones before others look
        self.process.agreed(None)
        return found if self.process.main else super().saved(part)


# --- the job ---------------------------------------------------------------------------------------------------------


def count() -> int:
    """How many processes compute the job of this one."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def joined() -> Alone:
    """What this process is of its job."""
    return Together() if count() > 1 else ALONE


def launched(file: Path, cores: int) -> bool:
    """Compute a job file in as many processes as it asks for; False, and nothing is done, if this one is enough.

    Raises ConfigError on a machine with fewer GPUs, OutputError if a process failed: it has said why.
    """
    job = json.loads(file.read_text())
    wanted = max(node["spec"].get("gpus", 1) for node in job["nodes"])
    if wanted == 1 or count() > 1:
        return False
    resources.take_gpus(file.parent.parent, wanted)
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # else the agent says that it is so; each process sets its own
    try:
        run.main(["--standalone", f"--nproc-per-node={wanted}", "-m", "rankrepro.runner", str(file), str(cores)])
    except ChildFailedError as error:
        failed = len(error.failures)
        raise OutputError(f"{job['title']}: {failed} of {wanted} processes failed; they say why above") from None
    return True
