"""Pictures through a vision model, a batch at a time and at any scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

MEAN, SPREAD = 127.0, 128.0  # what the weights of EfficientNet-lite were trained with


def tensor(pixels: Sequence[np.ndarray], scale: float = 1.0) -> Tensor:
    """Pictures of one size [h, w, 3] uint8 -> [n, 3, scale h, scale w], normalised."""
    x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float()
    if scale != 1:
        size = [round(scale * n) for n in x.shape[2:]]
        x = F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
    return ((x - MEAN) / SPREAD).contiguous(memory_format=torch.channels_last)


def feature_map(vision: Any, x: Tensor, floor: float = 0.0) -> Tensor:
    """Pictures [n, 3, h, w] -> the map of the last convolution [n, 1280, h / 32, w / 32], float32, from 0 to 6.

    floor: see ReLUP in methods/vision/superglobal.py.
    """
    return vision.model(x.to(vision.device, next(vision.model.parameters()).dtype), floor).float()


def middle_map(vision: Any, x: Tensor, blocks: int) -> Tensor:
    """The map after the first `blocks` blocks, float32: [n, 112, h / 16, w / 16] after 11."""
    x = vision.model.stem(x.to(vision.device, next(vision.model.parameters()).dtype))
    for block in vision.model.blocks[:blocks]:
        x = block(x)
    return x.float()
