"""Which examples make up batch i of a training: a function of seed and i alone, so that arms share batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def shuffled(i: int, size: int, n: int, seed: int) -> np.ndarray:
    """Indices [size] of batch i of an endless reading of n examples, each epoch in an order of its own."""
    places = np.arange(i * size, (i + 1) * size)
    epochs = {e: np.random.default_rng((seed, int(e))).permutation(n) for e in np.unique(places // n)}
    return np.array([epochs[p // n][p % n] for p in places])


def buckets(lengths: Sequence[int], size: int, seed: int, window: int = 50) -> list[np.ndarray]:
    """One epoch in batches of examples of like length: within `window` batches sorted by length, then shuffled."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(lengths))
    span = size * window
    sorted_ = [sorted(order[s : s + span], key=lambda k: lengths[k]) for s in range(0, len(order), span)]
    flat = np.array([k for part in sorted_ for k in part], dtype=np.int64)
    found = [flat[s : s + size] for s in range(0, len(flat), size)]
    return [found[k] for k in rng.permutation(len(found))]
