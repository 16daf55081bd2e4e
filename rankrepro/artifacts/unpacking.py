"""Named members of archives, and nothing else of them, written below a folder."""

from __future__ import annotations

import difflib
import io
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import IO

from rankrepro.errors import ArtifactError

MANIFEST = "artifact.json"
CHUNK = 1 << 20


def from_zip(archive: Path, paths: Mapping[str, str], target: Path, what: str) -> None:
    """Write `paths` (file below `target` -> member); `outer!inner` is a member of a zip inside of the zip.

    `what` names the archive in errors: ArtifactError for a missing or unsafe member, or for what is not a zip.
    """
    with ExitStack() as stack:
        opened: dict[str, zipfile.ZipFile] = {}

        def archive_of(outer: str) -> zipfile.ZipFile:
            if outer not in opened:
                try:
                    file = io.BytesIO(opened[""].read(_entry(opened[""], outer, what))) if outer else archive
                    opened[outer] = stack.enter_context(zipfile.ZipFile(file))
                except zipfile.BadZipFile as error:
                    raise ArtifactError(f"{what}: {outer or archive.name} is not a zip archive") from error
            return opened[outer]

        archive_of("")
        for path, member in paths.items():
            outer, _, inner = member.rpartition("!")
            where = archive_of(outer)
            with where.open(_entry(where, inner, what)) as source:
                _write(source, path, target, what)


def from_tar(archive: Path, paths: Mapping[str, str], target: Path, what: str) -> None:
    """As `from_zip` for a tar archive, compressed or not, read once from its start to the last member wanted."""
    wanted = {member: path for path, member in paths.items()}
    seen: list[str] = []
    try:
        with tarfile.open(archive, "r|*") as stream:
            for entry in stream:
                seen.append(entry.name)
                if (path := wanted.pop(entry.name, None)) is not None:
                    source = stream.extractfile(entry) if entry.isreg() else None
                    if source is None:
                        raise _not_a_file(entry.name, what)
                    _write(source, path, target, what)
                if not wanted:
                    return
    except (tarfile.TarError, EOFError) as error:
        raise ArtifactError(f"{what}: {archive.name} cannot be read as a tar archive: {error}") from error
    raise _missing(min(wanted), seen, what)


def append(archive: Path, member: str, out: IO[bytes], what: str) -> None:
    """Write a member of a zip behind what `out` has already: the next part of a file."""
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(_entry(opened, member, what)) as source:
            shutil.copyfileobj(source, out, CHUNK)
    except zipfile.BadZipFile as error:
        raise ArtifactError(f"{what}: {archive.name} is not a zip archive") from error


def unsafe(member: str) -> str:
    """Why `member` must not be used as a path below a folder; empty if it may."""
    path = PurePosixPath(member)
    if not member or str(path) != member:
        return "is not a plain relative path"
    if path.is_absolute() or re.match(r"[A-Za-z]:", member):
        return "is an absolute path"
    if ".." in path.parts or "\\" in member or "\0" in member:
        return "could leave the artifact's folder"
    return "is a reserved name" if member == MANIFEST else ""


def _write(source: IO[bytes], path: str, target: Path, what: str) -> None:
    if problem := unsafe(path):
        raise ArtifactError(f"{what}: member '{path}' {problem}; nothing was unpacked")
    file = target / path
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.resolve().is_relative_to(target.resolve()):
        raise ArtifactError(f"{what}: member '{path}' leaves the artifact's folder")
    with file.open("xb") as out:
        shutil.copyfileobj(source, out, CHUNK)


def _entry(archive: zipfile.ZipFile, name: str, what: str) -> zipfile.ZipInfo:
    """The regular file `name` of `archive`."""
    try:
        entry = archive.getinfo(name)
    except KeyError:
        raise _missing(name, archive.namelist(), what) from None
    if entry.is_dir() or stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        raise _not_a_file(name, what)
    return entry


def _missing(name: str, there: list[str], what: str) -> ArtifactError:
    near = difflib.get_close_matches(name, there, n=1)
    hint = f"; the nearest is '{near[0]}'" if near else ""
    return ArtifactError(f"{what} has no member '{name}'{hint}. Correct it in config/artifacts.yaml")


def _not_a_file(name: str, what: str) -> ArtifactError:
    return ArtifactError(f"{what}: member '{name}' is a link or folder, not a file; nothing was unpacked")
