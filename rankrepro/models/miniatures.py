"""Models in miniature, for rehearsals: random weights in the architecture of a hub model, in the hub's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rankrepro.errors import ConfigError

LLAMA = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %} [INST] {{ message['content'] }}"
    " [/INST]{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# how Llama 3 splits text before byte pairs: a mark joins the letters behind it; at most three digits
LLAMA_CUT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "initializer_range": 0.2,  # large enough weights for scores to differ by more than rounding
}


def causal_lm(artifact_id: str, texts: Sequence[str], folder: Path) -> None:
    """The architecture that the id begins with. ConfigError for one that has no stand-in."""
    architecture = artifact_id.split("-")[0]
    if architecture not in ARCHITECTURES:
        raise ConfigError(
            f"{artifact_id}: a rehearsal has no stand-in for this architecture; add it to ARCHITECTURES in "
            "rankrepro/models/miniatures.py"
        )
    ARCHITECTURES[architecture](texts, folder)


def _llama(texts: Sequence[str], folder: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer = _byte_pairs(texts, special, LLAMA_CUT, bos_token=special[0], eos_token=special[4], chat_template=LLAMA)
    bos, end, *_, turn = tokenizer.convert_tokens_to_ids(special)
    scaling = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
    config = LlamaConfig(
        **SIZE, vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=131072, rms_norm_eps=1e-5,
        rope_parameters=scaling, bos_token_id=bos, eos_token_id=[end, turn], tie_word_embeddings=False,
    )  # fmt: skip
    _save(LlamaForCausalLM, config, tokenizer, folder)


def _mistral(texts: Sequence[str], folder: Path, template: str = MISTRAL) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    special = ["<s>", "</s>"]
    tokenizer = _byte_pairs(texts, special, LLAMA_CUT, bos_token="<s>", eos_token="</s>", chat_template=template)
    bos, end = tokenizer.convert_tokens_to_ids(special)
    config = MistralConfig(
        **SIZE, vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=32768, sliding_window=None,
        bos_token_id=bos, eos_token_id=end, tie_word_embeddings=False,
    )  # fmt: skip
    _save(MistralForCausalLM, config, tokenizer, folder)


def _zephyr(texts: Sequence[str], folder: Path) -> None:
    _mistral(texts, folder, ZEPHYR)


ARCHITECTURES = {"llama": _llama, "mistral": _mistral, "zephyr": _zephyr}


def encoder(texts: Sequence[str], folder: Path) -> None:
    """A BERT, whatever the id."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer()
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special))
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, model_max_length=512, **names)
    _save(BertModel, BertConfig(**SIZE, vocab_size=len(tokenizer), max_position_embeddings=512), tokenizer, folder)


def _byte_pairs(texts: Sequence[str], special: list[str], cut: str, **settings: Any) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    pairs = Tokenizer(models.BPE())
    pieces = pre_tokenizers.Split(Regex(cut), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pairs.pre_tokenizer = pre_tokenizers.Sequence([pieces, as_bytes])
    pairs.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=800, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    pairs.train_from_iterator(texts, trainer)
    start = settings["bos_token"]
    pairs.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", pair=f"{start} $A {start} $B", special_tokens=[(start, special.index(start))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=pairs, model_max_length=131072, clean_up_tokenization_spaces=False, **settings
    )


def _save(kind: Any, config: Any, tokenizer: Any, folder: Path) -> None:
    """Weights of bfloat16 in several safetensors files, as large models come, and the tokenizer."""
    import torch
    from transformers.utils import logging

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config).to(torch.bfloat16)
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    model.save_pretrained(folder, max_shard_size="40KB")
    if bars:
        logging.enable_progress_bar()
    tokenizer.save_pretrained(folder, save_jinja_files=False)  # as these models came: among the settings
