"""A wall around truth: from here on this process, and all that it starts, cannot read what only the judge may read.

Landlock (Linux 5.13 and later, no privileges needed) is an allow-list that can only be made stricter: reading a file is
refused unless it lies below an allowed folder. We allow everything but what is denied, folder by folder. Links and
moves out of a denied folder are refused by Landlock itself.

A thread keeps what it was allowed when it began: raise the wall before a library starts threads.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from rankrepro.code import ROOT

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
VERSION = 1  # asks CREATE_RULESET for the version of Landlock instead
PATH_BENEATH = 1
READ_FILE = 1 << 2
NO_NEW_PRIVS = 38  # prctl: what is started gains no rights, which Landlock asks of a process without privileges


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def available() -> bool:
    """Whether this kernel has Landlock."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return False
    return _libc().syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(VERSION)) > 0


def build(denied: Iterable[Path]) -> str:
    """Deny reading below `denied` for good; "landlock", or "none" where the kernel has no such thing."""
    if not available():
        return "none"
    libc = _libc()
    handled = ctypes.c_uint64(READ_FILE)
    rules = _checked(libc.syscall(CREATE_RULESET, ctypes.byref(handled), ctypes.c_size_t(8), ctypes.c_uint32(0)))
    try:
        for path in allowed(Path("/"), {p.resolve() for p in denied}):
            _allow(libc, rules, path)
        _checked(libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(libc.syscall(RESTRICT_SELF, rules, ctypes.c_uint32(0)))
    finally:
        os.close(rules)
    return "landlock"


def denied(folder: Path, cache: Path) -> list[Path]:
    """What a job of the run in `folder` (results/<scale>) must not read: truth, its sources, and what was judged.

    Truth lies beside each built benchmark, of this scale and of others, and in the artifacts that benchmarks are built
    from; a job needs models alone. Data sets that other packages keep in folders of their own are not ours to find.
    """
    from rankrepro import artifacts

    results = folder.parent
    scales = [f for f in results.glob("*") if f.is_dir()] if results.is_dir() else []
    truths = [f for top in [*(s / "benchmarks" for s in scales), cache / "benchmarks"] for f in _named(top, "truth")]
    judged = [s / part for s in scales for part in ("judged", "runs")]
    data = [a for a in artifacts.load_catalogue().values() if a.model is None]
    sources = [path for a in data if (path := artifacts.fetched(a, cache))]
    return [path for path in (*truths, *judged, *sources, ROOT / "reports") if path.exists()]


def _named(top: Path, name: str, depth: int = 4) -> Iterator[Path]:
    """Folders of that name at most `depth` levels below; what lies in them is not looked at."""
    for level in range(1, depth + 1):
        yield from (f for f in top.glob("/".join([*["*"] * (level - 1), name])) if f.is_dir())


def allowed(folder: Path, denied: set[Path]) -> Iterator[Path]:
    """The largest folders, and the files beside them, that have nothing denied below them."""
    above = {parent for path in denied for parent in path.parents}
    if folder in denied:
        return
    if folder not in above:
        yield folder
        return
    try:
        entries = sorted(folder.iterdir())
    except PermissionError:
        return  # what we cannot list we cannot allow piece by piece
    for entry in entries:
        if not entry.is_symlink():  # what it points to is allowed or denied at its own place
            yield from allowed(entry, denied)


def _allow(libc: ctypes.CDLL, rules: int, path: Path) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # gone since it was listed
    try:
        rule = _PathBeneath(READ_FILE, parent)
        done = libc.syscall(ADD_RULE, rules, PATH_BENEATH, ctypes.byref(rule), ctypes.c_uint32(0))
        if done < 0 and ctypes.get_errno() not in (errno.EINVAL, errno.EBADFD):  # a socket, or a file of the kernel's
            _checked(done)
    finally:
        os.close(parent)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result
