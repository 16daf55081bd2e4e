"""Rows that were made elsewhere: a run file takes the place of a method."""

from __future__ import annotations

from rankrepro.cell import Cell, Retrieval


def run(cell: Cell) -> Retrieval:
    """A TREC run file as a row: its scores, of the first `k` documents of a query. What making it cost is not known.

    params: file (below the folder of runs), sha256 (of the file), k.
    """
    p = cell.params
    found = cell.made_elsewhere(p.file, p.sha256)
    return Retrieval({q: dict(list(scores.items())[: p.k]) for q, scores in found.items()})
