"""Networks that read pictures. There is no tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rankrepro import passes
from rankrepro.artifacts import Artifact
from rankrepro.errors import ConfigError
from rankrepro.models.types import LoadedModel, ModelSpec


def imports() -> None:
    import torch  # noqa: F401


def load(spec: ModelSpec, device: str, dtype: str, mixed: bool) -> LoadedModel:
    import torch
    from safetensors.torch import load_file

    from rankrepro.models.efficientnet import Lite0

    model = Lite0(load_file(spec.folder / "model.safetensors"))
    model = model.to(device, getattr(torch, dtype)).eval().requires_grad_(False)
    products = passes.multiply_in_bfloat16(model, device) if mixed else ""
    model.forward = passes.in_halves(model.forward, spec.id)  # type: ignore[method-assign]
    return LoadedModel(model, None, device, dtype, spec.id, products or dtype)


def stand_in(artifact: Artifact, texts: Sequence[str], folder: Path) -> None:
    raise ConfigError(
        f"{artifact.id}: a rehearsal has no stand-in for a vision model of the hub; write `stand_in` in "
        "rankrepro/models/kinds/vision.py"
    )
