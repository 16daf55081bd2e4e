"""Benchmarks: what they are (cards), a static digest of each, how they are built and read.

    entry = get("vital/fever")                                  # its card
    build("vital/fever", cache_dir(), folder)                   # fetches what it needs, writes `folder`
    benchmark, truth = load(folder, "vital/fever"), load_truth(folder)
    register()                                                  # makes ours known to ir_datasets, in this process

A family is a module with `build(id, sources, params) -> (Benchmark, Truth)` and a card in config/benchmarks. If the
result depends on more than artifacts and parameters, the module has `fingerprint() -> str`. A family that is not about
queries and documents brings its own `write(folder, benchmark, truth)`, `read(folder, id)`, `read_truth(folder)`; its
benchmark has `id` and `units`.
A family of pictures whose poses differ from Freedoom's describes them in `POSES` (see `pose_units`).
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from rankrepro.benchmarks import base, copies, splits
from rankrepro.benchmarks.base import Benchmark, Truth
from rankrepro.benchmarks.cards import Entry, entries, families, get
from rankrepro.code import Code, Definition
from rankrepro.errors import BenchmarkError, StoreError
from rankrepro.files import sha256, sync

__all__ = ["Benchmark", "Entry", "Truth", "build", "corpus_digest", "digest", "entries", "families", "get", "load"]
__all__ += ["is_current", "load_truth", "pose_units", "register"]

CODE = Code(["rankrepro.benchmarks"])  # what the content of a benchmark depends on
log = logging.getLogger(__name__)
MARKER = "benchmark.json"
TRUTH = "truth/"
STOOD_IN = ("irds", "bright", "msls")  # builders that read upstream files, for which a rehearsal makes stand-ins


@cache
def digest(benchmark_id: str, stood_in: bool = False) -> str:
    """What identifies the content of a benchmark without building it: its code, parameters and sources.

    stood_in: in a rehearsal, where a local copy of upstream's files does not count.
    """
    entry = get(benchmark_id)
    return _hash({"id": benchmark_id, "params": entry.params, **_origin(entry, stood_in)})


@cache
def corpus_digest(benchmark_id: str, stood_in: bool = False) -> str:
    """The same for the corpus alone; equal for benchmarks that share it (the three of `vital`, of `vital-mini`)."""
    entry = get(benchmark_id)
    if "corpus" not in entry.params:
        return digest(benchmark_id, stood_in)
    return _hash({"corpus": entry.params["corpus"], **_origin(entry, stood_in)})


def build(benchmark_id: str, cache: Path, folder: Path) -> Path:
    """Build a benchmark into `folder`, unless it is there already, and return `folder`.

    Artifacts are taken from `cache` or fetched. The folder appears whole or not at all and replaces an older one.
    Raises BenchmarkError if the counts are not those of the card, StoreError if `folder` cannot be written.
    """
    entry = get(benchmark_id)
    if is_current(benchmark_id, folder):
        return folder
    from rankrepro import artifacts

    catalogue = artifacts.load_catalogue()
    sources = {a: artifacts.fetch(artifacts.find(catalogue, a, entry.family), cache) for a in entry.artifacts}
    benchmark, truth = _builder(entry).build(benchmark_id, sources, entry.params)
    counts = count(benchmark, truth)
    if not (artifacts.STAND_INS in os.environ and entry.builder in STOOD_IN):  # in miniature, in a rehearsal
        check_counts(entry, counts)
    try:
        _write(entry, folder, benchmark, truth, counts)
    except OSError as error:
        raise StoreError(f"{folder} cannot be written ({error.strerror}); free space or name another folder") from error
    return folder


def is_current(benchmark_id: str, folder: Path) -> bool:
    """Whether `folder` holds the benchmark as it would be built today."""
    return _marker(folder).get("digest") == digest(benchmark_id)


def copies_of(benchmark_id: str, folders: Iterable[Path]) -> copies.Copies | None:
    """What a build of today found out about copies in the corpus (`copies.count`); None where no folder holds one.

    folders: each of built benchmarks.
    """
    for folder in folders:
        if is_current(benchmark_id, folder / benchmark_id) and "copies" in (told := _marker(folder / benchmark_id)):
            return told["copies"]
    return None


def load(folder: Path, benchmark_id: str) -> Benchmark:
    """The inputs of a built benchmark; truth is not opened. Raises BenchmarkError for missing or changed files."""
    marker = _verified(folder, lambda name: not name.startswith(TRUTH))
    if marker["id"] != benchmark_id:
        raise BenchmarkError(f"{folder} holds {marker['id']}, not {benchmark_id}: delete it and run again")
    return getattr(_builder(get(benchmark_id)), "read", base.read)(folder, benchmark_id)


def load_truth(folder: Path) -> Truth:
    """Judgments and clusters of a built benchmark, for the judge alone. Raises BenchmarkError for changed files."""
    marker = _verified(folder, lambda name: name.startswith(TRUTH))
    return getattr(_builder(get(marker["id"])), "read_truth", base.read_truth)(folder)


def truth_identity(folder: Path) -> dict[str, str]:
    """The digest a benchmark was built under, and one sha256 of its truth. BenchmarkError where a file has changed."""
    marker = _verified(folder, lambda name: name.startswith(TRUTH))
    files = {name: told for name, told in marker["files"].items() if name.startswith(TRUTH)}
    return {"benchmark": marker["digest"], "sha256": _hash(files)}


def pose_units(benchmark_id: str) -> tuple[str, float] | None:
    """What the first part of a pose is called, and a metre in units of its x and y, where a builder has its own."""
    return getattr(_builder(get(benchmark_id)), "POSES", None)


def register(results: Path | None = None) -> list[str]:
    """Register ours with ir_datasets as `rankrepro/<id>` and `rankrepro/<id>/<split>`; returns the new ids.

    A benchmark is read, and built first if necessary, when it is used: in `results`, a folder of built
    benchmarks, or in the cache. Not done on import, because importing ir_datasets takes 0.3 s.
    """
    from rankrepro.benchmarks import registered

    text = (e for e in entries() if not hasattr(_builder(e), "read"))
    ours = {entry.id: entry.splits for entry in text}
    return registered.register(ours, registered.default_loader(results))


def count(benchmark: Any, truth: Any) -> dict[str, int]:
    """The numbers a card states: of queries (and in each split), documents, judgments, components and clusters."""
    if not isinstance(benchmark, Benchmark):
        return {"units": len(benchmark.units)}
    by_split = Counter(q.split for q in benchmark.queries.values())
    components = splits.components(truth.qrels)
    return {
        "queries": len(benchmark.queries),
        "documents": len(benchmark.corpus),
        "judged": sum(len(judged) for judged in truth.qrels.values()),
        "relevant": sum(len(splits.relevant(judged)) for judged in truth.qrels.values()),
        **{split: by_split[split] for split in base.SPLITS},
        "components": len(set(components.values())),
        "largest_component": splits.largest(components),
        "clusters": len(set(truth.clusters.values())),
        "largest_cluster": splits.largest(truth.clusters),
    }


def check_counts(entry: Entry, counts: Mapping[str, int]) -> None:
    """BenchmarkError unless the counts are those of the card, within its tolerance."""
    for name, expected in entry.counts.items():
        if abs(counts[name] - expected) > entry.tolerance * expected:
            raise BenchmarkError(
                f"{entry.id}: {name} is {counts[name]}, its card says {expected}: the sources are not the ones the "
                f"card was written for. Check the versions of artifacts and packages, or correct "
                f"config/benchmarks/{entry.family}.yaml"
            )


def _builder(entry: Entry) -> ModuleType:
    return importlib.import_module(f"rankrepro.benchmarks.{entry.builder}")


def _part(entry: Entry, name: str) -> Definition:
    """Where a builder's `build`, `write` or `read` is defined: its own, or base's."""
    part = CODE.resolve(f"rankrepro.benchmarks.{entry.builder}.{name}")
    return part if part and part.name == name else Definition("rankrepro.benchmarks.base", name)


def _origin(entry: Entry, stood_in: bool) -> dict[str, Any]:
    from rankrepro import artifacts

    catalogue = artifacts.load_catalogue()
    made_here = stood_in and entry.builder in STOOD_IN
    fingerprint = None if made_here else getattr(_builder(entry), "fingerprint", None)
    return {
        "code": {part: CODE.digest(_part(entry, part)) for part in ("build", "write", "read")},
        "artifacts": {a: artifacts.find(catalogue, a, entry.family).digest for a in entry.artifacts},
        "fingerprint": fingerprint() if fingerprint else "",
    }


def _write(entry: Entry, folder: Path, benchmark: Any, truth: Any, counts: Mapping[str, int]) -> None:
    found = copies.count(benchmark, truth)
    if found.get("unjudged"):
        log.warning("%s: %s", entry.id, copies.words(found))
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        getattr(_builder(entry), "write", base.write)(new, benchmark, truth)
        names = sorted(p.relative_to(new).as_posix() for p in new.rglob("*") if p.is_file())
        marker = {
            "id": entry.id,
            "digest": digest(entry.id),
            "counts": counts,
            "copies": found,
            "files": {name: sha256(new / name) for name in names},
        }
        (new / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
        sync([*(new / name for name in names), new / MARKER, new])
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _marker(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}


def _verified(folder: Path, relevant: Any) -> dict[str, Any]:
    marker = _marker(folder)
    if not marker:
        raise BenchmarkError(f"{folder / MARKER} is missing or unreadable: delete {folder} and run again")
    for name, expected in marker["files"].items():
        if relevant(name) and (not (folder / name).is_file() or sha256(folder / name) != expected):
            with suppress(OSError):
                (folder / MARKER).unlink()  # so that it is built again
            raise BenchmarkError(
                f"{folder / name} is missing or has changed since it was built: run again, and it is built again"
            )
    return marker


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
