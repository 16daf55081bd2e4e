"""The one training loop: AdamW, a schedule over a budget of tokens, clipping, validation, checkpoints that resume.

A paper defines what is trained as a `Task`: a module, the loss of batch i, values on held-out data. A batch must be a
function of i alone (draw it from a generator seeded by i), so that every arm of a comparison sees the same batches and
a killed run continues with the next one. What is no function of i, such as the rollouts of a policy, is the task's
state and part of every checkpoint. All other randomness inside a step (dropout) comes from torch's generators, on the
processor and on GPUs, whose states are part of the checkpoint too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from methods.parts.training import weights
from rankrepro.cell import Cell, Size
from rankrepro.errors import ConfigError, OutputError, UnknownName

SCHEDULES: Mapping[str, Callable[[float, float], float]] = {  # (progress, floor) -> share of the rate
    "cosine": lambda t, floor: floor + (1 - floor) * (1 + math.cos(math.pi * t)) / 2,
    "linear": lambda t, floor: floor + (1 - floor) * (1 - t),
    "constant": lambda t, floor: 1.0,
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. A card gives these beside a method's other parameters."""

    tokens: Annotated[int, Size(work=1, rehearsal=1000)]  # the budget: the step that reaches it is the last
    rate: float | None = None  # highest learning rate; None: the one that a search finds
    warmup: float = 0.1  # share of the budget over which the rate rises from 0
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    floor: float = 0.1  # share of the rate left at the end
    clip: float = 1.0  # largest norm of the gradient of all parameters; 0: not clipped
    decay: float = 0.0  # decoupled weight decay, on matrices only
    betas: tuple[float, float] = (0.9, 0.999)
    accumulate: int = 1  # batches whose gradients are averaged into one step of the optimiser
    every: int = 50  # steps from one validation (and checkpoint) to the next
    patience: int = 0  # training stops after so many validations in a row without a better value; 0: never
    keep: Literal["last", "best"] = "last"  # the weights that the module ends with

    def __post_init__(self) -> None:
        if min(self.tokens, self.every, self.accumulate) <= 0 or not 0 <= self.warmup <= 1:
            raise ConfigError(
                f"recipe of training: tokens {self.tokens}, every {self.every}, accumulate {self.accumulate}, warmup "
                f"{self.warmup}: need positive numbers and a share"
            )

    def share(self, progress: float) -> float:
        """Share of the rate at `progress` (0 to 1) of the budget."""
        if progress < self.warmup:
            return progress / self.warmup
        done = (progress - self.warmup) / (1 - self.warmup) if self.warmup < 1 else 1.0
        return SCHEDULES[self.schedule](min(1.0, done), self.floor)


# --- what is trained -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loss:
    """Loss of one batch: a number with a gradient, the tokens read for it, and further values to log."""

    value: Tensor
    tokens: int
    log: Mapping[str, float] = field(default_factory=dict)


class Group(NamedTuple):
    """Parameters that learn at `rate` times the recipe's rate."""

    rate: float
    parameters: Iterable[nn.Parameter]


State = tuple[Mapping[str, Tensor], Any]  # tensors by name, and a value that JSON holds


class Task:
    """What `fit` trains: a module, the loss of a batch, and how good the module is.

    module  what is trained; put several modules into an `nn.ModuleDict`
    watch   the value of `validate` that decides what is best, when to stop and which rate wins
    higher  whether a higher value is better
    label   prefix of the names of all values logged
    """

    module: nn.Module
    watch: str = "loss"
    higher: bool = False
    label: str = ""

    def step(self, i: int) -> Loss | None:
        """The loss of batch i (a step of the optimiser has `recipe.accumulate`); None if there is nothing to learn."""
        raise NotImplementedError

    def validate(self) -> Mapping[str, float]:
        """Values of the module as it is, to be logged.

        Called without gradients, before the first step, every `recipe.every` steps and at the end.
        """
        raise NotImplementedError

    def groups(self) -> Sequence[Group]:
        """Which parameters learn, and how fast: by default all that take a gradient, at the recipe's rate."""
        return [Group(1.0, [p for p in self.module.parameters() if p.requires_grad])]

    def state(self) -> State:
        """What the next step needs beyond its number and the module: rollouts, an epoch, a generator."""
        return {}, None

    def load(self, state: State) -> None:
        """Restore what `state` returned, when a killed run continues; its tensors lie on the processor."""


@dataclass
class Fit:
    """How training went. `at_end` and `at_best`: parameters and buffers by name, on the processor."""

    rate: float = 0.0
    steps: int = 0  # of the optimiser, those skipped included
    tokens: int = 0
    skipped: int = 0  # batches in which there was nothing to learn
    best: float | None = None  # value of `watch`
    best_step: int = 0
    stale: int = 0  # number of validations since the best one
    done: bool = False
    state_bytes: int = 0  # of the optimiser
    at_end: dict[str, Tensor] = field(default_factory=dict, compare=False, repr=False)
    at_best: dict[str, Tensor] = field(default_factory=dict, compare=False, repr=False)


def fit(cell: Cell, part: str, task: Task, recipe: Recipe) -> Fit:
    """Train the module of `task` in place; `part` names the training, since a cell may train several times.

    The values of `validate` before the first step are logged but are never the best: untrained weights are a row of
    their own. The module ends with its last or its best weights, as `recipe.keep` says; `Fit` has both
    (`weights.load(module, fitted.at_best)`). Parameters in no group do not change and are not part of `Fit`.

    A batch whose step is None is skipped: it counts as many tokens as the others had on average, so that training ends,
    and among `recipe.accumulate` batches it adds a gradient of 0.

    Raises ConfigError if the recipe has no rate, OutputError if a loss is no finite number.
    """
    if recipe.rate is None:
        raise ConfigError(f"{cell.name}: {part}: no learning rate: give `rate` in the card, or search for one")
    run = _Run(cell, part, task, recipe)
    with torch.random.fork_rng(devices=_gpus()):
        torch.manual_seed(cell.seed)
        saved = cell.saved(part)
        if saved:
            run.restore(*saved)
        else:
            run.validate()
        while not run.fitted.done:
            run.step()
    return run.finish()


# --- searching and training ------------------------------------------------------------------------------------------

T = TypeVar("T", bound=Task)


class Trained(NamedTuple, Generic[T]):
    """A task whose module is trained, and how training went."""

    task: T
    fit: Fit


def searched(
    cell: Cell, make: Callable[[], Task], recipe: Recipe, rates: Sequence[float], share: float
) -> dict[str, np.ndarray]:
    """What a stage `search` returns.

    rates   as given
    values  the best value of `watch` that each rate reached with `share` of the budget
    best    the rate with the best value, the first of equal ones

    `make` makes a new task for every rate. Every arm of a comparison gets the same rates and budget. A run that
    diverges counts as the worst (infinite): that a rate is too high is an answer, not an error.
    """
    budget, values, sign = int(recipe.tokens * share), [], 1
    for rate in rates:
        task = make()
        task.label, sign = f"rate_{rate}_", -1 if task.higher else 1
        try:
            value = fit(cell, f"rate_{rate}", task, replace(recipe, tokens=budget, rate=rate)).best
        except OutputError:
            value = None
        values.append(sign * math.inf if value is None else value)
    if all(map(math.isinf, values)):
        raise OutputError(
            f"{cell.name}: training diverges at every rate of {list(rates)}: add lower ones to `rates` in the card"
        )
    best = min(range(len(values)), key=lambda i: sign * values[i])
    return {"rates": np.array(rates), "values": np.array(values), "best": np.array([rates[best]])}


def trained(
    cell: Cell,
    make: Callable[[], T],
    recipe: Recipe,
    search: Mapping[str, np.ndarray] | None = None,
    rates: Sequence[float] = (),
    share: float = 1.0,
) -> Trained[T]:
    """A task made by `make`, trained at the recipe's rate or, if it has none, at the best rate of a search.

    search  what `searched` returned in a stage of its own, so that seeds and arms share it
    rates   to search here instead, each with `share` of the budget
    """
    rate = recipe.rate
    if rate is None and rates:
        search = searched(cell, make, recipe, rates, share)
    if rate is None and search is not None:
        rate = float(search["best"][0])
    task = make()
    return Trained(task, fit(cell, "training", task, replace(recipe, rate=rate)))


# --- one run ---------------------------------------------------------------------------------------------------------


class _Run:
    """A training in progress: what it holds between two steps is what a checkpoint stores."""

    def __init__(self, cell: Cell, part: str, task: Task, recipe: Recipe) -> None:
        assert recipe.rate is not None
        self.cell, self.part, self.task, self.recipe, self.rate = cell, part, task, recipe, recipe.rate
        self.fitted = Fit(rate=recipe.rate)
        self.optimiser = _adamw(task.groups(), recipe, self.rate)
        learns = {id(p) for group in self.optimiser.param_groups for p in group["params"]}
        self.learns = [p for p in task.module.parameters() if id(p) in learns]
        self.weights = {
            name: tensor
            for name, tensor in weights.state_of(task.module).items()
            if id(tensor) in learns or not isinstance(tensor, nn.Parameter)
        }

    def step(self) -> None:
        """One step of the optimiser and, if it is time, a validation and a checkpoint."""
        cell, recipe, fitted = self.cell, self.recipe, self.fitted
        share = recipe.share((fitted.tokens + 1) / recipe.tokens)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * share * group["times"]
        with cell.meter.timed([self.part]):
            losses = self._update()
        read = sum(loss.tokens for loss in losses)
        cell.meter.add(self.part, input_tokens=read, forward_passes=len(losses))
        fitted.tokens += read + self._charge(recipe.accumulate - len(losses), read, len(losses))
        fitted.skipped += recipe.accumulate - len(losses)
        fitted.steps += 1
        fitted.done = fitted.tokens >= recipe.tokens
        if fitted.done or fitted.steps % recipe.every == 0:
            self._log(losses)
            self.validate()
            fitted.done |= 0 < recipe.patience <= fitted.stale
            fitted.state_bytes = _bytes(self.optimiser)
            self._save()
        cell.progress(min(fitted.tokens, recipe.tokens), recipe.tokens)

    def _update(self) -> list[Loss]:
        """Apply the clipped gradients of a step's batches; the losses of those that were not skipped."""
        recipe, first = self.recipe, self.fitted.steps * self.recipe.accumulate
        self.optimiser.zero_grad(set_to_none=True)
        losses = []
        for i in range(first, first + recipe.accumulate):
            loss = self.task.step(i)
            if loss is None:
                continue
            (loss.value / recipe.accumulate if recipe.accumulate > 1 else loss.value).backward()
            if not math.isfinite(float(loss.value.detach())):
                raise OutputError(
                    f"{self.cell.name}: {self.part}: the loss of step {self.fitted.steps} is not a finite number; "
                    "lower the rate"
                )
            losses.append(replace(loss, value=loss.value.detach()))
        if losses:
            if recipe.clip:
                torch.nn.utils.clip_grad_norm_(self.learns, recipe.clip)
            self.optimiser.step()
        return losses

    def _charge(self, skipped: int, read: int, losses: int) -> int:
        """Tokens that skipped batches count: as many as the others had on average, at least 1."""
        if not skipped:
            return 0
        batches = self.fitted.steps * self.recipe.accumulate + losses
        return skipped * max(1, (self.fitted.tokens + read) // max(1, batches))

    def _log(self, losses: Sequence[Loss]) -> None:
        values = {"training_loss": float(sum(loss.value for loss in losses)) / len(losses)} if losses else {}
        for loss in losses[-1:]:
            values |= loss.log
        if self.fitted.skipped:
            values["skipped"] = self.fitted.skipped
        self._history(values)

    def _history(self, values: Mapping[str, float]) -> None:
        self.cell.history.log(self.fitted.steps, **{self.task.label + name: value for name, value in values.items()})

    def validate(self) -> None:
        """Log the task's values of its module, and copy the weights if they are the best so far."""
        task, fitted = self.task, self.fitted
        with torch.no_grad():
            values = {name: float(value) for name, value in task.validate().items()}
        self._history(values)
        if task.watch not in values:
            raise UnknownName("watch", task.watch, values, f"validation of {self.cell.name}")
        if fitted.steps == 0:
            return
        value = values[task.watch]
        best = -math.inf if task.higher else math.inf
        best = best if fitted.best is None else fitted.best
        if value > best if task.higher else value < best:
            fitted.best, fitted.best_step, fitted.stale = value, fitted.steps, 0
            fitted.at_best = self._copies()
        else:
            fitted.stale += 1

    def finish(self) -> Fit:
        self.fitted.at_end = self._copies()
        if self.recipe.keep == "best" and self.fitted.at_best:
            self._fill(self.fitted.at_best)
        return self.fitted

    def _copies(self) -> dict[str, Tensor]:
        """Copies of the current weights, on the processor: a GPU holds enough without them."""
        return {name: t.detach().to("cpu", copy=True) for name, t in self.weights.items()}

    @torch.no_grad()
    def _fill(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in self.weights.items():
            tensor.copy_(tensors[name])

    # --- checkpoints ---

    def _save(self) -> None:
        tensors = {f"weights.{name}": tensor.detach() for name, tensor in self.weights.items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.fitted.at_best.items()}
        for i, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{name}": tensor for name, tensor in moments.items()}
        tensors |= {f"random.{device}": state for device, state in _generators().items()}
        task_tensors, value = self.task.state()
        tensors |= {f"task.{name}": tensor.detach().clone() for name, tensor in task_tensors.items()}
        fitted = {k: v for k, v in vars(self.fitted).items() if not isinstance(v, dict)}
        self.cell.save(self.part, {n: t.contiguous() for n, t in tensors.items()}, {"fit": fitted, "task": value})

    def restore(self, tensors: Mapping[str, Tensor], value: Mapping[str, Any]) -> None:
        """Continue from what `_save` stored."""
        kinds: dict[str, dict[str, Tensor]] = {"task": {}, "best": {}}
        for name, tensor in tensors.items():
            kind, _, key = name.partition(".")
            kinds.setdefault(kind, {})[key] = tensor
        self._fill(kinds["weights"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in kinds.get("optimiser", {}).items():
            i, key = name.split(".")
            moments.setdefault(int(i), {})[key] = tensor
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.fitted = Fit(**value["fit"], at_best=kinds["best"])
        self.task.load((kinds["task"], value["task"]))
        _set_generators(kinds["random"])


def _adamw(groups: Sequence[Group], recipe: Recipe, rate: float) -> torch.optim.AdamW:
    """Matrices decay, vectors (biases, norms) do not."""
    halves: list[dict[str, Any]] = []
    for times, parameters in groups:
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for parameter in parameters:
            (matrices if parameter.dim() > 1 else others).append(parameter)
        halves.append({"params": matrices, "weight_decay": recipe.decay, "times": times})
        halves.append({"params": others, "weight_decay": 0.0, "times": times})
    return torch.optim.AdamW([half for half in halves if half["params"]], rate, recipe.betas, fused=True)


def _bytes(optimiser: torch.optim.Optimizer) -> int:
    """Bytes of the moments (one of each kind per parameter), without step counters."""
    states = (t for state in optimiser.state.values() for t in state.values())
    return sum(t.numel() * t.element_size() for t in states if t.dim() > 0)


def _gpus() -> list[int]:
    """Indices of the GPUs if any is in use; training on the processor does not initialise them."""
    return list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []


def _generators() -> dict[str, Tensor]:
    """Device -> state of torch's generator."""
    return {"cpu": torch.get_rng_state(), **{f"cuda{i}": torch.cuda.get_rng_state(i) for i in _gpus()}}


def _set_generators(states: Mapping[str, Tensor]) -> None:
    """Restore the generators; states of GPUs that this machine lacks are ignored."""
    torch.set_rng_state(states["cpu"])
    for i in _gpus():
        if f"cuda{i}" in states:
            torch.cuda.set_rng_state(states[f"cuda{i}"], i)
