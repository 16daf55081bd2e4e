"""The disturbances. A scene disturbs a trial, lets the same command complete it, and tells what it did and cost."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chaos.mlflow_scenes import MLFLOW
from chaos.world import CORES, Skip, Told, Trial, World, expect, kill_tree, said, tail, tell, until, workers
from rankrepro.artifacts import cache_dir, load_catalogue

# --- killed ---


def killed(world: World, rng: random.Random) -> Told:
    """SIGKILL of the whole process tree at a random moment, up to four times in a row."""
    moments: list[float] = []
    latest = world.seconds
    while not moments:  # a machine that has become faster may complete before the first moment
        trial, seconds = world.fresh(), None
        while len(moments) < 4 and seconds is None:
            moment, begun = rng.uniform(1.0, latest), time.monotonic()
            run = trial.start()
            try:
                output, _ = run.communicate(timeout=moment)
                expect(run.returncode == 0, f"the same command completes; it said: {tail(output)}")
                seconds = time.monotonic() - begun
            except subprocess.TimeoutExpired:
                kill_tree(run, trial.folder)
                moments.append(moment)
        latest = max(2.0, latest / 2)
    what = f"after {', '.join(f'{m:.1f}' for m in moments)} s"
    return _complete_killed(world, trial, what, len(moments), seconds)


def killed_in_a_cell(world: World, rng: random.Random) -> Told:
    """The same, at a random batch of the cells, so that every kill tears work."""
    trial = world.prepared()
    marks = sorted(rng.sample(range(1, world.batches), 3))
    kills = 0
    for mark in marks:
        run = trial.start()
        if until(lambda mark=mark: sum(map(len, trial.batches().values())) >= mark, run):
            kill_tree(run, trial.folder)
            kills += 1
    return _complete_killed(world, trial, f"as batches {', '.join(map(str, marks))} began", kills)


def main_killed(world: World, rng: random.Random) -> Told:
    """SIGKILL of the main process alone; its jobs work on while the same command starts."""
    trial = world.prepared()
    run = trial.start()
    mark = rng.randrange(1, world.batches)
    until(lambda: sum(map(len, trial.batches().values())) >= mark, run)
    run.kill()
    orphans = len(workers(trial.folder))
    told = tell(world, trial, f"as batch {mark} began", most=0)
    expect(orphans > 0, "jobs outlive the main process, else this scene shows nothing")
    trial.ended(run)
    return told


def _complete_killed(world: World, trial: Trial, what: str, kills: int, seconds: float | None = None) -> Told:
    seconds = seconds or trial.complete()
    world.same(trial)
    lost, again = trial.lost(), trial.again()
    expect(lost <= 1, f"a killed job loses at most one batch, not {lost}")
    expect(again <= CORES * kills, f"{kills} kills of at most {CORES} jobs lose no more batches than jobs, not {again}")
    return Told(what, kills, again, seconds, lost=lost)


# --- a full disk ---


def full_before(world: World, rng: random.Random) -> Told:
    """The results folder on a small disk that has too little room from the start."""
    room = rng.randrange(0, 2_000_000)
    with _disk(world) as (trial, ballast):
        _fill(ballast, room)
        error = trial.fail("StoreError", "free")
        ballast.unlink()
        return tell(world, trial, f"{room / 1e6:.1f} MB of room at the start", error=error)


def full_meanwhile(world: World, rng: random.Random) -> Told:
    """The results folder on a small disk that another program fills while the run works."""
    mark = rng.randrange(1, world.batches)
    with _disk(world) as (trial, ballast):
        run = trial.start()
        until(lambda: sum(map(len, trial.batches().values())) >= mark, run)
        _fill(ballast, 0)
        error = said(*trial.ended(run), "StoreError", "free")
        ballast.unlink()
        return tell(world, trial, f"no room left as batch {mark} began", error=error)


@contextmanager
def _disk(world: World) -> Iterator[tuple[Trial, Path]]:
    """A fresh trial with its results folder on a tmpfs of 16 MB, and the ballast to fill it with."""
    trial = world.fresh()
    results = trial.folder / "results"
    results.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "chaos", str(results)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        raise Skip(f"a small disk cannot be mounted: {done.stderr.strip()}")
    try:
        yield trial, results / "ballast"
    finally:
        subprocess.run(["umount", "-l", str(results)], check=True)


def _fill(ballast: Path, room: int) -> None:
    """Write until `room` bytes are free."""
    with ballast.open("wb") as file, suppress(OSError):
        while (free := shutil.disk_usage(ballast.parent).free - room) > 0:
            file.write(bytes(min(free, 1 << 16)))
            file.flush()


# --- damaged files ---


def flip(file: Path, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def truncate(file: Path, rng: random.Random) -> None:
    os.truncate(file, rng.randrange(file.stat().st_size))


def delete(file: Path, rng: random.Random) -> None:
    file.unlink()


def artifact(world: World, rng: random.Random) -> Told:
    """An artifact in the cache changed by one bit, cut short, or gone."""
    entry = load_catalogue()["vital-articles"]
    cache = world.folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    for id in ("vital-articles", "anserini-topics"):
        folder = load_catalogue()[id].folder
        shutil.copytree(cache_dir() / "artifacts" / folder, cache / "artifacts" / folder)
    trial = world.fresh()
    trial.extra["RANKREPRO_CACHE"] = str(cache)
    harm = rng.choice([flip, truncate, delete])
    harm(cache / "artifacts" / entry.folder / entry.members[0], rng)
    return tell(world, trial, f"{entry.id}: {harm.__name__}", most=0)


def shard(world: World, rng: random.Random) -> Told:
    """A killed run's shards damaged: a line cut, a bit changed, foreign lines, the file empty or gone."""
    harms = [flip, truncate, delete, _foreign, _emptied]
    trial = world.prepared()
    run = trial.start()
    expect(until(lambda: any(_lines(f) >= 3 for f in _shards(trial)), run), "there are shards")
    kill_tree(run, trial.folder)
    harmed = max(_shards(trial), key=_lines)
    harm = rng.choice(harms)
    batches = _lines(harmed)
    harm(harmed, rng)
    name = harm.__name__.strip("_")
    return tell(world, trial, f"{batches} batches of a cell: {name}", most=batches + 2)


def _shards(trial: Trial) -> list[Path]:
    """Half-done work as it lies there; none if a job ends, and clears its own away, while we look."""
    with suppress(FileNotFoundError):
        return list(trial.results.glob("shards/*/*.jsonl"))
    return []


def _lines(file: Path) -> int:
    with suppress(FileNotFoundError):
        return len(file.read_bytes().splitlines())
    return 0


def _foreign(file: Path, rng: random.Random) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    foreign = rng.choice([b"null\n", b"{}\n", b"\xff\xfe\n", b'{"values": 3, "cost": null}\n', b"\n"])
    lines.insert(rng.randrange(len(lines) + 1), foreign)
    file.write_bytes(b"".join(lines))


def _emptied(file: Path, rng: random.Random) -> None:
    file.write_bytes(b"")


def result(world: World, rng: random.Random) -> Told:
    """A stored result: a file of it cut short or gone, the folder half removed or gone."""
    trial = world.finished()
    folder = rng.choice(_counted(trial))
    harm = rng.choice([truncate, delete])
    which = rng.choice(["output", "cost.json", "manifest.json", "all"])
    files = sorted(f for f in folder.iterdir() if which == "all" or f.name.startswith((which, "arrays")))
    files = [f for f in files if not (which.endswith("json") and f.name.startswith("arrays"))]
    if which == "all":
        shutil.rmtree(folder)
        what = "the whole folder: delete"
    else:
        harm(files[0], rng)
        what = f"{files[0].name}: {harm.__name__}"
    return tell(world, trial, what, most=_batches_of(trial, folder.name, world))


def result_changed(world: World, rng: random.Random) -> Told:
    """A stored result changed by one bit, found when it is read to be judged again."""
    trial = world.finished()
    folder = rng.choice(_counted(trial))
    file = rng.choice([f for f in sorted(folder.iterdir()) if f.name == "cost.json" or f.name.startswith("output")])
    flip(file, rng)
    shutil.rmtree(trial.results / "judged")
    error = trial.fail("StoreError", "run the same command again")
    return tell(world, trial, f"{file.name}: flip", error=error, most=_batches_of(trial, folder.name, world))


def _counted(trial: Trial) -> list[Path]:
    """Stored folders whose batches are noted: all but the timing's."""
    return sorted(trial.results / "store" / digest for digest in trial.store())


def _batches_of(trial: Trial, digest: str, world: World) -> int:
    manifest = json.loads((world.base.results / "store" / digest / "manifest.json").read_text())
    name = f"{manifest['name']} {manifest['spec']['seed']} "
    return sum(b.startswith(name) for batches in world.base.batches().values() for b in batches)


def leftovers(world: World, rng: random.Random) -> Told:
    """What a killed process leaves: a temporary folder, shards, a torn marker and job file, a marker without result."""
    trial = world.finished()
    victim = rng.choice(_counted(trial))
    _write(trial.results / "store" / f".tmp-{victim.name[:16]}-99999" / "output.json", '{"main"')
    _write(trial.results / "shards" / victim.name / "units.jsonl", '{"values"')
    _write(trial.results / "progress" / "0000000000000000.json", '{"node')
    shutil.rmtree(victim)
    for job in trial.results.glob("jobs/*.done"):
        job.write_text(rng.choice(["", '{"started": 17', "null", "[]"]))
        job.with_suffix(".json").write_text('{"id": "')
    what = "a temporary folder and shards without result, torn markers and job files"
    return tell(world, trial, what, most=_batches_of(trial, victim.name, world))


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def benchmark(world: World, rng: random.Random) -> Told:
    """A file of a built benchmark cut short, changed or gone while its results must be computed again."""
    trial = world.finished()
    shutil.rmtree(trial.results / "store")
    files = sorted(f for f in trial.results.glob("benchmarks/**/*") if f.is_file() and f.name != "benchmark.json")
    file, harm = rng.choice(files), rng.choice([flip, truncate, delete])
    harm(file, rng)
    error = trial.fail("BenchmarkError", "run")
    return tell(world, trial, f"{file.name}: {harm.__name__}", error=error, most=2 * world.batches)


SCENES: dict[str, Callable[[World, random.Random], Told]] = {
    f.__name__: f
    for f in (
        killed, killed_in_a_cell, main_killed, full_before, full_meanwhile, artifact, shard, result, result_changed,
        leftovers, benchmark, *MLFLOW,
    )
}  # fmt: skip
