"""`msls/*`: Mapillary Street-Level Sequences (Warburg et al., CVPR 2020) in their upstream format.

`<root>/train_val/<city>/{query,database}` holds raw.csv, postprocessed.csv, seq_info.csv and subtask_index.csv, a row a
frame and the same frames in the same order, and `images/<key>.jpg`. $RANKREPRO_MSLS names the root. Pictures stay
there: a built benchmark knows where they are and reads one when it is asked for.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from rankrepro.benchmarks import base, splits
from rankrepro.benchmarks.base import Document, Query
from rankrepro.benchmarks.freedoom import name
from rankrepro.benchmarks.images import ImageBenchmark, ImageTruth, read_truth
from rankrepro.errors import BenchmarkError

__all__ = ["build", "fingerprint", "read", "read_truth", "write"]

FOLDER = "RANKREPRO_MSLS"  # the variable that names a local copy
POSES = ("city", 1.0)  # what the first part of a pose is, and a metre in units of its x and y
REMEDY = f"point {FOLDER} to a whole copy of the data set, the folder with train_val (mapillary.com/dataset/places)"


def _key(text: str) -> str:
    """A key that is a file name, not a path."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise ValueError(text)
    return text


FLAGS = {"True": True, "False": False, "1": True, "0": False}
COLUMNS: dict[str, tuple[str, Callable[[str], Any]]] = {  # column -> its table, and what reads it
    "key": ("raw", _key),
    "pano": ("raw", FLAGS.__getitem__),
    "ca": ("raw", float),
    "night": ("postprocessed", FLAGS.__getitem__),
    "easting": ("postprocessed", float),
    "northing": ("postprocessed", float),
    "sequence_key": ("seq_info", str),
    "frame_number": ("seq_info", int),
}


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that is not a panorama. flagged: it belongs to the subtask."""

    name: str
    path: str  # below the root
    pose: tuple[str, float, float, float, str]  # city, easting and northing in metres, degrees, day or night
    sequence: str
    number: int
    flagged: bool


def build(
    benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]
) -> tuple[ImageBenchmark, ImageTruth]:
    """One benchmark. `sources` may name the folder `msls`.

    `params`: `cities` (train and test -> cities), `subtask` (a column of subtask_index.csv), `metres` of a positive,
    `train_queries` (pictures drawn from the queries of training cities; they have no judgments), `size` (width and
    height that pictures are read at). Raises BenchmarkError for a missing file and for an invalid value.

    Judgments and walks also hold unflagged frames: most neighbours of a query in its sequence have no flag.
    """
    root, cities = sources.get("msls") or local(), params["cities"]
    queries, database = (
        {c: list(frames(root, benchmark_id, c, side, params["subtask"])) for c in cities["test"]}
        for side in ("query", "database")
    )
    answers = {c: [f for f in frames_of_city if f.flagged] for c, frames_of_city in database.items()}
    qrels: dict[str, dict[str, int]] = {}
    for c in cities["test"]:
        qrels |= positives(queries[c], answers[c], params["metres"])
    test_queries = [f for frames_of_city in queries.values() for f in frames_of_city if f.flagged and f.name in qrels]
    if not test_queries:
        raise BenchmarkError(f"{benchmark_id}: no query in {root} has a picture within {params['metres']} m: {REMEDY}")
    pool = {f.name: f for city in cities["train"] for f in frames(root, benchmark_id, city, "query")}
    drawn = [pool[n] for n in base.sample(benchmark_id, list(pool), params["train_queries"])]
    sides = [*queries.values(), *database.values()]
    frame_of = {f.name: f for f in sorted((*chain(*sides), *drawn), key=lambda f: f.name)}
    if missing := [f.path for f in frame_of.values() if not (root / f.path).is_file()]:
        raise BenchmarkError(f"{root / missing[0]} and {len(missing) - 1} others are missing: {REMEDY}")
    split = dict.fromkeys((f.name for f in drawn), "train") | dict.fromkeys((f.name for f in test_queries), "test")
    inputs = ImageBenchmark(
        benchmark_id,
        {q: Query(q, "", split[q], frame_of[q].pose[4:], image=q) for q in sorted(split)},
        {d: Document(d, "", "", image=d) for d in sorted(f.name for f in chain(*answers.values()))},
        images=Pictures(root, {n: f.path for n, f in frame_of.items()}, params["size"]),
        walks={w: names for side in sides for w, names in sequences(side).items()},
    )
    clusters = splits.clusters({f.name: qrels[f.name] for f in test_queries})
    return inputs, ImageTruth(qrels, clusters, {n: f.pose for n, f in frame_of.items()}, inputs.walks)


def frames(root: Path, benchmark_id: str, city: str, side: str, subtask: str = "") -> Iterator[Frame]:
    """The frames of a side (query or database) of a city, panoramas left out; without a subtask none is flagged."""
    columns = COLUMNS | ({subtask: ("subtask_index", FLAGS.__getitem__)} if subtask else {})
    for row in rows(root / "train_val" / city / side, columns):
        if not row["pano"]:
            key, light = row["key"], "night" if row["night"] else "day"
            yield Frame(
                name(side[0], benchmark_id, city, key),
                f"train_val/{city}/{side}/images/{key}.jpg",
                (city, row["easting"], row["northing"], row["ca"], light),
                row["sequence_key"],
                row["frame_number"],
                row.get(subtask, False),
            )


def rows(folder: Path, columns: Mapping[str, tuple[str, Callable[[str], Any]]]) -> Iterator[dict[str, Any]]:
    """Column -> value, row by row, of the tables of a folder joined. `columns`: column -> its table, and its reader."""
    tables = sorted({table for table, _ in columns.values()})
    for n, parts in enumerate(zip_longest(*(_table(folder / f"{t}.csv") for t in tables), fillvalue={})):
        row = dict(zip(tables, parts, strict=True))
        if len({r["key"] for r in parts if "key" in r}) != 1 or not all(parts):
            raise BenchmarkError(f"{folder}: row {n} is not the same frame in {', '.join(tables)}.csv: {REMEDY}")
        values = {}
        for column, (table, read) in columns.items():
            try:
                values[column] = read(row[table][column])
            except (KeyError, TypeError, ValueError):
                value = row[table].get(column)
                raise BenchmarkError(f"{folder / table}.csv: row {n}: {column} is {value!r}: {REMEDY}") from None
        yield values


def _table(file: Path) -> Iterator[dict[str, str]]:
    if not file.is_file():
        raise BenchmarkError(f"{file} is missing: {REMEDY}")
    with file.open(encoding="utf-8", newline="") as f:
        yield from csv.DictReader(f)


def positives(queries: Sequence[Frame], database: Sequence[Frame], metres: float) -> dict[str, dict[str, int]]:
    """Query -> the frames within so many metres of it (grade 1), for the queries of one city that have any."""
    places = np.array([f.pose[1:3] for f in database]).reshape(-1, 2)
    qrels = {}
    for f in queries:
        near = np.flatnonzero(np.hypot(*(places - f.pose[1:3]).T) <= metres)
        if len(near):
            qrels[f.name] = dict.fromkeys(sorted(database[i].name for i in near.tolist()), 1)
    return qrels


def sequences(frames: Sequence[Frame]) -> dict[str, list[str]]:
    """Walk -> names of frames, in order: a sequence, cut where frame numbers differ by more than 1."""
    runs: list[list[Frame]] = []
    for f in sorted(frames, key=lambda f: (f.sequence, f.number)):
        if runs and (runs[-1][-1].sequence, runs[-1][-1].number + 1) == (f.sequence, f.number):
            runs[-1].append(f)
        else:
            runs.append([f])
    return {name("w", run[0].name): [f.name for f in run] for run in runs}


class Pictures(Mapping[str, np.ndarray]):
    """Picture name -> pixels [height, width, 3] uint8 of one size, read from the upstream file when asked for.

    files: name -> path below `root`; size: width and height.
    """

    def __init__(self, root: Path, files: Mapping[str, str], size: Sequence[int]) -> None:
        self.root, self.files, self.size = root, files, (size[0], size[1])

    def __getitem__(self, name: str) -> np.ndarray:
        from PIL import Image

        file = self.root / self.files[name]
        try:
            with Image.open(file) as picture:
                return np.array(picture.convert("RGB").resize(self.size, Image.Resampling.BILINEAR))
        except OSError as error:
            raise BenchmarkError(f"{file} cannot be read ({error}): {REMEDY}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def write(folder: Path, benchmark: ImageBenchmark, truth: ImageTruth) -> None:
    """Inputs as `base.write`, with `pictures.json` and `walks.json`; poses to `truth/`. `folder` must exist."""
    base.write(folder, benchmark, truth)
    assert isinstance(benchmark.images, Pictures)
    pictures = {"files": benchmark.images.files, "size": benchmark.images.size}
    for file, value in (("pictures", pictures), ("walks", benchmark.walks), ("truth/poses", truth.poses)):
        (folder / f"{file}.json").write_text(json.dumps(value, sort_keys=True, indent=0))


def read(folder: Path, benchmark_id: str) -> ImageBenchmark:
    """Inputs only: this never opens `folder/truth`."""
    plain = base.read(folder, benchmark_id)
    pictures, walks = (json.loads((folder / f"{part}.json").read_text()) for part in ("pictures", "walks"))
    return ImageBenchmark(plain.id, plain.queries, plain.corpus, plain.judgments, Pictures(local(), **pictures), walks)


def local() -> Path:
    """The folder named by $RANKREPRO_MSLS. Nothing is downloaded: the licence has to be accepted on a web page."""
    if not (folder := os.environ.get(FOLDER)):
        raise BenchmarkError(f"{FOLDER} is not set, and the data set is behind a form: {REMEDY}")
    return Path(folder)


def fingerprint() -> str:
    """Names and sizes of a local copy's tables, which list its pictures; empty where there is no copy."""
    if not (folder := os.environ.get(FOLDER)):
        return ""
    files = sorted(Path(folder).glob("train_val/*/*/*.csv"))
    return json.dumps([(str(p.relative_to(folder)), p.stat().st_size) for p in files])
