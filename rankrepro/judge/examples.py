"""The queries behind a claim's effect: where two rankings differ most, with their top documents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rankrepro.benchmarks.base import Document, Query
from rankrepro.benchmarks.freedoom import METRE
from rankrepro.benchmarks.pinned import Numbered

QUOTE = 200  # characters of a document that a report may quote
EACH_WAY = 5  # largest gains and largest losses told in full
TOP = 3  # documents of a ranking
PICTURES = 5  # of a ranking that has pictures: they take less room than quotes
Pose = Sequence[Any]  # level or city, x, y, heading, condition
LEVELS = ("level", METRE)  # what the first part of a pose is, and a metre in units of its x and y


def examples(
    measure: str,
    rows: tuple[str, str],
    benchmark: Any,
    qrels: Mapping[str, Mapping[str, int]],
    values: tuple[Mapping[str, float], Mapping[str, float]],
    rankings: tuple[Mapping[str, Mapping[str, float]], Mapping[str, Mapping[str, float]]],
    poses: Mapping[str, Pose] | None = None,
    units: tuple[str, float] = LEVELS,
) -> dict[str, Any]:
    """All differences a - b of the units that both have, falling, and the largest gains and losses in full.

    rows, values, rankings: of a and of b; values unit -> value, rankings unit -> document id -> score, best first.
    poses: name of a picture -> where it was taken, as far as that is known; told of pictures that have no text.
    units: of the poses.
    """
    a, b = values
    shared = sorted(a.keys() & b.keys(), key=lambda u: (b[u] - a[u], u))
    gains = [u for u in shared[:EACH_WAY] if a[u] > b[u]]
    losses = [u for u in shared[-EACH_WAY:] if a[u] < b[u]]
    corpus = benchmark.corpus
    told = corpus.named if isinstance(corpus, Numbered) else corpus.__getitem__
    known = poses or {}

    def first(ranking: Mapping[str, float], u: str) -> list[dict[str, Any]]:
        best = [told(d) for d in list(ranking)[:PICTURES]]
        if not any(d.image for d in best):
            best = best[:TOP]
        asked = known.get(benchmark.queries[u].image)
        return [_document(d, qrels.get(u, {}), asked, known.get(d.image), units) for d in best]

    def detail(u: str) -> dict[str, Any]:
        ranked = {side: first(ranking[u], u) for side, ranking in zip("ab", rankings, strict=True)}
        return {"unit": u, **_query(benchmark.queries[u], known), "difference": round(a[u] - b[u], 4), **ranked}

    return {
        "benchmark": benchmark.id,
        "measure": measure,
        "a": rows[0],
        "b": rows[1],
        "differences": [round(a[u] - b[u], 4) for u in shared],
        "details": [detail(u) for u in [*gains, *losses]],
    }


def _query(query: Query, poses: Mapping[str, Pose]) -> dict[str, str]:
    """Its text, or where its picture was taken if it has none; and its picture."""
    text = query.text or (place(poses[query.image]) if query.image in poses else "")
    return {"query": text} | _picture(query.image)


def _document(
    document: Document, grades: Mapping[str, int], asked: Pose | None, taken: Pose | None, units: tuple[str, float]
) -> dict[str, Any]:
    """Title and beginning of its text; of a picture without, where it was taken and how far from the query's."""
    title, text = document.title, quote(document.text)
    if taken and not document.content:
        title, text = place(taken), apart(asked, taken, units) if asked else ""
    told = {"id": document.id, "title": title, "quote": text, "grade": grades.get(document.id, 0)}
    return told | _picture(document.image)


def _picture(image: str) -> dict[str, str]:
    return {"picture": image} if image else {}


def place(pose: Pose) -> str:
    """`E2M3, night`."""
    return f"{pose[0]}, {pose[4]}"


def apart(one: Pose, other: Pose, units: tuple[str, float] = LEVELS) -> str:
    """How far apart two pictures were taken, and how much their headings differ."""
    area, metre = units
    if one[0] != other[0]:
        return f"another {area}"
    metres = math.hypot(one[1] - other[1], one[2] - other[2]) / metre
    return f"{metres:.0f} m, {abs((one[3] - other[3] + 180) % 360 - 180):.0f}° apart"


def quote(text: str, limit: int = QUOTE) -> str:
    """The beginning of a text, at most `limit` characters, cut at a word."""
    plain = " ".join(text.split())
    if len(plain) <= limit:
        return plain
    words: Sequence[str] = plain[: limit - 1].rsplit(" ", 1)
    return words[0] + "…"
