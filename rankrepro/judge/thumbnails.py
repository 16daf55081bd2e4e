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
    names = {p["picture"] for d in details for p in (d, *d["a"], *d["b"])}
    return {name: encoded(small(benchmark.images[name])) for name in sorted(names)}


def sheet(benchmark: ImageBenchmark, poses: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """A row for each of ROWS test levels (those with the most queries): its queries, then what can be found.

    Half a row are queries and half documents of the level, evenly spaced in the order of condition and place.
    Returns the picture (a data URI), the levels of its rows and the number of columns.
    """
    asked = by_level([q.text for q in benchmark.queries.values() if q.split == "test"], poses)
    found = by_level([d.text for d in benchmark.corpus.values()], poses)
    levels = sorted(sorted(asked.keys() & found.keys(), key=lambda level: (-len(asked[level]), level))[:ROWS])
    width, height = SIZE
    canvas = np.full((len(levels) * height, COLUMNS * width, 3), 255, np.uint8)
    for row, level in enumerate(levels):
        chosen = [*spaced(asked[level], COLUMNS // 2), *spaced(found[level], COLUMNS - COLUMNS // 2)]
        for column, name in enumerate(chosen):
            y, x = row * height, column * width
            canvas[y : y + height, x : x + width] = small(benchmark.images[name])
    return {"picture": encoded(canvas), "rows": levels, "columns": COLUMNS}


def by_level(names: Sequence[str], poses: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
    """Level -> names in the order of condition and place."""
    levels: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda n: (str(poses[n][4]), *poses[n][1:4])):
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
