"""Relevance feedback: move a dense query vector until its scores rank a few passages as a teacher does."""

from __future__ import annotations

import numpy as np
import torch

from methods.parts.training.rankloss import weighted_ranknet


def refine(query: np.ndarray, passages: np.ndarray, steps: int, rate: float) -> np.ndarray:
    """The query vector [dim] after `steps` of Adam on weighted RankNet; the passages do not move.

    passages [n, dim], in the teacher's order, best first. Scores are (c / 2) q.p; c scales the range of q.p before the
    first step to that of the teacher's ranks (Reddy et al. 2024).
    """
    q = torch.from_numpy(query.astype(np.float32)).clone().requires_grad_(True)
    fixed = torch.from_numpy(passages.astype(np.float32))
    ranks = torch.arange(1, len(fixed) + 1)[None]
    with torch.no_grad():
        dots = fixed @ q
        c = (len(fixed) - 1) / (dots.max() - dots.min()).clamp_min(1e-6)
    adam = torch.optim.Adam([q], lr=rate)
    for _ in range(steps):
        adam.zero_grad()
        weighted_ranknet((c / 2 * (fixed @ q))[None], ranks).backward()
        adam.step()
    return q.detach().numpy()
