"""The program: scenes round after round until the minutes are over, and a document of what came of them."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chaos.scenes import SCENES
from chaos.world import HERE, Broken, Skip, Told, World
from rankrepro.errors import UnknownName


@dataclass
class Row:
    """What came of one scene."""

    name: str
    told: list[Told] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def about(self) -> str:
        return (SCENES[self.name].__doc__ or "").strip()

    @property
    def times(self) -> int:
        return sum(t.times for t in self.told) + len(self.broken)

    @property
    def outcome(self) -> str:
        if self.broken:
            return f"**broken** {len(self.broken)} of {self.times}: {self.broken[0]}"
        if self.told:
            return "equal"
        return f"skipped: {self.skipped}" if self.skipped else "not reached in the time"

    @property
    def again(self) -> str:
        return _range([t.again for t in self.told])

    @property
    def seconds(self) -> str:
        return _range([round(t.seconds) for t in self.told])

    @property
    def error(self) -> str:
        return next((t.error for t in self.told if t.error), "")


def _range(values: list[int]) -> str:
    if not values:
        return ""
    return f"{min(values)}" if min(values) == max(values) else f"{min(values)}–{max(values)}"


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 if a promise did not hold."""
    options = parser().parse_args(arguments)
    names = options.only.split(",") if options.only else list(SCENES)
    for name in names:
        if name not in SCENES:
            raise SystemExit(str(UnknownName("scene", name, SCENES)))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that small disks are unmounted
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        world = World(Path(folder))
        _say(f"undisturbed: {world.seconds:.0f} s, {world.batches} batches")
        rows = play(world, names, options.seed, 60 * options.minutes, options.rounds)
        text = document(world, rows, options)
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(text, encoding="utf-8")
    else:
        print(text)
    return int(any(r.broken for r in rows))


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(prog="chaos", description=__doc__, epilog=f"scenes: {', '.join(SCENES)}")
    arguments.add_argument("--minutes", type=float, default=10, help="begin no scene after so many (default 10)")
    arguments.add_argument("--rounds", type=int, default=1000, help="play each scene at most so often")
    arguments.add_argument("--seed", type=int, default=0, help="of the random moments and damages (default 0)")
    arguments.add_argument("--only", default="", metavar="SCENE,SCENE", help="these scenes alone")
    arguments.add_argument("--write", type=Path, metavar="FILE", help="write the document there; default: print it")
    return arguments


def play(world: World, names: Iterable[str], seed: int, seconds: float, rounds: int) -> list[Row]:
    """Play the scenes in turn until the time or the rounds are over. A moment depends on seed, scene and round."""
    rows = {name: Row(name) for name in names}
    begun = time.monotonic()
    for i in range(rounds):
        for row in (r for r in rows.values() if not r.skipped):
            if time.monotonic() - begun > seconds:
                return list(rows.values())
            try:
                row.told.append(SCENES[row.name](world, random.Random(f"{seed} {row.name} {i}")))
                _say(f"{row.name}: {row.told[-1].what}: {row.told[-1].seconds:.0f} s")
            except Skip as reason:
                row.skipped = str(reason)
                _say(f"{row.name}: SKIPPED: {reason}")
            except Broken as error:
                row.broken.append(str(error))
                _say(f"{row.name}: BROKEN: {error}")
            finally:
                world.clear()
    return list(rows.values())


def document(world: World, rows: list[Row], options: argparse.Namespace) -> str:
    """docs/reliability.md: the head of the template, and the figures."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|").replace("\n", " ")
    again = f" --only {options.only}" if options.only else ""
    return environment.get_template("reliability.md.j2").render(
        rows=rows,
        world=world,
        machine=_machine(world),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=f"PYTHONPATH=tests python -m chaos --minutes {options.minutes:g} --seed {options.seed}{again}",
        disturbances=sum(r.times for r in rows),
        kills=[t for r in rows for t in r.told if t.lost is not None],
        load=os.getloadavg()[2],
    )


def _machine(world: World) -> Mapping[str, Any]:
    return json.loads(next(world.base.results.glob("store/*/manifest.json")).read_text())


def _say(text: str) -> None:
    print(f"[{datetime.now(UTC):%H:%M:%S}] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
