"""Small pictures for a report: those that its examples name, and a contact sheet of a benchmark."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rankrepro.benchmarks.images import ImageBenchmark

SIZE = (112, 84)  # width and height of a thumbnail in pixels
ROWS, COLUMNS = 8, 8  # of a contact sheet at most
QUALITY = 60  # of WebP


def named(benchmark: ImageBenchmark, examples: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Name -> data URI of every picture in the details of examples of this benchmark."""
    details = [d for e in examples if e["benchmark"] == benchmark.id for d in e["details"]]
    names = {p["picture"] for d in details for p in (d, *d["a"], *d["b"]) if "picture" in p}
    return {name: encoded(small(benchmark.images[name])) for name in sorted(names)}


def sheet(benchmark: ImageBenchmark, poses: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """A contact sheet: {picture: a data URI, rows: what each row shows, columns: their number}.

    Where poses are known, a row for each of ROWS test levels (those with the most queries): half of it are queries and
    half documents of the level, evenly spaced in the order of condition and place. Elsewhere ROWS rows of pictures,
    evenly spaced in the order of their names, and nothing is said of a row.
    """
    if poses:
        rows = _levels(benchmark, poses)
    else:
        names = spaced(sorted(benchmark.images), ROWS * COLUMNS)
        rows = [("", names[start : start + COLUMNS]) for start in range(0, len(names), COLUMNS)]
    width, height = SIZE
    canvas = np.full((len(rows) * height, COLUMNS * width, 3), 255, np.uint8)
    for row, (_, names) in enumerate(rows):
        for column, name in enumerate(names):
            y, x = row * height, column * width
            canvas[y : y + height, x : x + width] = small(benchmark.images[name])
    return {"picture": encoded(canvas), "rows": [label for label, _ in rows if label], "columns": COLUMNS}


def _levels(benchmark: ImageBenchmark, poses: Mapping[str, Sequence[Any]]) -> list[tuple[str, list[str]]]:
    """(level, its pictures) for each row."""
    asked = by_level([q.image for q in benchmark.queries.values() if q.split == "test"], poses)
    answers = by_level([d.image for d in benchmark.corpus.values()], poses)
    levels = sorted(sorted(asked.keys() & answers.keys(), key=lambda level: (-len(asked[level]), level))[:ROWS])
    half = COLUMNS // 2
    return [(level, [*spaced(asked[level], half), *spaced(answers[level], COLUMNS - half)]) for level in levels]


def by_level(names: Sequence[str], poses: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
    """Level -> names in the order of condition and place, of the pictures whose pose is known."""
    levels: dict[str, list[str]] = {}
    for name in sorted(filter(poses.__contains__, names), key=lambda n: (str(poses[n][4]), *poses[n][1:4])):
        levels.setdefault(str(poses[name][0]), []).append(name)
    return levels


def spaced(names: Sequence[str], n: int) -> list[str]:
    """At most n of them, evenly spaced."""
    return [names[i] for i in sorted({round(i) for i in np.linspace(0, len(names) - 1, min(n, len(names)))})]


def small(pixels: np.ndarray) -> np.ndarray:
    """Pixels [height, width, 3] uint8 at SIZE."""
    from PIL import Image

    return np.array(Image.fromarray(pixels).resize(SIZE, Image.Resampling.LANCZOS))


def encoded(pixels: np.ndarray) -> str:
    """Pixels as a WebP data URI."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "WEBP", quality=QUALITY, method=6)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()
