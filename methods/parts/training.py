"""The one training loop: AdamW, a schedule over a budget of tokens, clipping, validation, checkpoints that resume.

A method gives `step(i)`: the loss of batch i and its tokens. The batch must be a function of i alone (draw it from a
generator seeded by i), so that every arm of a comparison sees the same batches and a killed run goes on with the next
one. All randomness inside a step (dropout) comes from torch's generator, whose state is part of the checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rankrepro.cell import Cell
from rankrepro.errors import ConfigError, OutputError, UnknownName

SCHEDULES: Mapping[str, Callable[[float, float], float]] = {  # (progress, floor) -> share of the rate
    "cosine": lambda t, floor: floor + (1 - floor) * (1 + math.cos(math.pi * t)) / 2,
    "linear": lambda t, floor: floor + (1 - floor) * (1 - t),
    "constant": lambda t, floor: 1.0,
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. `of(params, rate=...)` reads it from a card."""

    tokens: int  # the budget: the step that reaches it is the last
    rate: float  # highest learning rate
    warmup: float = 0.1  # share of the budget in which the rate rises from 0
    schedule: str = "cosine"
    floor: float = 0.1  # share of the rate left at the end
    clip: float = 1.0  # largest norm of the gradient of all parameters; 0 for none
    decay: float = 0.0  # decoupled weight decay, of matrices only
    betas: tuple[float, float] = (0.9, 0.999)
    every: int = 50  # steps from one validation (and checkpoint) to the next
    watch: str = "loss"  # the value of `validate` that decides what is best and when to stop
    higher: bool = False  # whether more of it is better
    patience: int = 0  # validations in a row without a better value after which training stops; 0: never
    keep: str = "last"  # or best: the parameters that are left at the end

    def __post_init__(self) -> None:
        for name, value, known in (("schedule", self.schedule, SCHEDULES), ("keep", self.keep, ("last", "best"))):
            if value not in known:
                raise UnknownName(name, value, known, "recipe of training")
        if self.tokens <= 0 or self.every <= 0 or not 0 <= self.warmup <= 1:
            raise ConfigError(
                f"recipe of training: tokens {self.tokens}, every {self.every}, warmup {self.warmup}: need positive "
                "numbers and a share"
            )

    @classmethod
    def of(cls, params: Any, **more: Any) -> Recipe:
        """From the parameters of a cell, those that a recipe knows; `more` has the last word."""
        known = cls.__dataclass_fields__
        return cls(**{**{k: v for k, v in vars(params).items() if k in known}, **more})

    def share(self, progress: float) -> float:
        """Of the rate, at `progress` of the budget (0 to 1)."""
        if progress < self.warmup:
            return progress / self.warmup
        done = (progress - self.warmup) / (1 - self.warmup) if self.warmup < 1 else 1.0
        return SCHEDULES[self.schedule](min(1.0, done), self.floor)


@dataclass
class Fit:
    """How training went: steps and tokens in all, the best value of `watch` and its step, bytes of optimiser state."""

    steps: int = 0
    tokens: int = 0
    best: float | None = None
    best_step: int = 0
    stale: int = 0  # validations since the best one
    done: bool = False
    state_bytes: int = 0


def fit(
    cell: Cell,
    part: str,
    parameters: Mapping[str, Tensor],
    recipe: Recipe,
    step: Callable[[int], tuple[Tensor, int]],
    validate: Callable[[], Mapping[str, float]],
    label: str = "",
) -> Fit:
    """Train `parameters` (name -> leaf tensor) in place.

    part      names the training in the cell; a cell that trains twice names each
    step      batch number -> (loss, tokens of the batch)
    validate  values of the parameters as they are, logged as `<label><name>`; called before the first step, every
              `recipe.every` steps and at the end. What it says before the first step is logged and never the best:
              parameters that nobody trained are a row of their own.
    Raises OutputError if the loss is no finite number.
    """
    fitted, weights = Fit(), dict(parameters)
    optimiser = _adamw(weights, recipe)
    best = {name: p.detach().clone() for name, p in weights.items()} if recipe.keep == "best" else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cell.seed)
        saved = cell.saved(part)
        if saved:
            fitted = _restore(weights, best, optimiser, saved)
        else:
            _validate(cell, weights, best, recipe, fitted, validate, label)
        while not fitted.done:
            share = recipe.share((fitted.tokens + 1) / recipe.tokens)
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate * share
            with cell.meter.timed([part]):
                loss, tokens = step(fitted.steps)
                _update(cell, part, weights, optimiser, loss, recipe, fitted.steps)
            cell.meter.add(part, input_tokens=tokens, forward_passes=1)
            fitted.steps, fitted.tokens = fitted.steps + 1, fitted.tokens + tokens
            fitted.done = fitted.tokens >= recipe.tokens
            if fitted.done or fitted.steps % recipe.every == 0:
                cell.history.log(fitted.steps, **{f"{label}training_loss": float(loss.detach())})
                _validate(cell, weights, best, recipe, fitted, validate, label)
                fitted.done |= 0 < recipe.patience <= fitted.stale
                fitted.state_bytes = _bytes(optimiser)
                _save(cell, part, weights, best, optimiser, fitted)
            cell.progress(min(fitted.tokens, recipe.tokens), recipe.tokens)
    with torch.no_grad():
        for name, value in best.items():
            weights[name].copy_(value)
    return fitted


@dataclass
class Search:
    """What a search for the learning rate found: the value of every rate, and the best rate (ties: the first)."""

    values: dict[float, float] = field(default_factory=dict)
    higher: bool = False

    @property
    def best(self) -> float:
        sign = -1 if self.higher else 1
        return min(self.values, key=lambda rate: sign * self.values[rate])


def search(rates: Sequence[float], train: Callable[[float], Fit], higher: bool = False) -> Search:
    """The best value that `train(rate)` reaches for each rate. Every arm is given the same rates and budget.

    A run that diverges counts as the worst: a rate that is too high is an answer, not an error.
    """
    found = Search(higher=higher)
    for rate in rates:
        try:
            value = train(rate).best
        except OutputError:
            value = None
        found.values[rate] = (-math.inf if higher else math.inf) if value is None else value
    if all(map(math.isinf, found.values.values())):
        raise OutputError(f"training diverges at every rate of {list(rates)}: add lower ones to `rates` in the card")
    return found


# --- one step --------------------------------------------------------------------------------------------------------


def _adamw(weights: Mapping[str, Tensor], recipe: Recipe) -> torch.optim.AdamW:
    matrices = [p for p in weights.values() if p.dim() > 1]
    others = [p for p in weights.values() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], recipe.rate, recipe.betas, fused=True)


def _update(
    cell: Cell,
    part: str,
    weights: Mapping[str, Tensor],
    optimiser: torch.optim.Optimizer,
    loss: Tensor,
    recipe: Recipe,
    step: int,
) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if recipe.clip:
        torch.nn.utils.clip_grad_norm_(weights.values(), recipe.clip)
    if not math.isfinite(float(loss.detach())):
        raise OutputError(f"{cell.name}: {part}: the loss of step {step} is not a finite number; lower the rate")
    optimiser.step()


def _validate(
    cell: Cell,
    weights: Mapping[str, Tensor],
    best: dict[str, Tensor],
    recipe: Recipe,
    fitted: Fit,
    validate: Callable[[], Mapping[str, float]],
    label: str,
) -> None:
    with torch.no_grad():
        values = {name: float(value) for name, value in validate().items()}
    cell.history.log(fitted.steps, **{label + name: value for name, value in values.items()})
    value = values[recipe.watch]
    if fitted.steps == 0:
        return
    if fitted.best is None or (value > fitted.best if recipe.higher else value < fitted.best):
        fitted.best, fitted.best_step, fitted.stale = value, fitted.steps, 0
        for name in best:
            best[name] = weights[name].detach().clone()
    else:
        fitted.stale += 1


def _bytes(optimiser: torch.optim.Optimizer) -> int:
    """Of the moments, one of each kind a parameter; step counters are left out."""
    states = (t for state in optimiser.state.values() for t in state.values())
    return sum(t.numel() * t.element_size() for t in states if t.dim() > 0)


# --- checkpoints -----------------------------------------------------------------------------------------------------


def _save(
    cell: Cell,
    part: str,
    weights: Mapping[str, Tensor],
    best: Mapping[str, Tensor],
    optimiser: torch.optim.Optimizer,
    fitted: Fit,
) -> None:
    tensors = {f"weights.{name}": p.detach() for name, p in weights.items()}
    tensors |= {f"best.{name}": p for name, p in best.items()}
    for i, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{i}.{name}": t for name, t in state.items()}
    tensors["random"] = torch.get_rng_state()
    cell.save(part, {name: t.contiguous() for name, t in tensors.items()}, vars(fitted))


def _restore(
    weights: Mapping[str, Tensor],
    best: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    saved: tuple[Mapping[str, Tensor], Mapping[str, Any]],
) -> Fit:
    tensors, state = saved
    moments: dict[int, dict[str, Tensor]] = {}
    with torch.no_grad():
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "weights":
                weights[rest].copy_(value)
            elif kind == "best":
                best[rest] = value
            elif kind == "optimiser":
                i, key = rest.split(".")
                moments.setdefault(int(i), {})[key] = value
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["random"])
    return Fit(**state)
