"""A GGUF file in miniature, with an output matrix beside the embeddings, as Qwen's come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rankrepro.artifacts import ModelEntry
from rankrepro.models import conversion

WIDTH, TOKENS = 32, 300


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer of Qwen2; embeddings all 1, the output matrix noise."""
    from gguf import GGUFWriter, TokenType

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = GGUFWriter(path, "qwen2")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*map(chr, range(0x100, 0x100 + TOKENS - 2)), "\u0100\u0101", "<|im_end|>"])
    writer.add_token_types([TokenType.NORMAL] * (TOKENS - 1) + [TokenType.CONTROL])
    writer.add_token_merges(["\u0100 \u0101"])
    writer.add_eos_token_id(TOKENS - 1)
    writer.add_pad_token_id(TOKENS - 1)
    noise = np.random.default_rng(0)
    shapes = {
        "attn_norm.weight": (WIDTH,), "ffn_norm.weight": (WIDTH,),
        "attn_q.weight": (WIDTH, WIDTH), "attn_q.bias": (WIDTH,),
        "attn_k.weight": (16, WIDTH), "attn_k.bias": (16,),
        "attn_v.weight": (16, WIDTH), "attn_v.bias": (16,),
        "attn_output.weight": (WIDTH, WIDTH),
        "ffn_gate.weight": (64, WIDTH), "ffn_up.weight": (64, WIDTH), "ffn_down.weight": (WIDTH, 64),
    }  # fmt: skip
    tensors = {f"blk.0.{name}": noise.normal(size=shape) for name, shape in shapes.items()}
    tensors |= {"output_norm.weight": np.ones(WIDTH), "token_embd.weight": np.ones((TOKENS, WIDTH))}
    tensors["output.weight"] = noise.normal(size=(TOKENS, WIDTH))
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(("tied", "stored"), [(True, "bfloat16"), (False, "float32")])
def test_tied_makes_the_output_the_embedding_too(gguf: Path, tmp_path: Path, tied: bool, stored: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    conversion.from_gguf(gguf, tmp_path, ModelEntry("causal-lm", "gguf", tied=tied, stored=stored))
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    embedding, output = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert embedding.dtype is getattr(torch, stored) and output.shape == (TOKENS, WIDTH)
    assert (embedding is output) is tied is model.config.tie_word_embeddings
    assert bool((embedding == 1).all()) is not tied and output.float().std().item() == pytest.approx(1, abs=0.05)
    assert model.config.rope_parameters["rope_theta"] == 1e6
