"""The status line of a run: what runs, how many are left, predicted minutes left. Lives in Snakemake's main process."""

from __future__ import annotations

import json
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rankrepro.plan import Plan
from rankrepro.store import no_room, write_whole

FULL = 1_000_000  # free bytes below which a failure is blamed on a full disk
STALE = 600.0  # seconds without news after which a progress file counts as a dead job's


class Status:
    """A thread that reads `progress/*.json` and prints one line: every second on a terminal, else twice a minute."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.terminal = sys.stderr.isatty()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._started = time.time()

    def start(self) -> None:
        self._started = time.time()
        for file in self.folder.glob("progress/*"):  # left by a killed run: this process holds the lock
            file.unlink(missing_ok=True)
        write_whole(self.folder / "session.json", json.dumps({"started": round(self._started, 3)}))
        todo = [j for j in self.plan.jobs.values() if not self._done(j.id)]
        minutes = sum(j.seconds for j in todo) / 60
        print(
            f"rankrepro {self.plan.scale['scale']}: {', '.join(self.plan.papers)}: {len(todo)} of "
            f"{len(self.plan.jobs)} jobs to run, about {minutes:.0f} core-minutes predicted",
            file=sys.stderr,
            flush=True,
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        if self._thread:
            self._thread.join(timeout=2)
            if self.terminal:
                print("\r\033[K", end="", file=sys.stderr)
            print(self.line(), file=sys.stderr, flush=True)

    def failures(self) -> None:
        """Print the end of every log of this run's failed jobs, and where Slurm's own log is.

        A full disk may have left no log.
        """
        if shutil.disk_usage(self.folder).free < FULL:
            print(f"StoreError: {no_room(self.folder)}", file=sys.stderr, flush=True)
        for log in sorted(self.folder.glob("logs/**/*.log")):
            lines = log.read_text(errors="replace").strip().splitlines()
            failed = lines and re.match(r"[\w.]*(Error|Exception|Interrupt|UnknownName|ChecksumMismatch)\b", lines[-1])
            if failed and log.stat().st_mtime >= self._started:
                print(f"{lines[-1]}\n  (the whole log: {log})", file=sys.stderr, flush=True)
        for job in (j for j in self.plan.jobs.values() if not self._done(j.id)):
            logs = (self.folder.parent / "slurm" / "rule_job" / job.id).glob("*.log")
            for log in sorted(f for f in logs if f.stat().st_mtime >= self._started):
                reasons = [
                    x for x in log.read_text(errors="replace").splitlines() if re.match("(slurm|srun).*: error: ", x)
                ]
                print(f"{job.title}: {' | '.join(reasons[:2])}\n  (Slurm's log: {log})", file=sys.stderr, flush=True)

    def line(self) -> str:
        """One line, e.g. `[3/9 jobs] baselines.rankgpt vital/fever 12/100 | about 14 min left`."""
        done = [j for j in self.plan.jobs.values() if self._done(j.id)]
        now = [f"{r['node']} {r['benchmark']}" + _count(r) for r in self._running()]
        left = self._seconds_left() / 60
        time_left = "done" if len(done) == len(self.plan.jobs) else f"about {max(left, 1):.0f} min left"
        running = "; ".join(now[:3]) + (f"; {len(now) - 3} more" if len(now) > 3 else "")
        elapsed = (time.time() - self._started) / 60
        count = f"{len(done)}/{len(self.plan.jobs)} jobs"
        return f"[{elapsed:.1f} min] {count} | {running or 'data and reports'} | {time_left}"

    def _run(self) -> None:
        while not self._end.wait(1.0 if self.terminal else 30.0):
            if self.terminal:
                print(f"\r\033[K{self.line()[:150]}", end="", file=sys.stderr, flush=True)
            else:
                print(self.line(), file=sys.stderr, flush=True)

    def _done(self, job: str) -> bool:
        return (self.folder / "jobs" / f"{job}.done").exists()

    def _took(self, job: str) -> float:
        """Seconds of a job of this run; 0 for one of an earlier run, or where its marker cannot be read."""
        try:
            mark = json.loads((self.folder / "jobs" / f"{job}.done").read_text())
            return mark["ended"] - mark["started"] if mark["started"] >= self._started else 0.0
        except (OSError, ValueError, TypeError, KeyError):
            return 0.0

    def _running(self) -> Iterator[dict[str, Any]]:
        for file in sorted(self.folder.glob("progress/*.json")):
            try:
                row = json.loads(file.read_text())
                fresh = time.time() - row["at"] < STALE
            except (OSError, ValueError, TypeError, KeyError):
                continue
            if fresh:
                yield row | {"job": file.stem}

    def _seconds_left(self) -> float:
        """Predicted seconds of what is left, corrected by how well predictions held so far, over the cores in use."""
        running = {r["job"]: r for r in self._running()}
        predicted = spent = left = 0.0
        for job in self.plan.jobs.values():
            if self._done(job.id):
                seconds = self._took(job.id)
                predicted += job.seconds if seconds else 0.0
                spent += seconds
                continue
            share = 1.0
            if row := running.get(job.id):
                inner = row["done"] / row["total"] if row["total"] else 0.0
                share = 1.0 - (row["index"] + inner) / row["nodes"]
            left += job.seconds * share
        correction = spent / predicted if predicted > 30 else 1.0
        return left * correction / max(1, len(running))


def _count(row: dict[str, Any]) -> str:
    return f" {row['done']}/{row['total']}" if row["total"] else ""
