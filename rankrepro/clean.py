"""What no card needs any more, at any scale, in results folders and in the cache."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rankrepro import artifacts, benchmarks, downloads, lock, models
from rankrepro.cards import Card
from rankrepro.errors import BenchmarkError, StoreError, UnknownName
from rankrepro.models.conversion import CONVERSIONS
from rankrepro.plan import make_plan, scales


@dataclass
class Needed:
    """Digests of stored results, benchmark ids and artifact ids that plans name."""

    digests: set[str] = field(default_factory=set)
    benchmarks: set[str] = field(default_factory=set)
    artifacts: set[str] = field(default_factory=set)
    papers: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Leftover:
    """A file or folder that may go; `shared`: it is in the cache, which all clones of the project use."""

    path: Path
    kind: str
    why: str
    shared: bool = False

    @property
    def size(self) -> int:
        """Bytes of its files; a symbolic link counts as 0, because removing it frees nothing."""
        files = self.path.rglob("*") if self.path.is_dir() and not self.path.is_symlink() else [self.path]
        return sum(f.lstat().st_size for f in files if not f.is_symlink() and f.is_file())


def needed(cards: Mapping[str, Card], of: Iterable[str] | None = None) -> Needed:
    """What the plans of all cards need at the scales `of` (None: all of them). Raises what planning raises."""
    need = Needed()
    for scale in scales() if of is None else of:
        plan = make_plan(cards, scale)
        need.digests |= set(plan.nodes)
        need.papers |= set(plan.papers)
        need.benchmarks |= {b for ids in plan.benchmarks.values() for b in ids}
        need.benchmarks |= {n.benchmark for n in plan.nodes.values()}
        need.artifacts |= downloads.needed(plan)
    for benchmark in need.benchmarks:
        need.artifacts |= set(benchmarks.get(benchmark).artifacts)
    return need


def leftovers(cards: Mapping[str, Card], results: Path, cache: Path) -> list[Leftover]:
    """What may go from `results` (the folder above the scales) and from `cache`, in the order of the paths."""
    need = needed(cards)
    of_scales = [x for scale in scales() if (results / scale).is_dir() for x in _of_scale(results / scale, need)]
    return of_scales + list(_of_cache(cache, need))


def remove(entries: Iterable[Leftover], results: Path) -> int:
    """Delete them and return the bytes freed. LockedError, with nothing deleted, while a run uses a folder."""
    chosen = list(entries)
    for scale in {p.relative_to(results).parts[0] for p in (x.path for x in chosen) if p.is_relative_to(results)}:
        lock.hold(results / scale)
    freed = 0
    for x in chosen:
        size = x.size
        try:
            _remove(x.path)
        except OSError as error:
            raise StoreError(f"cannot delete {x.path}: {error.strerror}; make it writable and run again") from error
        freed += size
    return freed


def _remove(path: Path) -> None:
    """Rename first, so that a kill in the middle leaves no half of a result under its name."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    doomed = path.with_name(f".tmp-gone-{os.getpid()}-{path.name}")
    path.rename(doomed)
    shutil.rmtree(doomed)


# --- a results folder ------------------------------------------------------------------------------------------------


def _of_scale(folder: Path, need: Needed) -> Iterator[Leftover]:
    for kind in ("store", "shards"):
        for path in _children(folder / kind):
            if path.name not in need.digests:
                why = "left by a killed process" if path.name.startswith(".tmp-") else "no plan names this digest"
                yield Leftover(path, kind, why)
    yield from _jobs(folder, need)
    short = {d[:12] for d in need.digests}
    for path in sorted((folder / "runs").rglob("*.*")):
        if path.is_file() and path.stem.rpartition("-")[2] not in short:
            yield Leftover(path, "run", "of a result that no plan names")
    for path in _children(folder / "judged"):
        if path.name not in need.papers:
            yield Leftover(path, "judged", "no card with a method has this key")
    yield from _benchmarks(folder / "benchmarks", need.benchmarks, "built differently from today, or of no card")


def _jobs(folder: Path, need: Needed) -> Iterator[Leftover]:
    """A job is current while all its results are: which jobs a run has depends on the papers it was asked for."""
    for file in sorted((folder / "jobs").glob("*.json")):
        try:
            digests = {n["digest"] for n in json.loads(file.read_text())["nodes"]}
        except (ValueError, KeyError, TypeError):
            digests = {"unreadable"}
        if digests <= need.digests:
            continue
        for path in (file, file.with_suffix(".done"), folder / "logs" / "jobs" / f"{file.stem}.log"):
            if path.exists():
                yield Leftover(path, "job", "has results no plan names")


def _benchmarks(folder: Path, needed: set[str] | None, why: str, shared: bool = False) -> Iterator[Leftover]:
    """Built benchmarks with another digest than today's, or not among `needed` (None: any that has a card)."""
    for marker in sorted(folder.rglob(benchmarks.MARKER)):
        try:
            benchmark_id = json.loads(marker.read_text())["id"]
            # a hidden folder is one that a killed clean or build left
            current = benchmarks.is_current(benchmark_id, marker.parent) and not marker.parent.name.startswith(".")
            known = needed is None or benchmark_id in needed
        except (ValueError, KeyError, BenchmarkError, UnknownName):
            current = known = False
        if not (current and known):
            yield Leftover(marker.parent, "benchmark", why, shared)


# --- the cache -------------------------------------------------------------------------------------------------------


def _of_cache(cache: Path, need: Needed) -> Iterator[Leftover]:
    """Other versions than the pinned ones, artifacts of no plan, and what killed processes left."""
    catalogue = [a for a in artifacts.load_catalogue().values() if a.id in need.artifacts]
    keep = {a.folder for a in catalogue}
    converted = {models.folder_name(a) for a in catalogue if a.model and a.model.format in CONVERSIONS}
    hub = {f"models--{a.name.replace('/', '--')}" for a in catalogue if a.source == "hub"}
    for kind, names in (("artifacts", keep), ("models", converted), ("hub", hub)):
        for path in _children(cache / kind):
            hidden = path.name.startswith(".")  # locks and temporary folders, which the next fetch sweeps itself
            if path.is_dir() and not hidden and path.name not in names:
                yield Leftover(path, f"cached {kind}", "another version, or no plan needs it", shared=True)
    yield from _benchmarks(cache / "benchmarks", None, "built otherwise than today", shared=True)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
