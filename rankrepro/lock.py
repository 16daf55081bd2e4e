"""One run per results folder: an flock that the kernel frees when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rankrepro.errors import LockedError

_held: list[int] = []  # file descriptors kept open for the life of the process


def hold(folder: Path) -> None:
    """Take the lock of `folder` for this process, or raise a LockedError that names the holder."""
    _held.append(_take(folder, 0.0))


def hold_one(folders: Sequence[Path]) -> Path:
    """Take the first lock of `folders` that is free for this process, waiting until one is; returns its folder."""
    while True:
        for folder in folders:
            try:
                hold(folder)
                return folder
            except LockedError:
                continue
        time.sleep(0.5)


@contextmanager
def alone(folder: Path, wait: float) -> Iterator[None]:
    """Hold the lock of `folder` for a block; wait up to `wait` seconds for another holder."""
    fd = _take(folder, wait)
    try:
        yield
    finally:
        os.close(fd)


def _take(folder: Path, wait: float) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    until = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(0.2)
                continue
            holder = os.read(fd, 64).decode().strip() or "unknown"
            os.close(fd)
            raise LockedError(
                f"another run (process {holder}) works in {folder}; wait for it, stop it, or choose another folder "
                "with --config results=FOLDER"
            ) from None
    os.ftruncate(fd, 0)
    os.write(fd, str(os.getpid()).encode())
    return fd
