"""The document about performance: what misses its bar says so, and turns are fair."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rankrepro.phases import PHASES

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("performance_program", HERE / "__main__.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measured(busy: float, ratio: float) -> dict:
    phases = dict.fromkeys(PHASES, 1.0) | {"computing": 95.0}
    return {
        "share": phases | {"process": 99.0, "computing_share": 0.96, "busy": busy, "jobs": 9, "cores": 2},
        "dry": {"seconds": 3.0, "cpu": 2.0, "bytes": 2e8, "papers": 8, "cards": 40, "nodes": 1234, "jobs": 99},
        **{k: {"seconds": 0.9, "cpu": 0.8, "bytes": 2e8} for k in ("noop", "listing", "report", "second_load")},
        "encoding": {
            "documents": 320, "rounds": 3, "version": "6.2.0", "limit": 256, "products": "bfloat16",
            "rate": {"ours": 30.0, "plain": 21.0, "theirs": 20.0}, "plain_ratio": 1.05,
            "ratio": ratio, "ratios": [1.4, ratio, 1.7], "cosine": 0.99999,
        },
        "large": None,
        "language_model": {
            "products": "bfloat16",
            "rate": {"float32": {"reads": 400.2, "writes": 16.1}, "mixed": {"reads": 900.0, "writes": 20.0}},
        },
        "prefixes": [{"arm": "icr.icr", "queries": 4, "full": 3000, "read": 1100, "saved": 19 / 30}],
    }  # fmt: skip


def test_what_misses_its_bar_says_so(program: ModuleType) -> None:
    options = argparse.Namespace(documents=320, rounds=3, queries=2)
    good = program.document(measured(0.9, 1.6), 0.1, 0.2, options)
    assert "**missed**" not in good and "did nothing else" in good
    assert "| float32 | 400 | 16.1 |" in good
    assert "1,234 stages" in good and "| `icr.icr` | 4 | 3,000 | 1,100 | 63 % |" in good
    bad = program.document(measured(0.5, 1.1), 3.0, 4.0, options)
    lines = [line for line in bad.splitlines() if "**missed**" in line]
    assert [line.split("|")[3].strip() for line in lines] == ["50 %", "1.10 times"]
    assert "Other work ran on this machine" in bad


def test_a_gpu_at_the_papers_size_is_measured_or_skipped_loudly(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert program.large() is None and "SKIPPED" in capsys.readouterr().err
    options = argparse.Namespace(documents=320, rounds=3, queries=2)
    assert "**Skipped**: this machine has no GPU" in program.document(measured(0.9, 1.6), 0.1, 0.2, options)
    large = {
        "device": "a chip", "passages": 100, "tokens": 400, "read": 40_500, "seconds": {"icr": 2.5, "generation": 4.0},
        "rate": 7e14, "share": 0.31, "ratio": 0.625,
    }  # fmt: skip
    text = program.document(measured(0.9, 1.6) | {"large": large}, 0.1, 0.2, options)
    lines = [line for line in text.splitlines() if "**missed**" in line]
    assert [line.split("|")[3].strip() for line in lines] == ["31 %", "0.62"] and "700 TFLOP/s" in text


def test_the_probe_of_the_papers_size_in_small() -> None:
    from performance import large

    shape = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 49_152, "max_position_embeddings": 4096,
    }  # fmt: skip
    found = large.measure("cpu", "float32", shape, 64, passages=6, tokens=12)
    assert found["read"] > 6 * 12 and set(found["seconds"]) == {"icr", "generation"}
    assert found["share"] > 0 and found["ratio"] == found["seconds"]["icr"] / found["seconds"]["generation"]


def test_turns_alternate(program: ModuleType) -> None:
    order: list[str] = []
    times = program.in_turns({"ours": lambda: order.append("a"), "theirs": lambda: order.append("b")}, 4)
    assert "".join(order) == "abbaabba"
    assert [len(t) for t in times.values()] == [4, 4]


def test_a_command_is_measured_and_a_failure_shown(program: ModuleType) -> None:
    cost = program.snakemake("--version")
    assert cost["cpu"] > 0 and cost["bytes"] > 10e6 and cost["seconds"] > 0
    with pytest.raises(SystemExit, match="no-such-option"):
        program.snakemake("--no-such-option")


def test_the_program_explains_itself() -> None:
    done = subprocess.run([sys.executable, str(HERE), "--help"], capture_output=True, text=True, check=True)
    assert "--write" in done.stdout
