"""The training loop: a run that is killed and resumed ends bit by bit where an undisturbed one does."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from methods.parts.training import SCHEDULES, Fit, Recipe, fit, search
from rankrepro.benchmarks.base import Benchmark
from rankrepro.cell import Cell
from rankrepro.errors import ConfigError, OutputError, UnknownName

ROOT = Path(__file__).resolve().parents[2]


def cell(shards: Path | None = None, seed: int = 0) -> Cell:
    if shards:
        shards.mkdir(exist_ok=True)
    return Cell("toy.train", Benchmark("toy", {}, {}), {}, {}, SimpleNamespace(), seed, shards=shards)


class Toy:
    """A small network with dropout that learns a fixed linear map; dies in step `die`."""

    def __init__(self, die: int = -1) -> None:
        torch.manual_seed(5)
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
        self.die, self.seen = die, []

    def data(self, i: int, n: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(n, 4, generator=torch.Generator().manual_seed(i))
        return x, x.sum(1, keepdim=True)

    def step(self, i: int) -> tuple[torch.Tensor, int]:
        if i == self.die:
            raise KeyboardInterrupt
        self.seen.append(i)
        x, y = self.data(i)
        return (self.net.train()(x) - y).square().mean(), 16

    def validate(self) -> dict[str, float]:
        x, y = self.data(10**6, 64)
        return {"loss": (self.net.eval()(x) - y).square().mean().item()}

    def run(self, c: Cell, recipe: Recipe) -> Fit:
        return fit(c, "run", dict(self.net.named_parameters()), recipe, self.step, self.validate)


RECIPE = Recipe(tokens=16 * 25, rate=0.02, every=4)


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("die", [1, 9, 24])
def test_a_killed_run_ends_where_an_undisturbed_one_does(tmp_path, die, keep):
    recipe = Recipe(**{**vars(RECIPE), "keep": keep})
    whole = Toy()
    c = cell(tmp_path / "whole")
    reference = whole.run(c, recipe)

    with pytest.raises(KeyboardInterrupt):
        Toy(die).run(cell(tmp_path / "torn"), recipe)
    torch.rand(3)  # whatever happens to the global generator meanwhile
    again, resumed = Toy(), cell(tmp_path / "torn")
    assert again.run(resumed, recipe) == reference
    assert again.seen[0] == die // 4 * 4 and again.seen[-1] == 24
    for a, b in zip(whole.net.parameters(), again.net.parameters(), strict=True):
        assert torch.equal(a, b)
    assert resumed.history.record() == c.history.record()
    tokens = resumed.meter.record()["units"]["run"]
    assert tokens["input_tokens"] == 400 and tokens["forward_passes"] == 25

    finished = Toy(die=0)  # a finished part is not trained again
    assert finished.run(cell(tmp_path / "torn"), recipe) == reference and finished.seen == []
    assert all(torch.equal(a, b) for a, b in zip(whole.net.parameters(), finished.net.parameters(), strict=True))


def test_a_process_that_is_killed_resumes(tmp_path):
    """SIGKILL in the middle of a step, as a crashing machine would."""
    code = f"""
import os, signal, sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests" / "methods")!r}]
from pathlib import Path
from test_training import RECIPE, Toy, cell
toy = Toy()
step = toy.step
toy.step = lambda i: os.kill(os.getpid(), signal.SIGKILL) if i == 14 else step(i)
toy.run(cell(Path({str(tmp_path / "torn")!r})), RECIPE)
"""
    died = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120)
    assert died.returncode == -signal.SIGKILL
    whole, again = Toy(), Toy()
    assert again.run(cell(tmp_path / "torn"), RECIPE) == whole.run(cell(), RECIPE)
    assert again.seen[0] == 12
    assert all(torch.equal(a, b) for a, b in zip(whole.net.parameters(), again.net.parameters(), strict=True))


def test_seed_changes_dropout_and_the_global_generator_is_left_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    ends = []
    for seed in (0, 0, 1):
        toy = Toy()
        torch.set_rng_state(before)
        toy.run(cell(seed=seed), RECIPE)
        assert torch.equal(torch.get_rng_state(), before)
        ends.append(torch.cat([p.flatten() for p in toy.net.parameters()]))
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


def test_the_budget_is_in_tokens_and_the_schedule_follows_it():
    toy = Toy()
    fitted = toy.run(cell(), Recipe(tokens=100, rate=0.01, every=3))
    assert (fitted.steps, fitted.tokens) == (7, 112)  # the step that reaches the budget is the last
    recipe = Recipe(tokens=100, rate=1.0, warmup=0.2, floor=0.1)
    assert [recipe.share(t) for t in (0.0, 0.1, 0.2)] == [0.0, 0.5, 1.0]
    assert recipe.share(0.6) == pytest.approx(0.55) and recipe.share(1.0) == pytest.approx(0.1)
    assert SCHEDULES["linear"](0.5, 0.0) == 0.5 and SCHEDULES["constant"](0.9, 0.0) == 1


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_schedule_is_that_of_transformers(schedule):
    from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

    theirs = {"cosine": get_cosine_schedule_with_warmup, "linear": get_linear_schedule_with_warmup}[schedule]
    optimiser = torch.optim.SGD([torch.zeros(1)], 1.0)
    scheduler = theirs(optimiser, 10, 100)
    recipe = Recipe(tokens=100, rate=1.0, warmup=0.1, floor=0.0, schedule=schedule)
    for step in range(100):
        assert recipe.share(step / 100) == pytest.approx(optimiser.param_groups[0]["lr"], abs=1e-12)
        optimiser.step()
        scheduler.step()


def test_early_stopping_keeps_the_best():
    values = iter([2.0, 3.0, 4.0, 4.0, 1.0])  # the first before any step: no candidate
    toy = Toy()
    parameters = dict(toy.net.named_parameters())
    kept = []

    def validate():
        kept.append({n: p.detach().clone() for n, p in parameters.items()})
        return {"loss": next(values)}

    recipe = Recipe(tokens=10**6, rate=0.01, every=1, patience=2, keep="best")
    fitted = fit(cell(), "run", parameters, recipe, toy.step, validate)
    assert (fitted.steps, fitted.best, fitted.best_step) == (3, 3.0, 1)
    assert all(torch.equal(p, kept[1][n]) for n, p in parameters.items())


def test_the_gradient_is_clipped():
    p = torch.zeros(2, requires_grad=True)
    before = []

    def step(i):
        p.register_hook(lambda g: before.append(g.norm().item()))
        return 1000 * p.sum(), 1

    fit(cell(), "run", {"p": p}, Recipe(tokens=1, rate=0.1, clip=0.5), step, lambda: {"loss": 0.0})
    assert before[0] > 1000 and p.grad.norm().item() == pytest.approx(0.5, rel=1e-4)


def test_search_gives_every_rate_the_same_run_and_takes_divergence_for_an_answer():
    steps = []

    def train(rate):
        toy = Toy()
        toy.die = -1
        if rate > 1e9:
            toy.step = lambda i: (next(toy.net.parameters()).sum() * math.inf, 16)
        fitted = toy.run(cell(), Recipe(tokens=16 * 25, rate=rate, every=5))
        steps.append(fitted.steps)
        return fitted

    found = search([1e-5, 0.02, 1e10], train)
    assert found.best == 0.02 and found.values[1e10] == math.inf and steps == [25, 25]
    with pytest.raises(OutputError, match="diverges at every rate"):
        search([1e10], train)


def test_bad_recipes_are_named():
    with pytest.raises(UnknownName, match="did you mean 'cosine'"):
        Recipe(tokens=1, rate=1.0, schedule="cosinus")
    with pytest.raises(ConfigError, match="tokens 0"):
        Recipe(tokens=0, rate=1.0)
    recipe = Recipe.of(SimpleNamespace(tokens=5, heads=3, rate=9.0), rate=0.1)
    assert (recipe.tokens, recipe.rate) == (5, 0.1)


def test_a_checkpoint_is_replaced_whole_and_holds_no_code(tmp_path):
    c = cell(tmp_path / "c")
    Toy().run(c, RECIPE)
    assert [f.name for f in (tmp_path / "c").iterdir()] == ["run.safetensors"]
    size = int.from_bytes((tmp_path / "c" / "run.safetensors").read_bytes()[:8], "little")
    header = json.loads((tmp_path / "c" / "run.safetensors").read_bytes()[8 : 8 + size])
    assert json.loads(header["__metadata__"]["rankrepro"])["state"]["steps"] == 25
