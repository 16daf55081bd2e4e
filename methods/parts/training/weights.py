"""What a module has learnt, by name: its parameters, and the buffers that belong to its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Name -> parameter or buffer itself; one with several names has the first only, unlike in `state_dict`."""
    stored = module.state_dict().keys()  # without buffers that are not to be stored, such as tables of angles
    buffers = {name: buffer for name, buffer in module.named_buffers() if name in stored}
    return {**dict(module.named_parameters()), **buffers}


def arrays(module: nn.Module) -> dict[str, np.ndarray]:
    """Copies of parameters and buffers by name, as a stage returns them."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in state_of(module).items()}


@torch.no_grad()
def load(module: M, weights: Mapping[str, Any]) -> M:
    """Set parameters and buffers by name from arrays or tensors on any device; other names are ignored. The module."""
    for name, tensor in state_of(module).items():
        tensor.copy_(torch.as_tensor(weights[name]))
    return module
