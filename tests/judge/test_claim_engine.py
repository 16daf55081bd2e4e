"""The engine by simulation: what it promises must come out in the long run. Seeded, about a minute in all."""

import math

import numpy as np
import pytest
from scipy import stats

from rankrepro.claims import parse
from rankrepro.judge.claims import judge_claims
from rankrepro.judge.statistics import Sample, bootstrap, interval, p_value, required_n

DRAWS = 1200


def at_most(rate, n):
    """`rate` plus three standard errors of a simulated rate of n runs."""
    return rate + 3 * math.sqrt(rate * (1 - rate) / n)


def sizes(rng, n_clusters, equal=False):
    """Clusters as uneven as those of real queries: most of one or two, some of dozens."""
    if equal:
        return np.full(n_clusters, 5)
    return np.clip((2 * rng.pareto(1.5, n_clusters)).astype(int), 1, 40)


def difference(rng, of, effect=0.0, cluster_sd=0.5, unit_sd=1.0):
    """Per-unit differences of two arms with an effect that clusters share."""
    n_clusters = of.max() + 1
    return effect + rng.normal(0, cluster_sd, n_clusters)[of] + rng.normal(0, unit_sd, len(of))


def estimate(of, values, seed):
    labels = of.astype(str)
    return bootstrap(Sample(labels, labels, {"d": np.atleast_2d(values)}), lambda m: m["d"], DRAWS, seed)


def judged(values, clusters, seed, **claim):
    """One claim through the whole of `judge_claims`; values: arm -> [seeds, units]."""

    def lookup(arm, benchmark, measure):
        rows = np.atleast_2d(values[arm.removeprefix("p.")]).T
        units = [f"u{i}" for i in range(len(rows))]
        return dict(zip(units, rows.tolist(), strict=True)), dict(zip(units, clusters, strict=True))

    claims = [parse({"id": "c", "sentence": "", "expr": "m(a) - m(b)", **claim}, "p")]
    return judge_claims(claims, lookup, benchmarks=["b1"], seed=seed, n_boot=DRAWS)[0]


@pytest.mark.parametrize("n_clusters", [15, 40])
def test_false_positives_with_clusters_of_unequal_size(n_clusters):
    rng, runs = np.random.default_rng(n_clusters), 600
    engine = naive = 0
    for i in range(runs):
        of = np.repeat(np.arange(n_clusters), sizes(rng, n_clusters))
        d = difference(rng, of)
        engine += p_value(estimate(of, d, i)) < 0.05
        naive += stats.ttest_1samp(d, 0, alternative="greater").pvalue < 0.05
    assert engine / runs <= at_most(0.05, runs)
    assert naive / runs > at_most(0.05, runs)  # units are no independent evidence


@pytest.mark.parametrize("n_seeds, seed_sd", [(3, 0.1), (3, 0.5), (5, 0.2), (2, 0.3)])
def test_false_positives_with_seeds(n_seeds, seed_sd):
    """What a training run got by luck is shared by all its units: pairs of (seed, unit) are no independent evidence."""
    rng, runs = np.random.default_rng(n_seeds), 500
    of = np.repeat(np.arange(60), 5)
    engine = naive = 0
    for i in range(runs):
        a, b = (rng.normal(0, 0.4, len(of)) + rng.normal(0, seed_sd, (n_seeds, 1)) for _ in "ab")
        labels = of.astype(str)
        e = bootstrap(Sample(labels, labels, {"a": a, "b": b}), lambda m: m["a"] - m["b"], DRAWS, i)
        engine += p_value(e) < 0.05
        naive += stats.ttest_1samp((a - b).ravel(), 0, alternative="greater").pvalue < 0.05
    assert engine / runs <= at_most(0.05, runs)
    assert naive / runs > 0.2


@pytest.mark.parametrize("n_clusters, equal", [(10, True), (10, False), (20, False), (40, True), (40, False)])
def test_coverage_with_few_clusters(n_clusters, equal):
    rng, runs = np.random.default_rng(n_clusters + equal), 500
    covered = plain = 0
    for i in range(runs):
        of = np.repeat(np.arange(n_clusters), sizes(rng, n_clusters, equal))
        e = estimate(of, difference(rng, of, effect=0.3), i)
        low, high = interval(e)
        covered += low <= 0.3 <= high
        plain += np.quantile(e.draws, 0.025) <= 0.3 <= np.quantile(e.draws, 0.975)
    assert 1 - at_most(0.05, runs) <= covered / runs <= 0.99
    assert plain < covered  # what the expansion is for


@pytest.mark.parametrize("n_seeds", [2, 3])
def test_coverage_with_seeds(n_seeds):
    rng, runs = np.random.default_rng(n_seeds), 500
    of = np.repeat(np.arange(40), 3)
    covered = 0
    for i in range(runs):
        d = difference(rng, of) + rng.normal(0, 0.3, (n_seeds, 1))
        low, high = interval(estimate(of, d, i))
        covered += low <= 0 <= high
    assert 1 - at_most(0.05, runs) <= covered / runs <= 0.99


def test_nulls_are_hardly_ever_reproduced():
    rng, runs = np.random.default_rng(5), 300
    verdicts = []
    for i in range(runs):
        of = np.repeat(np.arange(40), sizes(rng, 40))
        b = rng.normal(0.5, 0.2, len(of))
        a = b + difference(rng, of, cluster_sd=0.1, unit_sd=0.2)
        verdicts.append(judged({"a": a, "b": b}, of.astype(str), i)["verdict"])
    assert verdicts.count("reproduced") / runs <= at_most(0.025, runs)


@pytest.mark.parametrize("claim, effect", [({"kind": "noninferiority"}, -0.1), ({"kind": "equivalence"}, 0.1)])
def test_false_positives_at_the_margin(claim, effect):
    rng, runs = np.random.default_rng(6), 300
    of = np.arange(60)
    verdicts = []
    for i in range(runs):
        d = difference(rng, of, effect=effect, cluster_sd=0, unit_sd=0.2)
        verdicts.append(judged({"a": d, "b": 0 * d}, of.astype(str), i, margin=0.1, **claim)["verdict"])
    assert verdicts.count("reproduced") / runs <= at_most(0.025, runs)


def test_false_positives_of_shares_with_clusters():
    rng, runs = np.random.default_rng(7), 500
    below = 0
    for i in range(runs):
        of = np.repeat(np.arange(30), sizes(rng, 30))
        d = difference(rng, of, cluster_sd=1)
        below += judged({"a": d, "b": 0 * d}, of.astype(str), i, kind="share")["p"] < 0.05
    assert below / runs <= at_most(0.05, runs)


def test_power_is_what_required_n_says():
    rng, runs, effect = np.random.default_rng(8), 400, 0.05
    pilot_of = np.repeat(np.arange(2000), 5)
    pilot = estimate(pilot_of, difference(rng, pilot_of, cluster_sd=0.1, unit_sd=0.2), 0)
    n = required_n(math.sqrt(pilot.unit_variance * pilot.n_units), effect)
    independent = required_n(math.hypot(0.1, 0.2), effect)
    assert n > 1.5 * independent  # the design effect of clusters of five: 1 + 4 * 0.2
    found = 0
    for i in range(runs):
        of = np.repeat(np.arange(round(n / 5)), 5)
        found += interval(estimate(of, difference(rng, of, effect, 0.1, 0.2), i))[0] > 0
    assert found / runs == pytest.approx(0.8, abs=0.06)


def test_a_planted_effect_is_found_and_its_absence_too():
    rng, runs = np.random.default_rng(9), 100
    planted, absent = [], []
    for i in range(runs):
        of = np.repeat(np.arange(100), sizes(rng, 100))
        b = rng.normal(0.5, 0.2, len(of))
        noise = difference(rng, of, cluster_sd=0.02, unit_sd=0.1)
        seeds = rng.normal(0, 0.005, (3, 1))
        planted.append(judged({"a": b + 0.06 + noise + seeds, "b": b}, of.astype(str), i)["verdict"])
        absent.append(judged({"a": b - 0.05 + noise + seeds, "b": b}, of.astype(str), i)["verdict"])
    assert planted.count("reproduced") >= 0.95 * runs and "not reproduced" not in planted
    assert absent.count("not reproduced") >= 0.95 * runs and "reproduced" not in absent


def test_placebos_fail_and_leaks_are_caught():
    rng, runs = np.random.default_rng(10), 100
    of = np.repeat(np.arange(80), 3)
    sound, leaking = [], []
    for i in range(runs):
        b = rng.normal(0.5, 0.2, len(of))
        noise = difference(rng, of, cluster_sd=0.05, unit_sd=0.1)
        sound.append(judged({"a": b + noise, "b": b}, of.astype(str), i, role="placebo")["verdict"])
        leaking.append(judged({"a": b + noise + 0.1, "b": b}, of.astype(str), i, role="placebo")["verdict"])
    assert set(sound) == {"placebo failed as it must"}
    assert leaking.count("placebo passed") >= 0.95 * runs


def test_a_strawman_is_named_and_a_sound_baseline_is_not():
    rng, runs = np.random.default_rng(11), 100
    of = np.repeat(np.arange(80), 3)
    straw, sound = [], []
    for i in range(runs):
        floor = rng.normal(0.3, 0.1, len(of))
        worth = {"straw": 0.0, "sound": 0.1}
        for name, verdicts in (("straw", straw), ("sound", sound)):
            b = floor + worth[name] + difference(rng, of, cluster_sd=0.05, unit_sd=0.1)
            a = b + 0.1 + difference(rng, of, cluster_sd=0.05, unit_sd=0.1)
            values = {"a": a, "b": b, "floor": floor}
            verdicts.append(judged(values, of.astype(str), i, guard="m(b) - m(floor)")["verdict"])
    assert straw.count("baseline not competent") / runs >= 1 - at_most(0.05, runs)
    assert sound.count("reproduced") >= 0.95 * runs
