"""Tokens a second that each model of the catalogue reads and writes here: rows for the table of docs/models.md.

python tests/performance/models.py [--threads 2] [MODEL ...]      all causal-lm and encoder models at hand by default
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

ROWS, LENGTH, WRITTEN, ROUNDS = 10, 100, 16, 3
DTYPES = (("float32", False), ("float32", True), ("bfloat16", False))  # of the weights, and whether products are mixed


def main() -> None:
    from rankrepro import artifacts, models

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    catalogue = artifacts.load_catalogue()
    at_hand = [a.id for a in catalogue.values() if a.model and a.model.kind != "vision" and artifacts.fetched(a)]
    print("| model | weights | products | reads | writes |\n|---|---|---|---:|---:|")
    for name in options.models or at_hand:
        spec = models.spec(artifacts.find(catalogue, name))
        for dtype, mixed in DTYPES:
            loaded = models.load(spec, options.threads, dtype, mixed)
            if mixed and loaded.products == dtype:
                continue  # this processor has no products of bfloat16
            wrote = f"{writes(loaded):.1f}" if spec.kind == "causal-lm" else "–"
            print(f"| {name} | {dtype} | {loaded.products} | {reads(loaded):.0f} | {wrote} |", flush=True)


def reads(loaded: Any) -> float:
    """Tokens a second of one batch of ROWS texts of LENGTH tokens, the best of ROUNDS."""
    import torch

    ids = torch.randint(1000, 20_000, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0), device="cpu")
    last = {"logits_to_keep": 1} if hasattr(loaded.model, "lm_head") else {}
    with torch.inference_mode():
        return ROWS * LENGTH / best(lambda: loaded.model(input_ids=ids.to(loaded.device), **last))


def writes(loaded: Any) -> float:
    """Tokens a second of one answer of WRITTEN tokens to a prompt of LENGTH, the reading of the prompt not counted."""
    import torch

    ids = torch.randint(1000, 20_000, (1, LENGTH), generator=torch.Generator().manual_seed(0)).to(loaded.device)
    fixed = {"attention_mask": torch.ones_like(ids), "do_sample": False, "pad_token_id": loaded.tokenizer.eos_token_id}

    def answer(length: int) -> float:
        return best(lambda: loaded.model.generate(ids, max_new_tokens=length, min_new_tokens=length, **fixed))

    with torch.inference_mode():
        return (WRITTEN - 1) / (answer(WRITTEN) - answer(1))


def best(run: Callable[[], Any]) -> float:
    """The least seconds of ROUNDS runs, after one to warm up."""
    times = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times[1:])


if __name__ == "__main__":
    main()
