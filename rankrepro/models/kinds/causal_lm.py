"""Language models that read from left to right, with their tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rankrepro import passes
from rankrepro.artifacts import Artifact
from rankrepro.models import miniatures, pretrained
from rankrepro.models.types import LoadedModel, ModelSpec


def imports() -> None:
    with pretrained.quiet():
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401


def load(spec: ModelSpec, device: str, dtype: str, mixed: bool) -> LoadedModel:
    """A batch that does not fit is not halved here: passes share caches, so `cell.map` halves batches of units.

    mixed: the linear layers below the head multiply in bfloat16; attention, norms, sums and the head stay in `dtype`.
    """
    from transformers import AutoModelForCausalLM

    model, tokenizer = pretrained.read(AutoModelForCausalLM, spec, device, dtype)
    products = passes.linear_in_bfloat16(model.base_model, device) if mixed else ""
    return LoadedModel(model, tokenizer, device, dtype, spec.id, products or dtype)


def stand_in(artifact: Artifact, texts: Sequence[str], folder: Path) -> None:
    miniatures.causal_lm(artifact.id, texts, folder)
