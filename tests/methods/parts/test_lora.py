"""Adapters of linear layers: they change nothing at first, act the same merged or not, and alone are trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from cells import make_cell
from torch import nn

from methods.parts.training.loop import Loss, Recipe, Task, fit
from methods.parts.training.lora import Adapter, adapted, adapters_of, merged
from methods.parts.training.weights import arrays, load, state_of
from rankrepro.errors import UnknownName


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.o_proj, self.v_proj = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.v_proj(torch.tanh(self.o_proj(torch.tanh(self.q_proj(x)))))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(Block(), nn.Linear(3, 6), Block())


X = torch.randn(7, 6, generator=torch.Generator().manual_seed(1))


def drawn(adapters: nn.ModuleDict) -> nn.ModuleDict:
    """The adapters with B other than 0."""
    rng = torch.Generator().manual_seed(2)
    for adapter in adapters.values():
        adapter.b.data.normal_(0, 0.5, generator=rng)
    return adapters


def test_the_layers_named_are_adapted_and_change_nothing_at_first(model: nn.Module) -> None:
    adapters = adapters_of(model, rank=2, alpha=4.0, seed=0)
    assert list(adapters) == ["0/q_proj", "0/v_proj", "2/q_proj", "2/v_proj"]
    with adapted(model, adapters):
        inside = model(X)
    assert torch.equal(inside, model(X))
    with pytest.raises(UnknownName, match="did you mean 'q_proj'"):
        adapters_of(model, rank=2, alpha=4.0, seed=0, targets=["q_pro"])


def test_an_adapter_is_its_formula() -> None:
    adapter = Adapter(nn.Linear(6, 5), 2, 8.0, torch.Generator().manual_seed(0))
    adapter.b.data.normal_()
    torch.testing.assert_close(adapter(X), 8.0 / 2 * X @ adapter.a.T @ adapter.b.T)
    again = Adapter(nn.Linear(6, 5), 2, 8.0, torch.Generator().manual_seed(0))
    assert torch.equal(adapter.a, again.a) and not again.b.any()


def test_merged_is_adapted_and_the_model_comes_back_bit_by_bit(model: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in state_of(model).items()}
    plain, adapters = model(X), drawn(adapters_of(model, rank=2, alpha=4.0, seed=0))
    with adapted(model, adapters):
        inside = model(X)
    with merged(model, adapters):
        torch.testing.assert_close(model(X), inside)
    assert not torch.allclose(inside, plain, atol=0.1)
    for block in (adapted, merged):
        with pytest.raises(ZeroDivisionError), block(model, adapters):
            raise ZeroDivisionError
    assert torch.equal(model(X), plain) and all(torch.equal(t, before[n]) for n, t in state_of(model).items())
    assert all(p.requires_grad for p in model.parameters())


def test_only_adapters_are_trained_and_kept(model: nn.Module) -> None:
    class Tuning(Task):
        def __init__(self, adapters: nn.ModuleDict) -> None:
            self.module = adapters

        def step(self, i: int) -> Loss:
            return Loss(model(X).square().mean(), 7)

        def validate(self) -> Mapping[str, float]:
            return {"loss": model(X).square().mean().item()}

    before = {name: tensor.clone() for name, tensor in state_of(model).items()}
    adapters = adapters_of(model, rank=2, alpha=4.0, seed=0)
    start, plain = arrays(adapters), model(X)
    with adapted(model, adapters):
        fitted = fit(make_cell(), "run", Tuning(adapters), Recipe(tokens=7 * 60, rate=0.02))
        tuned = model(X)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(t, before[n]) for n, t in state_of(model).items())
    assert set(fitted.at_end) == set(start) and all((arrays(adapters)[n] != start[n]).any() for n in start)
    assert tuned.square().mean() < 0.5 * plain.square().mean()
    again: Any = load(adapters_of(model, rank=2, alpha=4.0, seed=9), arrays(adapters))
    with merged(model, again):
        torch.testing.assert_close(model(X), tuned)


@torch.inference_mode()
def test_a_language_model_is_adapted_through_its_cache(lm: Any) -> None:
    from methods.parts.language import llm

    tokens = llm.ids(lm, "The Danube flows through ten")
    adapters = drawn(adapters_of(lm.model, rank=4, alpha=4.0, seed=0))
    layers = lm.model.config.num_hidden_layers
    assert (
        len(adapters) == 2 * layers
        and len(adapters_of(lm.model, rank=4, alpha=4.0, seed=0, targets=["up_proj"])) == layers
    )
    plain = lm.model(torch.tensor([tokens]), use_cache=False).logits[0, -1]
    with adapted(lm.model, adapters):
        hidden = llm.Context(lm).read_to_last([tokens])
        inside = lm.model(torch.tensor([tokens]), use_cache=False).logits[0, -1]
    torch.testing.assert_close(llm.logits(lm, hidden)[0], inside, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(inside, plain, atol=0.1)
