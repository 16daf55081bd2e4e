"""What a process of the workflow does when: start-up, imports, loading, computing, writing. Costs microseconds.

phases = Phases()
phases.enter("loading", "icr.full on vital/fever")    # start-up ends, loading begins
phases.record(results)                                # for the marker of the job
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

WAITING, START, IMPORTS, LOADING, COMPUTING, WRITING = (
    "waiting", "start-up", "imports", "loading", "computing", "writing",
)  # fmt: skip
PHASES = (WAITING, START, IMPORTS, LOADING, COMPUTING, WRITING)
SESSION = "session.json"


class Phases:
    """One phase after the other, without gaps: each lasts until the next begins. The first is the start of Python."""

    def __init__(self) -> None:
        self.born = process_start()
        self._entered: list[tuple[str, str, float]] = [(START, "", self.born)]

    def enter(self, phase: str, node: str = "") -> None:
        """From now on `phase`, for `node` (a stage or cell; empty: for all of them)."""
        self._entered.append((phase, node, time.time()))

    def record(self, folder: Path, needs: Iterable[Path] = ()) -> dict[str, Any]:
        """The run (when it started; 0 outside of one) and the spans so far, waiting first.

        folder  `results/<scale>`
        needs   files without which this process could not start: it was ready when the last of them was there
        """
        run = _started(folder)
        ready = max([run, *map(_when, needs)])
        entered = [*self._entered, ("", "", time.time())]
        if run and ready < self.born:
            entered.insert(0, (WAITING, "", ready))
        spans = [
            {"phase": phase, "node": node, "start": round(start, 3), "end": round(end, 3)}
            for (phase, node, start), (_, _, end) in pairwise(entered)
            if end - start >= 0.001
        ]
        return {"run": run, "spans": spans}


def process_start() -> float:
    """When the kernel started this process, to 10 ms; now, where /proc does not tell."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return time.time()
    return time.time() - age


def _when(file: Path) -> float:
    """When a file was last written; 0 if it is not there."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _started(folder: Path) -> float:
    """When the run of a results folder started; 0 outside of a run, or where a kill tore the file."""
    try:
        return float(json.loads((folder / SESSION).read_text())["started"])
    except (OSError, ValueError, KeyError, TypeError):  # a finished job must not be lost because a chart lacks a bar
        return 0.0
