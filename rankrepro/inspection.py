"""Is a results folder whole? Every stored result against its digest, every benchmark and run against its hashes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from rankrepro import benchmarks
from rankrepro.errors import RankReproError, StoreError
from rankrepro.judge.published import read_json
from rankrepro.plan import nodes
from rankrepro.report.shelf import PUBLISHED
from rankrepro.runs import read_run
from rankrepro.store import Store


def inspect(folder: Path, published: Path = PUBLISHED) -> tuple[int, list[str]]:
    """(things checked, a line for each damaged one) of `results/<scale>`; a running job's temporary folders are not.

    published: reports whose results say what the truth of their benchmarks was.
    """
    checked, damaged = 0, []
    for defect in (*_store(folder), *_benchmarks(folder, _truths(published)), *_runs(folder)):
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


def _benchmarks(folder: Path, truths: Mapping[tuple[str, str], tuple[str, str]]) -> Iterator[str]:
    for marker in sorted((folder / "benchmarks").rglob(benchmarks.MARKER)):
        try:
            benchmark_id = json.loads(marker.read_text())["id"]
            benchmarks.load(marker.parent, benchmark_id)
            benchmarks.load_truth(marker.parent)
            truth = benchmarks.truth_identity(marker.parent)
            known, paper = truths.get((benchmark_id, truth["benchmark"]), (truth["sha256"], ""))
            remedy = f"delete {marker.parent} and run again, it is built anew"
            other = f"{marker.parent / 'truth'} is not the truth that {paper} was judged against: {remedy}"
            yield other if known != truth["sha256"] else ""
        except RankReproError as error:
            yield str(error)
        except (ValueError, KeyError):
            yield f"{marker} is damaged: delete {marker.parent} and run again"


def _truths(published: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """(Benchmark, digest of its build) -> sha256 of its truth and the published paper that says so.

    A forger of a truth forges the hash beside it as well; this one is committed.
    """
    found = {}
    for file in sorted(published.glob("*/results.json")):
        for benchmark, truth in read_json(file).get("provenance", {}).get("truth", {}).items():
            found[benchmark, truth["benchmark"]] = truth["sha256"], file.parent.name
    return found


def _runs(folder: Path) -> Iterator[str]:
    for file in sorted((folder / "runs").rglob("*.trec")):
        try:
            read_run(file)
            yield ""
        except RankReproError as error:
            yield str(error)
