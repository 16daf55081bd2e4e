"""A model before and after it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model ready to be loaded: its artifact id, kind, folder of safetensors and tokenizer, and digest."""

    id: str
    kind: str  # a module of rankrepro.models.kinds
    folder: Path
    digest: str


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in eval mode on `device`. Callers switch gradients off (`torch.inference_mode`) unless they train."""

    model: Any
    tokenizer: Any
    device: str
    dtype: str  # of the weights
    id: str
    products: str  # the dtype in which matrices are multiplied
