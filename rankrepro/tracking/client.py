"""Writing records to MLflow: which runs are there, what they lack, and errors that say what to do."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from rankrepro.errors import TrackingError
from rankrepro.tracking.records import VERDICT, Record

if TYPE_CHECKING:
    from mlflow.entities import Run

ID, CONTENT, FILES, COMPLETE = "rankrepro.id", "rankrepro.content", "rankrepro.files", "rankrepro.complete"
METRICS_A_CALL, OTHERS_A_CALL, RUNS_A_PAGE = 1000, 100, 1000  # MLflow's limits
LOCK_SECONDS = 20.0
SUPERSEDED = "superseded"  # tag of a run whose result the paper no longer uses
OURS = {SUPERSEDED, "commit", "claims_commit", "rows", "not_copied"}  # and verdicts: removed where they no longer hold
SAFE = "Results are not affected; the same command tries again."

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # one line per run, with the user and password of the address
    # a server that does not answer is an error after seconds, not minutes; the user can set more patience
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}

log = logging.getLogger(__name__)


def address(root: Path) -> str:
    """Where MLflow writes: MLFLOW_TRACKING_URI, or the file `mlflow.db` in the folder of all results."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database(root).absolute()}"


def database(root: Path) -> Path:
    return root / "mlflow.db"


def artifacts(root: Path) -> Path:
    """Where files go, except for a server, which decides itself. Another database does not share ours."""
    name = "mlartifacts.other" if os.environ.get("MLFLOW_TRACKING_URI") else "mlartifacts"
    return (root / name).absolute()


def remote(root: Path) -> bool:
    """Whether the address is that of a server, not of a database."""
    return urlsplit(address(root)).scheme in ("http", "https", "databricks", "databricks-uc")


def shown(root: Path) -> str:
    """The address as it may be printed and kept: no user, no password, no absolute path of ours."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return str(database(root))
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def quiet() -> None:
    """Settings made before MLflow is imported: no telemetry, no advice, bounded retries."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


class Tracker:
    """The MLflow store of a folder of results."""

    def __init__(self, root: Path) -> None:
        from mlflow import MlflowClient

        self.file, self.artifacts, self.remote, self.fresh = database(root), artifacts(root), remote(root), False
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            # no connection outlives a call: an open one would keep using a file that was deleted meanwhile
            os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
            _write_through_the_cache()
            self._prepare(self.file)
        self.client = MlflowClient(tracking_uri=address(root))

    # --- the store in the results folder ---

    def _prepare(self, file: Path) -> None:
        """A complete store in `file`: the one there, if it is sound, or a new one, prepared elsewhere and then renamed.

        So a kill never leaves half a store. One that is damaged, of another MLflow version, or of a folder that was
        moved is put aside as `mlflow.db.old`: all that we wrote there comes from files.
        """
        if file.exists() and self._sound(file):
            return
        temporary = file.with_name(f".{file.name}.new")
        for journal in (temporary, _journal(temporary), _journal(file)):
            journal.unlink(missing_ok=True)
        _migrate(temporary)
        shutil.rmtree(aside := self.artifacts.with_name(f"{self.artifacts.name}.old"), ignore_errors=True)
        if file.exists():
            log.warning("mlflow: %s cannot be used as it is; kept as %s.old and written again", file, file)
            file.replace(file.with_name(f"{file.name}.old"))
            if self.artifacts.exists():
                self.artifacts.rename(aside)
        else:
            shutil.rmtree(self.artifacts, ignore_errors=True)
        temporary.rename(file)
        self.fresh = True

    def _sound(self, file: Path) -> bool:
        """Whether `file` is a store of this MLflow and of this folder. MLflow's error if another process locks it."""
        try:
            with closing(sqlite3.connect(file, timeout=LOCK_SECONDS)) as db:
                db.execute("BEGIN IMMEDIATE")  # waits for a writer, and rolls back what a killed one left
                db.execute("ROLLBACK")
                sound = db.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
                version = db.execute("SELECT version_num FROM alembic_version").fetchall()
                ours = db.execute(
                    "SELECT artifact_location FROM experiments WHERE artifact_location LIKE '%/mlartifacts/' || name"
                ).fetchall()
        except sqlite3.DatabaseError as error:
            if re.search("not a database|malformed|no such (table|column)", str(error)):
                return False
            raise
        return sound and version == [(_head(),)] and all(p.startswith(f"{self.artifacts.as_uri()}/") for (p,) in ours)

    def finish(self) -> None:
        """Flush everything to disk before a marker says that it is there."""
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            with self.file.open("rb") as f:
                os.fsync(f.fileno())

    # --- experiments and runs ---

    def experiment(self, key: str, tags: Mapping[str, str]) -> str:
        """The id of a paper's experiment, created, or restored from MLflow's bin, if necessary."""
        experiment = self.client.get_experiment_by_name(key)
        if experiment is None:
            # a server knows where its artifacts go; a database without one does not
            place = None if self.remote else f"{self.artifacts.as_uri()}/{key}"
            experiment = self.client.get_experiment(self.client.create_experiment(key, artifact_location=place))
        elif experiment.lifecycle_stage == "deleted":
            self.client.restore_experiment(experiment.experiment_id)
        for name, value in tags.items():
            if experiment.tags.get(name) != value:
                self.client.set_experiment_tag(experiment.experiment_id, name, value)
        return experiment.experiment_id

    def runs(self, experiment: str, scale: str) -> dict[str, Run]:
        """Id of a record -> its run. Of several with one id the first finished one stays; the others are deleted."""
        by_id: dict[str, Run] = {}
        token = None
        while True:
            page = self.client.search_runs(
                [experiment], f"tags.scale = '{scale}'", max_results=RUNS_A_PAGE, page_token=token
            )
            for run in (r for r in page if ID in r.data.tags):
                other = by_id.setdefault(run.data.tags[ID], run)
                if other is not run:
                    keep, drop = (run, other) if COMPLETE in run.data.tags else (other, run)
                    by_id[run.data.tags[ID]] = keep
                    self.client.delete_run(drop.info.run_id)
            token = page.token
            if not token:
                return by_id

    def write(self, experiment: str, record: Record, run: Run | None) -> str:
        """Bring the run of a record up to date: `written`, `updated` (its tags or files) or `unchanged`."""
        if run and run.data.tags.get(CONTENT) != record.content:
            self.client.delete_run(run.info.run_id)
            run = None
        if run is None or COMPLETE not in run.data.tags:
            self._write(experiment, record, run)
            return "written"
        return self._update(record, run)

    def _write(self, experiment: str, record: Record, run: Run | None) -> None:
        """A new run, or one that a kill left unfinished: writing again what it already has does no harm."""
        from mlflow.entities import Metric, Param

        start, end = (int(t * 1000) for t in record.times)
        if run is None:
            tags = {ID: record.id, CONTENT: record.content, "scale": record.tags["scale"]}
            run = self.client.create_run(experiment, start_time=start, tags=tags, run_name=record.name)
        run_id = run.info.run_id
        metrics = [Metric(name, value, end, step) for name, value, step in record.metrics]
        for chunk in _chunks(metrics, METRICS_A_CALL):
            self.client.log_batch(run_id, metrics=chunk, synchronous=True)
        for chunk in _chunks([Param(k, v) for k, v in record.params.items()], OTHERS_A_CALL):
            self.client.log_batch(run_id, params=chunk, synchronous=True)
        self._files(run_id, record)
        self._tags(run_id, record.tags)
        self.client.set_terminated(run_id, "FINISHED", end)
        self._tags(run_id, {COMPLETE: "true"})

    def _update(self, record: Record, run: Run) -> str:
        run_id, tags = run.info.run_id, run.data.tags
        changed = {k: v for k, v in record.tags.items() if tags.get(k) != v}
        gone = [k for k in tags if (k in OURS or k.startswith(VERDICT)) and k not in record.tags]
        self._tags(run_id, changed)
        for name in gone:
            self.client.delete_tag(run_id, name)
        if files := tags.get(FILES) != record.version:
            self._files(run_id, record)
        return "updated" if changed or gone or files else "unchanged"

    def supersede(self, run: Run) -> None:
        """Mark a run whose digest the paper no longer has: what it measured stays true of the code that ran."""
        if SUPERSEDED not in run.data.tags:
            self._tags(run.info.run_id, {SUPERSEDED: "true"})

    def _tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        for chunk in _chunks([RunTag(k, v) for k, v in tags.items()], OTHERS_A_CALL):
            self.client.log_batch(run_id, tags=chunk, synchronous=True)

    def _files(self, run_id: str, record: Record) -> None:
        for path, file in record.files.items():
            if isinstance(file, str):
                self.client.log_text(run_id, file, path)
            else:
                self.client.log_artifact(run_id, str(file))
        self._tags(run_id, {FILES: record.version})


@contextmanager
def typed(root: Path) -> Iterator[None]:
    """Turn what MLflow, its database or the network raise into a TrackingError that says what to do."""
    quiet()
    import requests
    import sqlalchemy
    from mlflow.exceptions import MlflowException

    known = (MlflowException, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, requests.RequestException, OSError)
    try:
        yield
    except known as error:
        raise TrackingError(_explained(str(error) or type(error).__name__, shown(root))) from error


def _explained(text: str, at: str) -> str:
    text = re.sub(r"//[^/@\s]+@", "//", text)  # passwords
    for pattern, remedy in REMEDIES.items():
        if re.search(pattern, text):
            return f"{remedy.format(at=at)}. {SAFE}"
    return f"MLflow at {at}: {text.strip().splitlines()[0][:300]}. {SAFE}"


REMEDIES = {
    "database is locked": "another process keeps {at} locked; stop it (a server, a shell, a backup)",
    r"failed with exception|timeout exception|Max retries exceeded": "no server answers at {at}; start it (mlflow "
    "server), or unset MLFLOW_TRACKING_URI to write results/mlflow.db",
    "filesystem tracking backend": "{at} is a folder, which MLflow no longer writes; set MLFLOW_TRACKING_URI to a "
    "server (http://127.0.0.1:5000) or a database (sqlite:////path/to/file.db), or unset it",
    "unsupported URI|Could not parse SQLAlchemy URL": "MLFLOW_TRACKING_URI={at} is not an address MLflow knows; set it "
    "to a server (http://127.0.0.1:5000) or a database (sqlite:////path/to/file.db), or unset it",
    "out-of-date database schema": "{at} was made by another version of MLflow; run `mlflow db upgrade` with its "
    "address, or unset MLFLOW_TRACKING_URI",
    r"error code 40[13]|UNAUTHENTICATED|PERMISSION_DENIED": "the server at {at} refuses access; set "
    "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
}


def _write_through_the_cache() -> None:
    """Let SQLite leave flushing to the system: MLflow commits a dozen times per run, and a commit may take 50 ms.

    A killed process loses nothing. A machine that loses power may leave a damaged file, which is noticed
    (`_sound`) and written again; what a marker vouches for is on disk (`finish`).
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    if not event.contains(Engine, "connect", _asynchronous):
        event.listen(Engine, "connect", _asynchronous)


def _asynchronous(connection: Any, _record: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


def _migrate(file: Path) -> None:
    """An empty store of this MLflow's version in `file`."""
    from mlflow import MlflowClient

    MlflowClient(tracking_uri=f"sqlite:///{file.absolute()}").search_experiments(max_results=1)


def _head() -> str:
    """The version of database that this MLflow writes."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    return _get_latest_schema_revision()


def _journal(file: Path) -> Path:
    """SQLite's journals, which belong to one file and would be rolled back into another of the same name."""
    return file.with_name(f"{file.name}-journal")


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[i : i + size] for i in range(0, len(items), size))
