import json

import numpy as np
import pytest
from scipy import stats

from rankrepro.claims import parse
from rankrepro.errors import ClaimError
from rankrepro.judge.claims import judge_claims
from rankrepro.report import sentences


class World:
    """Values per (arm, benchmark) as the judge would look them up: [seeds, units], unit i in cluster i."""

    def __init__(self, **arms):
        self.arms = {f"p.{arm}": v if isinstance(v, dict) else {"b1": v} for arm, v in arms.items()}

    def __call__(self, arm, benchmark, measure):
        values = np.atleast_2d(self.arms[arm][benchmark])
        rows = {f"u{i}": values[:, i].tolist() for i in range(values.shape[1])}
        return rows, {u: u for u in rows}

    def judge(self, *claims, benchmarks=("b1",), **kwargs):
        filled = [parse({"id": f"c{i}", "sentence": "So.", **c}, "p") for i, c in enumerate(claims)]
        results = judge_claims(filled, self, benchmarks=benchmarks, **kwargs)
        json.dumps(results, allow_nan=False)
        return results if len(results) > 1 else results[0]


def noise(seed, effect=0.0, n=200, sd=0.1):
    return np.random.default_rng(seed).normal(effect, sd, n)


BASE = noise(0, 0.5)
TIMED = {"name": "t", "a": "p.a", "b": "p.b", "benchmark": "b1"}
UP = {"kind": "superiority", "expr": "m(a) - m(b)"}


# --- kinds -----------------------------------------------------------------------------------------------------------


def test_superiority():
    r = World(a=BASE + noise(1, 0.05), b=BASE).judge(UP)
    assert (r["verdict"], r["n"], r["clusters"], r["seeds"], r["benchmark"]) == ("reproduced", 200, 200, 1, "b1")
    assert r["ci"][0] < r["effect"] < r["ci"][1] and r["p"] == r["p_holm"] < 0.001 and r["p_permutation"] < 0.001
    assert r["needed_n"] is None and r["min_effect"] == 0.01


def test_significant_but_below_min_effect_is_not_reproduced():
    r = World(a=BASE + 0.002 + noise(1, 0, sd=0.001), b=BASE).judge(UP)
    assert r["p"] < 0.001 and r["effect"] == pytest.approx(0.002, abs=3e-4) and r["verdict"] == "not reproduced"


def test_significant_but_perhaps_below_min_effect_is_inconclusive():
    spread = noise(1, sd=0.02)
    r = World(a=BASE + 0.008 + spread - spread.mean(), b=BASE).judge(UP)
    assert r["ci"][0] > 0 and r["effect"] < 0.01 < r["ci"][1] and r["p"] < 0.001
    assert r["verdict"] == "inconclusive" and r["needed_n"] is None  # more units would not change what they show


def test_identical_arms():
    r = World(a=BASE, b=BASE).judge(UP)
    assert (r["effect"], r["ci"], r["p"], r["verdict"], r["p_permutation"]) == (0, [0, 0], 1, "not reproduced", 1)


def test_inconclusive_states_the_n_it_would_need():
    r = World(a=BASE + noise(1, 0.01), b=BASE).judge(UP)
    assert r["verdict"] == "inconclusive"
    assert r["needed_n"] == pytest.approx((2.8016 * 0.1 / 0.01) ** 2, rel=0.15)


def test_what_the_units_could_have_shown():
    """n = 200 and sd = 0.1 find 2.8 standard errors with a power of 80 %; half the spread, half the effect."""
    r = World(a=BASE + noise(1, 0.01), b=BASE).judge(UP | {"min_effect": 0.001})
    assert r["detectable"] == pytest.approx(2.8016 * 0.1 / 200**0.5, rel=0.1)
    assert r["terms"] == [["p.a", "nDCG@10"], ["p.b", "nDCG@10"]] and r["where"] is None and r["n_effective"] == 200
    half = World(a=BASE + noise(1, 0.01) / 2, b=BASE).judge(UP | {"min_effect": 0.001})
    assert half["detectable"] == pytest.approx(r["detectable"] / 2, abs=1e-5)
    least = World(a=BASE + noise(1, 0.01) / 2, b=BASE).judge(UP | {"min_effect": 0.02})
    # the effect that is seen must reach min_effect too
    assert least["detectable"] == pytest.approx(0.02 + 0.8416 * 0.05 / 200**0.5, rel=0.02)
    least = World(a=BASE + noise(1, 0), b=BASE).judge(UP | {"kind": "equivalence", "margin": 0.05})
    assert least["detectable"] == pytest.approx(3.2415 * 0.1 / 200**0.5, rel=0.1)
    share = World(a=BASE + noise(1, 0.1), b=BASE).judge(UP | {"kind": "share"})
    assert share["detectable"] == pytest.approx(0.5 + 2.8016 * 0.5 / 200**0.5, abs=0.005)  # exact, not normal
    measured = TIMED | {"ratio": 0.5, "ci": [0.4, 0.625], "sound": True, "n": 50}
    timed = World().judge({"kind": "ratio", "timing": "t"}, timings={"t": measured})
    assert timed["detectable"] == pytest.approx((0.625 / 0.4) ** (-2.8016 / (2 * 1.96)), rel=0.01)


def test_noninferiority_and_equivalence():
    near = World(a=BASE + noise(1, 0, sd=0.02), b=BASE)
    for kind in ("noninferiority", "equivalence"):
        assert near.judge(UP | {"kind": kind, "margin": 0.02})["verdict"] == "reproduced"
        assert near.judge(UP | {"kind": kind, "margin": 0.0005})["verdict"] == "inconclusive"
    below, above = (World(a=BASE + noise(1, d, sd=0.02), b=BASE) for d in (-0.05, 0.05))
    assert below.judge(UP | {"kind": "noninferiority", "margin": 0.02})["verdict"] == "not reproduced"
    assert above.judge(UP | {"kind": "noninferiority", "margin": 0.02})["verdict"] == "reproduced"
    for world in (below, above):
        r = world.judge(UP | {"kind": "equivalence", "margin": 0.02})
        assert r["verdict"] == "not reproduced" and r["p"] > 0.99  # the larger of the two one-sided tests


def test_ratio():
    claim = {"kind": "ratio", "expr": "m(a) / m(b)", "bound": 0.9}
    for share, verdict in ((0.8, "reproduced"), (1.0, "not reproduced"), (0.9, "inconclusive")):
        r = World(a=share * BASE + noise(1, 0, sd=0.05), b=BASE).judge(claim)
        assert r["effect"] == pytest.approx(share, abs=0.03) and r["verdict"] == verdict
    assert World(a=BASE, b=0 * BASE).judge(claim)["verdict"] == "inconclusive"  # no ratio to speak of


def test_trend():
    world = World(a=BASE, b=BASE + noise(1, 0.03), c=BASE + noise(2, 0.04), d=BASE + noise(3, 0.09))
    means = [v["b1"].mean() for v in world.arms.values()]
    r = world.judge({"kind": "trend", "levels": ["a", "b", "m(c)", "d"]})
    assert r["effect"] == pytest.approx(np.polyfit(range(4), means, 1)[0], abs=1e-6)
    assert r["verdict"] == "reproduced"
    assert world.judge({"kind": "trend", "levels": ["d", "c", "b", "a"]})["verdict"] == "not reproduced"


def test_share():
    win = np.where(np.arange(200) < 150, 0.1, -0.5)
    r = World(a=BASE + win, b=BASE).judge(UP | {"kind": "share", "bound": 0.6})
    assert r["effect"] == 0.75 and r["verdict"] == "reproduced"
    assert World(a=BASE, b=BASE).judge(UP | {"kind": "share"})["effect"] == 0  # a tie is no win


def test_share_of_benchmarks():
    names = [f"b{i}" for i in range(12)]
    world = World(a={n: noise(i, 0.1) for i, n in enumerate(names)}, b={n: noise(50 + i) for i, n in enumerate(names)})
    r = world.judge(UP | {"kind": "share", "combine": "macro"}, benchmarks=names)
    assert (r["effect"], r["n"], len(r["per_benchmark"])) == (1, 12, 12)
    assert r["p"] == pytest.approx(0.5**12, abs=1e-6) and r["verdict"] == "reproduced"


def test_identity_is_never_reproduced_nor_counted():
    r = World(a=BASE + noise(1, 0.05), b=BASE).judge(
        UP, UP | {"kind": "identity"}, {"role": "identity", "test": "tests/x.py"}
    )
    assert [c["verdict"] for c in r] == ["reproduced", "identity", "identity"]
    assert r[0]["p_holm"] == r[0]["p"] and r[1]["p"] is None and r[1]["effect"] > 0 and r[2]["effect"] is None


def test_timings():
    measured = TIMED | {"ratio": 0.5, "ci": [0.4, 0.62], "sound": True, "n": 50}
    claim = {"kind": "ratio", "timing": "t"}
    world = World()
    assert world.judge(claim, timings={"t": measured})["verdict"] == "reproduced"
    slower = measured | {"ratio": 1.5, "ci": [1.2, 1.9]}
    assert world.judge(claim, timings={"t": slower})["verdict"] == "not reproduced"
    unsound = world.judge(claim, timings={"t": measured | {"sound": False, "fault": "an arm against itself"}})
    assert unsound["verdict"] == "inconclusive" and "against itself" in unsound["note"]
    assert world.judge(claim)["verdict"] == "not run"


def test_pooled_measures():
    rng = np.random.default_rng(0)
    blocks = {f"u{i}": [[float(nll), 10.0]] for i, nll in enumerate(rng.normal(30, 3, 60))}
    better = {u: [[nll - 3 + rng.normal(), n]] for u, [[nll, n]] in blocks.items()}
    arms = {"p.a": better, "p.b": blocks}
    claim = {"id": "c", "sentence": "", "expr": "m(a) / m(b)", "kind": "ratio", "measure": "Perplexity", "bound": 0.9}
    lookup = lambda arm, benchmark, measure: (arms[arm], {})  # noqa: E731
    (r,) = judge_claims([parse(claim, "p")], lookup, benchmarks=["b1"], n_boot=1001)
    nats = [np.exp(sum(nll for [[nll, _]] in arm.values()) / 600) for arm in (better, blocks)]
    assert r["effect"] == pytest.approx(nats[0] / nats[1], abs=1e-6) and r["verdict"] == "reproduced"
    with pytest.raises(ClaimError, match="pooled"):
        judge_claims([parse(claim | {"kind": "share"}, "p")], lookup, benchmarks=["b1"])


# --- little data, refutation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 5])
def test_no_verdict_on_fewer_than_six_clusters(n):
    for effect in (0.1, -0.1):
        r = World(a=BASE[:n] + effect, b=BASE[:n]).judge(UP)
        assert r["verdict"] == "inconclusive" and f"{n} clusters of units (b1)" in r["note"]
    placebo = World(a=BASE[:n], b=BASE[:n] + noise(1, n=n)).judge(UP | {"role": "placebo"})
    assert placebo["verdict"] == "inconclusive" and "fewer than 6" in placebo["note"]


def test_one_benchmark_with_few_clusters_blocks_an_all_of_and_not_an_any_of():
    a, b = {"b1": BASE + noise(1, 0.1), "b2": BASE[:4] + 0.1}, {"b1": BASE, "b2": BASE[:4]}
    every, some = World(a=a, b=b).judge(UP, UP | {"combine": "any_of"}, benchmarks=["b1", "b2"])
    assert every["verdict"] == "inconclusive" and "(b2)" in every["note"]
    assert some["verdict"] == "reproduced" and some["note"] is None


def test_p_is_the_larger_of_bootstrap_and_permutation():
    """The same difference on every one of eight units: no spread to speak of, and still only eight units."""
    r = World(a=BASE[:8] + noise(1, 0.1, 8, sd=0.001), b=BASE[:8]).judge(UP)
    assert r["p"] == r["p_permutation"] == pytest.approx(0.5**8, abs=1e-6) and r["per_benchmark"][0]["p"] == r["p"]
    arms = {"a": {b: BASE[:5] + 0.1 for b in ("b1", "b2")}, "b": {b: BASE[:5] for b in ("b1", "b2")}}
    macro = World(**arms).judge(UP | {"combine": "macro"}, benchmarks=["b1", "b2"])
    assert macro["p"] == macro["p_permutation"] == pytest.approx(0.5**10, abs=1e-6)
    margin = {"kind": "noninferiority", "margin": 0.02}
    assert World(a=BASE[:8] + noise(1, 0, 8, sd=0.001), b=BASE[:8]).judge(UP | margin)["p"] == pytest.approx(
        0.5**8, abs=1e-6
    )


def test_a_rate_has_an_exact_interval():
    rate = {"kind": "superiority", "measure": "Success@1", "expr": "m(a)"}
    r = World(a=np.ones(16)).judge(rate)
    assert r["effect"] == 1 and r["ci"] == [pytest.approx(stats.beta.ppf(0.025, 16, 1), abs=1e-6), 1]
    halves = World(a=np.array([0.5, 1] * 8)).judge(rate | {"measure": "MalformedRate"})
    assert (
        halves["effect"] == 0.75 and halves["ci"][0] < stats.binomtest(12, 16).proportion_ci(0.95, "exact").low + 1e-9
    )
    above = World(a=np.clip(BASE, 0, 1)).judge(rate)
    assert above["ci"][1] - above["ci"][0] < 0.05  # no rate: the mean of fractions


def test_intervals_of_bounded_measures_end_at_their_bounds():
    a, b = np.array([0.9, 0.7, 1.0, 0.1]), np.array([0.0, 0.1, 0.0, 0.0])
    some = World(a=a, b=b).judge(UP, verdicts=False)
    assert -1 < some["ci"][0] < some["effect"] and some["ci"][1] == 1
    assert World(a=a[2:], b=b[2:]).judge(UP, verdicts=False)["ci"] == [None, None]  # two queries tell nothing
    seconds = World(a=10 * a, b=b).judge(UP | {"measure": "Seconds"}, verdicts=False)
    assert seconds["ci"][1] > 10  # no measure with an end


def test_refuting_takes_the_level_of_the_card():
    """Below the target by the 95 % interval and not by that of ten claims."""
    spread = noise(1, sd=0.05)
    world = World(a=BASE + spread - spread.mean(), b=BASE)
    alone = world.judge(UP | {"min_effect": 0.008})
    assert alone["ci"][1] < 0.008 and alone["p_refuted"] < 0.05 and alone["verdict"] == "not reproduced"
    ten = world.judge(*[UP | {"min_effect": 0.008} for _ in range(10)])
    assert {c["verdict"] for c in ten} == {"inconclusive"} and ten[0]["p_refuted"] > 0.05
    assert "Against the claim alone, but not after correcting" in sentences.verdict(ten[0], "p", {})


def test_refuting_an_all_of_takes_the_level_of_its_benchmarks():
    names = [f"b{i}" for i in range(10)]
    spread = noise(1, sd=0.05)
    a = {b: BASE + noise(i, 0.05, sd=0.02) for i, b in enumerate(names)} | {"b0": BASE + spread - spread.mean()}
    world = World(a=a, b={b: BASE for b in names})
    claim = UP | {"min_effect": 0.008}
    assert world.judge(claim, benchmarks=["b0"])["verdict"] == "not reproduced"
    assert world.judge(claim, benchmarks=names)["verdict"] == "inconclusive"
    assert world.judge(claim | {"combine": "any_of"}, benchmarks=names)["verdict"] == "reproduced"


def test_what_is_refuted_is_shown_where_it_is_refuted():
    """Of no effect b2 knows least, and its interval reaches the target; b1 excludes it."""
    spread, wide = noise(1, sd=0.01), noise(2, sd=0.7)
    a = {"b1": BASE + spread - spread.mean(), "b2": BASE - 0.03 + wide - wide.mean()}
    r = World(a=a, b={"b1": BASE, "b2": BASE}).judge(UP | {"min_effect": 0.05}, benchmarks=["b1", "b2"])
    rows = {row["benchmark"]: row for row in r["per_benchmark"]}
    assert rows["b2"]["p"] > rows["b1"]["p"] and rows["b2"]["ci"][1] > 0.05
    assert r["verdict"] == "not reproduced" and r["benchmark"] == "b1" and r["ci"][1] < 0.05


# --- several benchmarks, units, guards -------------------------------------------------------------------------------


def test_combinations():
    world = World(a={"b1": BASE + noise(1, 0.05), "b2": BASE + noise(2, 0)}, b={"b1": BASE, "b2": BASE})
    every, some, macro = world.judge(
        UP, UP | {"combine": "any_of"}, UP | {"combine": "macro"}, benchmarks=["b1", "b2"], alpha=0.15
    )
    rows = {row["benchmark"]: row for row in every["per_benchmark"]}
    assert every["benchmark"] == "b2" and every["p"] == rows["b2"]["p"] and every["ci"] == rows["b2"]["ci"]
    assert every["verdict"] != "reproduced"
    assert some["benchmark"] == "b1" and some["p"] == pytest.approx(2 * rows["b1"]["p"], abs=1e-5)
    assert some["verdict"] == "reproduced"
    assert macro["effect"] == pytest.approx((rows["b1"]["effect"] + rows["b2"]["effect"]) / 2, abs=1e-6)
    assert macro["n"] == 400 and macro["verdict"] == "reproduced"


def test_over_names_benchmarks_of_this_scale():
    world = World(a={"b1": BASE + noise(1, 0.05), "b2": BASE}, b={"b1": BASE, "b2": BASE})
    claim = UP | {"over": ["b1", "elsewhere"]}
    assert world.judge(claim, benchmarks=["b1", "b2"])["verdict"] == "reproduced"
    assert world.judge(UP | {"over": ["elsewhere"]})["verdict"] == "not run"
    quick = world.judge(claim, benchmarks=["b1", "b2"], verdicts=False)
    assert quick["verdict"] == "smoke" and len(quick["per_benchmark"]) == 2 and quick["effect"] is not None


def test_units_are_those_all_terms_share():
    r = World(a=BASE[:150] + 0.1, b=BASE).judge(UP)
    assert r["n"] == 150 and r["effect"] == pytest.approx(0.1)


def test_where_restricts_to_tagged_units():
    win = np.where(np.arange(200) < 50, 0.1, 0.0)
    r = World(a=BASE + win, b=BASE).judge(
        UP | {"where": "novel"}, tagged=lambda b, tag: {f"u{i}" for i in range(50)} if tag == "novel" else set()
    )
    assert r["n"] == 50 and r["effect"] == pytest.approx(0.1)
    assert "tagged 'gone'" in World(a=BASE, b=BASE).judge(UP | {"where": "gone"})["note"]


def test_not_run_names_what_is_missing_and_still_counts():
    r = World(a=BASE + noise(1, 0.05), b=BASE).judge(UP, UP | {"expr": "m(a) - m(gone)"})
    assert r[1]["verdict"] == "not run" and r[1]["note"] == "p.gone on b1"
    assert (r[1]["effect"], r[1]["ci"], r[1]["p"], r[1]["p_holm"]) == (None, [None, None], None, None)
    assert r[0]["p_holm"] == pytest.approx(2 * r[0]["p"], abs=1e-5)


def test_a_claim_that_is_only_a_sentence_is_not_run_and_not_counted():
    r = World(a=BASE + noise(1, 0.05), b=BASE).judge(UP, {})
    assert r[1]["verdict"] == "not run" and r[1]["kind"] is None and r[0]["p_holm"] == r[0]["p"]


def test_the_guard_names_a_strawman():
    arms = {"a": BASE + noise(1, 0.05), "b": BASE, "floor": BASE + noise(2)}
    claim = UP | {"guard": "m(b) - m(floor)"}
    r = World(**arms).judge(claim)
    assert r["verdict"] == "baseline not competent" and r["guard"]["passed"] is False
    assert World(**arms | {"floor": BASE - 0.2 + noise(2)}).judge(claim)["verdict"] == "reproduced"
    # what is refuted against a strawman says as little as what is confirmed
    assert World(**arms | {"a": BASE + noise(1, -0.05)}).judge(claim)["verdict"] == "baseline not competent"
    sound = arms | {"floor": BASE - 0.2 + noise(2), "a": BASE + noise(1, -0.05)}
    assert World(**sound).judge(claim)["verdict"] == "not reproduced"
    assert World(a=BASE, b=BASE).judge(claim)["note"] == "p.floor on b1"


def test_the_guard_must_hold_on_every_benchmark():
    world = World(
        a={b: BASE + noise(1, 0.05) for b in ("b1", "b2")},
        b={b: BASE for b in ("b1", "b2")},
        floor={"b1": BASE - 0.3 + noise(2), "b2": BASE + noise(3)},
    )
    r = world.judge(UP | {"guard": "m(b) - m(floor)"}, benchmarks=["b1", "b2"])
    assert r["verdict"] == "baseline not competent" and r["guard"]["benchmark"] == "b2"


def test_placebos():
    placebo = UP | {"role": "placebo"}
    leak = World(a=BASE + noise(1, 0.05), b=BASE).judge(placebo)
    assert leak["verdict"] == "placebo passed" and leak["p_holm"] is None
    assert World(a=BASE + noise(1), b=BASE).judge(placebo)["verdict"] == "placebo failed as it must"
    one_of_two = World(a={"b1": BASE + noise(1, 0.05), "b2": BASE + noise(2)}, b={"b1": BASE, "b2": BASE})
    assert one_of_two.judge(placebo, benchmarks=["b1", "b2"])["verdict"] == "placebo passed"


HALF_LEAK = {"p": BASE - 0.1, "rival": BASE, "random": BASE - 0.4}  # sees half of the truth, and loses to the rival


def test_a_placebo_is_compared_with_its_floor():
    placebo = {"role": "placebo", "expr": "m(p) - m(rival)"}
    arms = {name: v + noise(i, sd=0.05) for i, (name, v) in enumerate(HALF_LEAK.items(), 1)}
    blind = World(**arms).judge(placebo)
    assert blind["verdict"] == "placebo failed as it must" and blind["floor"] is None
    seen = World(**arms).judge(placebo | {"floor": "m(random)"})
    assert seen["verdict"] == "placebo passed" and seen["floor"]["above"] and not seen["floor"]["equal"]
    assert "still it is above its floor: +0.29" in sentences.verdict(seen, "p", {})
    sound = World(**arms | {"p": arms["random"] + noise(9, sd=0.05)}).judge(placebo | {"floor": "m(random)"})
    assert sound["verdict"] == "placebo failed as it must" and sound["floor"]["equal"]
    assert "it is where it must be" in sentences.verdict(sound, "p", {})


def test_a_placebo_that_is_neither_equal_to_its_floor_nor_above_is_inconclusive():
    placebo = {"role": "placebo", "expr": "m(p) - m(rival)", "floor": "m(random)"}
    arms = {name: v + noise(i, sd=0.05) for i, (name, v) in enumerate(HALF_LEAK.items(), 1)}
    low = World(**arms | {"p": arms["random"] - 0.05 + noise(9, sd=0.3)}).judge(placebo)
    assert low["verdict"] == "inconclusive" and not low["floor"]["below"] and low["floor"]["ci"][0] < -0.05
    assert "neither shown to be equal to its floor m(random), within 0.05, nor to lie below it" in low["note"]
    few = World(**{k: v[:12] for k, v in arms.items()} | {"p": arms["random"][:12] + noise(9, n=12, sd=0.2)})
    assert few.judge(placebo)["verdict"] == "inconclusive"
    assert few.judge(placebo | {"margin": 0.5})["verdict"] == "placebo failed as it must"


def test_a_placebo_below_its_floor_has_nothing_to_give():
    placebo = {"role": "placebo", "expr": "m(p) - m(rival)", "floor": "m(random)"}
    arms = {name: v + noise(i, sd=0.05) for i, (name, v) in enumerate(HALF_LEAK.items(), 1)}
    below = World(**arms | {"p": arms["random"] - 0.2 + noise(9, sd=0.05)}).judge(placebo)
    assert below["verdict"] == "placebo failed as it must" and below["note"] is None
    assert below["floor"]["below"] and not below["floor"]["equal"] and below["floor"]["p_below"] < 0.001
    assert "it is worse than its floor: −0.198 from random" in sentences.verdict(below, "p", {})


def test_a_placebo_must_be_equal_to_its_floor_or_below_on_every_benchmark():
    def world(second: np.ndarray) -> World:
        names, equal = ("b1", "b2"), HALF_LEAK["random"] + noise(9, sd=0.05)
        still = {arm: dict.fromkeys(names, v) for arm, v in HALF_LEAK.items() if arm != "p"}
        return World(**still, p={"b1": equal, "b2": HALF_LEAK["random"] + second})

    placebo = {"role": "placebo", "expr": "m(p) - m(rival)", "floor": "m(random)"}
    verdicts = [
        (noise(10, sd=0.04), "placebo failed as it must", "b1"),
        (noise(10, -0.2, sd=0.05), "placebo failed as it must", "b2"),
        (noise(10, 0.04, sd=0.3), "inconclusive", "b2"),
        (noise(10, 0.2, sd=0.05), "placebo passed", "b2"),
    ]
    for second, verdict, shown in verdicts:
        found = world(second).judge(placebo, benchmarks=["b1", "b2"])
        assert found["verdict"] == verdict and found["floor"]["benchmark"] == shown


def test_a_floor_may_be_a_number():
    """Half of what is judged is right by chance; the floor of finding one in thousands is 0."""
    for floor, mean, verdict in ((0.5, 0.5, "placebo failed as it must"), (0, 0.2, "placebo passed")):
        found = World(p=mean + noise(1, sd=0.05), rival=BASE + 0.3).judge(
            {"role": "placebo", "expr": "m(p) - m(rival)", "floor": floor}
        )
        assert found["verdict"] == verdict and found["floor"]["expr"] == str(floor)
        assert f"from {floor} (95 % CI" in sentences.verdict(found, "p", {})


def test_a_lower_value_may_be_the_better_one():
    """Steps, of which fewer are better, relative to the floor: a placebo with half of them knows something."""
    rng = np.random.default_rng(0)
    steps = {"rival": 60 + rng.normal(0, 1, 200), "random": 100 + rng.normal(0, 1, 200)}
    for factor, verdict in ((1.0, "failed as it must"), (0.5, "passed"), (2.0, "failed as it must")):
        arms = steps | {"p": factor * 100 + rng.normal(0, 1, 200)}
        # fewer than its rival would be the claim, which is told by the other placebo
        placebo = {"role": "placebo", "expr": "m(p) / m(rival) - 1", "floor": "m(random)", "measure": "StepsToBest"}
        found = World(**arms).judge(placebo | {"min_effect": 9})
        assert found["verdict"] == f"placebo {verdict}", factor
        assert found["floor"]["effect"] == pytest.approx(factor - 1, abs=0.01)


def test_a_claim_whose_placebo_passed_is_not_reproduced():
    placebo = UP | {"role": "placebo", "expr": "m(p) - m(b)"}
    arms = {"a": BASE + noise(1, 0.2), "b": BASE, "p": BASE + noise(2, 0.1), "c": BASE}
    claim, other, _ = World(**arms).judge(UP, UP | {"expr": "m(a) - m(c)"}, placebo)
    assert claim["verdict"] == "inconclusive" and "the placebo c2 passed" in claim["note"]
    assert "The evidence is not sound: the placebo c2 passed" in sentences.verdict(claim, "p", {})
    assert other["verdict"] == "reproduced"  # another comparison


# --- alarms ----------------------------------------------------------------------------------------------------------


def test_a_placebo_equal_to_the_arm_is_an_alarm():
    """Nothing was destroyed; against its own rival, which is stronger, the placebo fails all the same."""
    up = BASE + noise(1, 0.1)
    arms = {"a": up, "b": BASE, "p": up, "strong": BASE + 0.5}
    claim, placebo = World(**arms).judge(UP, UP | {"role": "placebo", "expr": "m(p) - m(strong)"})
    assert placebo["verdict"] == "placebo failed as it must"
    assert claim["verdict"] == "inconclusive" and claim["note"] == "p.p, a placebo, is equal to p.a on every unit"


def test_equal_scores_of_a_pooled_measure_are_an_alarm():
    """No unit has a pooled area; what it is made of is compared."""
    rng = np.random.default_rng(0)
    scores = {
        arm: {f"u{i}": [[list(rng.normal(shift, 1, 2)), list(rng.normal(0, 1, 9))]] for i in range(40)}
        for arm, shift in (("p.a", 2.0), ("p.b", 0.0), ("p.strong", 5.0), ("p.other", 2.0))
    }
    claims = [
        {"id": "c", "sentence": "", "expr": "m(a) - m(b)", "measure": "PooledAUC"},
        {"id": "q", "sentence": "", "expr": "m(p) - m(strong)", "measure": "PooledAUC", "role": "placebo"},
    ]
    for same, verdict in (("p.a", "inconclusive"), ("p.other", "reproduced")):
        arms = scores | {"p.p": scores[same]}
        lookup = lambda arm, benchmark, measure: (arms[arm], {})  # noqa: E731, B023
        claim, _ = judge_claims([parse(c, "p") for c in claims], lookup, benchmarks=["b1"], n_boot=1001)
        assert claim["verdict"] == verdict
        assert verdict == "reproduced" or claim["note"] == "p.p, a placebo, is equal to p.a on every unit"


def test_a_placebo_may_be_equal_to_its_floor():
    """Permuted labels teach to answer as the floor does; a claim that reads the floor is none the worse for it."""
    claim, placebo = World(a=BASE + noise(1, 0.1), b=BASE, p=BASE, strong=BASE + 0.5).judge(
        UP, {"role": "placebo", "expr": "m(p) - m(strong)", "floor": "m(b)"}
    )
    assert (claim["verdict"], placebo["verdict"]) == ("reproduced", "placebo failed as it must")


def test_an_arm_that_hands_back_its_candidates_is_an_alarm():
    """Whatever it wins, its candidates won."""
    up = BASE + noise(1, 0.1)
    world = World(a=up, b=BASE)
    assert world.judge(UP)["verdict"] == "reproduced"
    world.arms["order given to p.a"] = {"b1": up - 0.05}
    assert world.judge(UP)["verdict"] == "reproduced"
    world.arms["order given to p.a"] = {"b1": up}
    handed = world.judge(UP)
    assert handed["verdict"] == "inconclusive"
    assert handed["note"] == "p.a hands back the order that it is given on 200 of 200 units"
    world.arms["order given to p.a"] = {"b1": up - np.where(np.arange(200) < 5, 0.1, 0)}
    assert "on 195 of 200 units" in world.judge(UP)["note"]
    # recall at the depth of the list: any order is the best
    world.arms |= {"order given to p.a": {"b1": up}, "ceiling of p.a": {"b1": up}, "ceiling of p.b": {"b1": BASE}}
    assert world.judge(UP)["verdict"] == "reproduced"


def test_an_arm_at_its_ceiling_is_an_alarm():
    stolen = World(a=np.ones(200), b=np.clip(BASE, 0, 0.9)).judge(UP)
    assert stolen["verdict"] == "inconclusive" and "reaches its ceiling in nDCG@10 on every unit" in stolen["note"]
    ceiling = np.clip(BASE + 0.3, 0, 1)
    world = World(a=ceiling, b=np.clip(BASE, 0, 0.9))
    assert world.judge(UP)["verdict"] == "reproduced"
    world.arms["ceiling of p.a"] = {"b1": ceiling}  # what the best order of its candidates gives
    assert world.judge(UP)["verdict"] == "inconclusive"
    world.arms["ceiling of p.b"] = world.arms["p.b"]  # recall at the depth of the list: any order is the best
    assert world.judge(UP)["verdict"] == "reproduced"


@pytest.mark.parametrize("kind", ["noninferiority", "equivalence"])
def test_doing_nothing_is_no_evidence_of_doing_no_harm(kind):
    claim = UP | {"kind": kind, "margin": 0.02}
    same = World(a=BASE, b=BASE).judge(claim)
    assert same["verdict"] == "inconclusive" and same["note"] == "p.a and p.b are identical on all 200 units"
    assert same["differs"] == 0
    hardly = BASE + np.where(np.arange(200) < 5, 0.1, 0)
    few = World(a=hardly, b=BASE).judge(claim)
    assert few["verdict"] == "inconclusive" and "differ on 5 of 200 units" in few["note"] and few["differs"] == 0.025
    assert World(a=BASE + noise(1, 0, sd=0.02), b=BASE).judge(claim)["verdict"] == "reproduced"
    world = World(a=BASE, b=BASE + noise(1, 0, sd=0.02))
    assert world.judge(claim)["verdict"] == "reproduced"
    world.arms["order given to p.a"] = {"b1": BASE}  # no rival and no guard names that order
    assert "p.a hands back the order that it is given on 200" in world.judge(claim)["note"]
    # no worse than a rival, because it hands back the order that the rival is to be compared with
    handed = World(a=BASE, b=BASE + noise(1, 0, sd=0.02), floor=BASE - 0.3).judge(
        claim | {"guard": "max(m(b), m(first)) - m(floor)"}
    )
    assert handed["verdict"] == "not run"
    handed = World(a=BASE, b=BASE + noise(1, 0, sd=0.02), first=BASE, floor=BASE - 0.3).judge(
        claim | {"guard": "m(first) - m(floor)"}
    )
    assert handed["verdict"] == "inconclusive" and "p.a and p.first are identical" in handed["note"]


# --- levels ----------------------------------------------------------------------------------------------------------


def test_a_rival_below_its_level_is_not_competent():
    """Its gain over the floor was cut from +0.4 to +0.03: enough for a guard, and a win over it proves nothing."""
    crippled = {"a": BASE + noise(1, -0.1), "b": BASE - 0.37 + noise(2, 0, sd=0.02), "floor": BASE - 0.4}
    claim, levels = UP | {"guard": "m(b) - m(floor)"}, {"p.b": {"nDCG@10": {"b1": 0.45, "elsewhere": 0.9}}}
    assert World(**crippled).judge(claim)["verdict"] == "reproduced"
    r = World(**crippled).judge(claim, levels=levels)
    assert r["verdict"] == "baseline not competent" and r["guard"]["passed"]
    assert r["below_level"] == [
        {"arm": "p.b", "benchmark": "b1", "measure": "nDCG@10", "level": 0.45, "value": r["below_level"][0]["value"]}
    ]
    assert "nDCG@10 on b1, below its level of 0.45: no rival to beat." in sentences.verdict(r, "p", {})
    sound = crippled | {"a": BASE + noise(1, 0.2), "b": BASE}
    assert World(**sound).judge(claim, levels=levels)["verdict"] == "reproduced"


def test_the_rival_of_a_timing_has_a_level_and_a_guard_too():
    """A crippled rival is slow for nothing."""
    claim, timings = (
        {"kind": "ratio", "timing": "t"},
        {"t": TIMED | {"ratio": 0.5, "ci": [0.4, 0.6], "sound": True, "n": 50}},
    )
    levels = {"p.b": {"nDCG@10": {"b1": 0.45}}}
    arms = {"a": BASE, "b": BASE - 0.37 + noise(2, sd=0.02), "floor": BASE - 0.37 + noise(3, sd=0.1)}
    assert World(**arms).judge(claim, timings=timings)["verdict"] == "reproduced"
    below = World(**arms).judge(claim, timings=timings, levels=levels)
    assert below["verdict"] == "baseline not competent" and below["below_level"][0]["arm"] == "p.b"
    assert "p.b reaches 0." in below["note"]
    assert World(**arms | {"b": BASE}).judge(claim, timings=timings, levels=levels)["verdict"] == "reproduced"
    guarded = claim | {"guard": "m(b) - m(floor)"}
    strawman = World(**arms).judge(guarded, timings=timings)
    assert strawman["verdict"] == "baseline not competent" and not strawman["guard"]["passed"]
    assert World(**arms | {"b": BASE}).judge(guarded, timings=timings)["verdict"] == "reproduced"
    assert World(b=BASE).judge(guarded, timings=timings)["note"] == "p.floor on b1"


def test_results_do_not_depend_on_the_order_of_claims():
    world = World(a=BASE + noise(1, 0.02), b=BASE, c=BASE + noise(2, 0.01))
    claims = [UP | {"id": "x"}, UP | {"id": "y", "expr": "m(c) - m(b)"}]
    assert world.judge(*claims) == world.judge(*claims[::-1])[::-1]
    assert world.judge(*claims) == world.judge(*claims)


def test_seeds_are_shown():
    runs = BASE + np.array([[-0.02], [0.0], [0.02]]) + 0.2
    r = World(a=runs, b=BASE).judge(UP)
    assert r["seeds"] == 3 and r["seed_sd"] == pytest.approx(0.02, abs=1e-4)


def test_too_few_draws_to_judge_a_placebo():
    with pytest.raises(ValueError, match="more than 1,000 draws"):
        World(a=BASE, b=BASE).judge(UP, n_boot=999)
