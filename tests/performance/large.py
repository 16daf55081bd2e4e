"""Reading and generation at the papers' size: a Llama of 8 billion random weights, 100 passages of 400 tokens a query.

Seconds do not depend on what the weights are. On a GPU alone; elsewhere it is skipped, and the document says so.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

LLAMA_8B = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128_256, "max_position_embeddings": 131_072,
}  # fmt: skip
MATRIX = 8192  # rows and columns of the product that shows the chip's rate


def on_a_gpu() -> dict[str, Any] | None:
    """What `measure` says of this machine's GPU; None, and a line on stderr, where there is none."""
    import torch

    if not torch.cuda.is_available():
        print("SKIPPED: reading and generation at the papers' size, since this machine has no GPU", file=sys.stderr)
        return None
    return measure("cuda", "bfloat16", LLAMA_8B, MATRIX, passages=100, tokens=400)


def measure(
    device: str, dtype: str, shape: Mapping[str, int], matrix: int, passages: int, tokens: int
) -> dict[str, Any]:
    """Seconds a query of ICR and of constrained generation in windows of 20, and ICR's share of the chip's rate.

    The share counts the products of every token that ICR reads: 2 operations a weight below the head, and 4 a layer,
    dimension and pair of tokens that see each other in attention.
    """
    import torch
    from cells import make_cell

    from methods.controls.listwise import rankgpt
    from methods.llm_rerankers.icr import icr
    from rankrepro.benchmarks.base import Benchmark, Document

    words = [f"word{i % 97}" for i in range(tokens)]  # a word is more than one token: every passage is cut
    documents = {f"d{i}": Document(f"d{i}", "", " ".join(words[i % tokens :] + words)) for i in range(passages)}
    cell = make_cell({"q": "which word comes first"}, benchmark=Benchmark("test/long", {}, documents))
    cell.models = {"llm": model(device, dtype, shape)}
    window = min(20, passages)
    seconds = {
        "icr": timed(
            device,
            lambda: icr(
                cell, passage_tokens=tokens, order="reversed", instruction="ie", placebo=False, batch=1
            ),
        ),
        "generation": timed(
            device,
            lambda: rankgpt(
                cell, passage_tokens=tokens, window=window, step=window // 2, batch=1, decoding=["constrained"],
                stop="natural",
            ),
        ),
    }  # fmt: skip
    cell.meter.units.clear()
    icr(cell, passage_tokens=tokens, order="reversed", instruction="ie", placebo=False, batch=1)
    n = int(cell.meter.units["q"]["input_tokens"])
    weights = sum(p.numel() for p in cell.models["llm"].model.base_model.layers.parameters())
    operations = 2 * weights * n + 4 * shape["num_hidden_layers"] * shape["hidden_size"] * n * n / 2
    x = torch.randn(matrix, matrix, device=device, dtype=getattr(torch, dtype))
    rate = 2 * matrix**3 / timed(device, lambda: x @ x)
    name = torch.cuda.get_device_name() if device == "cuda" else device
    return {
        "device": name, "passages": passages, "tokens": tokens, "read": n, "seconds": seconds, "rate": rate,
        "share": operations / seconds["icr"] / rate, "ratio": seconds["icr"] / seconds["generation"],
    }  # fmt: skip


def model(device: str, dtype: str, shape: Mapping[str, int]) -> Any:
    """A Llama of random weights, with the tokenizer of the language model of scale quick."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from rankrepro import artifacts, models

    tokenizer = AutoTokenizer.from_pretrained(models.spec(artifacts.load_catalogue()["smollm2-135m-instruct"]).folder)
    config = LlamaConfig(**shape, tie_word_embeddings=False, eos_token_id=tokenizer.eos_token_id)
    config._attn_implementation = "sdpa"
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            llama = LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)
    return SimpleNamespace(model=llama, tokenizer=tokenizer, device=device, dtype=dtype, id="random Llama")


def timed(device: str, run: Callable[[], Any], rounds: int = 3) -> float:
    """Seconds of `run`, the best of `rounds` after one that warms up."""
    import torch

    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
