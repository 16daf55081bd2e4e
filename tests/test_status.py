"""The status line reads what killed runs and full disks leave."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from rankrepro import status
from rankrepro.plan import Job, Plan
from rankrepro.status import Status


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jobs").mkdir()
    return tmp_path


def plan_of(*ids: str) -> Plan:
    plan = Plan({"scale": "quick"}, ["toy"])
    for i in ids:
        plan.jobs[i] = Job(i, [], [], [], [], 1, 60.0)
    return plan


@pytest.mark.parametrize("text", ["", '{"started": 17', "null", "[]", "{}", '{"started": "x", "ended": 1}'])
def test_a_torn_marker_does_not_stop_the_status_line(folder: Path, text: str) -> None:
    (folder / "jobs" / "a.done").write_text(text)
    now = time.time() + 60
    (folder / "jobs" / "b.done").write_text(json.dumps({"started": now, "ended": now + 30}))
    line = Status(folder, plan_of("a", "b", "c")).line()
    assert "2/3 jobs" in line and "about 1 min left" in line


def test_a_full_disk_is_named_though_no_log_could_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Status(folder, plan_of())
    made.failures()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(status, "FULL", 1 << 60)
    made.failures()
    assert "StoreError: no space left for" in capsys.readouterr().err
