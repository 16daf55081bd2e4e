"""Wrappers of a model's forward pass: products in bfloat16, and halved batches when memory runs out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from types import MethodType
from typing import Any

Forward = Callable[..., Any]


def multiplies_bfloat16(device: str) -> bool:
    """Whether the device has instructions for products of bfloat16; a CPU without them is slower at it than float32."""
    import torch

    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def multiply_in_bfloat16(model: Any, device: str) -> str:
    """Multiply matrices in bfloat16 in the model's whole pass; weights and sums keep the dtype of the weights.

    Returns "bfloat16", or "" where the device would only emulate it: then the pass stays as it is.
    """
    import torch

    if not multiplies_bfloat16(device):
        return ""
    model.forward = torch.autocast(device, torch.bfloat16)(model.forward)
    return "bfloat16"


def linear_in_bfloat16(model: Any, device: str) -> str:
    """Multiply in bfloat16 in the model's linear layers, whose weights are kept so; everything else stays as it is.

    For models that also read one token at a time: there, casting the weights in every pass would cost more than their
    products. A layer multiplies in the dtype of its weights, so that a copy in float32 is exact again. Returns
    "bfloat16", or "" where the device would only emulate it.
    """
    import torch

    def forward(self: Any, x: Any) -> Any:
        return torch.nn.functional.linear(x.to(self.weight.dtype), self.weight, self.bias).to(x.dtype)

    if not multiplies_bfloat16(device):
        return ""
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.to(torch.bfloat16)
            layer.forward = MethodType(forward, layer)  # type: ignore[method-assign]
    return "bfloat16"


def multiply_exactly(dtype: str) -> None:
    """For float32, multiply exactly from now on in this process: GPUs may otherwise keep 10 bits of 23 (TF32)."""
    import torch

    if dtype == "float32":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def in_halves(forward: Forward, name: str) -> Forward:
    """`forward`, but a batch that does not fit into a GPU's memory is read in halves, and so are those after it.

    For models that read every row of a batch by itself: arguments and results with rows are tensors [rows, ...]. With
    gradients nothing is caught: what a training step keeps would not fit either.
    """
    import torch

    largest: int | None = None  # rows at a time

    @wraps(forward)
    def read(*args: Any, **kwargs: Any) -> Any:
        nonlocal largest
        rows = next(len(x) for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor))
        outputs, start = [], 0
        while start < rows:
            chunk = slice(start, start + min(largest or rows, rows))
            try:
                keywords = {name: _rows(value, chunk) for name, value in kwargs.items()}
                outputs.append(forward(*(_rows(value, chunk) for value in args), **keywords))
                start = chunk.stop
            except Exception as error:
                size = min(chunk.stop, rows) - chunk.start
                if size == 1 or torch.is_grad_enabled() or not out_of_memory(error):
                    raise
                largest = size // 2
                print(f"{name}: out of memory with {size} rows at a time: {largest} from now on")
        return outputs[0] if len(outputs) == 1 else _joined(outputs)

    return read


def out_of_memory(error: Exception) -> bool:
    """Whether a GPU ran out of memory; if so, torch's cached memory is freed."""
    torch = sys.modules.get("torch")  # not imported here: cells that do without stay light
    if torch is None or not isinstance(error, torch.OutOfMemoryError):
        return False
    error.__traceback__ = None  # its frames hold the tensors of the attempt
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return True


def _rows(value: Any, chunk: slice) -> Any:
    """The rows of a tensor; anything else as it is."""
    import torch

    return value[chunk] if isinstance(value, torch.Tensor) and value.ndim else value


def _joined(parts: list[Any]) -> Any:
    """One output of several: a tensor, or a mapping of tensors such as transformers returns."""
    import torch

    if isinstance(parts[0], torch.Tensor):
        return torch.cat(parts)
    return type(parts[0])(**{k: torch.cat([p[k] for p in parts]) for k in parts[0]})
