"""Finished results by digest: one folder each, written under a temporary name, fsynced, renamed, immutable."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankrepro.errors import DISK_FULL, StoreError
from rankrepro.files import sha256, sync

if TYPE_CHECKING:
    import numpy as np


MANIFEST = "manifest.json"
KEPT = "what is finished is kept"


def digest_of(value: Any) -> str:
    """sha256 of the canonical JSON of `value`."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@contextmanager
def room(folder: Path) -> Iterator[None]:
    """A full disk met in the block becomes a StoreError that says what to do; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise StoreError(no_room(folder)) from error


def no_room(folder: Path) -> str:
    return f"no space left for {folder}; free disk space, then run the same command again: {KEPT}"


def write_whole(file: Path, text: str) -> None:
    """Write a file so that others see all of it or nothing."""
    temporary = file.with_name(f".{file.name}.tmp-{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.rename(file)
    finally:
        temporary.unlink(missing_ok=True)


class Store:
    """`folder/<digest>/{output.json | arrays.safetensors, cost.json, manifest.json, history.json if it trained}`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        return self.folder / digest

    def has(self, digest: str) -> bool:
        """Whether a result is there, each file with the size it was written with."""
        folder = self.path(digest)
        try:
            files = self._files(digest)
            return all((folder / name).stat().st_size == file["bytes"] for name, file in files.items())
        except (OSError, ValueError):
            return False

    def shards(self, digest: str) -> Path:
        """Where a running cell keeps finished batches; removed when the cell is stored."""
        path = self.folder.parent / "shards" / digest
        self._make(path)
        return path

    def put(
        self,
        digest: str,
        manifest: Mapping[str, Any],
        cost: Mapping[str, Any],
        output: Any = None,
        arrays: Mapping[str, np.ndarray] | None = None,
        history: Mapping[str, Any] | None = None,
    ) -> None:
        """Store a result once; one that another process stored under the same digest is as good as ours.

        One process at a time puts a digest (Runner.alone): what others left half-written is removed.
        """
        temporary = self.folder / f".tmp-{digest[:16]}-{os.getpid()}"
        try:
            self._make(self.folder)
            for old in self.folder.glob(f".tmp-{digest[:16]}-*"):  # left by a killed process
                shutil.rmtree(old, ignore_errors=True)
            temporary.mkdir()
            if arrays is not None:
                from safetensors.numpy import save_file

                save_file(dict(arrays), temporary / "arrays.safetensors")
            else:
                (temporary / "output.json").write_text(_dumps(output))
            (temporary / "cost.json").write_text(_dumps(cost))
            if history:
                (temporary / "history.json").write_text(_dumps(history))
            files = {f.name: {"bytes": f.stat().st_size, "sha256": sha256(f)} for f in sorted(temporary.iterdir())}
            text = json.dumps({**manifest, "files": files}, indent=1, sort_keys=True, allow_nan=False)
            (temporary / MANIFEST).write_text(text)
            sync([*temporary.iterdir(), temporary])
            self._place(temporary, digest)
            sync([self.folder])
            self.forget_shards(digest)
        except OSError as error:
            raise StoreError(
                f"cannot write {self.path(digest)}: {error.strerror}; free disk space or make the folder writable, "
                f"then run the same command again: {KEPT}"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def adopt(self, folder: Path) -> None:
        """Move a whole result that was computed elsewhere into the store; `folder` has the digest's name."""
        sync([*folder.iterdir(), folder])
        self._place(folder, folder.name)
        sync([self.folder])

    def _place(self, temporary: Path, digest: str) -> None:
        """Rename to the final name, unless a whole result has it; a damaged one is replaced."""
        try:
            temporary.rename(self.path(digest))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if not self.has(digest):
                shutil.rmtree(self.path(digest))
                temporary.rename(self.path(digest))

    def forget_shards(self, digest: str) -> None:
        shutil.rmtree(self.folder.parent / "shards" / digest, ignore_errors=True)

    def output(self, digest: str) -> dict[str, Any]:
        """variant -> {"type": ..., "values": ...}."""
        return self._read(digest, "output.json")

    def cost(self, digest: str) -> dict[str, Any]:
        return self._read(digest, "cost.json")

    def history(self, digest: str) -> dict[str, list[list[float]]]:
        """name -> [step, value]; empty where nothing was logged."""
        return self._read(digest, "history.json") if (self.path(digest) / "history.json").exists() else {}

    def manifest(self, digest: str) -> dict[str, Any]:
        return self._read(digest, MANIFEST)

    def arrays(self, digest: str) -> dict[str, np.ndarray]:
        from safetensors.numpy import load

        return self._read(digest, "arrays.safetensors", load)

    def result(self, digest: str) -> dict[str, Any]:
        """What a stage or cell returned: its arrays by name, or the values of its Outputs by variant."""
        if "arrays.safetensors" in self.manifest(digest)["files"]:
            return self.arrays(digest)
        return {variant: stored["values"] for variant, stored in self.output(digest).items()}

    def _read(self, digest: str, name: str, parse: Callable[[bytes], Any] = json.loads) -> dict[str, Any]:
        """A file of a result, checked against its manifest. A damaged result is unmarked, so that it is made again.

        A complete result that never had such a file stays as it is: the caller is wrong.
        """
        file = self.path(digest) / name
        try:
            files = self._files(digest)
            if name != MANIFEST and files and name not in files:
                raise StoreError(
                    f"{file.parent} never had {name}, only {', '.join(sorted(files))}: ask for what it has"
                )
            data = file.read_bytes()
            if name in files and hashlib.sha256(data).hexdigest() != files[name]["sha256"]:
                raise ValueError("its bytes have changed")
            return parse(data)
        except (FileNotFoundError, ValueError) as error:
            with suppress(OSError):
                (file.parent / MANIFEST).unlink()
            raise StoreError(
                f"{file} is missing or damaged ({error}); run the same command again: only this result is recomputed"
            ) from error

    def _files(self, digest: str) -> dict[str, dict[str, Any]]:
        """Name -> bytes and sha256, from the manifest; none for a result stored before manifests had them."""
        return json.loads((self.path(digest) / MANIFEST).read_text()).get("files", {})

    def _make(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot create {path}: {error.strerror}; make the results folder writable") from error


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
