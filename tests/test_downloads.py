"""What a scale will download is known, and said, before it starts."""

from __future__ import annotations

from pathlib import Path

from rankrepro import artifacts, downloads
from rankrepro.cards import load_cards
from rankrepro.plan import make_plan


def test_all_of_it_into_an_empty_cache_and_nothing_of_it_twice(tmp_path: Path) -> None:
    plan = make_plan(load_cards(), "quick", "icr")
    ahead = downloads.missing(plan, tmp_path)
    assert {a.id for a in ahead} == downloads.needed(plan) >= {"smollm2-135m-instruct", "vital-articles"}
    assert [a.size for a in ahead] == sorted((a.size for a in ahead), reverse=True)
    assert downloads.summary(plan, tmp_path).startswith(f"to download to {tmp_path}: ")
    smallest = artifacts.fetch(ahead[-1], tmp_path)
    left = downloads.missing(plan, tmp_path)
    assert left == ahead[:-1] and smallest.name not in downloads.summary(plan, tmp_path)


def test_quick_stays_small(tmp_path: Path) -> None:
    plan = make_plan(load_cards(), "quick")
    assert sum(a.size for a in downloads.missing(plan, tmp_path)) <= 750e6


def test_a_rehearsal_downloads_no_model_of_the_hub(tmp_path: Path) -> None:
    plan = make_plan(load_cards(), "rehearsal", "icr")
    catalogue = artifacts.load_catalogue()
    assert any(catalogue[a].source == "hub" for a in downloads.needed(plan))
    assert not any(a.source == "hub" for a in downloads.missing(plan, tmp_path))
