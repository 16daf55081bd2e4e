"""An undisturbed run to compare with, and copies of the project to disturb."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests_support import Project, make_project, new_card

HERE = Path(__file__).parent
PAUSE = 0.15  # seconds a batch sleeps, so that kills find batches to tear
TIMES = {
    "cost",
    "costs",
    "timings",
    "totals",
    "wall_s",
    "cpu_s",
    "peak_bytes",
    "started",
    "ended",
    "commit",
    "claims_commit",
}
CORES = 2  # that a command may use
SECONDS = "quick: {toy: {overlap: 1.9, scaled: 0.3, noise: 0.3}}\n"  # so that there are jobs enough to disturb
PATIENCE = 1800.0  # seconds after which a command counts as stuck


class Broken(Exception):
    """A promise did not hold; the message says which."""


def expect(held: bool, promise: str) -> None:
    if not held:
        raise Broken(promise)


@dataclass
class Trial(Project):
    """A copy of the project, with what its commands find in their environment."""

    extra: dict[str, str] = field(default_factory=dict)

    def env(self) -> dict[str, str]:
        inherited = {k: v for k, v in super().env().items() if not k.startswith("MLFLOW")}
        return {**inherited, "TOY_NOTES": str(self.notes), "TOY_PAUSE": str(PAUSE), **self.extra}

    @property
    def notes(self) -> Path:
        return self.folder.with_suffix(".notes")

    def start(self) -> subprocess.Popen[str]:
        """The user's command, in a session of its own."""
        return subprocess.Popen(
            self.command("papers=toy", cores=CORES), cwd=self.folder, env=self.env(), start_new_session=True, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def complete(self) -> float:
        """Run the user's command, which must end well; seconds it took."""
        begun = time.monotonic()
        code, output = self.ended(self.start())
        expect(code == 0, f"the same command completes; it said: {tail(output)}")
        return time.monotonic() - begun

    def fail(self, *words: str) -> str:
        """Run the user's command, which must fail and say these words; the line with the first of them."""
        return said(*self.ended(self.start()), *words)

    def ended(self, run: subprocess.Popen[str]) -> tuple[int, str]:
        """Exit code and output of a command that ends by itself."""
        try:
            output, _ = run.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            kill_tree(run, self.folder)
            raise Broken(f"a command ends within {PATIENCE:.0f} seconds") from None
        return run.returncode, output

    # --- what it made ---

    def state(self) -> dict[str, Any]:
        """All that a run is for, apart from seconds and commits."""
        judged = {f.name: steady(json.loads(f.read_text())) for f in sorted(self.results.glob("judged/toy/*.json"))}
        runs = {f.name: f.read_bytes() for f in sorted(self.results.glob("runs/**/*.*"))}
        report = self.folder / "reports" / "quick" / "toy" / "results.json"
        return {
            "store": self.store(),
            "judged": judged,
            "runs": runs,
            "reported": steady(json.loads(report.read_text())),
            "mlflow": tracked(Path(self.extra.get("database", self.folder / "results" / "mlflow.db"))),
        }

    def batches(self) -> dict[str, list[str]]:
        """Process -> the batches it began, in order."""
        by_process = defaultdict(list)
        for line in self.notes.read_text().splitlines() if self.notes.exists() else []:
            note = json.loads(line)
            by_process[note["process"]].append(note["batch"])
        return by_process

    def again(self) -> int:
        """How many batches were computed once more."""
        begun = [b for batches in self.batches().values() for b in batches]
        return len(begun) - len(set(begun))

    def lost(self) -> int:
        """The most batches that one process began and a later one began once more."""
        processes = list(self.batches().values())
        later = [{b for p in processes[i + 1 :] for b in p} for i in range(len(processes))]
        return max((len(set(p) & after) for p, after in zip(processes, later, strict=True)), default=0)


class World:
    """The reference: a project that ran undisturbed, its results and how long it took."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.pristine = _toy(folder / "pristine")  # all trials are of one moment of the checkout
        self.base = Trial(folder / "undisturbed")
        shutil.copytree(self.pristine.folder, self.base.folder)
        self.seconds = self.base.complete()
        self.reference = self.base.state()
        self.batches = sum(map(len, self.base.batches().values()))

    def fresh(self) -> Trial:
        """A project that has not run yet."""
        trial = Trial(self._next())
        shutil.copytree(self.pristine.folder, trial.folder)
        return trial

    def prepared(self) -> Trial:
        """A project with its benchmark built, and nothing computed yet."""
        trial = self.finished()
        for name in ("store", "judged", "runs", "jobs"):
            shutil.rmtree(trial.results / name)
        for path in ("results/mlartifacts", "reports"):
            shutil.rmtree(trial.folder / path)
        for file in (trial.results / "tracked.json", trial.folder / "results" / "mlflow.db", trial.notes):
            file.unlink()
        return trial

    def finished(self) -> Trial:
        """A project that has run to the end."""
        trial = Trial(self._next())
        shutil.copytree(self.base.folder, trial.folder, symlinks=True)
        shutil.copy(self.base.notes, trial.notes)
        return trial

    def same(self, trial: Trial) -> None:
        """Raise Broken unless a trial has the results of the undisturbed run."""
        state = trial.state()
        for part, expected in self.reference.items():
            if state[part] != expected:
                raise Broken(f"{part} is not the undisturbed run's: {_difference(state[part], expected)}")
        expect(not list(trial.results.glob("store/.*")), "no temporary folder stays in the store")
        expect(not list(trial.results.glob("shards/*")), "no shard stays behind")

    def clear(self) -> None:
        """End and remove what trials left."""
        for folder in self.folder.iterdir():
            for pid in workers(folder):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for path in self.folder.glob("trial-*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _next(self) -> Path:
        self.count += 1
        return self.folder / f"trial-{self.count}"


def _toy(folder: Path) -> Trial:
    folder.mkdir()
    trial = Trial(make_project(folder, []).folder)
    shutil.copy(HERE / "toy.yaml", new_card(folder, "toy"))
    (folder / "papers" / "seconds.yaml").write_text(SECONDS)
    shutil.copy(HERE / "toy.py", folder / "methods")
    return trial


def steady(value: Any) -> Any:
    """JSON without what differs between two undisturbed runs: seconds, memory, commits."""
    if isinstance(value, dict):
        return {k: steady(v) for k, v in value.items() if k not in TIMES}
    return [steady(v) for v in value] if isinstance(value, list) else value


def tracked(database: Path) -> dict[str, Any]:
    """Name -> status, params, verdict and measures of the runs in an MLflow database, those in its bin left out."""
    with closing(sqlite3.connect(database)) as db:
        runs = db.execute("SELECT run_uuid, name, status FROM runs WHERE lifecycle_stage = 'active'").fetchall()
        by_name = {}
        for run, name, status in runs:
            expect(name not in by_name, f"MLflow has one run named {name}")
            metrics = db.execute("SELECT key, value FROM latest_metrics WHERE run_uuid = ?", (run,)).fetchall()
            tags = db.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run,)).fetchall()
            by_name[name] = {
                "status": status,
                "params": dict(db.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run,))),
                "metrics": {k: v for k, v in metrics if not k.startswith(("cost/", "timing/"))},
                "tags": {k: v for k, v in tags if k.startswith(("rankrepro.id", "rankrepro.complete", "verdict"))},
            }
    return by_name


def _difference(actual: Any, expected: Any, path: str = "") -> str:
    """Where two values of JSON differ first."""
    if isinstance(actual, dict) and isinstance(expected, dict):
        if actual.keys() != expected.keys():
            return f"at {path or 'the top'}: keys {sorted(map(str, actual.keys() ^ expected.keys()))[:5]}"
        key = next(k for k in actual if actual[k] != expected[k])
        return _difference(actual[key], expected[key], f"{path}/{key}")
    if isinstance(actual, list) and isinstance(expected, list) and len(actual) == len(expected):
        i = next(i for i in range(len(actual)) if actual[i] != expected[i])
        return _difference(actual[i], expected[i], f"{path}/{i}")
    return f"at {path}: {str(actual)[:80]} and not {str(expected)[:80]}"


# --- processes ---


def kill_tree(process: subprocess.Popen[str], folder: Path) -> None:
    """SIGKILL a command and all it started: its session, and whatever still works in its folder."""
    os.killpg(process.pid, signal.SIGKILL)
    for _ in range(100):
        left = workers(folder)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            break
        time.sleep(0.02)
    process.communicate()
    expect(not workers(folder), "nothing of a killed run lives on")


def workers(folder: Path) -> list[int]:
    """Ids of living processes whose working folder is `folder` (Linux)."""
    pids = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone meanwhile, or a zombie, which has no folder
            if os.readlink(entry / "cwd") == str(folder):
                pids.append(int(entry.name))
    return pids


def said(code: int, output: str, *words: str) -> str:
    """The line of a failed command's output with the first of `words`; Broken unless it failed and said them all."""
    expect(code != 0, f"a command that cannot work fails; it said: {tail(output)}")
    for word in words:
        expect(word in output, f"the failure says '{word}'; it said: {tail(output)}")
    return next((line.strip() for line in output.splitlines() if words and words[0] in line), "")


def tail(output: str) -> str:
    return " | ".join(line for line in output.strip().splitlines()[-12:] if line.strip())


# --- scenes ---


class Skip(Exception):
    """This machine does not let a scene happen; the message says why."""


@dataclass(frozen=True)
class Told:
    """What one disturbance did: in words, how often, batches computed once more, seconds of the completing command."""

    what: str
    times: int
    again: int
    seconds: float
    error: str = ""  # what a command in between said when it could not work
    lost: int | None = None  # the most batches that one killed job lost; None where none was killed


def tell(world: World, trial: Trial, what: str, times: int = 1, error: str = "", most: int | None = None) -> Told:
    """Complete a trial by the same command, compare it with the undisturbed run, and tell."""
    before = trial.again()
    seconds = trial.complete()
    world.same(trial)
    again = trial.again()
    if most is not None:
        expect(again - before <= most, f"at most {most} batches are computed once more, not {again - before}")
    return Told(what, times, again, seconds, error)


def until(held: Callable[[], bool], run: subprocess.Popen[str]) -> bool:
    """Wait for something while a command runs; False if the command ended first."""
    end = time.monotonic() + PATIENCE
    while run.poll() is None and time.monotonic() < end:
        if held():
            return True
        time.sleep(0.01)
    return False
