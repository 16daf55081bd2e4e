"""Finished results by digest: a folder each, written to a temporary name, fsynced, renamed, immutable."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankrepro.errors import StoreError

if TYPE_CHECKING:
    import numpy as np


def digest_of(value: Any) -> str:
    """sha256 of the canonical JSON of `value`."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class Store:
    """`folder/<digest>/{output.json | arrays.safetensors, cost.json, manifest.json, history.json if it trained}`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        return self.folder / digest

    def has(self, digest: str) -> bool:
        return (self.path(digest) / "manifest.json").exists()

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
        """Store a result once; the same digest stored by another process meanwhile is as good as ours."""
        temporary = self.folder / f".tmp-{digest[:16]}-{os.getpid()}"
        try:
            self._make(self.folder)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            if arrays is not None:
                from safetensors.numpy import save_file

                save_file(dict(arrays), temporary / "arrays.safetensors")
            else:
                (temporary / "output.json").write_text(_dumps(output))
            (temporary / "cost.json").write_text(_dumps(cost))
            if history:
                (temporary / "history.json").write_text(_dumps(history))
            (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False))
            for file in temporary.iterdir():
                _fsync(file)
            try:
                temporary.rename(self.path(digest))
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            _fsync(self.folder)
            shutil.rmtree(self.folder.parent / "shards" / digest, ignore_errors=True)
        except OSError as error:
            raise StoreError(
                f"cannot write {self.path(digest)}: {error.strerror}; free disk space or make the folder writable, "
                "then run the same command again: finished cells are kept"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def output(self, digest: str) -> dict[str, Any]:
        """variant -> {"type": ..., "values": ...}."""
        return self._read(digest, "output.json")

    def cost(self, digest: str) -> dict[str, Any]:
        return self._read(digest, "cost.json")

    def history(self, digest: str) -> dict[str, list[list[float]]]:
        """name -> [step, value]; empty where nothing was logged."""
        return self._read(digest, "history.json") if (self.path(digest) / "history.json").exists() else {}

    def manifest(self, digest: str) -> dict[str, Any]:
        return self._read(digest, "manifest.json")

    def arrays(self, digest: str) -> dict[str, np.ndarray]:
        from safetensors.numpy import load_file

        return load_file(self.path(digest) / "arrays.safetensors")

    def _read(self, digest: str, name: str) -> dict[str, Any]:
        file = self.path(digest) / name
        try:
            return json.loads(file.read_text())
        except (FileNotFoundError, ValueError) as error:
            raise StoreError(
                f"{file} is missing or damaged ({type(error).__name__}); delete {file.parent} and run the same "
                "command again: only this cell is recomputed"
            ) from error

    def _make(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot create {path}: {error.strerror}; make the results folder writable") from error


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
