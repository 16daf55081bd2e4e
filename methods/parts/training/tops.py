"""Sentence encoders of which only the top layers are trained: the frozen layers read every text once.

All arms, epochs and seeds of a comparison share their states, so that a step costs the top layers alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@torch.inference_mode()
def states(
    encoder: Any,
    texts: Sequence[str],
    top: int,
    max_tokens: int,
    batch: int = 32,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, np.ndarray]:
    """States [texts, max_tokens, dim] float16 (padding 0) below the `top` last layers, and lengths [texts].

    Every arm gets half precision, the untouched encoder too.
    """
    model = encoder.model
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))  # texts of similar length share a batch
    hidden = np.zeros((len(texts), max_tokens, model.config.hidden_size), dtype=np.float16)
    lengths = np.zeros(len(texts), dtype=np.int32)
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        tokens = encoder.tokenizer(
            [texts[i] for i in part], padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
        ).to(encoder.device)
        mask = tokens["attention_mask"]
        x = model.embeddings(input_ids=tokens["input_ids"], token_type_ids=tokens.get("token_type_ids"))
        for layer in model.encoder.layer[: len(model.encoder.layer) - top]:
            x = layer(x, mask[:, None, None, :].bool())
        width = x.shape[1]
        hidden[part, :width] = (x * mask[..., None]).half().cpu().numpy()
        lengths[part] = mask.sum(1).cpu().numpy()
        progress(min(start + batch, len(order)), len(order))
    return hidden, lengths


class Top(nn.Module):
    """A copy of the last `layers` layers of an encoder: what `states` returns -> unit vectors [texts, dim]."""

    def __init__(self, encoder: Any, layers: int) -> None:
        super().__init__()
        self.layers = copy.deepcopy(encoder.model.encoder.layer[len(encoder.model.encoder.layer) - layers :]).float()
        self.device = encoder.device
        self.eval()  # without dropout: only batches and seeds differ

    def forward(self, hidden: np.ndarray, lengths: np.ndarray) -> Tensor:
        width = int(lengths.max())
        x = torch.from_numpy(hidden[:, :width].astype(np.float32)).to(self.device)
        mask = (torch.arange(width) < torch.from_numpy(lengths)[:, None]).to(self.device)
        for layer in self.layers:
            x = layer(x, mask[:, None, None, :])
        mean = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return nn.functional.normalize(mean, dim=-1)

    @torch.no_grad()
    def vectors(self, hidden: np.ndarray, lengths: np.ndarray, batch: int = 64) -> np.ndarray:
        """Unit vectors [texts, dim] float32 of many texts, in batches of similar length."""
        out = np.zeros((len(hidden), hidden.shape[-1]), dtype=np.float32)
        order = np.argsort(-lengths, kind="stable")
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            out[part] = self(hidden[part], lengths[part]).cpu().numpy()
        return out

    @torch.no_grad()
    def restart(self, seed: int) -> Top:
        """Redraw all weights as BERT's are drawn before any training."""
        rng = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.weight.copy_(torch.empty(module.weight.shape).normal_(0, 0.02, generator=rng))
                module.bias.zero_()
            elif isinstance(module, nn.LayerNorm):
                module.weight.fill_(1)
                module.bias.zero_()
        return self
