"""Ranking losses: scores of lists against a teacher's ranks of the same items."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def ranknet(s: Tensor, ranks: Tensor) -> Tensor:
    """Mean over the pairs of a list, then over lists, of log(1 + e^(s_j - s_i)) for r_i < r_j (Burges et al. 2005).

    s, ranks [lists, items]; 1 is the best rank.
    """
    return _pairs(s, ranks, torch.ones_like)


def weighted_ranknet(s: Tensor, ranks: Tensor) -> Tensor:
    """RankNet with pairs weighted by 1 / (r_i + r_j) (Reddy et al. 2024), divided by their number, not by weights."""
    return _pairs(s, ranks, torch.reciprocal)


def _pairs(s: Tensor, ranks: Tensor, weight: Callable[[Tensor], Tensor]) -> Tensor:
    r = ranks.to(s.dtype)
    ordered = r[:, :, None] < r[:, None, :]  # [lists, i, j]: i stands above j
    losses = F.softplus(s[:, None, :] - s[:, :, None]) * weight(r[:, :, None] + r[:, None, :]) * ordered
    return (losses.sum((1, 2)) / ordered.sum((1, 2)).clamp_min(1)).mean()


def listnet(s: Tensor, ranks: Tensor) -> Tensor:
    """Cross-entropy of the softmax of s and its target, mean over lists (Cao et al. 2007, top one).

    The target is the softmax of the same scores dealt out by rank, the highest to rank 1 (Reddy et al. 2024, code).
    """
    dealt = s.detach().sort(-1, descending=True).values.gather(-1, ranks.long() - 1)
    return -(dealt.softmax(-1) * s.log_softmax(-1)).sum(-1).mean()


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "weighted_ranknet": weighted_ranknet,
    "ranknet": ranknet,
    "listnet": listnet,
}
