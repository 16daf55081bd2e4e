"""Put what a pack's jobs computed into the store, after checking every file of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankrepro.away import run
from rankrepro.cards import Card
from rankrepro.errors import PackError
from rankrepro.files import sha256
from rankrepro.plan import Plan, make_plan, write_jobs
from rankrepro.plan.nodes import digest as digest_of_node
from rankrepro.store import MANIFEST, Store, write_whole


@dataclass(frozen=True)
class Merged:
    """How many results and jobs were new, and how many of the pack are missing."""

    scale: str
    papers: Sequence[str]
    results: int
    jobs: int
    missing: int


def merge(folder: Path, cards: Mapping[str, Card], results: Path, partial: bool = False) -> Merged:
    """Check what came back in `folder` and put it into `results`/<scale>/store; all of it or, on any fault, nothing.

    folder   the pack's `back`, or the pack itself
    partial  take what there is of a run that did not end
    Raises PackError naming the file and what is wrong with it: a piece missing or changed, a result that the code as
    it stands would not make, one whose files are not those it lists, a run that did not end.
    """
    folder = folder / "back" if (folder / "back" / run.BACK).exists() else folder
    try:
        told = run.read(folder / run.BACK)
        pieces = run.check_pieces(folder, told["pieces"])
        if told["missing"] and not partial:
            raise run.PackFault(
                f"{folder}: {told['missing']} of {told['missing'] + len(told['digests'])} results are missing, for the "
                "run did not end: run it again there, or take what there is with --partial"
            )
        plan = make_plan(cards, told["scale"], list(told["papers"]))
        store = Store(results / told["scale"] / "store")
        store.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=store.folder.parent, prefix=".merge-") as scratch:
            run.unpack(pieces, Path(scratch))
            checked = [_checked(Path(scratch, "store", digest), plan) for digest in told["digests"]]
            new = [result for result in checked if not store.has(result.name)]
            for result in new:
                store.adopt(result)
            jobs = _mark(Path(scratch, "jobs"), plan, store)
    except run.PackFault as fault:
        raise PackError(str(fault)) from None
    except (KeyError, TypeError) as error:
        raise PackError(f"{folder / run.BACK} is not what run.py writes ({error!r}): copy it again") from None
    return Merged(told["scale"], told["papers"], len(new), jobs, told["missing"])


def _checked(folder: Path, plan: Plan) -> Path:
    """The folder of a result that is what its name, its manifest and the plan say."""
    digest = folder.name
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        spec, files = manifest["spec"], dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise run.PackFault(f"result {digest} has no manifest that can be read ({error}): run its job again") from None
    if digest not in plan.nodes:
        raise run.PackFault(
            f"result {digest} ({manifest.get('name', 'without a name')}) is none that the code here would make: it "
            "comes from another version; check that out, or pack and run again"
        )
    if manifest["digest"] != digest or digest_of_node(spec) != digest:
        raise run.PackFault(f"result {digest}: what its manifest says was run has another digest; run its job again")
    there = {file.name for file in folder.iterdir()} - {MANIFEST}
    if there != set(files):
        odd = sorted(there ^ set(files))[0]
        raise run.PackFault(
            f"result {digest}: {odd} is {'not listed' if odd in there else 'missing'}; run its job again"
        )
    for name, said in files.items():
        if (folder / name).stat().st_size != said["bytes"] or sha256(folder / name) != said["sha256"]:
            raise run.PackFault(f"result {digest}: {name} has changed since it was computed; run its job again")
    return folder


def _mark(markers: Path, plan: Plan, store: Store) -> int:
    """Mark the jobs of the plan whose results are all there now, those that others need first; how many were new."""
    folder = store.folder.parent / "jobs"
    write_jobs(plan, store.folder.parent)
    count = 0
    todo = dict(plan.jobs)
    while todo:
        id = next(id for id, job in todo.items() if not set(job.needs) & todo.keys())
        job, marker = todo.pop(id), folder / f"{id}.done"
        if all(store.has(node.digest) for node in job.nodes) and not marker.exists():
            away = markers / f"{id}.done"
            write_whole(marker, away.read_text(encoding="utf-8") if away.exists() else _unmeasured(job.seconds))
            count += 1
    return count


def _unmeasured(seconds: float) -> str:
    """The marker of a job whose results came from several."""
    told: dict[str, Any] = {"seconds": seconds, "spans": []}
    return json.dumps(told)
