"""What claims will stand on: units told from cards, and the effect that required_n's formula gives back."""

from __future__ import annotations

import math

import pytest

from rankrepro.cards import Card, load_cards
from rankrepro.judge.statistics import required_n
from rankrepro.outlook import Stand, detectable, stands, units_of
from rankrepro.plan import make_plan


@pytest.mark.parametrize("sd", [0.05, 0.3, 1.2])
@pytest.mark.parametrize("alpha", [0.05, 0.005])
@pytest.mark.parametrize("power", [0.8, 0.9])
def test_detectable_inverts_required_n(sd: float, alpha: float, power: float) -> None:
    for n in (10, 60, 854):
        effect = detectable(sd, n, alpha, power)
        assert effect is not None
        assert required_n(sd, effect * 1.0001, alpha, power) == n
        assert required_n(sd, effect * 0.98, alpha, power) > n  # type: ignore[operator]


def test_detectable_needs_two_units_and_a_spread() -> None:
    assert detectable(0.3, 1, 0.05) is None
    assert detectable(math.inf, 10, 0.05) is None


def test_units_are_those_of_the_splits_and_the_sample() -> None:
    plan = make_plan(load_cards(), "desk", ["baselines"])

    def units(row: str, benchmark: str) -> int:
        return units_of(plan.nodes[plan.rows[row][benchmark][0][1]].spec)

    assert units("baselines.bm25", "vital/fever") == 535 + 319  # train and test, not validation
    assert units("baselines.pointwise", "vital/fever") == 100
    assert units("baselines.rankgpt_free", "lint/rules") == 16
    tabular = make_plan(load_cards(), "quick", ["anyloss"])
    assert all(units_of(node.spec) > 0 for node in tabular.nodes.values())


PLACEBO = {"id": "p", "sentence": "s", "role": "placebo", "expr": "m(dense_decoy) - m(bm25)", "over": ["vital/fever"]}


def of_baselines(claim: dict, scale: str = "desk", measured: dict | None = None, **more: object) -> list[Stand]:
    """One claim in the place of the baselines' own."""
    cards = load_cards()
    data = {
        **cards["baselines"].data,
        "claims": [{"id": "c", "sentence": "s", "over": ["vital/fever"], **claim}, PLACEBO],
        **more,
    }
    card = Card("baselines", cards["baselines"].file, data, data["arms"])
    plan = make_plan(cards | {"baselines": card}, scale, ["baselines"])
    return [stand for stand in stands(card, plan, measured, spread=0.3) if stand.claim == "c"]


DIFFERENCE = {"kind": "superiority", "expr": "m(pointwise) - m(bm25)"}


def test_a_claim_stands_on_the_units_both_arms_have() -> None:
    (stand,) = of_baselines(DIFFERENCE)
    assert (stand.n, stand.source, stand.level, stand.wanted) == (100, "assumed", 0.05, 0.01)
    assert stand.detectable == pytest.approx(0.3 * (1.959964 + 0.841621) / 10, rel=1e-5)
    assert stand.needed == required_n(0.3, 0.01, 0.05)


def test_kinds_have_their_own_spread_null_and_target() -> None:
    (share,) = of_baselines({**DIFFERENCE, "kind": "share", "bound": 0.6, "min_effect": 0.05})
    assert (share.source, share.wanted) == ("binomial", 0.65)
    assert share.detectable == pytest.approx(0.6 + math.sqrt(0.6 * 0.4) * 2.801585 / 10, rel=1e-5)
    (no_worse,) = of_baselines({**DIFFERENCE, "kind": "noninferiority", "margin": 0.02})
    assert no_worse.wanted == -0.02 and no_worse.detectable == pytest.approx(-0.02 + 0.0840476, rel=1e-4)
    (equal,) = of_baselines({**DIFFERENCE, "kind": "equivalence", "margin": 0.02})
    assert equal.detectable == pytest.approx(0.3 * (1.959964 + 1.281552) / 10, rel=1e-5)
    (ratio,) = of_baselines({"kind": "ratio", "expr": "m(pointwise) / m(bm25)"})
    assert ratio.detectable is None and "measured first" in ratio.note and ratio.n == 100
    (placebo,) = of_baselines({**DIFFERENCE, "role": "placebo"})
    assert placebo.level == 0.001
    (vague,) = of_baselines({"over": "all"})
    assert vague.note == "not specified yet"


def test_several_benchmarks() -> None:
    over = {"over": ["vital/fever", "vital/climate-fever", "stdlib/code"]}
    a, b, code = of_baselines({**DIFFERENCE, **over, "combine": "any_of"})
    assert a.level == b.level == pytest.approx(0.05 / 3)
    assert (a.n, b.n) == (100, 60) and code.note == "baselines.pointwise does not run there"
    *parts, macro = of_baselines({**DIFFERENCE, "over": ["vital/fever", "vital/climate-fever"], "combine": "macro"})
    assert macro.benchmark == "macro" and macro.n == 160
    se = 0.3 * math.sqrt(1 / 100 + 1 / 60) / 2
    assert macro.detectable == pytest.approx(2.801585 * se, rel=1e-5)
    assert macro.detectable < min(p.detectable for p in parts)


def test_a_measured_interval_beats_an_assumption() -> None:
    part = {"benchmark": "vital/fever", "ci": [-0.1, 0.1], "n": 25}
    measured = {"papers": {"baselines": {"claims": [{"id": "c", "per_benchmark": [part]}]}}}
    (stand,) = of_baselines(DIFFERENCE, measured=measured)
    assert stand.source == "measured" and stand.sd == pytest.approx(0.1 / 1.959964 * 5, rel=1e-5)
    (other,) = of_baselines({**DIFFERENCE, "over": ["vital/climate-fever"]}, measured=measured)
    assert other.source == "measured elsewhere" and other.sd == stand.sd
    part["ci"] = [None, 0.1]
    assert of_baselines(DIFFERENCE, measured=measured)[0].source == "assumed"


def test_every_claim_of_every_card_has_a_line() -> None:
    cards = load_cards()
    for scale in ("quick", "desk", "paper"):
        plan = make_plan(cards, scale)
        for key in plan.papers:
            found = stands(cards[key], plan, None, 0.3)
            assert {s.claim for s in found} == {c["id"] for c in cards[key].claims}
            assert all(s.note or s.detectable is not None for s in found)
