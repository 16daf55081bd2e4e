"""The training loop: a run killed and resumed ends bit by bit like an undisturbed one, whatever it trains."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cells import make_cell
from torch import Tensor, nn

from methods.parts.training import weights
from methods.parts.training.loop import SCHEDULES, Fit, Group, Loss, Recipe, Task, fit, searched, trained
from rankrepro.cell import Cell
from rankrepro.errors import ConfigError, OutputError, UnknownName

ROOT = Path(__file__).resolve().parents[3]
RECIPE = Recipe(tokens=16 * 25, rate=0.02, every=4)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cell(shards: Path | None = None, seed: int = 0, **inputs: Any) -> Cell:
    if shards:
        shards.mkdir(exist_ok=True)
    return make_cell(seed=seed, shards=shards, inputs=inputs)


# --- tasks -----------------------------------------------------------------------------------------------------------


class Mortal(Task):
    """Learns and records its steps until it dies in step `die`."""

    module: Any

    def __init__(self, die: int = -1) -> None:
        torch.manual_seed(5)
        self.die, self.seen = die, []

    def step(self, i: int) -> Loss | None:
        if i == self.die:
            raise KeyboardInterrupt
        self.seen.append(i)
        return self.learn(i)

    def learn(self, i: int) -> Loss | None:
        raise NotImplementedError


class Toy(Mortal):
    """A small network with dropout that learns a fixed linear map."""

    def __init__(self, die: int = -1) -> None:
        super().__init__(die)
        self.module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 1))

    def data(self, i: int, n: int = 16) -> tuple[Tensor, Tensor]:
        x = torch.randn(n, 4, generator=generator(i))
        return x, x.sum(1, keepdim=True)

    def learn(self, i: int) -> Loss | None:
        x, y = self.data(i)
        return Loss((self.module.train()(x) - y).square().mean(), 16)

    def validate(self) -> Mapping[str, float]:
        x, y = self.data(10**6, 64)
        return {"loss": (self.module.eval()(x) - y).square().mean().item()}


class Normed(Toy):
    """Batch normalisation: running means are buffers, which validation reads and no optimiser knows."""

    def __init__(self, die: int = -1) -> None:
        super().__init__(die)
        self.module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))


class Grouped(Toy):
    """The first layer's weight learns ten times as fast as the last layer, its bias not at all."""

    def groups(self) -> list[Group]:
        first, _, last = self.module
        return [Group(10.0, [first.weight]), Group(1.0, last.parameters())]


class Skipping(Toy):
    """Every third batch has nothing to teach."""

    def learn(self, i: int) -> Loss | None:
        return None if i % 3 == 1 else super().learn(i)


class Epochs(Toy):
    """Reads the whole shuffled epoch before it shuffles again: order, place and generator are its state."""

    def __init__(self, die: int = -1) -> None:
        super().__init__(die)
        self.rng, self.order, self.place = generator(7), torch.arange(0), 0

    def learn(self, i: int) -> Loss | None:
        if self.place == len(self.order):
            self.order, self.place = torch.randperm(6, generator=self.rng), 0
        self.place += 1
        return super().learn(int(self.order[self.place - 1]))

    def state(self) -> Any:
        return {"order": self.order, "rng": self.rng.get_state()}, {"place": self.place}

    def load(self, state: Any) -> None:
        tensors, value = state
        self.order, self.place = tensors["order"], value["place"]
        self.rng.set_state(tensors["rng"])


REWARDS = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 0.0]])  # [contexts, actions]


class Grpo(Mortal):
    """A policy of one token by GRPO: groups of 6 answers to each of 3 contexts, redrawn every 3 steps.

    A clipped ratio to the policy that drew them, advantages normalised within a group (Shao et al. 2024). A group whose
    answers all have the same reward teaches nothing; if that is so for all groups, the step is skipped.
    """

    watch, higher = "reward", True

    def __init__(self, die: int = -1) -> None:
        super().__init__(die)
        self.module = nn.Linear(3, 4, bias=False)
        self.rng = generator(3)
        self.rollouts: dict[str, Tensor] = {}

    def logprobs(self, actions: Tensor) -> Tensor:
        """[contexts, answers]"""
        return self.module(torch.eye(3)).log_softmax(-1).gather(-1, actions)

    @torch.no_grad()
    def roll_out(self) -> None:
        actions = self.module(torch.eye(3)).softmax(-1).multinomial(6, replacement=True, generator=self.rng)
        rewards = REWARDS.gather(-1, actions)
        advantages = (rewards - rewards.mean(-1, keepdim=True)) / (rewards.std(-1, keepdim=True) + 1e-4)
        self.rollouts = {"actions": actions, "advantages": advantages, "old": self.logprobs(actions)}

    def learn(self, i: int) -> Loss | None:
        if i % 3 == 0:
            self.roll_out()
        advantages = self.rollouts["advantages"]
        if not advantages.any():
            return None
        ratio = (self.logprobs(self.rollouts["actions"]) - self.rollouts["old"]).exp()
        gain = torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
        return Loss(-gain.mean(), 18, {"ratio": ratio.max().item()})

    def validate(self) -> Mapping[str, float]:
        return {"reward": (self.module(torch.eye(3)).softmax(-1) * REWARDS).sum(-1).mean().item()}

    def state(self) -> Any:
        return {**self.rollouts, "rng": self.rng.get_state()}, None

    def load(self, state: Any) -> None:
        self.rollouts = dict(state[0])
        self.rng.set_state(self.rollouts.pop("rng"))


GAINS = torch.tensor([0.0, 1.0, 3.0])  # of three documents
DISCOUNTS = 1 / torch.log2(torch.arange(3) + 2.0)
PERMUTATIONS = torch.tensor(list(itertools.permutations(range(3))))


def plackett_luce(s: Tensor, orders: Tensor) -> Tensor:
    """Log-probability [lists] of orders [lists, n] of documents with scores s [n]."""
    placed = s[orders]
    return (placed - placed.flip(1).logcumsumexp(1).flip(1)).sum(1)


class PlackettLuce(Mortal):
    """A ranking policy by REINFORCE: permutations are drawn (Gumbel), their reward is DCG, its baseline the others'.

    Every draw has 24 permutations, 8 for each of three steps.
    """

    watch, higher = "DCG", True

    def __init__(self, die: int = -1) -> None:
        super().__init__(die)
        self.module = nn.Linear(2, 1, bias=False)
        self.features = torch.tensor([[1.0, 0.2], [0.1, 0.8], [-0.5, 1.0]])
        self.rng = generator(4)
        self.orders = PERMUTATIONS[:0]

    def scores(self) -> Tensor:
        return self.module(self.features)[:, 0]

    @torch.no_grad()
    def draw(self, n: int) -> Tensor:
        noise = -torch.empty(n, 3).exponential_(generator=self.rng).log()
        return (self.scores() + noise).argsort(1, descending=True)

    def loss(self, orders: Tensor) -> Tensor:
        rewards = (GAINS[orders] * DISCOUNTS).sum(1)
        baseline = (rewards.sum() - rewards) / (len(rewards) - 1)
        return -((rewards - baseline) * plackett_luce(self.scores(), orders)).mean()

    def learn(self, i: int) -> Loss | None:
        if not len(self.orders):
            self.orders = self.draw(24)
        orders, self.orders = self.orders[:8], self.orders[8:]
        return Loss(self.loss(orders), 24)

    def validate(self) -> Mapping[str, float]:
        chances = plackett_luce(self.scores(), PERMUTATIONS).exp()
        return {"DCG": (chances @ (GAINS[PERMUTATIONS] * DISCOUNTS).sum(1)).item()}

    def state(self) -> Any:
        return {"orders": self.orders, "rng": self.rng.get_state()}, None

    def load(self, state: Any) -> None:
        self.orders = state[0]["orders"]
        self.rng.set_state(state[0]["rng"])


# --- killed and resumed ----------------------------------------------------------------------------------------------

TASKS: dict[str, tuple[Callable[[int], Mortal], Recipe]] = {
    "dropout": (Toy, RECIPE),
    "best": (Toy, replace(RECIPE, keep="best")),
    "buffers": (Normed, replace(RECIPE, keep="best", rate=0.2)),
    "groups": (Grouped, replace(RECIPE, decay=0.1)),
    "skipped steps": (Skipping, RECIPE),
    "accumulation": (Skipping, replace(RECIPE, accumulate=3, tokens=16 * 75)),
    "epochs": (Epochs, RECIPE),
    "GRPO": (Grpo, replace(RECIPE, tokens=18 * 25, rate=0.3)),
    "Plackett-Luce": (PlackettLuce, replace(RECIPE, tokens=24 * 25, rate=0.1)),
}


def equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("die", [1, 9, 24])
@pytest.mark.parametrize("kind", TASKS)
def test_a_killed_run_ends_where_an_undisturbed_one_does(tmp_path: Path, kind: str, die: int) -> None:
    make, recipe = TASKS[kind]
    die *= recipe.accumulate
    whole, c = make(-1), cell(tmp_path / "whole")
    reference = fit(c, "run", whole, recipe)

    with pytest.raises(KeyboardInterrupt):
        fit(cell(tmp_path / "torn"), "run", make(die), recipe)
    torch.rand(3)  # the global generator may be used in the meantime
    again, resumed = make(-1), cell(tmp_path / "torn")
    fitted = fit(resumed, "run", again, recipe)
    assert fitted == reference and fitted.steps == 25
    assert equal(fitted.at_end, reference.at_end) and equal(fitted.at_best, reference.at_best)
    assert again.seen[0] == die // (4 * recipe.accumulate) * 4 * recipe.accumulate
    assert equal(weights.state_of(whole.module), weights.state_of(again.module))
    assert resumed.history.record() == c.history.record()
    costs = [{k: v for k, v in x.meter.record()["units"]["run"].items() if k != "seconds"} for x in (c, resumed)]
    assert costs[0] == costs[1]

    finished = make(0)  # a finished part is not trained again
    ended = fit(cell(tmp_path / "torn"), "run", finished, recipe)
    assert ended == reference and finished.seen == []
    assert equal(ended.at_best, reference.at_best)
    assert equal(weights.state_of(whole.module), weights.state_of(finished.module))


def test_a_process_that_is_killed_resumes(tmp_path: Path) -> None:
    """SIGKILL in the middle of a step, as a crashing machine would."""
    code = f"""
import os, signal, sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}, {str(Path(__file__).parent)!r}]
from pathlib import Path
from test_training import RECIPE, Toy, cell, fit
toy = Toy()
step = toy.step
toy.step = lambda i: os.kill(os.getpid(), signal.SIGKILL) if i == 14 else step(i)
fit(cell(Path({str(tmp_path / "torn")!r})), "run", toy, RECIPE)
"""
    died = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120)
    assert died.returncode == -signal.SIGKILL
    whole, again = Toy(), Toy()
    assert fit(cell(tmp_path / "torn"), "run", again, RECIPE) == fit(cell(), "run", whole, RECIPE)
    assert again.seen[0] == 12
    assert equal(weights.state_of(whole.module), weights.state_of(again.module))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_dropout_on_a_gpu_resumes(tmp_path: Path) -> None:
    class OnGpu(Toy):
        def __init__(self, die: int = -1) -> None:
            super().__init__(die)
            self.module = self.module.cuda()

        def data(self, i: int, n: int = 16) -> tuple[Tensor, Tensor]:
            x, y = super().data(i, n)
            return x.cuda(), y.cuda()

    torch.cuda.manual_seed(1)
    before = torch.cuda.get_rng_state()
    whole, again = OnGpu(), OnGpu()
    reference = fit(cell(), "run", whole, RECIPE)
    with pytest.raises(KeyboardInterrupt):
        fit(cell(tmp_path / "torn"), "run", OnGpu(9), RECIPE)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    torch.rand(3, device="cuda")
    assert fit(cell(tmp_path / "torn"), "run", again, RECIPE) == reference
    assert equal(weights.state_of(whole.module), weights.state_of(again.module))
    assert {t.device.type for t in reference.at_best.values()} == {"cpu"}


def test_a_checkpoint_is_replaced_whole_and_holds_no_code(tmp_path: Path) -> None:
    fit(cell(tmp_path / "c"), "run", Toy(), RECIPE)
    assert [f.name for f in (tmp_path / "c").iterdir()] == ["run.safetensors"]
    size = int.from_bytes((tmp_path / "c" / "run.safetensors").read_bytes()[:8], "little")
    header = json.loads((tmp_path / "c" / "run.safetensors").read_bytes()[8 : 8 + size])
    assert json.loads(header["__metadata__"]["rankrepro"])["state"]["fit"]["steps"] == 25


# --- one step --------------------------------------------------------------------------------------------------------


def test_seed_changes_dropout_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    ends = []
    for seed in (0, 0, 1):
        toy = Toy()
        torch.set_rng_state(before)
        ends.append(fit(cell(seed=seed), "run", toy, RECIPE).at_end)
        assert torch.equal(torch.get_rng_state(), before)
    assert equal(ends[0], ends[1]) and not equal(ends[0], ends[2])


def test_the_budget_is_in_tokens_and_the_schedule_follows_it() -> None:
    fitted = fit(cell(), "run", Toy(), Recipe(tokens=100, rate=0.01, every=3))
    assert (fitted.steps, fitted.tokens) == (7, 112)  # the step that reaches the budget is the last
    recipe = Recipe(tokens=100, rate=1.0, warmup=0.2, floor=0.1)
    assert [recipe.share(t) for t in (0.0, 0.1, 0.2)] == [0.0, 0.5, 1.0]
    assert recipe.share(0.6) == pytest.approx(0.55) and recipe.share(1.0) == pytest.approx(0.1)
    assert SCHEDULES["linear"](0.5, 0.0) == 0.5 and SCHEDULES["constant"](0.9, 0.0) == 1


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_schedule_is_that_of_transformers(schedule: Any) -> None:
    from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

    theirs: Any = {"cosine": get_cosine_schedule_with_warmup, "linear": get_linear_schedule_with_warmup}[schedule]
    optimiser = torch.optim.SGD([torch.zeros(1)], 1.0)
    scheduler = theirs(optimiser, 10, 100)
    recipe = Recipe(tokens=100, rate=1.0, warmup=0.1, floor=0.0, schedule=schedule)
    for step in range(100):
        assert recipe.share(step / 100) == pytest.approx(optimiser.param_groups[0]["lr"], abs=1e-12)
        optimiser.step()
        scheduler.step()


class One(Mortal):
    """A module of one matrix and one vector, and whatever loss of them."""

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], rates: tuple[float, float] = (1.0, 1.0)) -> None:
        super().__init__()
        self.module = nn.Module()
        self.module.matrix, self.module.vector = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
        self.of, self.rates = loss, rates

    def groups(self) -> list[Group]:
        return [Group(r, [p]) for r, p in zip(self.rates, self.module.parameters(), strict=True)]

    def learn(self, i: int) -> Loss | None:
        return Loss(self.of(self.module.matrix, self.module.vector), 1)

    def validate(self) -> Mapping[str, float]:
        return {"loss": 0.0}


STEP = Recipe(tokens=1, rate=0.1, warmup=0.0, schedule="constant", clip=0.0)


def test_a_group_learns_at_its_own_rate_and_parameters_in_no_group_stay() -> None:
    task = One(lambda m, v: m.sum() + v.sum(), (0.5, 3.0))
    fit(cell(), "run", task, STEP)
    # Adam's first step is the rate
    torch.testing.assert_close(task.module.matrix.data, torch.full((2, 2), 1 - 0.5 * 0.1))
    torch.testing.assert_close(task.module.vector.data, torch.full((2,), 1 - 3 * 0.1))
    toy = Grouped()
    before = toy.module[0].bias.detach().clone()
    fitted = fit(cell(), "run", toy, RECIPE)
    assert torch.equal(toy.module[0].bias, before) and "0.bias" not in fitted.at_end


def test_matrices_decay_and_vectors_do_not() -> None:
    task = One(lambda m, v: 0.0 * (m.sum() + v.sum()))
    fit(cell(), "run", task, replace(STEP, decay=0.2))
    torch.testing.assert_close(task.module.matrix.data, torch.full((2, 2), 1 - 0.1 * 0.2))
    assert torch.equal(task.module.vector, torch.ones(2))


def test_the_gradient_is_clipped() -> None:
    task, before = One(lambda m, v: 1000 * v.sum() + 0 * m.sum()), []
    task.module.vector.register_hook(lambda g: before.append(g.norm().item()))
    fit(cell(), "run", task, replace(STEP, clip=0.5))
    assert before[0] > 1000 and task.module.vector.grad.norm().item() == pytest.approx(0.5, rel=1e-4)


def test_accumulated_batches_are_one_large_batch() -> None:
    class Large(Normed):
        def __init__(self, batches: int) -> None:
            super().__init__()
            self.module, self.batches = nn.Linear(4, 1), batches

        def learn(self, i: int) -> Loss | None:
            pairs = [self.data(j) for j in range(i * self.batches, (i + 1) * self.batches)]
            x, y = (torch.cat(parts) for parts in zip(*pairs, strict=True))
            return Loss((self.module(x) - y).square().mean(), len(x))

    one, many, cells = Large(4), Large(1), [cell(), cell()]
    recipe = Recipe(tokens=64 * 6, rate=0.02, every=2, clip=0.0)
    torch.manual_seed(0)
    many.module.load_state_dict(one.module.state_dict())
    large = fit(cells[0], "run", one, recipe)
    small = fit(cells[1], "run", many, replace(recipe, accumulate=4))
    assert (large.steps, large.tokens) == (small.steps, small.tokens) == (6, 384)
    for name, tensor in large.at_end.items():
        torch.testing.assert_close(small.at_end[name], tensor, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(many.module.weight.grad, one.module.weight.grad)  # Adam does not see its scale
    losses = [dict(map(tuple, c.history.record()["training_loss"])) for c in cells]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert [c.meter.units["run"]["forward_passes"] for c in cells] == [6, 24]


def test_a_run_of_skipped_steps_ends_and_says_so() -> None:
    class Nothing(Toy):
        def learn(self, i: int) -> Loss | None:
            return None

    c, toy = cell(), Nothing()
    before = {name: tensor.clone() for name, tensor in weights.state_of(toy.module).items()}
    fitted = fit(c, "run", toy, replace(RECIPE, tokens=10))
    assert (fitted.steps, fitted.skipped, fitted.tokens) == (10, 10, 10) and equal(before, fitted.at_end)
    assert c.history.record()["skipped"] == [[4, 4], [8, 8], [10, 10]] and "training_loss" not in c.history.record()

    c = cell()
    fitted = fit(c, "run", Skipping(), RECIPE)
    assert (fitted.steps, fitted.skipped, fitted.tokens) == (25, 8, 16 * 25)  # a skipped step counts like the others
    assert c.meter.units["run"]["input_tokens"] == 16 * 17  # but nothing was read


# --- best and last ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["last", "best"])
def test_both_best_and_last_weights_are_returned_and_early_stopping_stops(keep: Any) -> None:
    values = iter([2.0, 3.0, 4.0, math.nan, 1.0])  # the first is before any step: never the best; nan is never better
    seen: list[dict[str, Tensor]] = []

    class Scripted(Normed):
        def validate(self) -> Mapping[str, float]:
            seen.append({name: tensor.clone() for name, tensor in weights.state_of(self.module).items()})
            return {"loss": next(values)}

    toy = Scripted()
    fitted = fit(cell(), "run", toy, Recipe(tokens=10**6, rate=0.01, every=1, patience=2, keep=keep))
    assert (fitted.steps, fitted.best, fitted.best_step) == (3, 3.0, 1)
    assert equal(fitted.at_best, seen[1]) and equal(fitted.at_end, seen[3]) and not equal(seen[1], seen[3])
    assert equal(weights.state_of(toy.module), seen[1 if keep == "best" else 3])
    assert equal(weights.state_of(weights.load(toy.module, fitted.at_best)), seen[1])


def test_a_watched_value_that_validation_lacks_is_named() -> None:
    toy = Toy()
    toy.watch = "los"
    with pytest.raises(UnknownName, match="did you mean 'loss'"):
        fit(cell(), "run", toy, RECIPE)


# --- searching -------------------------------------------------------------------------------------------------------


class Fragile(Toy):
    """Diverges at rates above 1, which are labelled with `e+`."""

    def learn(self, i: int) -> Loss | None:
        loss = super().learn(i)
        assert loss
        return replace(loss, value=loss.value * (math.inf if "e+" in self.label else 1))


def test_search_gives_every_rate_the_same_run_and_takes_divergence_for_an_answer() -> None:
    tasks: list[Fragile] = []

    def make() -> Fragile:
        tasks.append(Fragile())
        return tasks[-1]

    c = cell()
    result = searched(c, make, replace(RECIPE, tokens=16 * 50), [1e-5, 0.02, 1e20], 0.5)
    assert result["best"].tolist() == [0.02] and result["values"][2] == math.inf
    assert [task.seen for task in tasks] == [list(range(25)), list(range(25)), [0]]
    assert {name.removesuffix("_loss") for name in c.history.record()} == {
        "rate_1e-05", "rate_0.02", "rate_1e+20", "rate_1e-05_training", "rate_0.02_training",
    }  # fmt: skip
    with pytest.raises(OutputError, match="diverges at every rate"):
        searched(cell(), make, RECIPE, [1e20], 1.0)


def test_more_is_better_where_the_task_says_so() -> None:
    result = searched(cell(), Grpo, replace(RECIPE, tokens=18 * 25), [1e-6, 0.3], 1.0)
    assert result["best"].tolist() == [0.3] and result["values"][1] > result["values"][0]


def test_training_takes_the_recipes_rate_or_a_stages_or_searches() -> None:
    free = replace(RECIPE, rate=None)
    search = searched(cell(), Toy, free, [1e-5, 0.02], 0.5)
    ways: list[Fit] = [
        trained(cell(), Toy, RECIPE).fit,
        trained(cell(), Toy, free, search).fit,
        trained(cell(), Toy, free, rates=[1e-5, 0.02], share=0.5).fit,
    ]
    assert ways[0] == ways[1] == ways[2] and ways[0].rate == 0.02
    assert trained(cell(), Toy, replace(RECIPE, rate=0.01), search).fit.rate == 0.01
    with pytest.raises(ConfigError, match="no learning rate: give `rate` in the card"):
        trained(cell(), Toy, free)


def test_bad_recipes_are_named() -> None:
    with pytest.raises(ConfigError, match="tokens 0"):
        Recipe(tokens=0, rate=1.0)
    with pytest.raises(ConfigError, match="accumulate 0"):
        Recipe(tokens=1, accumulate=0)


# --- policies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GRPO", "Plackett-Luce"])
def test_policies_learn(kind: str) -> None:
    make, recipe = TASKS[kind]
    task = make(-1)
    before = task.validate()[task.watch]
    best = {"GRPO": 1.0, "Plackett-Luce": 3 + 1 / math.log2(3)}[kind]
    fitted = fit(cell(), "run", task, recipe)
    assert task.validate()[task.watch] > before + 0.5 * (best - before) and fitted.best is not None


def test_grpos_gradient_is_the_policys_less_a_groups_own_share() -> None:
    """Summed over all groups of two answers, with the group's mean as baseline: (1 - 1/2) of the exact gradient."""
    task = Grpo()
    policy = task.module(torch.eye(3)).softmax(-1)
    (exact,) = torch.autograd.grad((policy * REWARDS).sum(-1).mean(), task.module.weight)
    total = torch.zeros_like(exact)
    for group in itertools.product(range(4), repeat=2):
        actions = torch.tensor([group] * 3)
        chance = policy.detach().gather(-1, actions).prod(-1)  # [contexts]
        rewards = REWARDS.gather(-1, actions)
        ratio = (task.logprobs(actions) - task.logprobs(actions).detach()).exp()
        gain = (ratio * (rewards - rewards.mean(-1, keepdim=True))).mean(-1)
        total += torch.autograd.grad((chance * gain).mean(), task.module.weight)[0]
    torch.testing.assert_close(total, exact / 2)


def test_plackett_luces_sampled_gradient_is_the_exact_one() -> None:
    task = PlackettLuce()
    chances = plackett_luce(task.scores(), PERMUTATIONS).exp()
    assert chances.sum().item() == pytest.approx(1)
    dcg = (GAINS[PERMUTATIONS] * DISCOUNTS).sum(1)
    (exact,) = torch.autograd.grad(-(chances * dcg).sum(), task.module.weight)
    sampled = torch.cat([torch.autograd.grad(task.loss(task.draw(500)), task.module.weight)[0] for _ in range(200)])
    error = sampled.std(0) / math.sqrt(200)
    assert ((sampled.mean(0) - exact[0]).abs() < 4 * error).all() and (exact[0].abs() > 20 * error).any()
