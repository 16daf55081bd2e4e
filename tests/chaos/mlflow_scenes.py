"""The disturbances of MLflow: its database gone or locked, an ingest or its server killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing, suppress
from pathlib import Path

from chaos.world import PATIENCE, Told, Trial, World, expect, kill_tree, said, tell, until, workers
from rankrepro.errors import RankReproError


def mlflow_deleted(world: World, rng: random.Random) -> Told:
    """MLflow's database deleted, with its files or without."""
    trial = world.finished()
    whole = rng.random() < 0.5
    (trial.folder / "results" / "mlflow.db").unlink()
    if whole:
        shutil.rmtree(trial.folder / "results" / "mlartifacts")
    return tell(world, trial, f"mlflow.db{' and mlartifacts' if whole else ''}: delete", most=0)


def mlflow_locked(world: World, rng: random.Random) -> Told:
    """MLflow's database locked by another program: for two seconds, or for longer than the ingest waits."""
    trial = world.finished()
    database = trial.folder / "results" / "mlflow.db"
    (trial.results / "tracked.json").unlink()
    if rng.random() < 0.3:
        with closing(sqlite3.connect(database, check_same_thread=False, isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")
            met, over = threading.Event(), threading.Event()
            release = threading.Thread(target=_release, args=(db, trial, database, met, over))
            release.start()
            try:
                told = tell(world, trial, "locked while the ingest starts", most=0)
            finally:
                over.set()
                release.join()
        expect(met.is_set(), "the ingest met the lock, else this scene shows nothing")
        return told
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        error = trial.fail("TrackingError", "locked")
    expect((trial.folder / "reports" / "quick" / "summary.md").exists(), "the reports do not wait for MLflow")
    return tell(world, trial, "locked throughout", error=error, most=0)


def _release(db: sqlite3.Connection, trial: Trial, database: Path, met: threading.Event, over: threading.Event) -> None:
    """Roll back two seconds after a process of the trial has opened the database, however late a slow machine does."""
    while not over.wait(0.1) and not met.is_set():
        if any(_has_open(pid, database) for pid in workers(trial.folder)):
            met.set()
    over.wait(2)
    db.execute("ROLLBACK")


def _has_open(pid: int, file: Path) -> bool:
    with suppress(OSError):  # gone meanwhile
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if os.readlink(entry) == str(file):
                    return True
    return False


def mlflow_killed(world: World, rng: random.Random) -> Told:
    """The whole tree killed in the middle of an ingest."""
    trial = world.finished()
    database = trial.folder / "results" / "mlflow.db"
    database.unlink()
    (trial.results / "tracked.json").unlink()
    mark = rng.randint(1, len(world.reference["mlflow"]) - 1)
    run = trial.start()
    reached = until(lambda: _runs(database) >= mark, run)
    time.sleep(rng.uniform(0, 0.1))
    kill_tree(run, trial.folder)
    expect(reached, "the ingest was running")
    return tell(world, trial, f"killed as run {mark} was written", most=0)


def mlflow_server_killed(world: World, rng: random.Random) -> Told:
    """A server's MLflow: the server killed in the middle of an ingest, and started again."""
    trial = world.finished()
    home = trial.folder / "server"
    home.mkdir()
    database = home / "server.db"
    mark = rng.randint(1, len(world.reference["mlflow"]) - 1)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    trial.extra |= {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "database": str(database)}
    server = _server(home, port)
    try:
        run = trial.start()
        expect(until(lambda: _runs(database) >= mark, run), "the ingest was running")
        time.sleep(rng.uniform(0, 0.1))
        _end(server)
        error = said(*trial.ended(run), "TrackingError", "no server answers")
        server = _server(home, port)
        return tell(world, trial, f"the server killed as run {mark} was written", error=error, most=0)
    finally:
        _end(server)


def _server(home: Path, port: int) -> subprocess.Popen[bytes]:
    """An MLflow server on loopback that answers."""
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{home}/server.db", "--artifacts-destination", f"{home}/files",
    ]  # fmt: skip
    env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (home / "log").open("ab") as log:
        server = subprocess.Popen(command, env=env, cwd=home, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and server.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return server
            time.sleep(0.2)
        raise RankReproError(f"the MLflow server of the chaos does not answer; see {home / 'log'}")
    except BaseException:  # chaos that is stopped here leaves no server behind
        _end(server)
        raise


def _end(server: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _runs(database: Path) -> int:
    """Runs in an MLflow database; 0 while it is not there yet or being written."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=0)) as db:
        return db.execute("SELECT count(*) FROM runs").fetchone()[0]
    return 0


MLFLOW = (mlflow_deleted, mlflow_locked, mlflow_killed, mlflow_server_killed)
