"""What is put around a model's whole pass: products in bfloat16, and halves of a batch when memory runs out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

Forward = Callable[..., Any]


def multiplies_bfloat16(device: str) -> bool:
    """Whether the device has instructions for products of bfloat16; a CPU without them is slower at it than float32."""
    import torch

    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def multiply_in_bfloat16(model: Any, device: str) -> str:
    """Let the model's whole pass multiply matrices in bfloat16; weights and sums stay in the dtype of the weights.

    Returns "bfloat16", or "" where the device would only emulate it: then the pass stays as it is.
    """
    import torch

    if not multiplies_bfloat16(device):
        return ""
    model.forward = torch.autocast(device, torch.bfloat16)(model.forward)
    return "bfloat16"


def multiply_exactly(dtype: str) -> None:
    """Where the dtype is float32, products are, from now on in this process: GPUs may keep 10 bits of 23 (TF32)."""
    import torch

    if dtype == "float32":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def in_halves(forward: Forward, name: str) -> Forward:
    """The pass, of which a batch that a GPU's memory does not hold is read in halves, and so are those after it.

    For models that read every row of a batch by itself: the arguments with rows are tensors [rows, ...], and so is what
    comes back. With gradients nothing is caught: what a training step keeps would not fit either.
    """
    import torch

    most: int | None = None  # rows at a time

    @wraps(forward)
    def read(*args: Any, **kwargs: Any) -> Any:
        nonlocal most
        rows = next(len(x) for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor))
        found, start = [], 0
        while start < rows:
            some = slice(start, start + min(most or rows, rows))
            try:
                found.append(forward(*(_rows(a, some) for a in args), **{k: _rows(v, some) for k, v in kwargs.items()}))
                start = some.stop
            except Exception as error:
                held = min(some.stop, rows) - some.start
                if held == 1 or torch.is_grad_enabled() or not out_of_memory(error):
                    raise
                most = held // 2
                print(f"{name}: out of memory with {held} rows at a time: {most} from now on")
        return found[0] if len(found) == 1 else _joined(found)

    return read


def out_of_memory(error: Exception) -> bool:
    """Whether a GPU ran out of memory; what is cached of it is given back."""
    torch = sys.modules.get("torch")  # not imported here: cells that do without stay light
    if torch is None or not isinstance(error, torch.OutOfMemoryError):
        return False
    error.__traceback__ = None  # its frames hold the tensors of the attempt
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return True


def _rows(value: Any, some: slice) -> Any:
    """The rows of a tensor; anything else as it is."""
    import torch

    return value[some] if isinstance(value, torch.Tensor) and value.ndim else value


def _joined(parts: list[Any]) -> Any:
    """One output of several: a tensor, or a mapping of tensors such as transformers returns."""
    import torch

    if isinstance(parts[0], torch.Tensor):
        return torch.cat(parts)
    return type(parts[0])(**{k: torch.cat([p[k] for p in parts]) for k in parts[0]})
