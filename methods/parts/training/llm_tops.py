"""Causal language models of which only the top layers are trained: the frozen layers read every text once.

`lm` is a model of Llama's build: `.model.base_model` has `layers`, `norm` and `rotary_emb`. Embeddings and head stay
frozen. All arms, epochs and seeds of a comparison share the states of the frozen layers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from methods.parts.language.llm import Ids
from methods.parts.training.weights import load


@contextmanager
def truncated(lm: Any, top: int) -> Iterator[None]:
    """Inside the block, reading (`llm.Context`) gives the states below the `top` last layers."""
    base = lm.model.base_model
    layers, norm = base.config.num_hidden_layers, base.norm
    assert 0 < top <= layers
    base.config.num_hidden_layers, base.norm = layers - top, nn.Identity()
    try:
        yield
    finally:
        base.config.num_hidden_layers, base.norm = layers, norm


@contextmanager
def installed(lm: Any, top: int, weights: Mapping[str, np.ndarray]) -> Iterator[None]:
    """Inside the block, the model's `top` last layers and last norm are those of `weights`; then its own return."""
    base = lm.model.base_model
    norm, first = base.norm, len(base.layers) - top
    originals = list(base.layers[first:])
    new = load(Top(lm, top), weights).to(base.embed_tokens.weight.dtype)
    try:
        for i, layer in enumerate(new.layers):
            base.layers[first + i] = layer
        base.norm = new.norm
        yield
    finally:
        for i, layer in enumerate(originals):
            base.layers[first + i] = layer
        base.norm = norm


def joined(prompts: np.ndarray, lengths: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """States [rows, longest prompt + answer, dim] of prompts [rows, longest, dim], each followed by its answer."""
    answer = answers.shape[1]
    whole = np.zeros((len(prompts), int(lengths.max()) + answer, prompts.shape[2]), dtype=np.float32)
    for row, n in enumerate(lengths):
        whole[row, :n] = prompts[row, :n]
        whole[row, n : n + answer] = answers[row]
    return whole


class Top(nn.Module):
    """A copy of a model's last `layers` layers and last norm in single precision."""

    def __init__(self, lm: Any, layers: int) -> None:
        super().__init__()
        base = lm.model.base_model
        self.layers = copy.deepcopy(base.layers[len(base.layers) - layers :]).float()
        self.norm = copy.deepcopy(base.norm).float()
        self.device = lm.device
        self._rotary = [base.rotary_emb]  # in lists, so that neither is trained or stored
        self._head = [lm.model.get_output_embeddings().weight.detach().float()]
        self.requires_grad_(True).eval()

    def forward(self, hidden: np.ndarray, places: np.ndarray) -> Tensor:
        """Normed states [rows, places, dim] at `places` [rows, places] of states [rows, tokens, dim] of frozen layers.

        Rows are padded on the right, where a causal model does not look. Beyond attention, the last layer computes only
        those places.
        """
        x = torch.from_numpy(hidden.astype(np.float32)).to(self.device)
        at = torch.from_numpy(np.asarray(places, dtype=np.int64)).to(self.device)
        position = torch.arange(x.shape[1], device=self.device)[None]
        angles = self._rotary[0](x, position_ids=position)
        for layer in self.layers[:-1]:
            x = layer(x, attention_mask=None, position_ids=position, position_embeddings=angles)
        last: Any = self.layers[-1]
        attended, _ = last.self_attn(last.input_layernorm(x), position_embeddings=angles, attention_mask=None)
        x = (x + attended).gather(1, at[..., None].expand(-1, -1, x.shape[2]))
        return self.norm(x + last.mlp(last.post_attention_layernorm(x)))

    def logits(self, hidden: Tensor, tokens: Ids | None = None) -> Tensor:
        """Next-token logits [..., vocabulary], or only those of `tokens`."""
        head = self._head[0]
        return hidden @ (head if tokens is None else head[tokens]).T
