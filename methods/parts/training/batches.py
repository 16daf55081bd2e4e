"""The examples of batch i of a training: a function of seed and i alone, so that arms share batches."""

from __future__ import annotations

import numpy as np


def shuffled(i: int, size: int, n: int, seed: int) -> np.ndarray:
    """Indices [size] of batch i when n examples are read over and over, every epoch in an order of its own."""
    places = np.arange(i * size, (i + 1) * size)
    epochs = {e: np.random.default_rng((seed, int(e))).permutation(n) for e in np.unique(places // n)}
    return np.array([epochs[p // n][p % n] for p in places])
