"""What is registered: what a verdict depends on, and neither words nor names nor layout."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rankrepro.cards import Card, load_cards
from rankrepro.judge import registration as registry
from rankrepro.judge.registration import claims_commit, git, registration
from rankrepro.plan import load_scale

DESK = load_scale("desk")


def changed(key: str, *path: Any, value: Any) -> dict[str, Card]:
    """The cards, one value of one of them set, or taken out where it is None."""
    cards = load_cards()
    data = json.loads(json.dumps(cards[key].data))
    target = data
    for step in path[:-1]:
        target = target[step] if isinstance(target, list) else target.setdefault(step, {})
    if value is None:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return cards | {key: Card(key, cards[key].file, data, data["arms"])}


def moved(before: Mapping[str, Card], after: Mapping[str, Card], key: str) -> tuple[set[str], set[str]]:
    """The claims whose registered part differs, and those whose words do."""
    then, now = (registration(cards[key], cards, DESK) for cards in (before, after))
    return tuple(
        {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
        for old, new in ((then.claims, now.claims), (then.words, now.words))
    )  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("summary",), "another"),
        (("tables",), []),
        (("arms", "bm25", "seconds"), 77),
        (("scales", "quick", "sample"), {"all": 1}),  # another scale
        (("benchmarks", "quick"), ["lint/rules"]),
        (("arms", "bm25", "params", "gone"), 3),  # which the function does not take
    ],
)
def test_what_no_verdict_depends_on(path: tuple, value: Any) -> None:
    assert moved(load_cards(), changed("baselines", *path, value=value), "baselines") == (set(), set())


def test_words_have_a_hash_of_their_own() -> None:
    after = changed("icr", "claims", 0, "sentence", value="In other words.")
    assert moved(load_cards(), after, "icr") == (set(), {"icr-quality"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("min_effect", 0.5),
        ("measure", "RR"),
        ("expr", "m(full) - m(baselines.bm25)"),
        ("guard", "m(baselines.rankgpt) - m(baselines.random)"),
        ("combine", "all_of"),
        ("over", ["vital/fever"]),
        ("where", "several_relevant"),
        ("kind", "share"),
        ("role", "placebo"),
    ],
)
def test_a_claim_that_is_changed_moves_alone(key: str, value: Any) -> None:
    assert moved(load_cards(), changed("icr", "claims", 0, key, value=value), "icr")[0] == {"icr-quality"}


def test_an_arm_moves_the_claims_that_read_it_however_far() -> None:
    cards = load_cards()
    every = {c["id"] for c in cards["icr"].claims}
    original, _ = moved(cards, changed("icr", "arms", "original", "params", "passage_tokens", value=39), "icr")
    assert original == {"icr-latency", "icr-latency.forced", "icr-reversed-order"}
    bm25, _ = moved(cards, changed("baselines", "arms", "bm25", "params", "k1", value=1.2), "icr")
    assert bm25 == every  # everything re-ranks its candidates
    seeds, _ = moved(cards, changed("baselines", "arms", "random", "seeds", value=[7]), "icr")
    assert seeds < every and "icr-over-bm25" in seeds  # its guard has random order for a floor


def test_a_name_is_no_part_of_it() -> None:
    cards = load_cards()
    data = copy.deepcopy(dict(cards["icr"].data))
    text = json.dumps(data).replace("original_order", "as_given").replace('"minilm"', '"encoder_control"')
    data = json.loads(text.replace('"icr.icr"', '"elsewhere_now.icr"'))
    after = cards | {"icr": Card("icr", cards["icr"].file, data, data["arms"])}
    assert moved(cards, after, "icr")[0] == set()


def test_parameters_in_common_are_those_of_each_arm() -> None:
    """A parameter that is given for the function, for all, or for each arm is the same parameter."""
    cards = load_cards()
    data = json.loads(json.dumps(cards["icr"].data))
    data["params"]["all"] |= data["params"].pop("icr.icr")
    assert moved(cards, cards | {"icr": Card("icr", cards["icr"].file, data, data["arms"])}, "icr")[0] == set()
    instruction = data["params"]["all"].pop("instruction")
    for name in ("icr", "original"):
        data["arms"][name]["params"]["instruction"] = instruction
    assert moved(cards, cards | {"icr": Card("icr", cards["icr"].file, data, data["arms"])}, "icr")[0] == set()


BEFORE_FLOORS = "c7155da"  # the last commit at which placebos named no floor


@pytest.mark.parametrize(("key", "commit"), [("lost", "80d9d09"), ("first", "c01c2b2"), ("mw_loss", "1cee8df")])
def test_the_commit_that_registered_a_card(key: str, commit: str) -> None:
    """What stood registered at a commit, through moves of files and changes of form, since an earlier one."""
    if not git("rev-parse", "--verify", f"{BEFORE_FLOORS}^{{commit}}"):
        pytest.skip("no git history here: registration was not tested against it")
    then = registry.registered_at(BEFORE_FLOORS, key, "desk")
    assert then is not None
    line = [
        c.id for c, at in registry.lineage(load_cards()[key], "desk") if at is not None and at.claims == then.claims
    ]
    assert line[-1].startswith(commit)


def test_a_floor_is_registered() -> None:
    """A card whose placebos are given floors stands anew, and the history names the placebos."""
    if not git("rev-parse", "--verify", f"{BEFORE_FLOORS}^{{commit}}"):
        pytest.skip("no git history here: registration was not tested against it")
    for key in ("baselines", "anyloss", "lost", "first", "icr", "superglobal"):  # mw_loss is another card since
        then, cards = registry.registered_at(BEFORE_FLOORS, key, "desk"), load_cards()
        now = registration(cards[key], cards, DESK)
        assert then is not None
        moved_now = {name for name in now.claims if now.claims[name] != then.claims.get(name)}
        placebos = {c["id"] for c in cards[key].claims if c.get("role") == "placebo"}
        assert placebos <= moved_now
        assert "Floors of the placebos were added" in cards[key].notes or "The floor of the placebo" in cards[key].notes


def test_a_card_that_is_not_committed_is_registered_by_none(tmp_path: Path) -> None:
    after = changed("icr", "claims", 0, "min_effect", value=0.5)
    assert claims_commit(after["icr"], after, "desk") is None
    card = load_cards()["icr"]
    outside = Card("icr", tmp_path / "icr.yaml", card.data, card.arms)
    assert claims_commit(outside, load_cards(), "desk") is None


def test_what_history_cannot_be_read_registers_nothing() -> None:
    assert registry.registered_at("0" * 40, "icr", "desk") is None
