"""`freedoom/landmarks`: which pictures show this place? The protocol of revisited Oxford in levels of Freedoom.

A place is a standing point and a heading. Around it pictures are taken: near ones by day, farther and turned ones, ones
at night, in winter and with monsters in the way, and ones that look elsewhere. What a picture is to a query follows
from the surface both see (`views.overlap`), for all pictures of the query's level, whichever place they were meant for:

    easy   grade 2    much in common, by day, turned little
    hard   grade 1    enough in common otherwise
    junk   grade -1   a little in common: neither right nor wrong, left out of the ranking
    (none)            nothing, and every picture of another level
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rankrepro.benchmarks.freedoom import (
    OCCLUDERS,
    Terrain,
    World,
    check_wads,
    fingerprint,
    name,
    pose,
    rng,
    split_levels,
    turn,
    wad_file,
)
from rankrepro.benchmarks.images import ImageBenchmark, ImageTruth, read, read_truth, write
from rankrepro.benchmarks.views import CONDITIONS, FAR, Camera, Pose, View, overlap

__all__ = ["build", "fingerprint", "read", "read_truth", "write"]

EASY, HARD, JUNK = 2, 1, -1
QUERY = {"radius": (0, 24), "turn": (0, 8)}


class Shot(NamedTuple):
    """A picture to take: kind is q (query) or d (document)."""

    name: str
    kind: str
    condition: str
    pose: Pose


def build(
    benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]
) -> tuple[ImageBenchmark, ImageTruth]:
    """One benchmark.

    `params`: `wads` (sha256 of the level files), `levels` (split -> levels), `places` (split -> places a level),
    `queries` (split -> the conditions of a place's queries), `views` (pictures a place: `radius` from it in map units,
    `turn` from its heading in degrees, `condition`), `distractors` (levels without queries, and pictures of each),
    `grades` (least overlap of easy, hard and junk; `turned`, the most degrees of easy).
    """
    check_wads(params["wads"])
    places = _Places(benchmark_id, params)
    for split, level in split_levels({**params["levels"], "distractors": params["distractors"]["levels"]}):
        if split == "distractors":
            places.distract(level)
        else:
            places.add(split, level)
    return places.benchmark()


class _Places(World):
    def add(self, split: str, level: str) -> None:
        """Take and judge the pictures of a level."""
        p, random = self.params, rng("freedoom/landmarks", level)
        terrain = Terrain.of(level)
        shots: list[Shot] = []
        with Camera(wad_file(level), level, "day") as camera:
            for place, at in enumerate(_places(terrain, camera, p["places"][split], random)):
                for i, condition in enumerate(p["queries"][split]):
                    view = QUERY | {"condition": condition}
                    shots.append(self._shot(terrain, level, "q", f"{place} {i}", at, view, random))
                for i, view in enumerate(p["views"]):
                    shots.append(self._shot(terrain, level, "d", f"{place} {i}", at, view, random))
            views = self._take(camera, shots)
        documents = [s for s in shots if s.kind == "d" and s.name in views]
        self.corpus += [s.name for s in documents]
        for query in (s for s in shots if s.kind == "q" and s.name in views):
            grades = {
                d.name: self._grade(views[query.name], views[d.name], {query.condition, d.condition}) for d in documents
            }
            if max(grades.values(), default=0) >= HARD:
                self.ask(query.name, split, query.condition, {d: g for d, g in grades.items() if g})

    def distract(self, level: str) -> None:
        """Pictures of a level that no query asks about, from anywhere, under every condition."""
        random, terrain = rng("freedoom/landmarks", level), Terrain.of(level)
        shots = [
            Shot(
                name("d", self.id, level, i), "d", CONDITIONS[i % len(CONDITIONS)],
                pose(terrain.points[random.choice(terrain.ground)], random.uniform(0, 360)),
            )
            for i in range(self.params["distractors"]["pictures"])
        ]  # fmt: skip
        with Camera(wad_file(level), level, "day") as camera:
            self.corpus += self._take(camera, shots)

    def _shot(
        self, terrain: Terrain, level: str, kind: str, number: str, at: tuple[int, float], view: Mapping[str, Any],
        random: np.random.Generator,
    ) -> Shot:  # fmt: skip
        point, heading = at
        angle = heading + random.choice([-1, 1]) * random.uniform(*view["turn"])
        camera_pose = pose(terrain.near(point, view["radius"], random), angle)
        return Shot(name(kind, self.id, level, number), kind, view["condition"], camera_pose)

    def _take(self, by_day: Camera, shots: list[Shot]) -> dict[str, View]:
        """Take the pictures that can be taken; name -> the same view by day and without monsters, for its depth."""
        level = by_day.level
        plain = {s.name: view for s in shots if (view := by_day.view(s.pose))}
        for condition in CONDITIONS:
            todo = [s for s in shots if s.condition == condition and s.name in plain]
            if condition == "day":
                for s in todo:
                    self.keep(s.name, level, condition, plain[s.name])
            elif todo:
                occluders = OCCLUDERS if condition == "monsters" else ()
                with Camera(wad_file(level), level, condition, occluders) as camera:
                    for s in todo:
                        view = camera.view(s.pose)
                        if view is None:
                            del plain[s.name]
                        else:
                            self.keep(s.name, level, condition, view)
        return plain

    def _grade(self, query: View, document: View, conditions: set[str]) -> int:
        grades, shared = self.params["grades"], overlap(query, document)
        turned = turn(query.pose.angle, document.pose.angle)
        if shared >= grades["easy"] and conditions == {"day"} and turned <= grades["turned"]:
            return EASY
        if shared >= grades["hard"]:
            return HARD
        return JUNK if shared >= grades["junk"] else 0


def _places(terrain: Terrain, camera: Camera, n: int, random: np.random.Generator) -> list[tuple[int, float]]:
    """`n` places: a standing point and a heading with something to see, neither too near nor mostly sky."""
    places: list[tuple[int, float]] = []
    for _ in range(60 * n):
        if len(places) == n:
            break
        point, heading = int(random.choice(terrain.ground)), float(random.uniform(0, 360))
        apart = [np.hypot(*(terrain.points[point] - terrain.points[other])) for other, _ in places]
        if min(apart, default=np.inf) < 192:
            continue
        view = camera.view(pose(terrain.points[point], heading))
        if view is None or (view.depth >= FAR).mean() > 0.4 or np.median(view.depth[:128]) < 20:
            continue
        places.append((point, heading))
    return places
