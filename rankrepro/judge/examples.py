"""The queries behind a claim's effect: where two rankings differ most, with their top documents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rankrepro.benchmarks.base import Document
from rankrepro.benchmarks.freedoom import METRE
from rankrepro.benchmarks.pinned import Numbered

QUOTE = 200  # characters of a document that a report may quote
EACH_WAY = 5  # largest gains and largest losses told in full
TOP = 3  # documents of a ranking
PICTURES = 5  # of a ranking of pictures: they take less room than quotes
LEVELS = ("level", METRE)  # what the first part of a pose is, and a metre in units of its x and y


def examples(
    measure: str,
    rows: tuple[str, str],
    benchmark: Any,
    qrels: Mapping[str, Mapping[str, int]],
    values: tuple[Mapping[str, float], Mapping[str, float]],
    rankings: tuple[Mapping[str, Mapping[str, float]], Mapping[str, Mapping[str, float]]],
    poses: Mapping[str, Sequence[Any]] | None = None,
    units: tuple[str, float] = LEVELS,
) -> dict[str, Any]:
    """All differences a - b of the units that both have, falling, and the largest gains and losses in full.

    rows, values, rankings: of a and of b; values unit -> value, rankings unit -> document id -> score, best first.
    poses: of a benchmark of pictures, name -> where each was taken; told instead of the text, which is the name.
    units: of the poses.
    """
    a, b = values
    shared = sorted(a.keys() & b.keys(), key=lambda u: (b[u] - a[u], u))
    gains = [u for u in shared[:EACH_WAY] if a[u] > b[u]]
    losses = [u for u in shared[-EACH_WAY:] if a[u] < b[u]]

    def first(ranking: Mapping[str, float], u: str) -> list[dict[str, Any]]:
        corpus, grades = benchmark.corpus, qrels.get(u, {})
        told = corpus.named if isinstance(corpus, Numbered) else corpus.__getitem__
        found = [told(d) for d in list(ranking)[: PICTURES if poses else TOP]]
        if poses:
            return [_picture(d, grades, poses, benchmark.queries[u].text, units) for d in found]
        return [_document(d, grades) for d in found]

    def detail(u: str) -> dict[str, Any]:
        text = benchmark.queries[u].text
        asked = {"query": place(poses[text]), "picture": text} if poses else {"query": text}
        ranked = {side: first(ranking[u], u) for side, ranking in zip("ab", rankings, strict=True)}
        return {"unit": u, **asked, "difference": round(a[u] - b[u], 4), **ranked}

    return {
        "benchmark": benchmark.id,
        "measure": measure,
        "a": rows[0],
        "b": rows[1],
        "differences": [round(a[u] - b[u], 4) for u in shared],
        "details": [detail(u) for u in [*gains, *losses]],
    }


def _document(document: Document, grades: Mapping[str, int]) -> dict[str, Any]:
    return {
        "id": document.id,
        "title": document.title,
        "quote": quote(document.text),
        "grade": grades.get(document.id, 0),
    }


def _picture(
    document: Document,
    grades: Mapping[str, int],
    poses: Mapping[str, Sequence[Any]],
    asked: str,
    units: tuple[str, float],
) -> dict[str, Any]:
    name = document.text
    return {
        "id": document.id,
        "title": place(poses[name]),
        "quote": apart(poses[asked], poses[name], units),
        "grade": grades.get(document.id, 0),
        "picture": name,
    }


def place(pose: Sequence[Any]) -> str:
    """`E2M3, night`. pose: level or city, x, y, heading, condition."""
    return f"{pose[0]}, {pose[4]}"


def apart(one: Sequence[Any], other: Sequence[Any], units: tuple[str, float] = LEVELS) -> str:
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
