import itertools
import math

import numpy as np
import pytest
from scipy import stats

from rankrepro.errors import BenchmarkError
from rankrepro.judge import statistics
from rankrepro.judge.statistics import Pooled, Sample, bootstrap, holm, interval, p_value, permutation_p, proportion


def sample(clusters=None, **values):
    arrays = {t: np.atleast_2d(np.asarray(v, dtype=float)) for t, v in values.items()}
    n = next(iter(arrays.values())).shape[1]
    units = [f"u{i}" for i in range(n)]
    return Sample(units, units if clusters is None else [str(c) for c in clusters], arrays)


def x(means):
    return means["x"]


def difference(means):
    return means["a"] - means["b"]


# --- identities ------------------------------------------------------------------------------------------------------


def test_independent_units_give_the_standard_error_and_hesterbergs_factor():
    values = np.random.default_rng(0).normal(size=25)
    e = bootstrap(sample(x=values), x, n_boot=20000)
    assert e.effect == pytest.approx(values.mean())
    assert e.se == pytest.approx(stats.sem(values))  # the jackknife of a mean
    assert e.df == pytest.approx(24)
    assert e.expansion == pytest.approx(math.sqrt(25 / 24), rel=0.02)
    t = stats.t.interval(0.95, 24, values.mean(), stats.sem(values))
    assert interval(e) == pytest.approx(t, abs=0.1 * stats.sem(values))
    assert p_value(e) == pytest.approx(stats.ttest_1samp(values, 0, alternative="greater").pvalue, abs=0.02)


def test_identical_arms():
    values = np.random.default_rng(0).normal(size=40)
    e = bootstrap(sample(a=values, b=values), difference)
    assert (e.effect, interval(e), p_value(e), p_value(e, direction=-1)) == (0, (0, 0), 1, 1)


def test_copies_of_a_cluster_add_no_evidence():
    values = np.random.default_rng(1).normal(size=20)
    once = bootstrap(sample(x=values), x)
    copied = bootstrap(sample(clusters=np.repeat(np.arange(20), 7), x=np.repeat(values, 7)), x)
    assert copied.se == pytest.approx(once.se)
    assert copied.df == pytest.approx(once.df)
    assert interval(copied) == pytest.approx(interval(once), rel=0.1)


def test_a_weighted_mean_of_clusters_by_hand():
    e = bootstrap(sample(clusters="aab", x=[0, 0, 3]), x)
    assert e.effect == pytest.approx(1)
    # without a: 3, without b: 0; (G - 1) / G times the squares of 3 - 1 and 0 - 1
    assert e.unit_variance == pytest.approx((2**2 + 1**2) / 2)
    assert set(np.round(e.draws, 6)) == {0, 1, 3}  # bb, ab, aa


def test_seeds_by_hand():
    e = bootstrap(sample(x=[[1, 1, 1, 1], [2, 2, 2, 2], [6, 6, 6, 6]]), x)
    assert (e.effect, e.n_seeds, e.unit_variance) == (3, 3, 0)
    assert e.seed_variance == pytest.approx(np.var([1, 2, 6], ddof=1) / 3)
    assert e.df == pytest.approx(2)
    assert {1.0, 6.0} <= set(e.draws)


def test_degrees_of_freedom_of_clusters_and_seeds_together():
    e = bootstrap(sample(x=np.random.default_rng(0).normal(size=(3, 20)) + np.array([[0.0], [0.2], [0.5]])), x)
    units, seeds = e.unit_variance * 19 / stats.chi2.ppf(0.2, 19), e.seed_variance * 2 / stats.chi2.ppf(0.2, 2)
    assert e.df == pytest.approx((units + seeds) ** 2 / (units**2 / 19 + seeds**2 / 2))
    assert e.se**2 == pytest.approx(e.unit_variance + e.seed_variance)


def test_seed_variance_of_two_terms_is_paired_by_position():
    shared = np.array([[0.0], [1], [5]]) + np.random.default_rng(0).normal(size=30)
    e = bootstrap(sample(a=shared + 0.5, b=shared), difference)
    assert e.seed_variance == pytest.approx(0)
    assert e.effect == pytest.approx(0.5)


def test_macro_is_the_mean_of_effects_with_summed_variances():
    rng = np.random.default_rng(2)
    one, two = sample(x=rng.normal(1, 1, 30)), sample(x=rng.normal(3, 1, 300))
    both = bootstrap([one, two], x)
    parts = [bootstrap(s, x) for s in (one, two)]
    assert both.effect == pytest.approx(np.mean([p.effect for p in parts]))
    assert both.unit_variance == pytest.approx(sum(p.unit_variance for p in parts) / 4)
    assert np.std(both.draws) == pytest.approx(both.se, rel=0.05)
    assert 29 < both.df < 330
    assert (both.n_units, both.n_clusters) == (330, 330)


def test_a_checkpoint_judged_on_two_benchmarks_has_one_seed_effect():
    rng = np.random.default_rng(3)
    seed_effect = np.array([[-1.0], [0], [1]])
    samples = [sample(x=seed_effect + rng.normal(0, 0.1, 200)) for _ in range(2)]
    assert bootstrap(samples, x).seed_variance == pytest.approx(1 / 3)  # not 1 / 6


def test_pooled_terms_take_the_same_draws():
    rng = np.random.default_rng(4)
    values, clusters = rng.normal(size=(3, 60)), [str(c) for c in rng.integers(0, 12, 60)]
    pooled = Pooled([lambda counts, v=v: counts @ v / counts.sum(1) for v in values])
    plain = Sample(clusters, clusters, {"x": values})
    slow = bootstrap(Sample(clusters, clusters, {"x": pooled}), x, n_boot=200)
    fast = bootstrap(plain, x, n_boot=200)
    assert slow.draws == pytest.approx(fast.draws)
    assert (slow.effect, slow.unit_variance, slow.seed_variance, slow.df) == pytest.approx(
        (fast.effect, fast.unit_variance, fast.seed_variance, fast.df)
    )


def test_draws_do_not_depend_on_the_size_of_blocks(monkeypatch):
    s = sample(x=np.random.default_rng(0).normal(size=(2, 50)))
    whole = bootstrap(s, x, n_boot=100)
    monkeypatch.setattr(statistics, "BLOCK", 50 * 100)
    again = bootstrap(s, x, n_boot=100)
    assert np.array_equal(whole.draws, again.draws) and whole.se == again.se


# --- reading estimates -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99, 0.999])
def test_p_inverts_the_interval(level):
    e = bootstrap(sample(x=np.random.default_rng(5).exponential(size=15)), x)
    low, high = interval(e, level)
    assert p_value(e, null=low) == pytest.approx((1 - level) / 2, rel=0.05)
    assert p_value(e, null=high, direction=-1) == pytest.approx((1 - level) / 2, rel=0.05)


def test_direction_mirrors():
    values = np.random.default_rng(6).normal(0.3, 1, 30)
    up, down = bootstrap(sample(x=values), x), bootstrap(sample(x=-values), x)
    assert p_value(up, 0.1) == pytest.approx(p_value(down, -0.1, -1))
    assert interval(up) == pytest.approx(tuple(-b for b in reversed(interval(down))))


def test_p_has_a_floor():
    e = bootstrap(sample(x=np.random.default_rng(7).normal(10, 1, 200)), x, n_boot=999)
    assert p_value(e) == pytest.approx(1 / 1000)
    assert p_value(e, direction=-1) == pytest.approx(1)


def test_one_cluster_says_nothing():
    e = bootstrap(sample(clusters="aaa", x=[1, 2, 3]), x)
    assert interval(e) == (-math.inf, math.inf)
    assert p_value(e) == 1


def test_a_giant_cluster_counts_for_what_it_is():
    clusters = [0] * 748 + list(range(1, 148))
    e = bootstrap(sample(clusters=clusters, x=np.random.default_rng(0).normal(size=895)), x)
    assert e.df == pytest.approx(1)  # 148 clusters, worth 1.4; at least 2


def test_a_ratio_whose_denominator_can_vanish_has_no_upper_end():
    e = bootstrap(sample(a=[1.0] * 4, b=[1.0, 0, 0, 0]), lambda m: m["a"] / m["b"])
    assert interval(e) == (-math.inf, math.inf) and p_value(e, 1.0) == 1


def test_shapes_are_checked():
    with pytest.raises(BenchmarkError, match="2 units has 1 cluster"):
        Sample(["a", "b"], ["a"], {})
    with pytest.raises(BenchmarkError, match=r"values of 'x' have shape \(2,\); expected \[seeds, 2 units\]"):
        Sample(["a", "b"], ["a", "b"], {"x": np.zeros(2)})


# --- against other implementations -----------------------------------------------------------------------------------


def test_draws_agree_with_scipy():
    values = np.random.default_rng(8).exponential(size=60)
    ours = bootstrap(sample(x=values), x, n_boot=20000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20000, method="percentile", rng=0)
    assert np.std(ours.draws) == pytest.approx(theirs.standard_error, rel=0.02)
    plain = np.quantile(ours.draws, [0.025, 0.975])
    assert plain == pytest.approx(theirs.confidence_interval, abs=0.04 * (plain[1] - plain[0]))


def test_a_share_of_independent_units_is_the_exact_binomial():
    wins = np.array([1] * 14 + [0] * 6)
    share = proportion(wins, [str(i) for i in range(20)])
    test = stats.binomtest(14, 20, 0.5, alternative="greater")
    assert share.n_effective == pytest.approx(20)
    assert p_value(share, 0.5) == pytest.approx(test.pvalue)
    assert interval(share) == pytest.approx(stats.binomtest(14, 20).proportion_ci(0.95, "exact"))
    assert p_value(share, 0.5, -1) == pytest.approx(stats.binomtest(14, 20, 0.5, alternative="less").pvalue)


def test_a_share_without_exceptions_is_no_certainty():
    share = proportion(np.ones(10), [str(i) for i in range(10)])
    assert p_value(share, 0.5) == pytest.approx(0.5**10)
    low, high = interval(share)
    assert high == 1 and low == pytest.approx(stats.binomtest(10, 10).proportion_ci(0.95, "exact").low)
    clustered = proportion(np.ones(100), [str(i % 10) for i in range(100)])
    assert p_value(clustered, 0.5) == pytest.approx(0.5**10)


def test_a_share_of_copied_units_counts_the_clusters():
    wins, clusters = np.repeat([1, 0, 1, 1, 0, 1, 1, 1], 50), np.repeat(list("abcdefgh"), 50)
    assert proportion(wins, clusters).n_effective < 8.001


def test_permutation_is_exact_for_few_clusters():
    differences, clusters = np.array([0.5, 0.1, -0.2, 0.4, 0.3]), ["a", "a", "b", "c", "d"]
    sums = np.array([0.6, -0.2, 0.4, 0.3])
    flips = [np.dot(signs, sums) for signs in itertools.product([1, -1], repeat=4)]
    reached = np.mean([f >= sums.sum() - 1e-12 for f in flips])
    assert permutation_p([(differences, clusters)]) == pytest.approx(reached)
    assert permutation_p([(-differences, clusters)], direction=-1) == pytest.approx(reached)
    assert permutation_p([(differences + 0.3, clusters)], null=0.3) == pytest.approx(reached)


def test_permutation_of_a_mean_of_benchmarks_by_hand():
    one, two = np.array([0.5, 0.3]), np.array([-0.1, 0.4, 0.6, 0.2])
    parts = np.concatenate([one / 2, two / 4])
    flips = [np.dot(signs, parts) for signs in itertools.product([1, -1], repeat=6)]
    p = permutation_p([(one, ["a", "b"]), (two, list("cdef"))])
    assert p == pytest.approx(np.mean([f >= parts.sum() - 1e-12 for f in flips]))


def test_permutation_agrees_with_scipy():
    values = np.random.default_rng(11).normal(0.2, 1, 10)
    test = stats.permutation_test((values,), np.mean, permutation_type="samples", alternative="greater")
    assert permutation_p([(values, [str(i) for i in range(10)])]) == pytest.approx(test.pvalue)


def test_permutation_is_seeded_and_agrees_with_the_bootstrap():
    values = np.random.default_rng(9).normal(0.2, 1, 100)
    clusters = [str(i // 2) for i in range(100)]
    p = permutation_p([(values, clusters)], seed=1)
    assert p == permutation_p([(values, clusters)], seed=1)
    assert p == pytest.approx(p_value(bootstrap(sample(clusters=clusters, x=values), x)), abs=0.02)
    assert permutation_p([(np.zeros(30), [str(i) for i in range(30)])]) == 1


def test_a_rate_near_its_end_is_covered():
    """0.95 on 16 units: all are successes in 44 % of samples, of which a bootstrap would say [1, 1]."""
    rng, runs = np.random.default_rng(12), 400
    covered = plain = 0
    for _ in range(runs):
        values = (rng.random(16) < 0.95).astype(float)
        low, high = interval(proportion(values, [str(i) for i in range(16)]))
        covered += low <= 0.95 <= high
        e = bootstrap(sample(x=values), x, n_boot=300)
        plain += interval(e)[0] <= 0.95 <= interval(e)[1]
    assert covered / runs >= 0.95 and plain / runs < 0.65


def test_a_mean_of_rates_is_covered():
    rng, runs, true = np.random.default_rng(13), 400, [0.98, 0.9, 0.8, 0.99]
    units = [str(i) for i in range(16)]
    covered = 0
    for _ in range(runs):
        mean = statistics.mean_proportion([proportion((rng.random(16) < p).astype(float), units) for p in true])
        low, high = interval(mean)
        covered += low <= np.mean(true) <= high
    assert mean.n_effective <= 64 and covered / runs >= 0.95


def test_seeds_widen_a_rate():
    units = [str(i) for i in range(40)]
    alike = np.tile((np.arange(40) < 30).astype(float), (3, 1))
    apart = np.stack([(np.arange(40) < n).astype(float) for n in (20, 30, 40)])
    assert proportion(alike, units).n_effective == pytest.approx(40)
    assert proportion(apart, units).n_effective < 10


def test_intervals_end_where_the_quantity_ends():
    values = np.random.default_rng(14).uniform(-1, 1, 4) * 0.2 + 0.9
    assert interval(bootstrap(sample(x=values), x))[1] > 1
    low, high = interval(bootstrap(sample(x=values), x, limits=(0, 1)))
    assert 0 < low < 0.9 and high == 1
    two = bootstrap(sample(x=[-0.3, 0.8]), x, limits=(-1, 1))
    assert interval(two) == (-math.inf, math.inf)  # all that is possible: no interval


def test_the_least_number_of_wins_is_that_of_the_exact_interval():
    for n, null in ((16, 0.5), (40, 0.7), (5, 0.5)):
        wins = [w for w in range(1, n + 1) if stats.binomtest(w, n).proportion_ci(0.95, "exact").low > null]
        assert statistics.least_wins(n, null, 0.95) == (wins[0] if wins else math.inf)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1, 1]
    assert holm([]) == []


def test_timing_is_log_normal():
    t = statistics.timing(0.5, (0.4, 0.625), 50)
    assert interval(t) == pytest.approx((0.4, 0.625))
    assert p_value(t, 0.625, -1) == pytest.approx(0.025)
    assert p_value(t, 1.0, 1) == pytest.approx(1, abs=1e-6)


def test_required_n_is_the_textbooks():
    n = statistics.required_n(sd=0.25, min_effect=0.05)
    assert n == math.ceil(((1.959964 + 0.841621) * 0.25 / 0.05) ** 2)
    assert statistics.required_n(0.25, 0.05, alpha=0.005) > n
    assert statistics.required_n(0.25, 0.05, seed_variance=1e-4) > n
    assert statistics.required_n(0.25, 0.05, seed_variance=0.01) is None  # only seeds would help


def test_p_against_a_baseline_is_that_of_ranx():
    from ranx.statistical_tests import paired_student_t_test

    rng = np.random.default_rng(11)
    pairs = {n: (rng.uniform(size=n).round(2), rng.uniform(size=n).round(2)) for n in (2, 7, 60, 400)}
    table = statistics.against(pairs)
    for n, (own, base) in pairs.items():
        assert table[n]["p"] == paired_student_t_test(base, own)[0]


def test_estimates_of_one_stream_do_not_depend_on_what_was_estimated_before():
    """Rows of a table share their draws, which are kept; claims have a stream of their own."""
    rng = np.random.default_rng(12)
    several = [sample(x=rng.normal(size=30)) for _ in range(2)]
    alone = []
    for one in several:
        statistics._kept_resamples.cache_clear()
        alone.append(bootstrap(one, x, n_boot=500).draws)
    statistics._kept_resamples.cache_clear()
    together = [bootstrap(one, x, n_boot=500).draws for one in (*several, *several)]
    assert all(np.array_equal(a, b) for a, b in zip(together, alone * 2, strict=True))
    assert statistics._kept_resamples.cache_info().hits == 3
    assert not np.array_equal(bootstrap(several[0], x, n_boot=500, seed=[0, 1]).draws, alone[0])
    blocks = statistics._resamples(0, 500, [], [10_000])  # too many to keep: drawn block by block
    assert len(list(blocks)) == 2


def test_against_a_baseline():
    rng = np.random.default_rng(10)
    base = rng.uniform(size=80)
    arms = {"same": base.copy(), "up": base + rng.normal(0.1, 0.1, 80), "down": base - 0.1 * base}
    table = statistics.against({name: (own, base) for name, own in arms.items()})
    assert table["up"]["p"] == pytest.approx(stats.ttest_rel(arms["up"], base).pvalue)
    assert table["down"]["p"] == pytest.approx(stats.ttest_rel(arms["down"], base).pvalue)
    assert table["same"] == {"n": 80, "difference": 0, "p": None, "p_holm": None, "letter": None}
    assert table["up"]["difference"] == pytest.approx((arms["up"] - base).mean())
    assert [table[a]["letter"] for a in arms] == [None, "a", None]
    lower = statistics.against({name: (own, base) for name, own in arms.items()}, direction=-1)
    assert [lower[a]["letter"] for a in arms] == [None, None, "a"]
    smaller, larger = sorted((table["up"], table["down"]), key=lambda row: row["p"])
    assert smaller["p_holm"] == pytest.approx(3 * smaller["p"])
    assert larger["p_holm"] == pytest.approx(max(2 * larger["p"], 3 * smaller["p"]))
