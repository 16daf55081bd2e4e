"""Models and files of the hub. Its client resumes, verifies and renames file by file itself."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from rankrepro import files
from rankrepro.artifacts.catalogue import Artifact, Source
from rankrepro.artifacts.install import check_disk, disk_error
from rankrepro.errors import DISK_FULL, ArtifactError, first_line

STAND_INS = "RANKREPRO_STAND_INS"  # names the folder of stand-ins of a rehearsal (rankrepro.rehearsal)


def hub_dir(cache: Path) -> Path:
    """Where models of the hub lie: in the cache, in a rehearsal among the stand-ins."""
    stand_ins = os.environ.get(STAND_INS)
    return Path(stand_ins, "hub") if stand_ins else cache / "hub"


def snapshot(artifact: Artifact, cache: Path) -> Path:
    """The snapshot folder of a hub model under `hub_dir`, downloaded if it is not there."""
    from huggingface_hub import constants, snapshot_download

    hub = hub_dir(cache)

    def get() -> str:
        downloaded = sum(p.stat().st_size for p in hub.glob(f"{_repository(artifact)}/blobs/*"))
        hub.mkdir(parents=True, exist_ok=True)
        if not constants.HF_HUB_OFFLINE:  # then nothing is downloaded
            check_disk(hub, max(0, artifact.size - downloaded), artifact.id)
        return snapshot_download(
            artifact.name, revision=artifact.revision, cache_dir=hub, allow_patterns=list(artifact.members)
        )

    return Path(_typed(get, artifact.id, artifact.name, artifact.revision, hub))


def fetched_snapshot(artifact: Artifact, cache: Path) -> Path | None:
    """What `snapshot` returns, if it is there."""
    repository = hub_dir(cache) / _repository(artifact)
    branch = repository / "refs" / artifact.revision  # holds the commit of the branch at the time it was fetched
    folder = repository / "snapshots" / (branch.read_text().strip() if branch.is_file() else artifact.revision)
    return folder if folder.is_dir() else None


def changed(folder: Path) -> list[str]:
    """Files of a snapshot whose bytes are not the ones that were downloaded."""
    return [str(p.relative_to(folder)) for p in sorted(folder.rglob("*")) if p.is_file() and not _is_whole(p)]


def download(source: Source, target: Path, scratch: Path, what: str) -> None:
    """Write the files of `source.paths` below `target`."""
    from huggingface_hub import hf_hub_download

    if problem := _unreachable():
        raise ArtifactError(f"{what}: cannot reach the hub: {problem}")
    for path, name in source.paths.items():

        def get(name: str = name) -> str:
            return hf_hub_download(source.hub, name, revision=source.revision, local_dir=scratch / "hub")

        file = _typed(get, what, source.hub, source.revision, scratch.parent)
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        Path(file).rename(target / path)


@functools.cache
def _unreachable() -> str:
    """Why one request to the hub fails; empty if it does not. Its client tries for half a minute before it gives up."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:  # of whichever library the client uses
        return f"{constants.ENDPOINT}: {first_line(error)}"
    return ""


def _typed(get: Callable[[], str], what: str, repository: str, revision: str, folder: Path) -> str:
    """`get()`, with the errors of the client's three libraries as ours."""
    try:
        return get()
    except ArtifactError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise disk_error(error, folder, what) from error
        raise ArtifactError(
            f"{what}: cannot fetch {repository} at revision {revision}: {first_line(error)}\n"
            "  check the network (and that HF_HUB_OFFLINE is not set); for a gated model accept its licence on its "
            "page and run `hf auth login`; on a node without network, fetch it first from one with, into the same "
            "RANKREPRO_CACHE"
        ) from error


def _repository(artifact: Artifact) -> str:
    return f"models--{artifact.name.replace('/', '--')}"


def _is_whole(path: Path) -> bool:
    """Files of a snapshot link to blobs named by their hash: sha256, or for small files git's sha1."""
    name = path.resolve().name
    if len(name) == 64:
        return files.sha256(path) == name
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == name
