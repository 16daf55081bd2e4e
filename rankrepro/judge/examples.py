"""The queries behind a claim's effect: where two rankings differ most, with their top documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rankrepro.benchmarks.base import Document

QUOTE = 200  # characters of a document that a report may quote
EACH_WAY = 5  # largest gains and largest losses told in full
TOP = 3  # documents of a ranking


def examples(
    measure: str,
    rows: tuple[str, str],
    benchmark: Any,
    qrels: Mapping[str, Mapping[str, int]],
    values: tuple[Mapping[str, float], Mapping[str, float]],
    rankings: tuple[Mapping[str, Mapping[str, float]], Mapping[str, Mapping[str, float]]],
) -> dict[str, Any]:
    """All differences a - b of the units that both have, falling, and the largest gains and losses in full.

    rows, values, rankings: of a and of b; values unit -> value, rankings unit -> document id -> score, best first.
    """
    a, b = values
    shared = sorted(a.keys() & b.keys(), key=lambda u: (b[u] - a[u], u))
    gains = [u for u in shared[:EACH_WAY] if a[u] > b[u]]
    losses = [u for u in shared[-EACH_WAY:] if a[u] < b[u]]
    return {
        "benchmark": benchmark.id,
        "measure": measure,
        "a": rows[0],
        "b": rows[1],
        "differences": [round(a[u] - b[u], 4) for u in shared],
        "details": [
            {
                "unit": u,
                "query": benchmark.queries[u].text,
                "difference": round(a[u] - b[u], 4),
                "a": [_document(benchmark.corpus[d], qrels.get(u, {})) for d in list(rankings[0][u])[:TOP]],
                "b": [_document(benchmark.corpus[d], qrels.get(u, {})) for d in list(rankings[1][u])[:TOP]],
            }
            for u in [*gains, *losses]
        ],
    }


def _document(document: Document, grades: Mapping[str, int]) -> dict[str, Any]:
    return {
        "id": document.id,
        "title": document.title,
        "quote": quote(document.text),
        "grade": grades.get(document.id, 0),
    }


def quote(text: str, limit: int = QUOTE) -> str:
    """The beginning of a text, at most `limit` characters, cut at a word."""
    plain = " ".join(text.split())
    if len(plain) <= limit:
        return plain
    words: Sequence[str] = plain[: limit - 1].rsplit(" ", 1)
    return words[0] + "…"
