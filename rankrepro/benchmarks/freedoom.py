"""What the benchmarks made of Freedoom's levels share: which levels, where one can stand, walks, and names.

A level is a city: all its pictures are on one side of a split. 32 map units are a metre.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from rankrepro.benchmarks import splits
from rankrepro.benchmarks.base import Document, Query
from rankrepro.benchmarks.images import ImageBenchmark, ImageTruth
from rankrepro.benchmarks.views import Pose, View
from rankrepro.benchmarks.wad import HEIGHT, Level, Wad
from rankrepro.errors import BenchmarkError

METRE = 32  # map units
CELL = 64  # of the grid of standing points
ROOM = 32  # clearance of a standing point; the player's radius is 16
OCCLUDERS = ("ZombieMan", "DoomImp", "Demon", "HellKnight", "ShotgunGuy")
PARTS = ("wad", "views", "images", "freedoom")


def fingerprint() -> str:
    """What pictures depend on besides the card: the renderer with its levels, and our modules that use it."""
    h = hashlib.sha256()
    for part in PARTS:
        h.update(Path(__file__).with_name(f"{part}.py").read_bytes())
    return f"vizdoom {metadata.version('vizdoom')} {h.hexdigest()}"


def wad_file(level: str) -> Path:
    """The file of ViZDoom that holds a level: E1M1 to E4M9 are Freedoom 1, MAP01 to MAP32 are Freedoom 2."""
    spec = find_spec("vizdoom")
    if spec is None or spec.origin is None:
        raise BenchmarkError("the package vizdoom is missing; install the project again (make setup)")
    return Path(spec.origin).with_name("freedoom2.wad" if level.startswith("MAP") else "freedoom1.wad")


def check_wads(wads: Mapping[str, str]) -> None:
    """BenchmarkError unless the level files are those whose sha256 the card states."""
    for level, expected in (("E1M1", wads["freedoom1"]), ("MAP01", wads["freedoom2"])):
        file = wad_file(level)
        if (got := hashlib.sha256(file.read_bytes()).hexdigest()) != expected:
            raise BenchmarkError(f"{file} has sha256 {got}, the card says {expected}; install the pinned vizdoom")


def rng(*names: Any) -> np.random.Generator:
    """Random numbers that depend on the names alone."""
    return np.random.default_rng(list(hashlib.sha256("\t".join(map(str, names)).encode()).digest()))


def name(kind: str, *parts: Any) -> str:
    """An opaque name that begins with `kind`: it tells neither level nor place nor order."""
    return kind + hashlib.sha256("\t".join(map(str, parts)).encode()).hexdigest()[:12]


def turn(a: float, b: float) -> float:
    """The angle between two headings, 0 to 180 degrees."""
    return abs((a - b + 180) % 360 - 180)


@dataclass(frozen=True)
class Terrain:
    """The part of a level where one can walk about: standing points on a grid, joined to their neighbours."""

    level: Level

    @staticmethod
    def of(level: str) -> Terrain:
        return Terrain(Wad.read(wad_file(level)).level(level))

    @cached_property
    def points(self) -> np.ndarray:
        """Standing points [n, 2]: enough room around and air above."""
        ends = np.concatenate(self.level.ends)
        (left, low), (right, high) = ends.min(0), ends.max(0)
        grid = np.stack(np.meshgrid(np.arange(left, right, CELL), np.arange(low, high, CELL)), 2).reshape(-1, 2) + 1
        sector = self.level.sectors_at(grid)
        grid, sector = grid[sector >= 0], sector[sector >= 0]
        air = self.level.sectors["ceiling"].astype(int) - self.level.sectors["floor"]
        grid = grid[air[sector] >= HEIGHT]
        return grid[self.level.clearance(grid) >= ROOM]

    @cached_property
    def neighbours(self) -> list[list[int]]:
        """For each point, the points that can be reached from it, straight or diagonally."""
        at = {(int(x), int(y)): i for i, (x, y) in enumerate(self.points)}
        adjacent: list[list[int]] = [[] for _ in self.points]
        for (x, y), i in at.items():
            for dx, dy in ((CELL, 0), (0, CELL), (CELL, CELL), (CELL, -CELL)):
                j = at.get((x + dx, y + dy))
                if j is not None and not self.level.blocked(self.points[i], self.points[j]):
                    adjacent[i].append(j)
                    adjacent[j].append(i)
        return adjacent

    @cached_property
    def ground(self) -> list[int]:
        """Points of the largest connected part, in a fixed order."""
        seen: set[int] = set()
        best: list[int] = []
        for start in range(len(self.points)):
            if start not in seen:
                part = list(self._reach(start))
                seen.update(part)
                best = max(best, part, key=len)
        return sorted(best)

    def _reach(self, start: int) -> dict[int, int]:
        """Every point that can be reached -> the one before it on a shortest way."""
        before, todo = {start: start}, deque([start])
        while todo:
            i = todo.popleft()
            for j in self.neighbours[i]:
                if j not in before:
                    before[j] = i
                    todo.append(j)
        return before

    def route(self, length: int, random: np.random.Generator) -> list[int]:
        """A walk of `length` points: to one far place after the other, on shortest ways."""
        here = int(random.choice(self.ground))
        walk = [here]
        while len(walk) < length:
            before = self._reach(here)
            goals = random.choice(self.ground, 4)
            goal = int(max(goals, key=lambda g: float(np.hypot(*(self.points[g] - self.points[here])))))
            way = [goal]
            while way[-1] != here:
                way.append(before[way[-1]])
            walk += way[-2::-1]
            here = goal
        return walk[:length]

    def headings(self, walk: list[int]) -> list[float]:
        """Heading at each point of a walk in degrees, over the next and the last three points."""
        ends = [(walk[max(i - 3, 0)], walk[min(i + 3, len(walk) - 1)]) for i in range(len(walk))]
        angles: list[float] = []
        for a, b in ends:
            dx, dy = self.points[b] - self.points[a]
            angles.append(float(np.degrees(np.arctan2(dy, dx))) % 360 if dx or dy else (angles or [0.0])[-1])
        return angles

    def stands(self, x: float, y: float, origin: np.ndarray) -> bool:
        """Whether one can stand at (x, y) and walk there straight from `origin` [2]."""
        point = np.array([[x, y]])
        sector = int(self.level.sectors_at(point)[0])
        return sector >= 0 and self.level.clearance(point)[0] >= 20 and not self.level.blocked(origin, point[0])

    def near(self, i: int, radius: tuple[float, float], random: np.random.Generator, tries: int = 30) -> np.ndarray:
        """Somewhere at a distance between the two radii from point i; the point itself where nothing is found."""
        for _ in range(tries):
            r, t = random.uniform(*radius), random.uniform(0, 2 * np.pi)
            x, y = (self.points[i] + r * np.array([np.cos(t), np.sin(t)])).round()
            if self.stands(x, y, self.points[i]):
                return np.array([x, y])
        return self.points[i]


@dataclass
class World:
    """What a builder collects, level by level. `params` as in the card."""

    id: str
    params: Mapping[str, Any]
    images: dict[str, np.ndarray] = field(default_factory=dict)
    poses: dict[str, list[Any]] = field(default_factory=dict)
    walks: dict[str, list[str]] = field(default_factory=dict)
    corpus: list[str] = field(default_factory=list)
    queries: dict[str, Query] = field(default_factory=dict)
    qrels: dict[str, dict[str, int]] = field(default_factory=dict)

    def keep(self, image: str, level: str, condition: str, view: View) -> str:
        """Keep a picture and, as truth, where it was taken."""
        self.images[image] = view.pixels
        self.poses[image] = [level, *(round(float(v), 3) for v in view.pose), condition]
        return image

    def ask(self, query: str, split: str, condition: str, grades: Mapping[str, int]) -> None:
        """Make a picture a query; `grades`: document -> grade, one of them at least 1."""
        season = "winter" if condition == "winter" else "summer"
        light = "night" if condition == "night" else "day"
        tags = (light, season, "monsters") if condition == "monsters" else (light, season)
        self.queries[query] = Query(query, "", split, tags, image=query)
        self.qrels[query] = dict(sorted(grades.items()))

    def benchmark(self) -> tuple[ImageBenchmark, ImageTruth]:
        """All of it in the order of the names, which say nothing."""
        queries = {q: self.queries[q] for q in sorted(self.queries)}
        qrels = {q: self.qrels[q] for q in queries}
        corpus = {d: Document(d, "", "", image=d) for d in sorted(self.corpus)}
        visible = {q: qrels[q] for q in queries if queries[q].split != "test"}
        walks = dict(sorted(self.walks.items()))
        inputs = ImageBenchmark(self.id, queries, corpus, visible, self.images, walks)
        return inputs, ImageTruth(qrels, splits.clusters(qrels), self.poses, walks)


def split_levels(levels: Mapping[str, list[str]]) -> Iterator[tuple[str, str]]:
    """(split, level), every level once; BenchmarkError for a level in two splits."""
    split_of: dict[str, str] = {}
    for split, names in levels.items():
        for level in names:
            if level in split_of:
                raise BenchmarkError(f"level {level} is in {split_of[level]} and {split}: a level has one side")
            split_of[level] = split
            yield split, level


def pose(point: np.ndarray, angle: float) -> Pose:
    return Pose(float(point[0]), float(point[1]), float(angle) % 360)
