"""Encoders of text, with their tokenizer: every row of a batch is read by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rankrepro import passes
from rankrepro.artifacts import Artifact
from rankrepro.models import miniatures, pretrained
from rankrepro.models.types import LoadedModel, ModelSpec


def imports() -> None:
    with pretrained.quiet():
        from transformers import AutoModel, AutoTokenizer  # noqa: F401


def load(spec: ModelSpec, device: str, dtype: str, mixed: bool) -> LoadedModel:
    from transformers import AutoModel

    model, tokenizer = pretrained.read(AutoModel, spec, device, dtype)
    products = passes.multiply_in_bfloat16(model, device) if mixed else ""
    model.forward = passes.in_halves(model.forward, spec.id)
    return LoadedModel(model, tokenizer, device, dtype, spec.id, products or dtype)


def stand_in(artifact: Artifact, texts: Sequence[str], folder: Path) -> None:
    miniatures.encoder(texts, folder)
