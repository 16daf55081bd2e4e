"""From the formats in which weights are downloaded to safetensors. `CONVERSIONS` has an entry for each such format."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

from rankrepro.artifacts import ModelEntry
from rankrepro.models.pretrained import quiet


def from_gguf(gguf: Path, folder: Path, entry: ModelEntry) -> None:
    """Write the dequantised weights, in the dtype `entry.stored`, and the tokenizer of a GGUF file into `folder`."""
    with quiet():
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        source: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
        dtype = getattr(torch, entry.stored)
        loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, **source, dtype=dtype)
        # A model loaded from GGUF counts as quantised and refuses to be saved: move its weights into a fresh one.
        config, weights = loaded.config, loaded.state_dict()
        del config.quantization_config
        if entry.tied:
            config.tie_word_embeddings = True
            weights["model.embed_tokens.weight"] = weights["lm_head.weight"]
        with torch.device("meta"):
            fresh = type(loaded)(config)
        fresh.load_state_dict(weights, assign=True)
        fresh.tie_weights()
        fresh.generation_config = loaded.generation_config
        fresh.save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
        _restore_pre_tokenizer(tokenizer, gguf)
        tokenizer.save_pretrained(folder)


def from_torch(weights: Path, folder: Path, entry: ModelEntry) -> None:
    """Write the tensors of a file of torch, which is pickled, as safetensors; nothing but tensors is read."""
    import torch
    from safetensors.torch import save_file

    tensors = torch.load(weights, map_location="cpu", weights_only=True)
    dtype = getattr(torch, entry.stored)
    save_file({name: t.to(dtype).contiguous() for name, t in tensors.items()}, folder / "model.safetensors")


CONVERSIONS = {"gguf": from_gguf, "torch": from_torch}


def _restore_pre_tokenizer(tokenizer: Any, gguf: Path) -> None:
    """Give the tokenizer the pre-tokenizer that the GGUF names; transformers reads SmolLM2's as GPT-2's.

    SmolLM2 cuts digits off first, so that "\\n\\n1" is the tokens "\\n\\n", "1" and not "\\n", "\\n", "1".
    """
    from tokenizers import pre_tokenizers

    if _metadata(gguf, "tokenizer.ggml.pre") == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )


def _metadata(gguf: Path, key: str) -> str:
    """A text of the file's metadata: key, uint32 type (8), uint64 length, bytes. The gguf package takes 5 s for it."""
    with gguf.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        mark = key.encode() + struct.pack("<I", 8)
        if (start := data.find(mark)) < 0:
            return ""
        start += len(mark)
        (length,) = struct.unpack_from("<Q", data, start)
        return data[start + 8 : start + 8 + length].decode()
