"""Two binary classifiers and two optimisers, for many trainings side by side.

There are B folds in the first dimension and K columns in the last: x [B, n, d], parameters [B, ..., K], scores
z [B, n, K]. Folds and columns never touch each other, so that each one's result is what it would be alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

# --- models: the parameters [1, ..., 1] with which a fold starts, and the scores of rows x under parameters p --------


def slp_start(d: int, rng: np.random.Generator, hidden: int) -> list[Tensor]:
    """theta = 0. The last dimension of every parameter is 1: all columns of a fold start alike."""
    return [torch.zeros(1, d, 1, dtype=torch.float64), torch.zeros(1, 1, 1, dtype=torch.float64)]


def slp(p: Sequence[Tensor], x: Tensor, cov: Tensor) -> Tensor:
    """z = x theta + bias."""
    theta, bias = p
    return torch.baddbmm(bias, x, theta)


def mlp_start(d: int, rng: np.random.Generator, hidden: int) -> list[Tensor]:
    """He-normal hidden layer, Glorot-uniform output; each fold has its own draw, shared by all columns."""
    unit = (1, 1, hidden, 1)
    return [
        torch.tensor(rng.normal(0, math.sqrt(2 / d), (1, d, hidden, 1))),
        torch.ones(unit, dtype=torch.float64),
        torch.zeros(unit, dtype=torch.float64),
        torch.tensor(rng.uniform(-1, 1, unit) * math.sqrt(6 / (hidden + 1))),
        torch.zeros(1, 1, 1, dtype=torch.float64),
    ]


def mlp(p: Sequence[Tensor], x: Tensor, cov: Tensor) -> Tensor:
    """Dense -> BatchNorm -> sigmoid -> Dense(1).

    The batch is the whole training fold, whose features are standardised: the mean of x W over it is 0 and its
    variance is diag(W' cov W), so that BatchNorm is a rescaling of W, the same for training and test rows. A bias
    before BatchNorm would cancel.
    """
    w, gamma, beta, v, bias = p
    hidden, columns = w.shape[2:]
    flat = w.flatten(2)  # [B, d, hidden * K]
    variance = (flat * torch.bmm(cov, flat)).sum(1, keepdim=True)
    scaled = flat * gamma.flatten(2) * (variance + 1e-3).rsqrt()
    h = torch.baddbmm(beta.flatten(2), x, scaled).sigmoid().unflatten(2, (hidden, columns))
    return (h * v).sum(2) + bias


MODELS = {"slp": (slp_start, slp), "mlp": (mlp_start, mlp)}


# --- optimisers ------------------------------------------------------------------------------------------------------


def gradient_descent(p: Sequence[Tensor], grads: Callable[[], Sequence[Tensor]], rate: Tensor, steps: int) -> None:
    """Update p in place; `grads` returns their gradients, `rate` is [B, K]."""
    for _ in range(steps):
        for a, g in zip(p, grads(), strict=True):
            with torch.no_grad():
                a -= rate.view(len(rate), *[1] * (a.dim() - 2), -1) * g


def adam(p: Sequence[Tensor], grads: Callable[[], Sequence[Tensor]], rate: Tensor, steps: int) -> None:
    """The same with Adam (Kingma and Ba 2015; moments 0.9 and 0.999, epsilon 1e-7), for a rate per column."""
    m, s = ([torch.zeros_like(a) for a in p] for _ in range(2))
    for t in range(1, steps + 1):
        for i, g in enumerate(grads()):
            with torch.no_grad():
                m[i] += 0.1 * (g - m[i])
                s[i] += 0.001 * (g * g - s[i])
                step = m[i] / (1 - 0.9**t) / ((s[i] / (1 - 0.999**t)).sqrt() + 1e-7)
                p[i].sub_(rate.view(len(rate), *[1] * (step.dim() - 2), -1) * step)


OPTIMISERS = {"gradient_descent": gradient_descent, "adam": adam}
