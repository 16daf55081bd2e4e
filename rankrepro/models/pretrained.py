"""Models and tokenizers in the layout of the hub, read by transformers without the network."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from rankrepro.errors import ArtifactError
from rankrepro.models.types import ModelSpec


def read(auto: Any, spec: ModelSpec, device: str, dtype: str) -> tuple[Any, Any]:
    """(model in eval mode on `device`, tokenizer) of a folder. `auto`: a class of transformers.

    Attention is by SDPA where transformers has it for the architecture: for all here but MPNet. Raises OSError or
    ValueError for files that cannot be read, ArtifactError for missing weights.
    """
    with quiet():
        import torch
        from transformers import AutoTokenizer

        model, info = auto.from_pretrained(
            spec.folder,
            dtype=getattr(torch, dtype),
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(spec.folder, local_files_only=True)
    # transformers would fill them with random numbers; an encoder's pooler is not used
    if missing := sorted(k for k in info["missing_keys"] if not k.startswith("pooler.")):
        raise ArtifactError(f"{spec.id}: {spec.folder} lacks the weights {', '.join(missing[:3])}")
    return model.to(device).eval(), tokenizer


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars and warnings of transformers off the terminal."""
    with contextlib.redirect_stderr(io.StringIO()):
        from transformers.utils import logging

        level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(level)
            if bars:
                logging.enable_progress_bar()
