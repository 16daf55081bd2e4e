"""The chaos in small, and that it would notice what it looks for."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.__main__ import Row, document, main, play
from chaos.scenes import SCENES
from chaos.world import Broken, Skip, Told, Trial, World, steady
from tests_support import ROOT


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    yield World(tmp_path_factory.mktemp("chaos"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["killed_in_a_cell", "full_meanwhile", "shard", "result", "mlflow_killed"])
def test_the_same_command_completes_with_the_same_results(world: World, name: str) -> None:
    try:
        SCENES[name](world, random.Random(name))
    except Skip as reason:
        pytest.skip(str(reason))


@pytest.mark.slow
def test_other_results_are_noticed(world: World) -> None:
    trial = world.finished()
    world.same(trial)
    victim = next(f for f in (trial.results / "store").glob("*/output.json") if f.parent.name in trial.store())
    victim.write_text(victim.read_text().replace("0", "1", 1))
    with pytest.raises(Broken, match="store is not the undisturbed run's"):
        world.same(trial)


def test_lost_batches_are_counted(tmp_path: Path) -> None:
    trial = Trial(tmp_path / "trial")
    begun = {"1": "a b c", "2": "x y", "3": "c d", "4": "x y z"}
    lines = [json.dumps({"process": p, "batch": b}) for p, batches in begun.items() for b in batches.split()]
    trial.notes.write_text("\n".join(lines))
    assert trial.again() == 3
    assert trial.lost() == 2  # process 2 lost x and y


def test_seconds_and_commits_do_not_count() -> None:
    rows = {"rows": [{"value": 0.5, "cost": {"seconds": 1}}], "totals": 3, "commit": "a"}
    assert steady(rows) == {"rows": [{"value": 0.5}]}


class Stub:
    """What a document needs of a world."""

    seconds, batches, base = 20.0, 44, argparse.Namespace(results=Path())

    def __init__(self, results: Path) -> None:
        manifest = {"python": "3.11.7", "machine": {"processor": "A|B", "cores": 2, "system": "Linux"}}
        (results / "store" / "a").mkdir(parents=True)
        (results / "store" / "a" / "manifest.json").write_text(json.dumps(manifest))
        self.base = argparse.Namespace(results=results)


def test_the_document_tells_what_came_of_each_scene(tmp_path: Path) -> None:
    rows = [Row("killed"), Row("shard"), Row("full_before"), Row("artifact")]
    rows[0].told += [Told("3 kills", 3, 2, 20.4, lost=1), Told("2 kills", 2, 0, 31.0, lost=0)]
    rows[1].broken.append("store is not the undisturbed run's: at /a | b")
    rows[2].skipped = "a small disk cannot be mounted"
    options = argparse.Namespace(minutes=3.0, seed=7, only="")
    text = document(Stub(tmp_path), rows, options)
    assert "| 5 | equal | 0–2 | 20–31 |" in text
    assert "**broken** 1 of 1: store is not the undisturbed run's: at /a \\| b" in text
    assert "skipped: a small disk cannot be mounted" in text and "not reached in the time" in text
    assert "over 5 kills of the whole tree:\n1." in text
    assert "--minutes 3 --seed 7" in text


class Nowhere:
    def clear(self) -> None: ...


NONE: Any = Nowhere()


def test_a_scene_that_breaks_is_a_row_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(world: World, rng: random.Random) -> Told:
        raise Broken("a promise")

    def cannot(world: World, rng: random.Random) -> Told:
        raise Skip("not here")

    monkeypatch.setitem(SCENES, "killed", breaks)
    monkeypatch.setitem(SCENES, "shard", cannot)
    monkeypatch.setitem(SCENES, "result", lambda world, rng: Told(str(rng.random()), 1, 0, 1.0))
    broken, skipped, told = play(NONE, ["killed", "shard", "result"], 5, 60, rounds=2)
    assert broken.broken == ["a promise", "a promise"] and skipped.skipped == "not here"
    first = [t.what for t in told.told]
    assert len(set(first)) == 2  # rounds differ, and the seed brings them back
    assert [t.what for t in play(NONE, ["result"], 5, 60, 2)[0].told] == first


def test_an_unknown_scene_is_answered_with_the_nearest() -> None:
    with pytest.raises(SystemExit, match="unknown scene 'kiled'; did you mean 'killed'"):
        main(["--only", "kiled"])


def test_every_scene_says_what_it_does() -> None:
    assert all((f.__doc__ or "").count("\n") == 0 and (f.__doc__ or "").endswith(".") for f in SCENES.values())


def test_the_published_page_held() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    assert "**broken**" not in page
    assert all(f"`{name}`" in page for name in SCENES if name not in ("full_before", "full_meanwhile"))
