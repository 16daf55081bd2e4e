"""msls/*: a tiny folder in the upstream format, of two cities with the same coordinates and one for training."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from rankrepro import benchmarks
from rankrepro.benchmarks import msls
from rankrepro.benchmarks.images import ImageTruth
from rankrepro.cell import Retrieval
from rankrepro.errors import BenchmarkError
from rankrepro.judge import measures
from rankrepro.rehearsal.streets import SUBTASKS, TABLES

PARAMS = {
    "cities": {"train": ["goa"], "test": ["cph", "sf"]},
    "subtask": "all",
    "metres": 25,
    "train_queries": 2,
    "size": [64, 48],
}
EAST, NORTH = 346_000.5, 6_173_000.25


def frame(key, number, x=0.0, y=0.0, sequence="s", **other):
    own = {"key": key, "frame_number": number, "sequence_key": sequence, "easting": EAST + x, "northing": NORTH + y}
    shared = {"lon": 12.5, "lat": 55.7, "ca": 10.0, "captured_at": 0, "pano": False, "night": False, "all": True}
    shared |= {"control_panel": False, "view_direction": "Forward", "unique_cluster": 0}
    return dict.fromkeys(SUBTASKS, False) | shared | own | other


DATABASE = [
    frame("d0", 7),  # numbers 7, 8, then 10: a gap
    frame("d1", 8, x=10.0),
    frame("d2", 10, x=100.0),
    frame("d3", 11, x=110.0, pano=True),
    frame("d4", 12, x=120.0),
    frame("d5", 13, x=5.0, all=False, n2d=True),
]
QUERY = [
    frame("q2", 3, x=15.0, y=20.0, night=True, n2d=True, ca=350.0),  # 25 m from d0; rows are in no order
    frame("q1", 2, x=-40.0, y=0.0, all=False),
    frame("q3", 4, x=-15.0, y=-20.01),  # a centimetre too far from d0
    frame("q4", 1, x=90.0, sequence="t"),
    frame("q5", 2, x=60.0, sequence="t"),  # nothing within 25 m
]


def write(root, city, side, frames):
    folder = root / "train_val" / city / side
    (folder / "images").mkdir(parents=True)
    for table, columns in TABLES.items():
        with (folder / f"{table}.csv").open("w", newline="") as f:
            csv.writer(f).writerows([["", *columns], *([i, *(r[c] for c in columns)] for i, r in enumerate(frames))])
    for i, row in enumerate(frames):
        Image.fromarray(np.full((30, 40, 3), 20 * i, np.uint8)).save(folder / "images" / f"{row['key']}.jpg")


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "msls"
    for city in ("cph", "sf"):
        write(root, city, "database", DATABASE[: 6 if city == "cph" else 1])
        write(root, city, "query", QUERY[: 5 if city == "cph" else 1])
    write(root, "goa", "query", [frame(f"g{i}", i, all=False) for i in range(4)])
    return root


def keys(benchmark, names):
    """`<city> <key>` of pictures."""
    parts = (benchmark.images.files[n].split("/") for n in names)
    return [f"{p[1]} {p[-1].removesuffix('.jpg')}" for p in parts]


def built(root, **params):
    return msls.build("msls/val", {"msls": root}, PARAMS | params)


def test_the_protocol(root):
    benchmark, truth = built(root)
    assert sorted(keys(benchmark, benchmark.corpus)) == ["cph d0", "cph d1", "cph d2", "cph d4", "sf d0"]  # no panorama
    assert sorted(keys(benchmark, benchmark.of_split("test"))) == ["cph q2", "cph q4", "sf q2"]
    right = {
        k: sorted(keys(benchmark, truth.qrels[q]))
        for q, k in zip(truth.qrels, keys(benchmark, truth.qrels), strict=True)
    }
    assert right == {"cph q2": ["cph d0", "cph d1"], "cph q4": ["cph d2"], "sf q2": ["sf d0"]}  # 25 m are near enough
    assert not benchmark.judgments and set(truth.clusters) == set(benchmark.of_split("test"))
    (night,) = (q for q in benchmark.queries if keys(benchmark, [q]) == ["cph q2"])
    assert benchmark.queries[night].tags == ("night",)
    assert truth.poses[night] == ("cph", EAST + 15, NORTH + 20, 350.0, "night")
    assert set(truth.poses) == set(benchmark.images)


def test_training_queries_are_a_sample_without_judgments(root):
    benchmark, truth = built(root)
    train = benchmark.of_split("train")
    assert len(train) == 2 and not set(train) & {*truth.qrels, *truth.clusters}
    assert all(k.startswith("goa ") for k in keys(benchmark, train))
    assert set(train) < set(built(root, train_queries=3)[0].of_split("train"))


def test_a_subtask(root):
    benchmark, _ = built(root, subtask="n2d")
    assert keys(benchmark, benchmark.corpus) == ["cph d5"] and keys(benchmark, benchmark.of_split("test")) == ["cph q2"]
    with pytest.raises(BenchmarkError, match=r"subtask_index\.csv: row 0: n2x is None"):
        built(root, subtask="n2x")


def test_walks_are_cut_at_gaps_and_panoramas_and_hold_what_is_beside_a_query(root):
    benchmark, truth = built(root)
    walks = sorted(" ".join(keys(benchmark, walk)) for walk in benchmark.walks.values())
    assert walks == [
        *("cph d0 cph d1", "cph d2", "cph d4 cph d5", "cph q1 cph q2 cph q3", "cph q4 cph q5", "sf d0", "sf q2"),
    ]
    name = {k: n for n, k in zip(benchmark.images, keys(benchmark, benchmark.images), strict=True)}
    run = Retrieval({name[q]: {name["cph d0"]: 1.0} for q in ("cph q2", "cph q4")})
    assert measures.per_unit("PlaceRecall@1", run, truth) == {name["cph q2"]: 1, name["cph q4"]: 0}
    assert measures.per_unit("PlaceRecall-seq2im@1", run, truth) == {name["cph q2"]: 1}  # q4 has nothing before it


def test_names_tell_nothing(root):
    benchmark, _ = built(root)
    names = {*benchmark.images, *benchmark.walks}
    assert all(len(n) == 13 and set(n[1:]) <= set("0123456789abcdef") for n in names)
    assert list(benchmark.corpus) == sorted(benchmark.corpus) and list(benchmark.queries) == sorted(benchmark.queries)
    assert all(d.image == d.id and not d.content for d in benchmark.corpus.values())


def test_built_from_the_folder_the_variable_names(root, tmp_path, monkeypatch):
    monkeypatch.setenv(msls.FOLDER, str(root))
    inputs, truth = built(root)
    folder = tmp_path / "built"
    folder.mkdir()
    msls.write(folder, inputs, truth)
    assert not [p for p in folder.rglob("*") if p.suffix in (".jpg", ".png", ".zip")]  # pictures stay where they are
    benchmark, again = msls.read(folder, "msls/val"), msls.read_truth(folder)
    assert (benchmark.queries, benchmark.corpus, benchmark.walks) == (inputs.queries, inputs.corpus, inputs.walks)
    assert isinstance(again, ImageTruth) and again.qrels == truth.qrels and again.walks == truth.walks
    assert {n: tuple(p) for n, p in again.poses.items()} == truth.poses
    assert all(np.array_equal(benchmark.images[n], inputs.images[n]) for n in benchmark.images)


def test_the_digest_changes_with_the_folder(root, monkeypatch):
    monkeypatch.delenv(msls.FOLDER, raising=False)
    digests = []

    def digest():
        benchmarks.digest.cache_clear()
        digests.append(benchmarks.digest("msls/val"))

    digest()
    monkeypatch.setenv(msls.FOLDER, str(root))
    digest()
    with (root / "train_val/sf/query/raw.csv").open("a") as f:
        f.write("\n")
    digest()
    shutil.rmtree(root / "train_val/goa")
    digest()
    assert len(set(digests)) == 4
    benchmarks.digest.cache_clear()


def test_pictures_are_read_when_asked_for(root):
    benchmark, _ = built(root)
    name = next(n for n in benchmark.images if keys(benchmark, [n]) == ["cph q5"])
    file = root / "train_val/cph/query/images/q5.jpg"
    pixels = benchmark.images[name]
    assert pixels.shape == (48, 64, 3) and pixels.dtype == np.uint8 and abs(pixels.astype(int) - 80).max() < 4
    file.write_text("no picture")
    with pytest.raises(BenchmarkError, match=r"q5\.jpg cannot be read.*RANKREPRO_MSLS"):
        benchmark.images[name]
    file.unlink()
    with pytest.raises(BenchmarkError, match=r"query/images/q5\.jpg and 0 others are missing.*RANKREPRO_MSLS"):
        built(root)


@pytest.mark.parametrize("table", TABLES)
def test_a_missing_table(root, table):
    (root / f"train_val/sf/database/{table}.csv").unlink()
    with pytest.raises(BenchmarkError, match=rf"sf/database/{table}\.csv is missing: point RANKREPRO_MSLS"):
        built(root)


@pytest.mark.parametrize("key", ["../../x", "a/b", "..", "", "a\\b", "x.jpg"])
def test_a_key_is_no_path(root, key):
    shutil.rmtree(root / "train_val/sf/query")
    write(root, "sf", "query", [])
    folder = root / "train_val/sf/query"
    for table, columns in TABLES.items():
        row = frame("k", 0) | {"key": key}
        with (folder / f"{table}.csv").open("w", newline="") as f:
            csv.writer(f).writerows([["", *columns], [0, *(row[c] for c in columns)]])
    with pytest.raises(BenchmarkError, match=r"sf/query/raw\.csv: row 0: key is "):
        built(root)


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("raw", "False", "maybe", r"raw\.csv: row 0: pano is 'maybe'"),
        ("raw", "ca,", "heading,", r"raw\.csv: row 0: ca is None"),
        ("postprocessed", str(EAST), "east", r"postprocessed\.csv: row 0: easting is 'east'"),
        ("seq_info", "d0", "d9", r"row 0 is not the same frame in .*seq_info"),
        ("seq_info", "0,d0,s,7\r\n", "", r"row 0 is not the same frame in "),
    ],
)
def test_broken_tables(root, table, old, new, message):
    file = root / f"train_val/sf/database/{table}.csv"
    text = file.read_bytes().decode()
    assert old in text
    file.write_bytes(text.replace(old, new, 1).encode())
    with pytest.raises(BenchmarkError, match=message):
        built(root)


def test_no_query_is_near_anything(root):
    with pytest.raises(BenchmarkError, match=r"no query in .* has a picture within 1 m"):
        built(root, metres=1)


def test_without_the_variable(tmp_path, monkeypatch):
    monkeypatch.delenv(msls.FOLDER, raising=False)
    with pytest.raises(BenchmarkError, match=r"RANKREPRO_MSLS is not set.*mapillary\.com/dataset/places"):
        benchmarks.build("msls/val", tmp_path, tmp_path / "built")
    assert not list(tmp_path.iterdir())


def test_the_card_is_the_official_validation_set():
    entry = benchmarks.get("msls/val")
    assert (entry.counts["test"], entry.documents) == (740, 18871)
    assert entry.units == entry.params["train_queries"] + 740
    assert len(entry.params["cities"]["train"]) == 22 and entry.params["cities"]["test"] == ["cph", "sf"]
    assert json.loads(json.dumps(entry.params)) == entry.params
