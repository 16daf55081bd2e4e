"""Typed errors. Each message says what is wrong, where, and what to do next."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what an OSError says when there is no room


def first_line(error: Exception) -> str:
    """The first line of an error's message, or the name of its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class RankReproError(Exception):
    """Base of every error that a user can cause or fix."""


class ConfigError(RankReproError):
    """A configuration, scale file or card that cannot be used."""


class UnknownName(ConfigError):
    """A key, scale, paper, arm, benchmark or measure that does not exist."""

    def __init__(self, kind: str, name: str, known: Iterable[str], where: str = "") -> None:
        options = sorted(known)
        near = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(options) or 'none'}"
        super().__init__(f"{where + ': ' if where else ''}unknown {kind} '{name}'; {hint}")


class ArtifactError(RankReproError):
    """An artifact that cannot be fetched, verified or unpacked."""


class ChecksumMismatch(ArtifactError):
    """Bytes that are not the ones the project pins."""


class DiskBudgetError(ArtifactError):
    """Too little free disk for what is about to be written."""


class BenchmarkError(RankReproError):
    """A benchmark that cannot be built, loaded or judged."""


class OutputError(RankReproError):
    """A cell returned something that cannot be ranked or judged."""


class RunFileError(RankReproError):
    """A truncated, malformed or foreign run file."""


class StoreError(RankReproError):
    """A results folder that cannot be read or written."""


class PackError(RankReproError):
    """A pack for another machine, or what came back from one, that cannot be used."""


class LockedError(RankReproError):
    """Another run holds this results folder."""


class ClaimError(ConfigError):
    """A claim whose expression cannot be evaluated."""


class TrackingError(RankReproError):
    """An MLflow store that cannot be reached or written."""
