"""The larger models: half a gigabyte each to download, and minutes to convert."""

from __future__ import annotations

import unicodedata

import pytest

from rankrepro import models
from rankrepro.artifacts import load_catalogue
from rankrepro.models import LoadedModel

CATALOGUE = load_catalogue()
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def qwen() -> LoadedModel:
    return models.load(models.spec(CATALOGUE["qwen2.5-coder-0.5b-instruct"]), threads=2, dtype="bfloat16")


def test_qwen_is_tied_and_counted(qwen: LoadedModel) -> None:
    entry = CATALOGUE[qwen.id].model
    assert entry is not None and sum(p.numel() for p in qwen.model.parameters()) == entry.parameters
    assert qwen.model.get_input_embeddings().weight is qwen.model.get_output_embeddings().weight


def test_qwen_cuts_text_as_it_was_trained_to(qwen: LoadedModel) -> None:
    text = "\n\n12   3 naïve — 東京 [7] don't <|im_end|>"
    ids = qwen.tokenizer(text)["input_ids"]
    assert qwen.tokenizer.decode(ids) == text and qwen.tokenizer.convert_ids_to_tokens(ids)[:3] == ["ĊĊ", "1", "2"]
    assert ids[-1] == qwen.tokenizer.eos_token_id == 151645
    assert qwen.tokenizer(unicodedata.normalize("NFD", text))["input_ids"] == ids


def test_qwen_answers_and_stops(qwen: LoadedModel) -> None:
    import torch

    chat = [{"role": "user", "content": "What is the capital of France? One word."}]
    text = qwen.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text.endswith("One word.<|im_end|>\n<|im_start|>assistant\n")
    prompt = qwen.tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        answer = qwen.model.generate(**prompt, max_new_tokens=8, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert qwen.tokenizer.convert_ids_to_tokens(answer) == ["Paris", "<|im_end|>"]


def test_mpnet_puts_paraphrases_together() -> None:
    from methods.parts.retrieval.encoder import encode

    loaded = models.load(models.spec(CATALOGUE["all-mpnet-base-v2"]), threads=2)
    texts = ["A man is eating a piece of bread.", "Someone eats a slice of bread.", "The stock exchange closed early."]
    vectors = encode(loaded, texts, 128, 3)
    cosine = vectors @ vectors.T
    assert vectors.shape == (3, 768) and cosine[0, 1] > 0.7 > 0.2 > cosine[0, 2]
