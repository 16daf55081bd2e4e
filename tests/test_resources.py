"""What jobs ask of a scheduler."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rankrepro import signatures
from rankrepro.cards import load_cards
from rankrepro.errors import ConfigError
from rankrepro.plan import Job, load_scale, make_plan, resources


def job(seconds: float = 100.0, models: tuple[str, ...] = (), benchmarks: tuple[str, ...] = ()) -> Job:
    return Job("x", [], [], list(benchmarks), list(models), 1, seconds)


@pytest.mark.parametrize(("seconds", "attempt", "minutes"), [(0, 1, 10), (100, 1, 15), (100, 3, 45), (1e6, 1, 1440)])
def test_minutes(seconds: float, attempt: int, minutes: int) -> None:
    assert resources.minutes(job(seconds), attempt) == minutes


def test_memory_grows_with_weights_corpus_and_attempt() -> None:
    assert resources.memory_mb(job()) == 5500
    assert resources.memory_mb(job(models=("llama-3.1-8b-instruct",))) == 5500 + 32121
    assert resources.memory_mb(job(benchmarks=("vital/fever",))) == 5500 + 10033 // 250
    assert resources.memory_mb(job(), attempt=2) == 11000


def test_gpus_are_asked_for_models_and_only_at_a_scale_that_is_meant_for_them() -> None:
    plan = make_plan(load_cards(), "paper", "baselines,icr")
    gpus = {bool(j.models): resources.gpus(j, plan.scale) for j in plan.jobs.values()}
    assert gpus == {True: 1, False: 0}
    assert {resources.gpus(j, load_scale("desk")) for j in plan.jobs.values()} == {0}


def test_a_training_over_several_gpus_asks_for_them_in_a_job_of_its_own_and_is_no_other_result() -> None:
    cards = load_cards()
    plan = make_plan(cards, "paper", "first")
    jobs = [j for j in plan.jobs.values() if resources.gpus(j, plan.scale) > 1]
    assert jobs
    for job in jobs:
        assert {(n.spec["fn"] in ("first.search", "first.train"), n.spec["gpus"]) for n in job.nodes} == {(True, 4)}
        assert all(n.spec["params"]["accumulate"] % 4 == 0 for n in job.nodes)
        assert resources.gpus(job, plan.scale) == 4 and resources.memory_mb(job) > 4 * 5500
    del cards["first"].data["scales"]["paper"]["gpus"]
    assert make_plan(cards, "paper", "first").nodes.keys() == plan.nodes.keys()


def test_several_gpus_for_what_trains_nothing_are_refused() -> None:
    cards = load_cards()
    cards["first"].data["scales"]["paper"]["gpus"] = {"first.rerank": 2}
    with pytest.raises(ConfigError, match=r"first\.yaml: scales\.paper\.gpus: first\.rerank trains nothing"):
        make_plan(cards, "paper", "first")


def test_a_function_that_trains_a_model_of_its_own_wants_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    marked = {"a.train": True, "a.read": False}
    monkeypatch.setattr(signatures, "of", lambda fn: SimpleNamespace(trains=marked[fn]))

    def wants(fn: str) -> bool:
        timing = {"kind": "timing", "models": {}, "a": {"fn": "a.read"}, "b": {"fn": fn}}
        assert resources.on_gpu({"kind": "stage", "models": {}, "fn": fn}) == resources.on_gpu(timing)
        return resources.on_gpu(timing)

    assert wants("a.train") and not wants("a.read")


def test_the_longest_chain_of_jobs_begins_first_and_the_whole_machine_waits() -> None:
    def waits(id: str, seconds: float, *needs: str, threads: int = 1) -> tuple[str, Job]:
        return id, Job(id, [], list(needs), [], [], threads, seconds)

    jobs = dict(
        [waits("a", 5), waits("b", 9, "a"), waits("c", 12), waits("d", 1, "a", "c", threads=0), waits("e", 2, "b")]
    )
    assert resources.turns(jobs) == {"a": 17, "b": 12, "c": 14, "d": 0, "e": 3}


def test_a_timing_is_work_for_a_gpu_if_its_arms_are() -> None:
    plan = make_plan(load_cards(), "desk", "lost,first,superglobal")
    timings = {n.name: resources.on_gpu(n.spec) for n in plan.nodes.values() if n.spec["kind"] == "timing"}
    assert timings["lost.lost_over_full"] and timings["first.one_token_over_forced"]
    assert not timings["superglobal.rerank_over_local"]  # of vectors that are there already


TAKE = """
import os, sys; from pathlib import Path; from rankrepro.plan.resources import take_gpus
take_gpus(Path(sys.argv[1]), int(sys.argv[2])); print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True); sys.stdin.read()
"""


def test_jobs_of_a_machine_with_several_gpus_take_what_they_ask_for(tmp_path: Path) -> None:
    def job(wanted: int = 1) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", TAKE, str(tmp_path), str(wanted)],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "0,GPU-8f,5"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def took(running: subprocess.Popen[str]) -> str:
        assert running.stdout
        return running.stdout.readline().strip()

    second = job(2)
    assert took(second) == "0,GPU-8f"
    first = job()
    assert took(first) == "5"
    third = job(2)
    assert third.stdout
    assert not select.select([third.stdout], [], [], 1.5)[0]  # waits
    second.kill()  # however a job ends, its GPU is free
    second.wait()
    assert took(third) == "0,GPU-8f"
    for running in (first, third):
        running.communicate()


def test_as_many_gpus_as_wanted_or_none_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for given, wanted in (("3", 1), ("", 1), ("3,GPU-8f", 2), ("", 2)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        resources.take_gpus(tmp_path, wanted)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == given
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(ConfigError, match="wants 2 GPUs and sees 1"):
        resources.take_gpus(tmp_path, 2)
    assert not list(tmp_path.iterdir())
