"""Low-rank adapters (LoRA, Hu et al. 2021): y = W x + (alpha / r) B A x, of which A and B alone are trained.

    adapters = adapters_of(lm.model, rank=8, alpha=16, seed=cell.seed)
    with adapted(lm.model, adapters):   # train: `adapters` is a task's module
        ...
    with merged(lm.model, load(adapters, cell.inputs["weights"])):   # use: at the cost of the model itself
        ...

Why not peft: all cells of a process share a loaded model, so each must leave it as it was. These few lines, which hook
linear layers and unhook them, make that plainer than a wrapper that renames the model's parts, and a machine without
internet needs one package less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rankrepro.errors import UnknownName


class Adapter(nn.Module):
    """x [..., d_in] -> (alpha / r) B A x [..., d_out]; A [r, d_in] is drawn like a linear layer's weights, B is 0."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.scale = alpha / rank
        a = torch.empty(rank, linear.in_features)  # on the processor: a seed draws the same everywhere
        nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=generator)
        device = linear.weight.device
        self.a, self.b = nn.Parameter(a.to(device)), nn.Parameter(torch.zeros(linear.out_features, rank, device=device))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * ((x.to(self.a.dtype) @ self.a.T) @ self.b.T)

    def matrix(self) -> Tensor:
        """(alpha / r) B A [d_out, d_in], which is added to W."""
        return self.scale * (self.b @ self.a)


def adapters_of(
    model: nn.Module, *, rank: int, alpha: float, seed: int, targets: Sequence[str] = ("q_proj", "v_proj")
) -> nn.ModuleDict:
    """An adapter for every linear layer whose name ends in one of `targets`. At first they change nothing.

    Keys are the layers' full names with "/" for ".", which names of modules may not contain. Raises UnknownName for an
    unknown target.
    """
    linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    known = {name.rpartition(".")[2] for name in linear}
    if unknown := [target for target in targets if target not in known]:
        raise UnknownName("linear layer", unknown[0], known, "targets of adapters")
    generator = torch.Generator().manual_seed(seed)
    return nn.ModuleDict(
        {
            name.replace(".", "/"): Adapter(layer, rank, alpha, generator)
            for name, layer in linear.items()
            if name.rpartition(".")[2] in targets
        }
    )


@contextmanager
def adapted(model: nn.Module, adapters: nn.ModuleDict) -> Iterator[None]:
    """Inside the block, linear layers add their adapters' outputs, and the model's own parameters take no gradient."""
    takes_gradient = {parameter: parameter.requires_grad for parameter in model.parameters()}
    hooks = [
        layer.register_forward_hook(lambda _, args, y, adapter=adapter: y + adapter(args[0]).to(y.dtype))
        for layer, adapter in _pairs(model, adapters)
    ]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, before in takes_gradient.items():
            parameter.requires_grad_(before)


@contextmanager
def merged(model: nn.Module, adapters: nn.ModuleDict) -> Iterator[None]:
    """Inside the block, the adapters are added to the model's weights, which are restored bit by bit afterwards."""
    before = [(layer, layer.weight.detach().clone()) for layer, _ in _pairs(model, adapters)]
    try:
        with torch.no_grad():
            for layer, adapter in _pairs(model, adapters):
                layer.weight += adapter.matrix().to(layer.weight.dtype)
        yield
    finally:
        with torch.no_grad():
            for layer, weight in before:
                layer.weight.copy_(weight)


def _pairs(model: nn.Module, adapters: nn.ModuleDict) -> Iterator[tuple[nn.Linear, Adapter]]:
    for name, adapter in adapters.items():
        layer = model.get_submodule(name.replace("/", "."))
        assert isinstance(layer, nn.Linear) and isinstance(adapter, Adapter)
        yield layer, adapter
