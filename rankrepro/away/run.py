"""Run the jobs of a pack and write what they computed, to be taken home: `python run.py --help`.

Needs Python, torch and transformers, nothing else: no internet, no installation. Continues where it was interrupted.
What is to go home lies in the folder `back` beside this script.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO, Any

PACK, BACK = "pack.json", "back.json"
HERE = Path(__file__).resolve().parent
NEEDED = ("torch", "transformers")


class PackFault(Exception):
    """A pack that cannot be used, and what to do about it."""


# --- archives in pieces ----------------------------------------------------------------------------------------------


class _Writer(io.RawIOBase):
    """A stream that is cut into files of at most `limit` bytes: `<stem>-001.tar` and so on."""

    def __init__(self, folder: Path, stem: str, limit: int) -> None:
        self.folder, self.stem, self.limit = folder, stem, limit
        self.pieces: list[Path] = []
        self._left = 0
        self._file: IO[bytes] | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            if not self._left:
                self._next()
            part = view[done : done + self._left]
            assert self._file is not None
            self._file.write(part)
            self._left -= len(part)
            done += len(part)
        return done

    def _next(self) -> None:
        if self._file:
            self._file.close()
        self.pieces.append(self.folder / f"{self.stem}-{len(self.pieces) + 1:03}.tar")
        self._file, self._left = self.pieces[-1].open("wb"), self.limit

    def close(self) -> None:
        if self._file:
            self._file.close()
        super().close()


class _Reader(io.RawIOBase):
    """Pieces read as one stream."""

    def __init__(self, pieces: Sequence[Path]) -> None:
        self._pieces = iter(pieces)
        self._file: Any = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._file is None:
                piece = next(self._pieces, None)
                if piece is None:
                    return 0
                self._file = piece.open("rb")
            if count := self._file.readinto(buffer):
                return count
            self._file.close()
            self._file = None


def write_pieces(folder: Path, stem: str, limit: int, members: Iterable[tuple[Path, str]]) -> list[dict[str, Any]]:
    """An archive of files (path, name inside) in pieces; name, bytes and sha256 of each. Old pieces are removed."""
    for old in folder.glob(f"{stem}-*.tar"):
        old.unlink()
    with _Writer(folder, stem, limit) as stream:
        with tarfile.open(fileobj=stream, mode="w|", dereference=True, format=tarfile.PAX_FORMAT) as archive:
            for path, name in members:
                archive.add(path, name, recursive=False)
        pieces = stream.pieces
    return [{"name": p.name, "bytes": p.stat().st_size, "sha256": sha256(p)} for p in pieces]


def check_pieces(folder: Path, pieces: Sequence[Mapping[str, Any]]) -> list[Path]:
    """The files of `pieces` in `folder`. PackFault names the first that is missing, cut short or changed."""
    files = []
    for number, piece in enumerate(pieces, 1):
        file = folder / Path(piece["name"]).name
        which = f"{file} (piece {number} of {len(pieces)})"
        if not file.is_file():
            raise PackFault(f"{which} is missing: copy it into the folder")
        if file.stat().st_size != piece["bytes"]:
            raise PackFault(f"{which} has {file.stat().st_size} bytes, not {piece['bytes']}: copy it again")
        if sha256(file) != piece["sha256"]:
            raise PackFault(f"{which} has changed (its sha256 is another): copy it again")
        files.append(file)
    return files


def unpack(pieces: Sequence[Path], folder: Path) -> None:
    """Extract the archive that is in pieces. Only files inside of `folder` are written; else PackFault."""
    try:
        with tarfile.open(fileobj=io.BufferedReader(_Reader(pieces)), mode="r|") as archive:
            for member in archive:
                if not member.isfile():
                    raise PackFault(f"{pieces[0]} holds {member.name}, which is no plain file: make the pack again")
                archive.extract(member, folder, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise PackFault(
            f"{pieces[0].parent}: its pieces are no archive of ours ({error}); make the pack again"
        ) from None


def sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read(file: Path) -> dict[str, Any]:
    """A description of a pack. PackFault where there is none or it is damaged."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PackFault(f"{file} is missing: this is no folder that `rankrepro pack` wrote") from None
    except (OSError, ValueError) as error:
        raise PackFault(f"{file} cannot be read ({error}): copy it again") from None


# --- running ---------------------------------------------------------------------------------------------------------


class Machine:
    """What a job is run with: code and packages of the pack, its cache, no network."""

    def __init__(self, work: Path, scale: str, cores: int) -> None:
        self.results, self.cores = work / "results" / scale, cores
        paths = [str(work / "code"), str(work / "packages")]
        self.env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "RANKREPRO_CACHE": str(work / "cache")}
        self.env |= {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    def start(self, job: str) -> subprocess.Popen[bytes]:
        log = self.log(job)
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "rankrepro.runner",
            str(self.results / "jobs" / f"{job}.json"),
            str(self.cores),
        ]
        with log.open("wb") as output:
            return subprocess.Popen(
                command, env=self.env, cwd=self.results.parents[1], stdout=output, stderr=subprocess.STDOUT
            )

    def log(self, job: str) -> Path:
        return self.results / "logs" / f"{job}.log"

    def done(self, job: str) -> bool:
        return (self.results / "jobs" / f"{job}.done").exists()


def run_jobs(jobs: Sequence[Mapping[str, Any]], machine: Machine, at_once: int, until: float) -> list[str]:
    """Run jobs in their order, several at a time, none before those it needs; the ids of those that failed.

    A job for the whole machine (a timing) runs alone. After `until` (of time.time) none is started.
    """
    todo = [job for job in jobs if not machine.done(job["id"])]
    running: dict[str, tuple[Mapping[str, Any], subprocess.Popen[bytes]]] = {}
    failed: list[str] = []
    total, started = len(todo), time.time()

    def ready(job: Mapping[str, Any]) -> bool:
        alone = any(not other["threads"] for other, _ in running.values())
        room = not running if not job["threads"] else len(running) < at_once and not alone
        return room and all(machine.done(need) for need in job["needs"])

    while todo or running:
        for job in list(todo) if time.time() < until else []:
            if ready(job):
                todo.remove(job)
                running[job["id"]] = job, machine.start(job["id"])
        if not running:
            break
        time.sleep(0.05)
        for id in [id for id, (_, process) in running.items() if process.poll() is not None]:
            job, process = running.pop(id)
            if process.returncode or not machine.done(id):
                failed.append(id)
                tail = machine.log(id).read_text(errors="replace").strip().splitlines()[-5:]
                print(f"failed: {job['title']}, see {machine.log(id)}\n  " + "\n  ".join(tail), file=sys.stderr)
            else:
                finished = total - len(todo) - len(running) - len(failed)
                print(f"{finished} of {total} jobs, {time.time() - started:.0f} s: {job['title']}", flush=True)
    return failed


def collect(pack: Mapping[str, Any], results: Path, folder: Path) -> dict[str, Any]:
    """Write what is finished into `folder`, to be taken home, and say what it is."""
    digests = [d for d in pack["digests"] if (results / "store" / d / "manifest.json").exists()]
    jobs = [job["id"] for job in pack["jobs"] if (results / "jobs" / f"{job['id']}.done").exists()]

    def members() -> Iterator[tuple[Path, str]]:
        for digest in digests:
            for file in sorted((results / "store" / digest).iterdir()):
                yield file, f"store/{digest}/{file.name}"
        for job in jobs:
            yield results / "jobs" / f"{job}.done", f"jobs/{job}.done"

    folder.mkdir(parents=True, exist_ok=True)
    told = {key: pack[key] for key in ("pack", "scale", "papers", "commit")}
    told |= {"digests": digests, "jobs": jobs, "missing": len(pack["digests"]) - len(digests)}
    told["pieces"] = write_pieces(folder, "back", pack["piece_bytes"], members())
    (folder / BACK).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return told


def check_machine(pack: Mapping[str, Any]) -> None:
    """PackFault where Python or a package is not what the jobs need, with the remedy."""
    if sys.version_info < (3, 11, 4):
        raise PackFault(f"Python {platform.python_version()}: 3.11.4 or later is needed")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise PackFault(f"{sys.executable} has no {', '.join(missing)}: install it, or run with a Python that has it")
    here = [f"{sys.version_info.major}.{sys.version_info.minor}", sys.platform, platform.machine()]
    if pack["compiled"] and pack["made_on"] != here:
        raise PackFault(
            f"{', '.join(pack['compiled'])} in this pack are compiled for Python {' on '.join(pack['made_on'][:2])}, "
            f"and this is {' on '.join(here[:2])}: use such a Python, or pack on a machine like this one"
        )
    for name, version in pack["versions"].items():
        there = metadata.version(name)
        if there.partition("+")[0] != version.partition("+")[0]:
            print(f"warning: {name} is {there} here and {version} at home; results say so", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at-once", type=int, help="jobs at a time (default: the cores; with GPUs three for each)")
    parser.add_argument("--cores", type=int, default=cores, help=f"cores to use (default: {cores})")
    parser.add_argument(
        "--work", type=Path, default=HERE / "work", help="folder to run in (default: work, beside this)"
    )
    parser.add_argument(
        "--back", type=Path, default=HERE / "back", help="folder for what is to go home (default: back)"
    )
    parser.add_argument("--minutes", type=float, help="start no job after so many; run again to go on")
    options = parser.parse_args(arguments)
    until = time.time() + 60 * options.minutes if options.minutes else float("inf")
    pack = read(HERE / PACK)
    check_machine(pack)
    marker = options.work / PACK
    if not marker.exists() or read(marker)["pack"] != pack["pack"]:
        print(f"unpacking {sum(p['bytes'] for p in pack['pieces']) / 1e6:.0f} MB", flush=True)
        unpack(check_pieces(HERE, pack["pieces"]), options.work)
        marker.write_text((HERE / PACK).read_text(encoding="utf-8"), encoding="utf-8")
    import torch

    machine = Machine(options.work, pack["scale"], options.cores)
    at_once = options.at_once or 3 * torch.cuda.device_count() or max(1, options.cores)
    failed = run_jobs(pack["jobs"], machine, at_once, until)
    told = collect(pack, machine.results, options.back)
    print(f"{len(told['digests'])} of {len(pack['digests'])} results are in {options.back}: take it home and merge it")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PackFault as fault:
        print(fault, file=sys.stderr)
        sys.exit(1)
