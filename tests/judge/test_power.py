"""What a claim will find: formulas where they are known, and the order of combinations."""

import pytest
from scipy import stats

from rankrepro.judge.power import Spread, detectable, detectable_share

WIDE = Spread.of(0.3, 400, 400)


def test_known_spreads_give_the_textbooks_effect():
    assert detectable([WIDE], "all_of", 0.05) == pytest.approx(2.8016 * 0.3 / 20, rel=0.04)
    assert detectable([WIDE], "all_of", 0.05, power=0.9) == pytest.approx(3.2415 * 0.3 / 20, rel=0.04)
    least = detectable([WIDE], "all_of", 0.05, direction=0, null=0.1, power=0.9)
    assert least == pytest.approx((1.96 + 1.6449) * 0.3 / 20, rel=0.04)  # 90 % of errors within it, on both sides
    assert detectable([WIDE], "all_of", 0.05, null=1.0, direction=-1) == pytest.approx(1 - 2.8016 * 0.3 / 20, rel=0.04)


def test_the_effect_that_is_seen_must_reach_the_target_too():
    assert detectable([WIDE], "all_of", 0.05, target=0.2) == pytest.approx(0.2 + 0.8416 * 0.3 / 20, rel=0.02)


def test_combinations_and_seeds_cost_what_they_cost():
    def shown(combine, parts, level=0.01):
        return detectable(parts, combine, level)

    part, trained = Spread.of(0.3, 90, 15), Spread.of(0.3, 90, 15, 0.05, 3)
    assert shown("any_of", [part] * 4) < shown("all_of", [part]) < shown("all_of", [part] * 4)
    assert shown("all_of", [Spread.macro([part] * 4)]) == pytest.approx(shown("all_of", [part]) / 2, rel=0.15)
    assert shown("all_of", [trained]) > 1.5 * shown("all_of", [part])
    assert shown("all_of", [part]) > 1.05 * shown("all_of", [Spread.of(0.3, 90, 90)])  # of 15 clusters less is known


def test_nothing_is_promised_where_no_verdict_is_given():
    few = Spread.of(0.3, 90, 5)
    assert detectable([WIDE, few], "all_of", 0.05) is None and detectable([few], "any_of", 0.05) is None
    assert detectable([WIDE, few], "any_of", 0.05) == pytest.approx(detectable([WIDE], "all_of", 0.025), rel=0.01)
    assert detectable([Spread.macro([few, few])], "macro", 0.05) is not None  # ten in all


def test_a_share_is_exact():
    shown = detectable_share([40], "all_of", 0.05, 0.5, 0.51)
    least = next(w for w in range(41) if stats.binomtest(w, 40).proportion_ci(0.95, "exact").low > 0.5)
    assert stats.binom.sf(least - 1, 40, shown) == pytest.approx(0.8, abs=0.02)
    assert detectable_share([5], "all_of", 0.05, 0.5, 0.51) is None  # five of five do not exclude a half
    assert detectable_share([40, 40], "all_of", 0.05, 0.5, 0.51) > shown
