"""What changed in a card, in words, and what git knows of it."""

from __future__ import annotations

import copy
import shutil
import subprocess
from pathlib import Path

import pytest

from rankrepro.cards import ROOT, Card, load_cards
from rankrepro.report import history


def test_changes_in_words() -> None:
    before = dict(load_cards()["icr"].data)
    after = copy.deepcopy(before)
    after["claims"] = [c for c in after["claims"] if c["id"] != "icr-quality"]
    after["claims"][0]["sentence"] = "another"
    after["arms"]["new_arm"] = {"fn": "icr.icr"}
    after["benchmarks"]["desk"] = ["vital/fever"]
    after["summary"] = "not registered"
    words = history._differences(before, after, "desk")
    assert words == [
        "claims removed: icr-quality",
        f"claims changed: {after['claims'][0]['id']}",
        "arms new: new_arm",
        "benchmarks of scale desk changed",
    ]
    assert history._differences(before, before, "desk") == []


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
    found = history.changes(load_cards()["baselines"], "desk")
    assert found
    assert [c.commit for c in found] == [c for c in touched if c in {f.commit for f in found}]  # newest first
    assert found[-1].what[0].startswith("first version")
    assert all(c.what for c in found)
