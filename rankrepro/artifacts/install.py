"""Folders that are whole or not there at all, made once among all processes that share a disk."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rankrepro import files
from rankrepro.errors import DISK_FULL, ArtifactError, DiskBudgetError

RESERVE = 100_000_000  # bytes that stay free: a disk filled to the last byte breaks more than this program

log = logging.getLogger(__name__)


def install(
    target: Path, complete: Callable[[Path], bool], build: Callable[[Path, Path], None], need: int, what: str
) -> Path:
    """Make `target` exist and be `complete`, at most once among all processes that share the disk.

    `build(new, scratch)` fills the empty folder `new` and may use `scratch` for anything; `need` is the disk it takes,
    in bytes. `new` becomes `target` by a rename; whatever happens before that leaves no trace (after a SIGKILL, the
    next call sweeps it). Raises DiskBudgetError, or ArtifactError for any other failure of the file system.
    """
    if complete(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        with _locked(target, what):
            if complete(target):
                return target
            check_disk(target.parent, need, what)
            scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.tmp-{os.getpid()}-", dir=target.parent))
            try:
                new = scratch / "new"
                new.mkdir()
                build(new, scratch)
                files.sync(Path(root, name) for root, _, names in os.walk(new) for name in [*names, "."])
                _put(new, target, scratch, complete)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise disk_error(error, target.parent, what) from error
    return target


def check_disk(folder: Path, need: int, what: str) -> None:
    """DiskBudgetError unless `need` bytes can be written to `folder` with RESERVE to spare."""
    free = shutil.disk_usage(folder).free
    if free < need + RESERVE:
        raise DiskBudgetError(
            f"{what}: needs {megabytes(need + RESERVE)} free in {folder}, {megabytes(free)} are; "
            "free some, or set RANKREPRO_CACHE to a folder on a larger disk"
        )


def disk_error(error: OSError, folder: Path, what: str) -> ArtifactError:
    """DiskBudgetError if there was no room for what was to be written to `folder`, else an ArtifactError."""
    message = f"{what}: cannot write to {folder}: {error.strerror or error}"
    if error.errno in DISK_FULL:
        return DiskBudgetError(f"{message}; free some space or set RANKREPRO_CACHE to a folder on a larger disk")
    return ArtifactError(f"{message}; set RANKREPRO_CACHE to a folder you can write to")


@contextmanager
def _locked(target: Path, what: str) -> Iterator[None]:
    """Hold the lock of `target`; the kernel frees it when the process dies."""
    with _lock_file(target.parent, f".{target.name}") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("%s: waiting for another process that is fetching it", what)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _lock_file(folder: Path, name: str) -> IO[str]:
    return (folder / f"{name}.lock").open("a")


def _sweep(folder: Path) -> None:
    """Remove what killed processes left: a temporary folder whose lock is free has no owner."""
    for scratch in folder.glob(".*.tmp-*"):
        with _lock_file(folder, scratch.name.rpartition(".tmp-")[0]) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(scratch, ignore_errors=True)


def _put(new: Path, target: Path, scratch: Path, complete: Callable[[Path], bool]) -> None:
    """Rename `new` to `target`, moving an incomplete `target` away; a race lost to another process is no loss."""
    try:
        if target.exists() and not complete(target):
            os.rename(target, scratch / "old")
        os.rename(new, target)
    except OSError:
        if not complete(target):
            raise
    files.sync([target.parent])


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
