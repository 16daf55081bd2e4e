"""A job over two processes: accelerate's FSDP on the CPU, started as any job is, trains what one process trains."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cells import make_cell
from torch import nn

from methods.parts.training.loop import Recipe, Task
from methods.parts.training.sharded import ShardedRun
from rankrepro import artifacts, benchmarks
from rankrepro.errors import ConfigError
from rankrepro.store import Store
from tests_support import Project, make_project

METHOD = '''
"""The top layers of a tiny Llama learn which of their input's first numbers is the largest."""
import os
import time
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from methods.parts.training.llm_tops import Top
from methods.parts.training.loop import Loss, Recipe, Task, trained
from methods.parts.training.weights import arrays


class Scaled(nn.Module):
    def __init__(self, top):
        super().__init__()
        self.top, self.scale = top, nn.Parameter(torch.ones(8))

    def forward(self, hidden, places):
        return self.top.logits(self.top(hidden, places)) * self.scale


class Student(Task):
    higher = True  # of a loss: then the best weights are early ones, which a checkpoint keeps beside the last

    def __init__(self, cell):
        with torch.random.fork_rng():
            torch.manual_seed(cell.seed)
            sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 1}
            model = LlamaForCausalLM(LlamaConfig(vocab_size=8, num_hidden_layers=3, initializer_range=0.3, **sizes))
        self.module = Scaled(Top(SimpleNamespace(model=model, device="cpu"), 2))

    def loss(self, i):
        hidden = np.random.default_rng(i % 8).normal(size=(3, 5, 16))
        places = np.array([[1, 4]] * 3)
        z = self.module(hidden, places)
        return F.cross_entropy(z.flatten(0, 1), torch.from_numpy(hidden[:, [1, 4], :8].argmax(-1)).flatten())

    def step(self, i):
        time.sleep(float(os.environ.get("TOY_PAUSE", "0")))
        return None if os.environ.get("TOY_NOTHING") == str(i) else Loss(self.loss(i), 15)

    def validate(self):
        return {"loss": self.loss(7)}


def train(cell, *, recipe: Recipe):
    task, fit = trained(cell, lambda: Student(cell), recipe)
    assert fit.steps == 10 and fit.state_bytes == 8 * sum(p.numel() for p in task.module.parameters())
    end = {f"end.{name}": tensor.numpy() for name, tensor in fit.at_end.items()}
    return {**arrays(task.module), **end, "loss": np.array([float(task.validate()["loss"].detach())])}
'''
STEPS, ACCUMULATE = 10, 4
RECIPE = {"tokens": STEPS * ACCUMULATE * 15, "rate": 0.02, "accumulate": ACCUMULATE, "every": 1, "clip": 0.5,
          "decay": 0.01, "keep": "best"}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_project(tmp_path_factory.mktemp("project"), [])
    (project.folder / "methods" / "toy_student.py").write_text(METHOD)
    benchmarks.build("lint/rules", artifacts.cache_dir(), project.results / "benchmarks" / "lint" / "rules")
    return project


def job(project: Project, digest: str, **asked: int) -> Path:
    """The file of a job with one node, which trains; as the plan writes it."""
    spec = {
        "kind": "stage", "fn": "toy_student.train", "params": RECIPE, "models": {}, "seed": 3, "threads": 1,
        "dtype": "float32", "benchmark": {"id": "lint/rules", "digest": ""}, "candidates": None, "inputs": {},
        "queries": {"split": ["test"], "sample": 1, "mode": "own"}, **asked,
    }  # fmt: skip
    node = {"name": "toy.student", "digest": digest, "spec": spec}
    file = project.results / "jobs" / f"{digest[:16]}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"id": file.stem, "title": "toy", "threads": 1, "seconds": 1.0, "nodes": [node]}))
    return file


def start(project: Project, file: Path, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rankrepro.runner", str(file), "1"], cwd=project.folder,
        env={**project.env(), "CUDA_VISIBLE_DEVICES": "", **env}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said


def result(project: Project, digest: str) -> tuple[dict[str, np.ndarray], dict[str, list[list[float]]]]:
    """Weights, and what was logged."""
    store = Store(project.results / "store")
    return store.result(digest), json.loads((store.path(digest) / "history.json").read_text())


def workers_of(agent: int) -> list[int]:
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    return [int(child) for child in children]


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait(for_what: Callable[[], Any]) -> None:
    until = time.monotonic() + 200
    while not for_what():
        assert time.monotonic() < until
        time.sleep(0.05)


def steps_saved(file: Path) -> int:
    from safetensors import safe_open

    if not file.exists():
        return 0
    with safe_open(file, "pt") as f:
        return json.loads(f.metadata()["rankrepro"])["state"]["fit"]["steps"]


@pytest.mark.slow
def test_two_processes_killed_and_resumed_train_what_one_process_trains(project: Project) -> None:
    one, two, after = "1" * 64, "2" * 64, "4" * 64
    finish(start(project, job(project, one)))

    file = job(project, two, gpus=2)
    killed = start(project, file, TOY_PAUSE="0.3")
    checkpoint = project.results / "shards" / two / "training.safetensors"
    wait(lambda: steps_saved(checkpoint) >= 3 or killed.poll() is not None)
    assert killed.poll() is None, killed.communicate()[1]
    workers = workers_of(killed.pid)
    assert len(workers) == 2
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    wait(lambda: all(map(ended, workers)))  # nothing of the job holds a GPU
    assert 3 <= steps_saved(checkpoint) < STEPS
    shutil.copytree(checkpoint.parent, project.results / "shards" / after)
    finish(start(project, file))
    finish(start(project, job(project, after)))  # one process goes on from what two have done

    expected, logged = result(project, one)
    assert len(logged["training_loss"]) == STEPS
    for digest in (two, after):
        weights, history = result(project, digest)
        assert history.keys() == logged.keys() and weights.keys() == expected.keys()
        for name, series in logged.items():
            np.testing.assert_allclose(history[name], series, rtol=0, atol=1e-5, err_msg=name)
        for name, array in expected.items():
            np.testing.assert_allclose(weights[name], array, rtol=0, atol=1e-5, err_msg=name)
    losses = [loss for _, loss in logged["training_loss"]]
    assert losses[8] < losses[0] - 0.1  # on the same batches: it learns, or nothing would have been compared
    assert (weights["end.scale"] != weights["scale"]).all() and (weights["scale"] != 1).all()
    assert file.with_suffix(".done").exists() and not checkpoint.exists()
    cost = [json.loads((Store(project.results / "store").path(d) / "cost.json").read_text()) for d in (one, two)]
    assert cost[0]["units"]["training"]["input_tokens"] == cost[1]["units"]["training"]["input_tokens"]


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others_and_the_job_says_why(project: Project) -> None:
    file = job(project, "3" * 64, gpus=2)
    failed = start(project, file, TOY_NOTHING="7")
    _, said = failed.communicate(timeout=300)
    assert failed.returncode == 1
    assert "OutputError: toy.student: training: there is nothing to learn in batch 7" in said
    assert "processes failed; they say why above" in said
    assert not file.with_suffix(".done").exists() and not Store(project.results / "store").has("3" * 64)


class Still(Task):
    def __init__(self) -> None:
        self.module = nn.Linear(2, 2)


class WithRollouts(Still):
    def state(self) -> Any:
        return {}, {"epoch": 1}


@pytest.mark.parametrize(
    ("task", "accumulate", "words"),
    [(Still, 3, "make `accumulate` a multiple of 2"), (WithRollouts, 4, "a task with a state of its own")],
)
def test_what_processes_cannot_share_is_refused_before_training(
    task: Callable[[], Task], accumulate: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ShardedRun, "processes", SimpleNamespace(num_processes=2), raising=False)
    with pytest.raises(ConfigError, match=words):
        ShardedRun(make_cell(), "training", task(), Recipe(tokens=10, rate=0.1, accumulate=accumulate))
