"""What a job says of its time: phases without gaps, waiting from when it was ready, and nothing of its results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from rankrepro import phases
from rankrepro.phases import COMPUTING, LOADING, START, WAITING, Phases
from tests_support import ROOT


def test_phases_follow_each_other_without_gaps(tmp_path: Path) -> None:
    clock = Phases()
    for phase in (LOADING, COMPUTING):
        clock.enter(phase, "x.arm")
        time.sleep(0.01)
    record = clock.record(tmp_path)
    spans = record["spans"]
    assert [(s["phase"], s["node"]) for s in spans] == [(START, ""), (LOADING, "x.arm"), (COMPUTING, "x.arm")]
    assert all(a["end"] == b["start"] for a, b in pairwise(spans))
    assert spans[0]["start"] == round(clock.born, 3)
    assert record["run"] == 0  # outside of a run nothing waits


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc tells when a process started")
def test_the_start_of_python_counts() -> None:
    code = "import time; time.sleep(0.3); from rankrepro.phases import *; print(time.time() - process_start())"
    before = time.time()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert 0.3 <= float(done.stdout) <= time.time() - before + 0.02  # the kernel counts in steps of 10 ms


def test_waiting_begins_when_the_last_input_is_there(tmp_path: Path) -> None:
    clock = Phases()
    (tmp_path / phases.SESSION).write_text(json.dumps({"started": clock.born - 60}))
    early, late, missing = tmp_path / "early", tmp_path / "late", tmp_path / "missing"
    for file, age in ((early, 50), (late, 20)):
        file.write_text("")
        os.utime(file, (clock.born - age, clock.born - age))
    first = clock.record(tmp_path, [early, late, missing])["spans"][0]
    assert first["phase"] == WAITING
    assert first["end"] - first["start"] == pytest.approx(20, abs=0.01)
    assert clock.record(tmp_path)["spans"][0]["start"] == pytest.approx(clock.born - 60, abs=0.01)


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"started": null}'])
def test_a_torn_session_costs_no_job(tmp_path: Path, torn: str) -> None:
    (tmp_path / phases.SESSION).write_text(torn)
    assert Phases().record(tmp_path)["run"] == 0
