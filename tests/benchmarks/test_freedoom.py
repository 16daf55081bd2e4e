"""Levels, views and the benchmarks made of them, on the levels that the renderer ships."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from rankrepro import artifacts, benchmarks
from rankrepro.benchmarks import freedoom, splits
from rankrepro.benchmarks.export import export_beir
from rankrepro.benchmarks.freedoom import Terrain, wad_file
from rankrepro.benchmarks.images import encoded
from rankrepro.benchmarks.views import FAR, FOCAL, OFFSET, SLOPE, Camera, Pose, View, overlap, patched, surface
from rankrepro.benchmarks.wad import Level, Wad
from rankrepro.errors import BenchmarkError

MINI = ("freedoom-mini/vpr", "freedoom-mini/landmarks")


@pytest.fixture(scope="module")
def terrain() -> Terrain:
    return Terrain.of("MAP02")


@pytest.fixture(scope="module")
def shots(terrain: Terrain) -> list[View]:
    """Twenty views of a level from points and headings spread over it."""
    points = terrain.points[terrain.ground[:: len(terrain.ground) // 20]]
    poses = [freedoom.pose(p, 37.0 * i) for i, p in enumerate(points)]
    with Camera(wad_file("MAP02"), "MAP02", "day") as camera:
        return [v for p in poses if (v := camera.view(p))]


# --- levels ----------------------------------------------------------------------------------------------------------


def test_a_point_knows_its_sector(terrain: Terrain) -> None:
    """Every thing that the level's makers put down stands inside, and a point beyond all lines does not."""
    level = terrain.level
    things = np.stack([level.things["x"], level.things["y"]], 1).astype(float) + 0.25
    assert (level.sectors_at(things) >= 0).mean() > 0.99
    assert level.sectors_at(np.array([[20000.0, 20000.0], [-20000.0, 0.0]])).tolist() == [-1, -1]


def test_nobody_walks_through_walls(terrain: Terrain) -> None:
    a, b = (end[level_walls(terrain.level)][0] for end in terrain.level.ends)
    middle, along = (a + b) / 2, (b - a) / np.linalg.norm(b - a)
    across = np.array([-along[1], along[0]])
    assert terrain.level.blocked(middle - 8 * across, middle + 8 * across)
    assert terrain.level.clearance(middle[None] + 8 * across)[0] <= 8
    route = terrain.route(100, freedoom.rng("test"))
    assert len(set(route)) > 20
    for i, j in pairwise(route):
        step = terrain.points[i] - terrain.points[j]
        assert abs(step).max() == freedoom.CELL and not terrain.level.blocked(terrain.points[i], terrain.points[j])


def level_walls(level: Level) -> np.ndarray:
    return level.walls


def test_a_level_that_does_not_exist_is_named() -> None:
    with pytest.raises(BenchmarkError, match="MAP99"):
        Wad.read(wad_file("MAP01")).level("MAP99")
    with pytest.raises(BenchmarkError, match="MAP01 is in train and test"):
        list(freedoom.split_levels({"train": ["MAP01"], "test": ["MAP01"]}))


# --- views -----------------------------------------------------------------------------------------------------------


def test_the_eye_is_where_it_was_sent(shots: list[View], terrain: Terrain) -> None:
    sectors = terrain.level.sectors_at(np.array([v.pose[:2] for v in shots]))
    floors = terrain.level.sectors["floor"][sectors]
    assert len(shots) >= 18
    assert np.median([v.eye - floor for v, floor in zip(shots, floors, strict=True)]) == 41
    for i, v in enumerate(shots):
        assert v.pixels.shape == (192, 256, 3) and len(np.unique(v.pixels)) > 20, i


def test_depth_is_the_distance_that_the_geometry_tells(shots: list[View], terrain: Terrain) -> None:
    """Along the line of sight, to the first line that nothing can be seen over or under; 8 bits are 7 units."""
    errors = []
    for view in shots:
        for column in (8, 64, 128, 200, 248):
            away = cast(terrain.level, view, column)
            if away is not None and SLOPE * away + OFFSET < FAR - 2:
                errors.append(abs((float(view.depth[96, column]) - OFFSET) / SLOPE - away))
    # things and things' sprites stand in front of some walls
    assert len(errors) > 50 and np.quantile(errors, 0.7) < 8


def cast(level: Level, view: View, column: int) -> float | None:
    """Distance along the line of sight to where a level ray at the height of the eye ends."""
    a, b = level.ends
    t = np.radians(view.pose.angle)
    right = (column + 0.5 - 128) / FOCAL
    ray = np.array([np.cos(t) + right * np.sin(t), np.sin(t) - right * np.cos(t)])
    eye, along = np.array(view.pose[:2]), b - a
    cross = ray[0] * along[:, 1] - ray[1] * along[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        away = ((a[:, 0] - eye[0]) * along[:, 1] - (a[:, 1] - eye[1]) * along[:, 0]) / cross
        where = ((a[:, 0] - eye[0]) * ray[1] - (a[:, 1] - eye[1]) * ray[0]) / cross
    hit = (away > 1) & (where >= 0) & (where <= 1)
    for i in np.argsort(np.where(hit, away, np.inf))[: hit.sum()]:
        faces = level.sectors[level.faces[i]]
        if level.faces[i].min() < 0 or not faces["floor"].max() < view.eye < faces["ceiling"].min():
            return float(away[i])
    return None


def test_overlap_falls_as_the_head_turns_and_is_symmetric(shots: list[View]) -> None:
    start = max(shots, key=lambda v: len(surface(v)))
    with Camera(wad_file("MAP02"), "MAP02", "day") as camera:
        turned = [camera.view(start.pose._replace(angle=start.pose.angle + d)) for d in (0, 20, 45, 70, 180)]
    shares = [overlap(start, v) for v in turned if v]
    assert shares[0] > 0.95 and shares == sorted(shares, reverse=True) and shares[-1] == 0
    assert overlap(start, turned[1]) == overlap(turned[1], start)


def test_conditions_change_the_picture_and_not_the_place() -> None:
    poses = [Pose(-64.0, -500.0, 90.0), *(Pose(float(x), float(y), 0.0) for x, y in Terrain.of("MAP02").points[::150])]
    seen = {}
    for condition in ("day", "night", "winter", "monsters"):
        occluders = freedoom.OCCLUDERS if condition == "monsters" else ()
        with Camera(wad_file("MAP02"), "MAP02", condition, occluders) as camera:
            seen[condition] = [camera.view(p) for p in poses]
    pairs = [(a, b) for a, b in zip(seen["day"], seen["night"], strict=True) if a and b]
    assert pairs and all(b.pixels.mean() < a.pixels.mean() for a, b in pairs)
    assert all((a.depth == b.depth).mean() > 0.99 for a, b in pairs)
    for condition in ("winter", "monsters"):
        both = [(a, b) for a, b in zip(seen["day"], seen[condition], strict=True) if a and b]
        assert any((a.pixels != b.pixels).any(2).mean() > 0.02 for a, b in both), condition
    with pytest.raises(BenchmarkError, match="fog"):
        patched(Wad.read(wad_file("MAP02")), "MAP02", "fog")


@pytest.mark.parametrize("colours", [8, 70_000])
def test_pictures_are_stored_without_loss(colours: int) -> None:
    import io

    from PIL import Image

    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (colours, 3), dtype=np.uint8)
    pixels = palette[rng.integers(0, colours, (192, 256))]
    assert np.array_equal(np.array(Image.open(io.BytesIO(encoded(pixels))).convert("RGB")), pixels)


# --- the benchmarks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("benchmark_id", MINI)
def test_a_build_is_the_same_again(benchmark_id: str, built: Callable, tmp_path: Path) -> None:
    _, _, folder = built(benchmark_id)
    again = benchmarks.build(benchmark_id, artifacts.cache_dir(), tmp_path / "again")
    assert json.loads((again / "benchmark.json").read_text()) == json.loads((folder / "benchmark.json").read_text())


@pytest.mark.parametrize("benchmark_id", MINI)
def test_levels_have_one_side_and_counts_are_the_cards(benchmark_id: str, built: Callable) -> None:
    benchmark, truth, folder = built(benchmark_id)
    side: dict[str, str] = {}
    for q in benchmark.queries.values():
        assert side.setdefault(truth.poses[q.id][0], q.split) == q.split
    for q, judged in truth.qrels.items():
        assert {truth.poses[d][0] for d in judged} == {truth.poses[q][0]}
        assert splits.relevant(judged)
    assert set(benchmark.judgments) == set(benchmark.of_split("train", "validation"))
    entry = benchmarks.get(benchmark_id)
    assert entry.counts and json.loads((folder / "benchmark.json").read_text())["counts"] == entry.counts


@pytest.mark.parametrize("benchmark_id", MINI)
def test_inputs_do_not_tell_where_a_picture_was_taken(benchmark_id: str, built: Callable) -> None:
    benchmark, truth, folder = built(benchmark_id)
    levels = {pose[0] for pose in truth.poses.values()}
    for file in (f for f in folder.glob("*.json*") if f.name not in ("benchmark.json", "images.zip")):
        text = file.read_text()
        assert not any(level in text for level in levels), file.name
    assert list(benchmark.corpus) == sorted(benchmark.corpus) and list(benchmark.images) == sorted(benchmark.images)
    assert set(benchmark.images) == set(truth.poses) >= {*benchmark.corpus, *benchmark.queries}
    assert {f for walk in benchmark.walks.values() for f in walk} <= set(benchmark.images)
    assert all(q.image == q.id and not q.text for q in benchmark.queries.values())
    dates = {i.date_time for i in benchmark.images.archive.infolist()}
    assert dates == {(1980, 1, 1, 0, 0, 0)}


def test_grades_of_places_are_metres_and_degrees(built: Callable) -> None:
    benchmark, truth, _ = built("freedoom-mini/vpr")
    for q in benchmark.queries:
        level, x, y, angle, _ = truth.poses[q]
        for d in benchmark.corpus:
            other, u, v, heading, condition = truth.poses[d]
            assert condition == "day"
            near = level == other and ((x - u) ** 2 + (y - v) ** 2) ** 0.5 / 32 <= 25
            turned = min((angle - heading) % 360, (heading - angle) % 360)
            assert truth.qrels[q].get(d) == (int(turned <= 40) if near else None)
    tags = {t for q in benchmark.queries.values() for t in q.tags}
    assert tags == {"day", "night", "summer", "winter", "monsters"}


def test_walks_are_steps_of_four_metres(built: Callable) -> None:
    benchmark, truth, _ = built("freedoom-mini/vpr")
    steps = [
        np.hypot(*(np.subtract(truth.poses[a][1:3], truth.poses[b][1:3]))) / 32
        for frames in benchmark.walks.values()
        for a, b in pairwise(frames)
    ]
    assert max(steps) < 9 and 3 < np.median(steps) < 7


def test_landmarks_have_easy_hard_and_junk(built: Callable) -> None:
    benchmark, truth, _ = built("freedoom-mini/landmarks")
    grades = [g for q in benchmark.of_split("test") for g in truth.qrels[q].values()]
    assert {-1, 1, 2} == set(grades)
    for q, judged in truth.qrels.items():
        for d, grade in judged.items():
            if grade == 2:
                assert truth.poses[d][4] == truth.poses[q][4] == "day"
                assert freedoom.turn(truth.poses[q][3], truth.poses[d][3]) <= 20


def test_pictures_leave_with_the_rest(built: Callable, tmp_path: Path) -> None:
    from PIL import Image

    benchmark, truth, _ = built("freedoom-mini/vpr")
    export_beir(benchmark, truth, tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "corpus.jsonl").read_text().splitlines()]
    assert len(rows) == len(benchmark.corpus)
    for row in rows[:5]:
        picture = np.array(Image.open(tmp_path / "out" / "images" / f"{row['image']}.png").convert("RGB"))
        assert np.array_equal(picture, benchmark.images[row["image"]])
