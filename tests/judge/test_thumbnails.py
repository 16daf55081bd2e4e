"""Pictures of a report: what the examples name, where each was taken, and the contact sheet."""

from __future__ import annotations

import base64
import io
import json

import jsonschema
import numpy as np
import pytest

from rankrepro import benchmarks
from rankrepro.benchmarks.base import Document, Query
from rankrepro.benchmarks.freedoom import METRE
from rankrepro.benchmarks.images import ImageBenchmark
from rankrepro.judge import thumbnails
from rankrepro.judge.examples import PICTURES, apart, examples
from tests_support import ROOT

LEVELS = ("E1M1", "MAP02")
POSES = {
    f"{level}{kind}{i}": (level, 10.0 * i * METRE, 0.0, 350.0 if kind == "q" else 10.0, "night" if i % 2 else "day")
    for level in LEVELS
    for kind in "qd"
    for i in range(9)
}
IMAGES = {name: np.full((96, 128, 3), 10 * i % 256, np.uint8) for i, name in enumerate(POSES)}
BENCHMARK = ImageBenchmark(
    "b",
    {f"query {n}": Query(f"query {n}", "", "test", image=n) for n in POSES if n[-2] == "q"},
    {f"document {n}": Document(f"document {n}", "", "", image=n) for n in POSES if n[-2] == "d"},
    images=IMAGES,
)


def found(poses: dict | None = POSES) -> dict:
    queries = list(BENCHMARK.queries)
    ranking = {q: {d: -float(i) for i, d in enumerate(BENCHMARK.corpus)} for q in queries}
    qrels = {q: {"document E1M1d0": -1, "document E1M1d1": 2} for q in queries}
    values = {q: i / 20 for i, q in enumerate(queries)}
    return examples(
        "mAP-H", ("p.a", "p.b"), BENCHMARK, qrels, (values, dict.fromkeys(queries, 0.5)), (ranking, ranking), poses
    )


def test_examples_tell_places_and_never_names() -> None:
    detail = found()["details"][-1]
    assert detail["query"] == "E1M1, day" and detail["picture"] == "E1M1q0"
    assert len(detail["a"]) == PICTURES and detail["a"][0]["grade"] == -1
    assert (detail["a"][1]["title"], detail["a"][1]["quote"]) == ("E1M1, night", "10 m, 20° apart")


def test_pictures_whose_places_nobody_knows_are_shown_without() -> None:
    detail = found(None)["details"][-1]
    assert detail["query"] == "" and detail["picture"] == "E1M1q0"
    assert detail["a"][1] == {"id": "document E1M1d1", "title": "", "quote": "", "grade": 2, "picture": "E1M1d1"}
    sheet = thumbnails.sheet(BENCHMARK, {})
    width, height = thumbnails.SIZE
    assert sheet["rows"] == []
    assert read(sheet["picture"]).shape == (-(-len(IMAGES) // thumbnails.COLUMNS) * height, 8 * width, 3)


def test_headings_wrap_around() -> None:
    assert apart(("E1M1", 0, 0, 355, "day"), ("E1M1", 0, 0, 5, "day")) == "0 m, 10° apart"
    assert apart(("E1M1", 0, 0, 355, "day"), ("E1M2", 0, 0, 5, "day")) == "another level"


def test_poses_are_told_in_their_own_units() -> None:
    assert benchmarks.pose_units("freedoom/vpr") is None
    units = benchmarks.pose_units("msls/val")
    assert units is not None
    assert apart(("cph", 0, 0, 355, "day"), ("cph", 30, 40, 5, "day"), units) == "50 m, 10° apart"
    assert apart(("cph", 0, 0, 355, "day"), ("sf", 0, 0, 5, "day"), units) == "another city"


def test_every_named_picture_is_there_once_and_is_one() -> None:
    example = found()
    pictures = thumbnails.named(BENCHMARK, [example, {**example, "benchmark": "other"}])
    details = example["details"]
    assert set(pictures) == {p["picture"] for d in details for p in (d, *d["a"], *d["b"])}
    assert read(pictures["E1M1q0"]).shape == (*reversed(thumbnails.SIZE), 3)


def test_the_sheet_has_a_row_for_each_test_level() -> None:
    sheet = thumbnails.sheet(BENCHMARK, POSES)
    width, height = thumbnails.SIZE
    assert sheet["rows"] == list(LEVELS)
    assert read(sheet["picture"]).shape == (2 * height, thumbnails.COLUMNS * width, 3)


@pytest.mark.parametrize("names, n, expected", [("abcde", 3, "ace"), ("ab", 4, "ab"), ("a", 4, "a"), ("abc", 1, "a")])
def test_spaced(names: str, n: int, expected: str) -> None:
    assert "".join(thumbnails.spaced(list(names), n)) == expected


def test_they_fit_the_schema() -> None:
    file = {
        "schema": 3, "paper": "p", "attribution": {"b": "x"}, "claims": {"c": [found()]},
        "pictures": {"b": thumbnails.named(BENCHMARK, [found()])}, "sheets": {"b": thumbnails.sheet(BENCHMARK, POSES)},
    }  # fmt: skip
    schema = json.loads((ROOT / "workflow/schemas/examples.schema.json").read_text())
    jsonschema.validate(json.loads(json.dumps(file)), schema)
    file["pictures"]["b"]["E1M1q0"] = "javascript:alert(1)"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(json.dumps(file)), schema)


def read(uri: str) -> np.ndarray:
    from PIL import Image

    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))
