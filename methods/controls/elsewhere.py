"""Rows that were made elsewhere: a run file takes the place of a method."""

from __future__ import annotations

from rankrepro.cell import Cell, Retrieval


def run(cell: Cell, *, file: str, sha256: str, k: int) -> Retrieval:
    """A TREC run file as a row: the scores of each query's first `k` documents. Its costs are unknown.

    file: path below the folder of runs. sha256: of the file.
    """
    scores = cell.made_elsewhere(file, sha256)
    return Retrieval({q: dict(list(ranked.items())[:k]) for q, ranked in scores.items()})
