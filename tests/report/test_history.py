"""What changed in a card, in words, and what git knows of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from rankrepro.cards import ROOT, Card, load_cards
from rankrepro.judge.registration import Registration
from rankrepro.report import history


def test_changes_in_words() -> None:
    before = Registration({"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "1", "c": "1"})
    after = Registration({"a": "2", "b": "1", "d": "1"}, {"a": "2", "b": "2", "d": "1"})
    assert history.differences(before, after) == [
        "claims new: d",
        "claims removed: c",
        "claims changed, or what they compare: a",
        "claims reworded: b",
    ]
    assert history.differences(before, before) == []
    assert history.differences(None, before) == ["first version: 3 claims"]
    many = Registration({str(i): "1" for i in range(8)}, {})
    assert history.differences(Registration({}, {}), many) == ["claims new: 0, 1, 2, 3, 4, 5 and 2 more"]


def test_a_card_outside_the_repository_has_no_history(tmp_path: Path) -> None:
    card = load_cards()["icr"]
    assert history.changes(Card("icr", tmp_path / "icr.yaml", card.data), "desk") is None


def test_the_history_of_a_card_of_this_repository() -> None:
    git = shutil.which("git")
    log = git and subprocess.run(
        [git, "-C", str(ROOT), "log", "--format=%H", "--", ":(glob)papers/**/baselines.yaml"],
        capture_output=True,
        text=True,
    )
    if not log or log.returncode or not log.stdout.strip():
        pytest.skip("no git history here: the history of claims was not tested against it")
    touched = log.stdout.split()
    changes = history.changes(load_cards()["baselines"], "desk")
    assert changes
    assert [c.commit for c in changes] == [c for c in touched if c in {f.commit for f in changes}]  # newest first
    assert changes[-1].what[0].startswith("first version")
    assert all(c.what and c.worded == all("reworded" in w for w in c.what) for c in changes)
