"""Mapillary Street-Level Sequences in miniature: the files of upstream, of cities with one street each.

A street is a strip of random colours, a picture the 40 m of it ahead: what was taken nearby looks alike. All cities
have the same coordinates, so that a loader that mixes them up finds neighbours in the wrong one.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FRAMES = {"train": 1, "test": 8}  # of a drive
DRIVES = {"database": ((0.0, False), (2.0, False)), "query": ((3.0, False), (5.0, True))}  # where from (m), by night?
STEP, VIEW, AWAY = 6, 40, 400  # metres between frames, seen in a picture, and to a frame that nothing is near
METRES = 2  # a column of the strip
SIZE = (160, 120)
SUBTASKS = ("all", "s2w", "w2s", "o2n", "n2o", "d2n", "n2d")
TABLES = {
    "raw": ("key", "lon", "lat", "ca", "captured_at", "pano"),
    "postprocessed": ("key", "night", "control_panel", "view_direction", "easting", "northing", "unique_cluster"),
    "seq_info": ("key", "sequence_key", "frame_number"),
    "subtask_index": SUBTASKS,
}


def make(cities: Mapping[str, Sequence[str]], root: Path) -> None:
    """`train_val/<city>/{query,database}` below `root`, for the cities of both splits (train, test)."""
    for split, names in cities.items():
        for city in names:
            for side, drives in DRIVES.items():
                frames = [f for d, drive in enumerate(drives) for f in _drive(city, side, d, *drive, FRAMES[split])]
                _write(frames, root / "train_val" / city / side, _street(city))


def _drive(city: str, side: str, drive: int, start: float, night: bool, length: int) -> list[dict[str, Any]]:
    """Frames of a drive, with a gap in the middle. The first of a side ends with a panorama, one by night far away."""
    frames = []
    for i in range(length):
        last = i > 0 and i == length - 1
        x = start + STEP * i + (AWAY if last and night else 0)
        frame = {
            "key": f"{city}-{side}_{drive}{i}",
            "lon": x / 1e5,
            "lat": 55.0,
            "ca": 90.0 + i,
            "captured_at": 1_500_000_000_000 + i,
            "pano": last and drive == 0,
            "night": night,
            "control_panel": False,
            "view_direction": "Forward",
            "easting": 500_000.0 + x,
            "northing": 6_100_000.0,
            "unique_cluster": i,
            "sequence_key": f"{city}-{side}_{drive}",
            "frame_number": i + i // (length // 2 + 1),
            "x": x,  # in no table
        }
        flagged = side == "database" or i % 4 != 2  # upstream flags all of the database and some queries
        frames.append(frame | dict.fromkeys(SUBTASKS, False) | {"all": flagged})
    return frames


def _write(frames: Sequence[Mapping[str, Any]], folder: Path, street: np.ndarray) -> None:
    """The four tables, each with an index without a name, and the pictures."""
    from PIL import Image

    (folder / "images").mkdir(parents=True)
    for table, columns in TABLES.items():
        with (folder / f"{table}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["", *columns], *([i, *(f[c] for c in columns)] for i, f in enumerate(frames))])
    for f in frames:
        box = (f["x"] / METRES, 0, (f["x"] + VIEW) / METRES, len(street))
        picture = Image.fromarray(street // 4 if f["night"] else street).resize(SIZE, Image.Resampling.BILINEAR, box)
        picture.save(folder / "images" / f"{f['key']}.jpg", quality=85)


def _street(city: str) -> np.ndarray:
    """Pixels [height, width, 3] uint8, a column METRES wide."""
    rng = np.random.default_rng(list(city.encode()))
    return rng.integers(0, 256, (15, (AWAY + 100 + VIEW) // METRES, 3), dtype=np.uint8)
