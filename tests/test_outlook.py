"""What claims will stand on: units told from cards, and the effect that required_n's formula gives back."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from rankrepro.cards import Card, load_cards
from rankrepro.judge.statistics import required_n
from rankrepro.outlook import Stand, stands, units_of
from rankrepro.plan import make_plan
from tests_support import ROOT


def test_units_are_those_of_the_splits_and_the_sample() -> None:
    plan = make_plan(load_cards(), "desk", ["baselines"])

    def units(row: str, benchmark: str) -> int:
        return units_of(plan.nodes[plan.rows[row][benchmark][0][1]].spec)

    assert units("baselines.bm25", "vital/fever") == 535 + 319  # train and test, not validation
    assert units("baselines.bm25", "nq/passages") == 1761  # of which the card asks the test questions alone
    sample = load_cards()["baselines"].at("desk")["sample"]
    assert units("baselines.pointwise", "vital/fever") == sample["llm"]["default"]
    assert units("baselines.rankgpt_free", "lint/rules") == sample["free"]
    tabular = make_plan(load_cards(), "quick", ["anyloss"])
    assert all(units_of(node.spec) > 0 for node in tabular.nodes.values())


PLACEBO = {
    "id": "p",
    "sentence": "s",
    "role": "placebo",
    "expr": "m(dense_decoy) - m(bm25)",
    "floor": 0,
    "over": ["vital/fever"],
}


def of_baselines(claim: dict, scale: str = "desk", measured: dict | None = None, **more: object) -> list[Stand]:
    """One claim in the place of the baselines' own."""
    cards = load_cards()
    scales = cards["baselines"].data["scales"]
    sample = scales["desk"]["sample"] | {"llm": {"default": 60, "vital/fever": 100}}
    where = scales["desk"]["benchmarks"] | {"pointwise": ["vital/fever", "vital/climate-fever"]}
    data = {
        **cards["baselines"].data,
        "scales": scales | {"desk": scales["desk"] | {"sample": sample, "benchmarks": where}},
        "claims": [{"id": "c", "sentence": "s", "over": ["vital/fever"], **claim}, PLACEBO],
        **more,
    }
    card = Card("baselines", cards["baselines"].file, data, data["arms"])
    plan = make_plan(cards | {"baselines": card}, scale, ["baselines"])
    return [stand for stand in stands(card, plan, measured, spread=0.3) if stand.claim == "c"]


DIFFERENCE = {"kind": "superiority", "expr": "m(pointwise) - m(bm25)"}


def near(value: float) -> object:
    """What a formula for normal, known spreads gives, up to t quantiles and the drawing of runs."""
    return pytest.approx(value, rel=0.06)


def test_a_claim_stands_on_the_units_both_arms_have() -> None:
    (stand,) = of_baselines(DIFFERENCE)
    assert (stand.n, stand.source, stand.level, stand.wanted) == (100, "assumed", 0.05, 0.01)
    assert stand.at_best == near(0.3 * (1.959964 + 0.841621) / 10) and stand.decidable
    assert stand.needed == required_n(0.3, 0.01, 0.05)


def test_where_nothing_is_measured_a_range_is_said() -> None:
    """100 queries in about 75 clusters, whose members may have much in common."""
    (stand,) = of_baselines(DIFFERENCE)
    assert stand.clusters is not None and 70 < stand.clusters < 80
    assert stand.at_best and stand.detectable
    assert stand.detectable / stand.at_best == near(math.sqrt(1 + (100 / stand.clusters - 1) * 0.3))


def test_kinds_have_their_own_spread_null_and_target() -> None:
    (share,) = of_baselines({**DIFFERENCE, "kind": "share", "bound": 0.6, "min_effect": 0.05})
    assert (share.source, share.wanted) == ("binomial", 0.65)
    assert share.at_best == pytest.approx(0.6 + math.sqrt(0.6 * 0.4) * 2.801585 / 10, abs=0.01)
    (no_worse,) = of_baselines({**DIFFERENCE, "kind": "noninferiority", "margin": 0.1})
    assert no_worse.wanted == -0.1 and no_worse.at_best == near(-0.1 + 0.0840476) and no_worse.decidable
    (equal,) = of_baselines({**DIFFERENCE, "kind": "equivalence", "margin": 0.2})
    assert equal.at_best == near(0.3 * (1.959964 + 1.644854) / 10)  # 90 % within a margin on both sides
    (ratio,) = of_baselines({"kind": "ratio", "expr": "m(pointwise) / m(bm25)"})
    assert ratio.detectable is None and "measured first" in ratio.note and ratio.n == 100
    (placebo,) = of_baselines({**DIFFERENCE, "role": "placebo", "floor": 0})
    assert placebo.level == 0.001
    (vague,) = of_baselines({"over": "all"})
    assert vague.note == "not specified yet"


def test_what_cannot_be_decided_is_named() -> None:
    for kind in ("equivalence", "noninferiority"):
        (small,) = of_baselines({**DIFFERENCE, "kind": kind, "margin": 0.01})
        assert not small.decidable and "its margin is 0.01, and 0." in small.note
    (all_won,) = of_baselines({**DIFFERENCE, "kind": "share", "bound": 0.9, "min_effect": 0.05})
    assert not all_won.decidable and "would have to be won" in all_won.note
    part = {"benchmark": "vital/fever", "ci": [-0.1, 0.1], "n": 100, "clusters": 5, "unit_sd": 0.3, "seed_sd": None}
    (few,) = of_baselines(DIFFERENCE, measured=judged_before(part))
    assert not few.decidable and "5 clusters of units; no verdict" in few.note
    (flips,) = of_baselines(
        {**DIFFERENCE, "role": "placebo", "floor": 0}, measured=judged_before(part | {"clusters": 8})
    )
    assert not flips.decidable and "no p of 8 clusters is below 0.0039, the level is 0.001" in flips.note


def test_a_measure_of_a_whole_model_has_one_unit() -> None:
    cards = load_cards()
    data = cards["mw_loss"].data
    steps = {"id": "steps", "sentence": "s", "measure": "StepsToBest", "expr": "m(mw_steps) - m(cl_steps)"}
    claims = [*data["claims"], steps | {"kind": "superiority", "over": ["nq/passages"], "min_effect": 1}]
    card = replace(cards["mw_loss"], data={**data, "claims": claims})
    plan = make_plan(cards | {"mw_loss": card}, "desk", ["mw_loss"])
    stand = next(s for s in stands(card, plan, None, 0.3) if s.claim == "steps")
    assert (stand.n, stand.decidable) == (1, False) and "a single unit" in stand.note


def test_the_plan_prints_ranges_and_names_what_cannot_be_decided(capsys: pytest.CaptureFixture[str]) -> None:
    from rankrepro.cli import plan as command

    cards = load_cards()
    command._claims(cards, make_plan(cards, "desk", ["mw_loss"]), "desk", 0.3, False, ROOT / "no-reports")
    said = capsys.readouterr().out
    assert "cannot be decided at this n: " in said and "mw_loss: mw-rank-noninferior" in said.split("at this n: ")[1]
    assert re.search(r"mw-auc +nq/passages .* 0\.\d+ to 0\.\d+", said)


def test_a_benchmark_alone_does_not_decide_a_mean() -> None:
    part = {"benchmark": "vital/fever", "ci": [-0.1, 0.1], "n": 100, "clusters": 5, "unit_sd": 0.3, "seed_sd": None}
    two = {**DIFFERENCE, "over": ["vital/fever", "vital/climate-fever"]}
    *_, macro = of_baselines({**two, "combine": "macro"}, measured=judged_before(part))
    few, _, every = of_baselines({**two, "combine": "all_of"}, measured=judged_before(part))
    assert macro.decidable and not few.decidable and not every.decidable


def judged_before(*parts: dict) -> dict:
    return {"papers": {"baselines": {"claims": [{"id": "c", "per_benchmark": list(parts)}]}}}


def test_several_benchmarks() -> None:
    over = {"over": ["vital/fever", "vital/climate-fever", "stdlib/code"]}
    a, b, code = of_baselines({**DIFFERENCE, **over, "combine": "any_of"})
    assert a.level == b.level == pytest.approx(0.05 / 3)
    assert (a.n, b.n) == (100, 60) and code.note == "baselines.pointwise does not run there"
    two = {**DIFFERENCE, "over": ["vital/fever", "vital/climate-fever"]}
    *parts, macro = of_baselines({**two, "combine": "macro"})
    assert macro.benchmark == "macro" and macro.n == 160
    assert macro.at_best == near(2.801585 * 0.3 * math.sqrt(1 / 100 + 1 / 60) / 2)
    assert macro.detectable < min(p.detectable for p in parts)
    *parts, every = of_baselines({**two, "combine": "all_of"})
    assert every.benchmark == "all_of" and every.detectable > max(p.detectable for p in parts)
    *parts, some = of_baselines({**two, "combine": "any_of"})
    assert some.benchmark == "any_of" and some.detectable < min(p.detectable for p in parts)


def test_what_was_measured_beats_an_assumption() -> None:
    part = {"benchmark": "vital/fever", "ci": [-0.1, 0.1], "n": 25, "clusters": 20}
    (stand,) = of_baselines(DIFFERENCE, measured=judged_before(part))
    assert stand.source == "measured" and stand.sd == pytest.approx(0.1 / 1.959964 * 5, rel=1e-5)
    assert stand.at_best is None and stand.clusters == 80
    (other,) = of_baselines({**DIFFERENCE, "over": ["vital/climate-fever"]}, measured=judged_before(part))
    assert other.source == "measured elsewhere" and other.sd == stand.sd
    said = part | {"unit_sd": 0.2, "seed_sd": None}
    (told,) = of_baselines(DIFFERENCE, measured=judged_before(said))
    assert told.sd == 0.2 and told.detectable == near(0.2 * 2.801585 / 10)
    assert of_baselines(DIFFERENCE, measured=judged_before(part | {"ci": [None, 0.1]}))[0].source == "assumed"


def test_every_claim_of_every_card_has_a_line() -> None:
    cards = load_cards()
    for scale in ("quick", "desk", "paper"):
        plan = make_plan(cards, scale)
        for key in plan.papers:
            found = stands(cards[key], plan, None, 0.3)
            assert {s.claim for s in found} == {c["id"] for c in cards[key].claims}
            assert all(s.note or s.detectable is not None for s in found)
