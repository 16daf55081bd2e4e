"""Tokenizers that cut text as those of several families of models do, and small models that read with them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch

from methods.parts.language.windows import LETTERS
from rankrepro.models.miniatures import LLAMA_CUT

GPT2_CUT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN_CUT = LLAMA_CUT.replace(r"\p{N}{1,3}", r"\p{N}")
BLANKS = [("Ġ", ">"), ("Ġ", "[")]


def byte_level(cut: str, merges: Sequence[tuple[str, str]]) -> Any:
    """Byte-level BPE: text is cut by a regular expression, then pieces are merged, as GPT-2, Llama 3 and Qwen2 do."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*alphabet, *("".join(m) for m in merges), "<end>"])}
    bpe = Tokenizer(models.BPE(vocabulary, list(merges)))
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(cut), "isolated"), as_bytes])
    bpe.decoder = decoders.ByteLevel()
    return wrapped(bpe)


def metaspace(merges: Sequence[tuple[str, str]]) -> Any:
    """BPE over whole words with a mark for the blank, before the first word too: Mistral's, of SentencePiece."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted({chr(i) for i in range(33, 127)} | {"▁", "\n"})
    vocabulary = {token: i for i, token in enumerate([*alphabet, *("".join(m) for m in merges), "<end>"])}
    bpe = Tokenizer(models.BPE(vocabulary, list(merges)))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    bpe.decoder = decoders.Metaspace(prepend_scheme="first")
    return wrapped(bpe)


def wrapped(tokenizer: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    template = (
        "{% for m in messages %}user {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}answer\n{% endif %}"
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", chat_template=template, clean_up_tokenization_spaces=False
    )


def qwen2() -> Any:
    """Of the letters all but O and Q are joined to the bracket that opens an answer, as in the real one."""
    return byte_level(QWEN_CUT, [*BLANKS, *(("[", c) for c in LETTERS if c not in "OQ")])


def with_tokenizer(tokenizer: Any, seed: int = 0) -> Any:
    """A model of Llama's build with random weights, two layers and the vocabulary of a tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=False, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # far from uniform
    return SimpleNamespace(model=model, tokenizer=tokenizer, device="cpu", id="test")
