"""Measured seconds: what stored results took, by unit, and the file that plans read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rankrepro import seconds
from rankrepro.cards import SECONDS, Card, load_cards, load_yaml
from rankrepro.errors import ConfigError, StoreError
from rankrepro.plan import make_plan
from rankrepro.store import Store


class Costs(Store):
    """Pretends that results are stored which took what a function of the node's digest says."""

    def __init__(self, spent: Mapping[str, float]) -> None:
        super().__init__(Path("nowhere"))
        self.spent = spent

    def has(self, digest: str) -> bool:
        return digest in self.spent

    def cost(self, digest: str) -> dict[str, Any]:
        return {"cpu_s": self.spent[digest]}


@pytest.fixture(scope="module")
def cards() -> dict[str, Card]:
    everything = load_cards()
    return {key: everything[key] for key in ("baselines", "icr")}


def test_what_is_measured_is_predicted(cards: Mapping[str, Card]) -> None:
    """Store what the plan predicted, measure it, and the plan predicts it again: units cancel out."""
    plan = make_plan(cards, "quick")
    store = Costs({n.digest: n.seconds for n in plan.nodes.values() if n.spec["kind"] != "timing"})
    measured = seconds.measured(cards, "quick", store)
    for key, of_card in measured.items():
        for name, value in of_card.items():
            known = cards[key].seconds
            expected = known["quick"].get(name, known["desk"].get(name))
            if expected is None:  # new, and not run yet: predicted by what is like it
                continue
            assert value == pytest.approx(expected, rel=0.05), f"{key}.{name}"
    assert {"bm25", "embeddings", "rankgpt"} <= measured["baselines"].keys()


def test_results_of_several_benchmarks_weigh_by_their_units(cards: Mapping[str, Card]) -> None:
    plan = make_plan(cards, "quick", ["baselines"])
    nodes = [n for n in plan.nodes.values() if n.name == "baselines.bm25"]
    assert len(nodes) > 1
    store = Costs({n.digest: float(i) for i, n in enumerate(nodes)})
    (value,) = seconds.measured(cards, "quick", store)["baselines"].values()
    units = sum(n.seconds / cards["baselines"].seconds["quick"]["bm25"] for n in nodes)
    assert value == pytest.approx(sum(range(len(nodes))) / units, rel=0.05)


def test_nothing_stored_and_stand_ins_are_refused(cards: Mapping[str, Card]) -> None:
    with pytest.raises(StoreError, match="holds no result of scale quick"):
        seconds.measured(cards, "quick", Costs({}))
    with pytest.raises(ConfigError, match="stand-ins"):
        seconds.measured(cards, "rehearsal", Costs({}))


def test_what_was_not_measured_stays_and_what_is_gone_goes(cards: Mapping[str, Card]) -> None:
    known = {
        "desk": {"icr": {"icr": 6.0}, "gone": {"arm": 1.0}},
        "quick": {"icr": {"icr": 2.0, "original": 1.0, "gone": 1.0}},
    }
    new = {"icr": {"icr": 3.0}, "baselines": {"bm25": 0.1}}
    assert seconds.merged(known, "quick", new, cards) == {
        "desk": {"icr": {"icr": 6.0}},
        "quick": {"icr": {"icr": 3.0, "original": 1.0}, "baselines": {"bm25": 0.1}},
    }


def test_the_file_is_sorted_and_read_again(tmp_path: Path, cards: Mapping[str, Card]) -> None:
    plan = make_plan(cards, "quick", ["baselines"])
    store = Costs({n.digest: 1.0 for n in plan.nodes.values() if n.spec["kind"] != "timing"})
    (tmp_path / SECONDS).write_text("quick: {icr: {icr: 2.0}}\n")
    file, count = seconds.update(cards, "quick", store, tmp_path)
    written = load_yaml(file)
    assert written["quick"]["icr"] == {"icr": 2.0} and count == len(written["quick"]["baselines"])
    assert list(written["quick"]["baselines"]) == sorted(written["quick"]["baselines"])
    assert seconds.write(written, tmp_path).read_text() == file.read_text()
