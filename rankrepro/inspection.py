"""Is a results folder whole? Every stored result against its digest, every benchmark and run against its hashes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from rankrepro import benchmarks
from rankrepro.errors import RankReproError, StoreError
from rankrepro.plan import nodes
from rankrepro.runs import read_run
from rankrepro.store import Store


def inspect(folder: Path) -> tuple[int, list[str]]:
    """(things checked, a line for each damaged one) of `results/<scale>`; a running job's temporary folders are not."""
    checked, damaged = 0, []
    for defect in (*_store(folder), *_benchmarks(folder), *_runs(folder)):
        checked += 1
        if defect:
            damaged.append(defect)
    return checked, damaged


def _store(folder: Path) -> Iterator[str]:
    store = Store(folder / "store")
    for path in sorted(p for p in store.folder.iterdir() if not p.name.startswith(".")):
        try:
            _stored(store, path.name)
            yield ""
        except RankReproError as error:
            yield str(error)


def _stored(store: Store, digest: str) -> None:
    """Raise a StoreError unless manifest, cost and output can be read and the manifest's specification fits."""
    manifest = store.manifest(digest)
    remedy = f"delete {store.path(digest)} and run the same command again: only this cell is recomputed"
    try:
        spec = manifest["spec"]
        described = nodes.digest(spec)
    except (KeyError, TypeError):
        raise StoreError(f"{store.path(digest)}: its manifest has no specification; {remedy}") from None
    if described != digest:
        raise StoreError(f"{store.path(digest)}: its manifest describes another result ({described[:12]}); {remedy}")
    store.cost(digest)
    if (store.path(digest) / "arrays.safetensors").exists():
        try:
            store.arrays(digest)
        except Exception as error:  # safetensors has an exception type of its own
            raise StoreError(f"{store.path(digest)}: damaged arrays ({error}); {remedy}") from error
    else:
        store.output(digest)


def _benchmarks(folder: Path) -> Iterator[str]:
    for marker in sorted((folder / "benchmarks").rglob(benchmarks.MARKER)):
        try:
            benchmark_id = json.loads(marker.read_text())["id"]
            benchmarks.load(marker.parent, benchmark_id)
            benchmarks.load_truth(marker.parent)
            yield ""
        except RankReproError as error:
            yield str(error)
        except (ValueError, KeyError):
            yield f"{marker} is damaged: delete {marker.parent} and run again"


def _runs(folder: Path) -> Iterator[str]:
    for file in sorted((folder / "runs").rglob("*.trec")):
        try:
            read_run(file)
            yield ""
        except RankReproError as error:
            yield str(error)
