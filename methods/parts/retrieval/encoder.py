"""Text encoders: mean-pooled, normalised sentence embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch


@torch.inference_mode()
def encode(
    encoder: Any,
    texts: Sequence[str],
    max_tokens: int,
    batch: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Unit vectors [texts, dim], float32: the mean over token states, padding excluded (Reimers and Gurevych 2019)."""
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))  # texts of similar length share a batch
    out = np.zeros((len(texts), encoder.model.config.hidden_size), dtype=np.float32)
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        tokens = encoder.tokenizer(
            [texts[i] for i in part], padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
        ).to(encoder.device)
        states = encoder.model(**tokens).last_hidden_state  # [batch, length, dim]
        mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)
        mean = (states * mask).sum(1) / mask.sum(1)
        out[part] = torch.nn.functional.normalize(mean, dim=-1).float().cpu().numpy()
        progress(min(start + batch, len(order)), len(order))
    return out
