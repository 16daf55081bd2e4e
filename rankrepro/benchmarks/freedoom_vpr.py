"""`freedoom/vpr`: where was this picture taken? The protocol of Mapillary Street-Level Sequences in levels of Freedoom.

Each level is walked once for the database, by day. Queries are frames of shorter walks along pieces of that way, a
little beside it, each under one condition. A database picture is positive (grade 1) within 25 m and 40 degrees of the
query; within 25 m but looking elsewhere it has grade 0. Positions and headings are the renderer's, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rankrepro.benchmarks.freedoom import (
    METRE,
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
from rankrepro.benchmarks.views import Camera, Pose

__all__ = ["build", "fingerprint", "read", "read_truth", "write"]


def build(
    benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]
) -> tuple[ImageBenchmark, ImageTruth]:
    """One benchmark.

    `params`: `wads` (sha256 of the level files), `levels` (split -> levels), `frames` (database pictures a level),
    `step` (grid points between two of them), `walks` (query walks a level and condition), `walk_frames`, `conditions`,
    `metres` and `degrees` of a positive.
    """
    check_wads(params["wads"])
    streets = _Streets(benchmark_id, params)
    for split, level in split_levels(params["levels"]):
        streets.add(split, level)
    return streets.benchmark()


class _Streets(World):
    def add(self, split: str, level: str) -> None:
        """Walk a level for the database, then for queries."""
        p, random = self.params, rng("freedoom/vpr", level)
        terrain = Terrain.of(level)
        route = terrain.route(p["frames"] * p["step"], random)
        heads = terrain.headings(route)
        stops = [pose(terrain.points[i], a) for i, a in zip(route, heads, strict=True)]
        database = self._shoot(level, "day", "d", "database", stops[:: p["step"]])
        self.corpus += [n for part in database for n in part]
        for condition in p["conditions"]:
            for number in range(p["walks"]):
                poses = self._beside(terrain, route, heads, random)
                for frames in self._shoot(level, condition, "q", f"{condition} {number}", poses):
                    self._ask(split, condition, frames)

    def _beside(
        self, terrain: Terrain, route: list[int], heads: list[float], random: np.random.Generator
    ) -> list[Pose]:
        """A piece of the route, up to 1.5 m beside it, looking up to 20 degrees away from it."""
        step, n = self.params["step"], self.params["walk_frames"]
        start = int(random.integers(0, len(route) - n * step)) + step // 2
        aside, glance = random.choice([-1, 1]) * random.uniform(16, 48), random.uniform(-15, 15)
        poses = []
        for i in range(start, start + n * step, step):
            t = np.radians(heads[i])
            x, y = (terrain.points[route[i]] + aside * np.array([np.sin(t), -np.cos(t)])).round()
            point = np.array([x, y]) if terrain.stands(x, y, terrain.points[route[i]]) else terrain.points[route[i]]
            poses.append(pose(point, heads[i] + glance + random.uniform(-5, 5)))
        return poses

    def _shoot(self, level: str, condition: str, kind: str, walk: str, poses: list[Pose]) -> list[list[str]]:
        """Names of the pictures, in walks without a gap: a pose where something stands ends a walk."""
        occluders = OCCLUDERS if condition == "monsters" else ()
        parts: list[list[str]] = [[]]
        with Camera(wad_file(level), level, condition, occluders) as camera:
            for i, at in enumerate(poses):
                view = camera.view(at)
                if view is None:
                    parts.append([])
                else:
                    parts[-1].append(self.keep(name(kind, self.id, level, walk, i), level, condition, view))
        for i, part in enumerate(parts):
            if part:
                self.walks[name("w", self.id, level, walk, i)] = part
        return [part for part in parts if part]

    def _ask(self, split: str, condition: str, frames: list[str]) -> None:
        """The frames of a query walk become queries, those that have a positive."""
        for frame in frames:
            near = {d: grade for d in self.corpus if (grade := self._grade(frame, d)) is not None}
            if 1 in near.values():
                self.ask(frame, split, condition, near)

    def _grade(self, query: str, document: str) -> int | None:
        (level, x, y, angle, _), (other, u, v, heading, _) = self.poses[query], self.poses[document]
        if level != other or np.hypot(x - u, y - v) > self.params["metres"] * METRE:
            return None
        return int(turn(angle, heading) <= self.params["degrees"])
