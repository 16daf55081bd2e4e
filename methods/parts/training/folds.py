"""Rows of a training fold: features standardised, rows held out, the minority class over-sampled."""

from __future__ import annotations

import numpy as np


def standardise(fit: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both [rows, d], scaled so that `fit` has mean 0 and variance 1; a constant feature of `fit` becomes 0 there."""
    mean, sd = fit.mean(0), fit.std(0)
    sd = sd + (sd < 1e-12)
    return (fit - mean) / sd, (other - mean) / sd


def stratified(y: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Mask [rows], true for about `share` of each class of y [rows] in {0, 1} and for at least one row of it."""
    held = np.zeros(len(y), dtype=bool)
    for label in (0, 1):
        rows = np.flatnonzero(y == label)
        held[rng.permutation(rows)[: max(1, round(share * len(rows)))]] = True
    return held


def smote(x: np.ndarray, y: np.ndarray, rng: np.random.Generator, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Rows x [n, d], y [n] and new ones of class 1, until the classes are balanced (SMOTE, Chawla et al. 2002).

    A new row lies between a random row of class 1 and one of its k nearest in class 1.
    """
    minority = x[y == 1]
    missing = int((y == 0).sum() - len(minority))
    if missing <= 0 or len(minority) < 2:
        return x, y
    scaled, _ = standardise(x, x)
    points = scaled[y == 1]
    distance = ((points[:, None] - points[None]) ** 2).sum(2)
    np.fill_diagonal(distance, np.inf)
    near = np.argsort(distance, 1, kind="stable")[:, : min(k, len(minority) - 1)]
    a = rng.integers(len(minority), size=missing)
    b = near[a, rng.integers(near.shape[1], size=missing)]
    new = minority[a] + rng.random((missing, 1)) * (minority[b] - minority[a])
    return np.concatenate((x, new)), np.concatenate((y, np.ones(missing, dtype=y.dtype)))
