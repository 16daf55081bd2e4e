"""`make browse`: MLflow's pages for the store of this folder, for this machine only."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rankrepro.errors import RankReproError, TrackingError
from rankrepro.tracking.client import address, artifacts, database, quiet, remote, shown


def main(root: Path, port: int) -> None:
    """Become MLflow's server for the store of `root`, or say where else the runs are. TrackingError without a store."""
    if remote(root):
        print(f"MLFLOW_TRACKING_URI is set: the runs are at {shown(root)}")
        return
    if not os.environ.get("MLFLOW_TRACKING_URI") and not database(root).exists():
        raise TrackingError(f"{database(root)} does not exist yet; run `make reproduce` first")
    quiet()
    print(f"{shown(root)} opens at http://127.0.0.1:{port}/#/experiments (Ctrl-C ends it)")
    print("Choose 'Model training' at the top left, then a paper.", flush=True)
    os.execve(sys.executable, command(port), {**os.environ, **settings(root)})


def command(port: int) -> list[str]:
    """The server's command line; the store's address is in the environment, which other users cannot list."""
    return [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip


def settings(root: Path) -> dict[str, str]:
    """The server's environment: the store, and no background workers for what is not used here."""
    return {
        "MLFLOW_BACKEND_STORE_URI": address(root),
        "MLFLOW_ARTIFACTS_DESTINATION": artifacts(root).as_uri(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


if __name__ == "__main__":  # the Makefile calls this
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]))
    except RankReproError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
