"""Floors: orders made without a model."""

from __future__ import annotations

import hashlib

import numpy as np

from methods.parts.retrieval.outputs import Scores, from_order
from rankrepro.cell import Cell, Ranking


def identity(cell: Cell) -> Ranking:
    """The order the candidates came in."""
    return Ranking({q: from_order(candidates) for q, candidates in cell.candidates.items()})


def constant(cell: Cell) -> Ranking:
    """No opinion: every score is 0, document ids break the ties."""
    return Ranking({q: dict.fromkeys(candidates, 0.0) for q, candidates in cell.candidates.items()})


def random(cell: Cell) -> Ranking:
    """A permutation drawn per (seed, query), whatever order the candidates came in."""

    def shuffled(q: str) -> Scores:
        key = int.from_bytes(hashlib.sha256(q.encode()).digest()[:8], "big")  # hash() differs between processes
        order = np.random.default_rng([cell.seed, key]).permutation(sorted(cell.candidates[q]))
        return from_order([str(d) for d in order])

    return Ranking({q: shuffled(q) for q in cell.candidates})
