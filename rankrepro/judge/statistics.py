"""One engine for every claim: resample clusters and seeds, re-evaluate an expression of means, read off interval and p.

Two levels are crossed: every seed saw every unit. A draw resamples the clusters of each benchmark and, where a term has
several seeds, the seeds, both with replacement; the mean of a term weighs units by the multiplicity of their cluster.

The percentile interval of a bootstrap is too short for few clusters: its spread is that of a variance divided by G, and
it uses the normal quantile. Hesterberg (2015, "What teachers should know about the bootstrap", section 4.2) therefore
reads it at an expanded percentile, Phi(-sqrt(n / (n - 1)) * t_{n-1}), so that it is as wide as a t interval. Here

    percentile = Phi(-f * t_df)     f = max(1, se / sd(draws))

- `se` is the delete-one jackknife: over clusters per benchmark and over seeds, variances added. For the mean of
  unclustered units se / sd(draws) is sqrt(n / (n - 1)), so that f is Hesterberg's factor; for clusters of unequal size
  the jackknife (MacKinnon, Nielsen and Webb 2023: CV3) is the more careful one.
- `df` is Satterthwaite's, (sum U_k)^2 / sum(U_k^2 / df_k) over the components k: df_k = G_eff - 1 for the clusters of a
  benchmark, with G_eff = (sum n_c)^2 / sum n_c^2 and at least 2, and S - 1 for S seeds. U_k is the upper 80 % limit of
  the variance V_k: with V_k itself, a variance of two or three seeds that came out low by chance would also raise df,
  and 5 % would become 6 to 9 % (simulated; with U_k at most 5.5 %). One component alone keeps its df_k.
- Beyond the outermost `TAIL` draws a percentile is noise: the quantile is continued linearly in normal deviates.

The p-value inverts the same interval. An interval ends where its quantity ends (a difference of two shares at -1 and
1); one that reaches from end to end says nothing and is not given.

Where a claim is a paired difference, its p is the larger of this one and that of a permutation test, which flips the
signs of whole clusters: exact, and it cannot be small on few clusters (2^-6 is the least of 6). Shares and rates have
no bootstrap: their interval is that of Clopper and Pearson, at the number of independent units of the same precision.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from rankrepro.errors import BenchmarkError

Array = NDArray[np.float64]
Counts = NDArray[np.uint16]
Expression = Callable[[Mapping[Any, Array]], Array]

DRAWS = 5000
MIN_CLUSTERS = 6  # with fewer no permutation test can be significant at 0.01, and no verdict is given
TAIL = 25  # draws beyond a quantile that is still read off the draws themselves
BLOCK = 4_000_000  # cells of a weight matrix held at once (32 MB)


@dataclass(frozen=True)
class Pooled:
    """A term that is no mean over units (a pooled AUC): for each seed, counts [draws, units] -> values [draws]."""

    values: Sequence[Callable[[Array], Array]]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Sample:
    """One benchmark: unit ids, the cluster label of each, and term -> values [seeds, units] (or a Pooled term)."""

    units: Sequence[str]
    clusters: Sequence[str]
    values: Mapping[Any, Array | Pooled]

    def __post_init__(self) -> None:
        n = len(self.units)
        if n == 0 or len(self.clusters) != n:
            raise BenchmarkError(
                f"a sample of {n} units has {len(self.clusters)} cluster labels; it needs one per unit"
            )
        for term, v in self.values.items():
            if not isinstance(v, Pooled) and (v.ndim != 2 or v.shape[1] != n):
                raise BenchmarkError(f"values of '{term}' have shape {v.shape}; expected [seeds, {n} units]")


@dataclass(frozen=True)
class Estimate:
    """An effect, its bootstrap draws, and what expands them.

    effect           the expression on the data as they are (for several samples the mean over them)
    draws            [n_boot]
    unit_variance    variance of the effect that more units would reduce (clusters)
    seed_variance    variance that only more seeds would reduce
    df               degrees of freedom of the sum of both
    n_effective      number of clusters of equal size that would be as many: (sum n_c)^2 / sum n_c^2
    limits           the least and the largest value that the effect can have at all
    components       (variance, degrees of freedom) of what adds up to both: clusters of each benchmark, seeds
    """

    effect: float
    draws: Array
    n_units: int
    n_clusters: int
    n_seeds: int
    unit_variance: float
    seed_variance: float
    df: float
    n_effective: float
    limits: tuple[float, float] = (-math.inf, math.inf)
    components: tuple[tuple[float, float], ...] = ()

    @property
    def se(self) -> float:
        return math.sqrt(self.unit_variance + self.seed_variance)

    @cached_property
    def expansion(self) -> float:
        """The factor f of the module's formula."""
        with np.errstate(invalid="ignore"):
            sd = float(np.std(self.draws))
        return max(1.0, self.se / sd) if sd > 0 else 1.0


@dataclass(frozen=True)
class Proportion:
    """A share of units or a rate: exact binomial for independent units, Korn-Graubard (1998) for clustered ones.

    n_effective is the number of independent units with the same precision.
    """

    effect: float
    n_units: int
    n_clusters: int
    n_seeds: int
    n_effective: float


@dataclass(frozen=True)
class Timing:
    """A ratio of seconds, known by its 95 % interval and taken as log-normal."""

    effect: float
    log_se: float
    n_units: int
    n_clusters: int
    n_seeds: int = 1


Evidence = Estimate | Proportion | Timing


# --- the bootstrap ---------------------------------------------------------------------------------------------------


def bootstrap(
    samples: Sample | Sequence[Sample],
    expr: Expression,
    n_boot: int = DRAWS,
    seed: int | Sequence[int] = 0,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """Effect of `expr` (term -> means [draws] in, values [draws] out) with its draws; several samples: mean of effects.

    limits: the range of the effect, at which its intervals end.

    Samples resample their clusters independently. Terms with the same number of seeds resample them together, by
    position, in all samples: this is valid whether or not runs with one seed have something in common (one checkpoint
    judged on two benchmarks), whereas independent resampling would only be valid if they have nothing in common.
    """
    given = [samples] if isinstance(samples, Sample) else list(samples)
    groups = [_Clusters(s) for s in given]
    seeds = sorted({len(v) for s in given for v in s.values.values()} - {1})
    ones = {s: np.ones((1, s)) for s in seeds}

    def total(weights: Sequence[Array], seed_weights: Mapping[int, Array]) -> Array:
        return np.mean([expr(g.means(w, seed_weights)) for g, w in zip(groups, weights, strict=True)], axis=0)

    flat = [np.ones((1, g.n)) for g in groups]
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = float(total(flat, ones)[0])
        draws = np.empty(n_boot)
        for rows, of_seeds, of_groups in _resamples(seed, n_boot, seeds, [g.n for g in groups]):
            drawn = {s: w.astype(float) for s, w in zip(seeds, of_seeds, strict=True)}
            draws[rows] = total([w.astype(float) for w in of_groups], drawn)
        per_cluster = [_cluster_variance(g, expr, ones) / len(groups) ** 2 for g in groups]
        per_seed = {s: _jackknife(total(flat, {**ones, s: 1 - np.eye(s)}), effect) for s in seeds}

    parts = [(v, g.effective - 1) for v, g in zip(per_cluster, groups, strict=True)]
    parts += [(v, s - 1.0) for s, v in per_seed.items()]
    return Estimate(
        effect=effect,
        draws=draws,
        n_units=sum(len(s.units) for s in given),
        n_clusters=sum(g.n for g in groups),
        n_seeds=max([1, *seeds]),
        unit_variance=sum(per_cluster),
        seed_variance=sum(per_seed.values()),
        df=_satterthwaite(parts),
        n_effective=sum(g.effective for g in groups),
        limits=limits,
        components=tuple(parts),
    )


class _Clusters:
    """A sample summed by cluster, so that a draw is one product of matrices."""

    def __init__(self, sample: Sample) -> None:
        self.values = sample.values
        _, self.of = np.unique(np.asarray(sample.clusters, dtype=str), return_inverse=True)
        self.sizes: Array = np.bincount(self.of).astype(float)
        self.n = len(self.sizes)
        self.effective = max(2.0, float(self.sizes.sum() ** 2 / (self.sizes**2).sum()))  # 2: df of one cluster
        self.sums = {
            t: np.stack([np.bincount(self.of, row, self.n) for row in v])
            for t, v in sample.values.items()
            if not isinstance(v, Pooled)
        }

    def means(self, weights: Array, seed_weights: Mapping[int, Array]) -> dict[Any, Array]:
        """Term -> mean [draws], from multiplicities of clusters [draws, clusters] and seeds [draws or 1, seeds]."""
        units = weights @ self.sizes
        means: dict[Any, Array] = {}
        for term, v in self.values.items():
            n_seeds = len(v)
            counted = seed_weights.get(n_seeds, np.ones((1, 1)))
            if isinstance(v, Pooled):
                per_seed = self._pooled(v, weights)
            else:
                per_seed = weights @ self.sums[term].T / units[:, None]
            means[term] = (per_seed * counted).sum(axis=1) / counted.sum(axis=1)
        return means

    def _pooled(self, term: Pooled, weights: Array) -> Array:
        """[draws, seeds]."""
        counts = weights[:, self.of]
        return np.stack([value(counts) for value in term.values], axis=1)


def by_seed(term: Array | Pooled, n: int) -> Array:
    """What each seed says of all n units: [seeds]."""
    if isinstance(term, Pooled):
        return np.array([value(np.ones((1, n)))[0] for value in term.values])
    return term.mean(axis=1)


def _blocks(rows: int, width: int) -> Iterator[slice]:
    step = max(1, BLOCK // width)
    return (slice(i, min(i + step, rows)) for i in range(0, rows, step))


Resample = tuple[slice, list[Counts], list[Counts]]  # draws, and their multiplicities of seeds and of clusters


def _resamples(
    seed: int | Sequence[int], n_boot: int, seeds: Sequence[int], sizes: Sequence[int]
) -> Iterable[Resample]:
    """Blocks of draws, each with how often every seed and every cluster was drawn: [rows, seeds], [rows, clusters].

    seeds, sizes: how many there are, of each group that is resampled together. The rows of a table share a stream, and
    so do those of one size: the draws of a single block are kept.
    """
    stream = seed if isinstance(seed, int) else tuple(seed)
    shape = (stream, n_boot, tuple(seeds), tuple(sizes))
    return _kept_resamples(*shape) if len(list(_blocks(n_boot, sum(sizes)))) == 1 else _drawn_resamples(*shape)


def _drawn_resamples(
    stream: int | tuple[int, ...], n_boot: int, seeds: tuple[int, ...], sizes: tuple[int, ...]
) -> Iterator[Resample]:
    rng = np.random.default_rng(stream)
    for rows in _blocks(n_boot, sum(sizes)):
        size = rows.stop - rows.start
        yield rows, [_multiplicities(rng, size, n) for n in seeds], [_multiplicities(rng, size, n) for n in sizes]


@lru_cache(maxsize=16)  # of at most 8 MB
def _kept_resamples(*shape: Any) -> tuple[Resample, ...]:
    return tuple(_drawn_resamples(*shape))


def _multiplicities(rng: np.random.Generator, rows: int, n: int) -> Counts:
    """How often each of `n` was drawn, in `rows` draws of n with replacement: [rows, n]."""
    drawn = rng.integers(0, n, (rows, n)) + np.arange(rows)[:, None] * n
    return np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.uint16)


def _cluster_variance(group: _Clusters, expr: Expression, ones: Mapping[int, Array]) -> float:
    """Delete-one-cluster jackknife; infinite for one cluster, whose spread is unknown."""
    n = group.n
    if n == 1:
        return math.inf
    effect = float(expr(group.means(np.ones((1, n)), ones))[0])
    without = np.empty(n)
    for rows in _blocks(n, n):
        weights = np.ones((rows.stop - rows.start, n))
        weights[np.arange(len(weights)), np.arange(rows.start, rows.stop)] = 0
        without[rows] = expr(group.means(weights, ones))
    return _jackknife(without, effect)


def _jackknife(without: Array, effect: float) -> float:
    n = len(without)
    variance = float((n - 1) / n * ((without - effect) ** 2).sum())
    return variance if math.isfinite(variance) else math.inf


def _satterthwaite(parts: Sequence[tuple[float, float]]) -> float:
    """`satterthwaite` of (variance, df) pairs; the least df where a variance is unknown or all are 0."""
    variances, dfs = zip(*parts, strict=True)
    total = sum(variances)
    if total == 0 or not math.isfinite(total):
        return float(min(dfs))
    return float(satterthwaite(np.array(variances, dtype=float), dfs))


def satterthwaite(variances: Array, dfs: Sequence[float]) -> Array:
    """Degrees of freedom of sums of variances [components, ...], every one at its upper 80 % limit."""
    df = np.array(dfs, dtype=float).reshape(-1, *[1] * (variances.ndim - 1))
    upper = variances * df / (2 * special.gammaincinv(df / 2, 0.2))
    return np.asarray(upper.sum(axis=0) ** 2 / (upper**2 / df).sum(axis=0))


# --- reading an estimate ---------------------------------------------------------------------------------------------


def interval(estimate: Evidence, level: float = 0.95) -> tuple[float, float]:
    """The two-sided interval at `level`; (-inf, inf) where the data cannot tell (one cluster, all that is possible)."""
    tail = (1 - level) / 2
    if isinstance(estimate, Proportion):
        n, x = estimate.n_effective, estimate.effect * estimate.n_effective
        low = float(special.betaincinv(x, n - x + 1, tail)) if x > 0 else 0.0
        return low, float(special.betainccinv(x + 1, n - x, tail)) if x < n else 1.0
    if isinstance(estimate, Timing):
        span = math.exp(-float(special.ndtri(tail)) * estimate.log_se)
        return estimate.effect / span, estimate.effect * span
    z = -float(special.stdtrit(estimate.df, tail)) * estimate.expansion
    if not (math.isfinite(estimate.effect) and math.isfinite(z) and math.isfinite(estimate.se)):
        return -math.inf, math.inf
    low, high = -_upper(-estimate.effect, -estimate.draws, z), _upper(estimate.effect, estimate.draws, z)
    least, most = estimate.limits
    return (max(low, least), min(high, most)) if low > least or high < most else (-math.inf, math.inf)


def p_value(estimate: Evidence, null: float = 0.0, direction: int = 1) -> float:
    """One-sided p of 'effect > null' (direction 1) or 'effect < null' (-1).

    The interval inverted, never below 1 / (n_boot + 1); for a Proportion the exact binomial tail at n_effective.
    """
    if isinstance(estimate, Proportion):
        n, x = estimate.n_effective, estimate.effect * estimate.n_effective
        if direction < 0:
            x, null = n - x, 1 - null
        return float(special.betainc(x, n - x + 1, null)) if x > 0 else 1.0
    if isinstance(estimate, Timing):
        distance = direction * math.log(estimate.effect / null)
        return float(special.ndtr(-(distance / estimate.log_se))) if estimate.log_se > 0 else float(distance <= 0)
    if not (math.isfinite(estimate.effect) and math.isfinite(estimate.se)):
        return 1.0
    effect, null, draws = direction * estimate.effect, direction * null, direction * estimate.draws
    draws = np.where(np.isnan(draws), -np.inf, draws)
    n_boot = len(draws)
    below = float((draws <= null).sum())
    if below >= TAIL:
        z = -float(special.ndtri(below / n_boot))
    else:
        edge = np.quantile(draws, TAIL / n_boot)
        z = -float(special.ndtri(TAIL / n_boot)) * (effect - null) / (effect - edge) if effect > edge else math.inf
    return float(max(special.stdtr(estimate.df, -z / estimate.expansion), 1 / (n_boot + 1)))


def _upper(effect: float, draws: Array, z: float) -> float:
    """The quantile of `draws` at `z` > 0 normal deviates, continued linearly beyond the outermost TAIL draws."""
    draws = np.where(np.isnan(draws), np.inf, draws)
    reach = min(z, -float(special.ndtri(TAIL / len(draws))))
    edge = float(np.quantile(draws, special.ndtr(reach)))
    return effect + (edge - effect) * z / reach if z > reach else edge


def timing(ratio: float, ci: Sequence[float], n: int) -> Timing:
    """A measured ratio with its 95 % interval, over n units timed in both arms."""
    return Timing(ratio, math.log(ci[1] / ci[0]) / (-2 * float(special.ndtri(0.025))), n, n)


def proportion(values: NDArray[Any], clusters: Sequence[str], seeds: int = 1) -> Proportion:
    """The mean of `values` between 0 and 1, by unit [units] or by seed and unit [seeds, units]: a share or a rate.

    n_effective = p (1 - p) / V with V the cluster jackknife variance (times (G - 1) / G) and that of the seeds' means,
    at most n; where all units agree V says nothing, and the number of clusters of effective size, G_eff, is used.
    """
    by_seeds = np.atleast_2d(np.asarray(values, dtype=float))
    group = _Clusters(Sample(clusters, clusters, {"x": by_seeds.mean(axis=0, keepdims=True)}))
    n, p, s = len(clusters), float(by_seeds.mean()), len(by_seeds)
    effective = float(group.sizes.sum() ** 2 / (group.sizes**2).sum())
    parts = []
    if group.n > 1:
        variance = _cluster_variance(group, lambda m: m["x"], {}) * (group.n - 1) / group.n
        parts.append((variance, max(1.0, effective - 1)))
    if s > 1:
        parts.append((float(by_seeds.mean(axis=1).var(ddof=1)) / s, s - 1.0))
    if (total := sum(v for v, _ in parts)) > 0:
        # few clusters: Korn and Graubard's adjustment of degrees of freedom, 1 for independent units
        df = _satterthwaite(parts) if len(parts) > 1 else parts[0][1]
        t_units, t_clusters = special.stdtrit(max(n - 1, 1), 0.025), special.stdtrit(df, 0.025)
        effective = min(p * (1 - p) / total * float(t_units / t_clusters) ** 2, float(n))
    return Proportion(p, n, group.n, max(seeds, s), effective)


def mean_proportion(parts: Sequence[Proportion]) -> Proportion:
    """The mean of several independent proportions.

    The variance is at most p (1 - p) / n_effective with n_effective = B^2 / sum(1 / n_b): less where they differ.
    """
    return Proportion(
        float(np.mean([part.effect for part in parts])),
        sum(part.n_units for part in parts),
        sum(part.n_clusters for part in parts),
        max(part.n_seeds for part in parts),
        len(parts) ** 2 / sum(1 / part.n_effective for part in parts),
    )


def least_wins(n: float, null: float, level: float) -> float:
    """The smallest number of successes in `n` (effective) units whose interval at `level` lies above `null`; or inf."""

    def enough(wins: int) -> bool:
        return interval(Proportion(wins / n, 1, 1, 1, n), level)[0] > null

    most = math.floor(n)
    least = 1 + bisect.bisect_left(range(1, most + 1), True, key=enough)
    return float(least) if least <= most else math.inf


# --- around the engine -----------------------------------------------------------------------------------------------


Paired = tuple[Array, Sequence[str]]  # differences of the units of one benchmark, and the cluster label of each


def permutation_p(
    pairs: Sequence[Paired],
    null: float = 0.0,
    direction: int = 1,
    seed: int | Sequence[int] = 0,
    n_resamples: int = 9999,
) -> float:
    """One-sided p of a paired difference above `null` (direction 1) or below it (-1), by flipping signs.

    Whole clusters are flipped, of several benchmarks each by itself; the statistic is the mean over benchmarks. Exact
    where there are no more than `n_resamples` ways to flip, else drawn.
    """
    sums = np.concatenate([_sums(differences - null, clusters) for differences, clusters in pairs]) * direction
    n = len(sums)
    observed, rng = sums.sum() - 1e-12 * np.abs(sums).sum(), np.random.default_rng(seed)
    if 2**n <= n_resamples:
        signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return float(np.mean(signs @ sums >= observed))
    reached = 0
    for rows in _blocks(n_resamples, n):
        signs = 1 - 2 * rng.integers(0, 2, (rows.stop - rows.start, n), dtype=np.int8)
        reached += int((signs @ sums >= observed).sum())
    return (reached + 1) / (n_resamples + 1)


def _sums(differences: Array, clusters: Sequence[str]) -> Array:
    """What each cluster adds to the mean."""
    _, of = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    return np.bincount(of, differences) / len(differences)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given."""
    adjusted = [1.0] * len(ps)
    running = 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        running = max(running, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = running
    return adjusted


def deviates(alpha: float, power: float) -> float:
    """Standard errors an effect must be off its null for the two-sided interval at 1 - alpha to exclude it so often."""
    return -float(special.ndtri(alpha / 2) + special.ndtri(1 - power))


def required_n(
    sd: float, min_effect: float, alpha: float = 0.05, power: float = 0.8, seed_variance: float = 0.0
) -> int | None:
    """Units with which the two-sided interval at 1 - alpha excludes 0 with `power` if the effect is `min_effect`.

    sd: per unit, inflated by clustering (standard error from clusters times sqrt(n)). None: no number of units is
    enough, because the seeds alone (`seed_variance` of the effect) vary too much.
    """
    if min_effect <= 0 or not math.isfinite(sd):
        return None
    z = deviates(alpha, power)
    room = (min_effect / z) ** 2 - seed_variance
    return max(2, math.ceil(sd**2 / room)) if room > 0 else None


def against(
    pairs: Mapping[Any, tuple[Array, Array]], direction: int = 1, alpha: float = 0.05
) -> dict[Any, dict[str, float | str | None]]:
    """Arms against a baseline by a paired Student test: n, difference, p, p_holm, and letter 'a' for the better.

    pairs: arm -> (its values, the baseline's) on the units both have, at least two. direction -1: lower is better.
    p is None where both are equal everywhere (Holm counts it as 1). It is the p that ranx gives, by the function that
    ranx calls: importing ranx compiles for a second. It ignores clusters: this is for the letters of a table, claims
    are judged by `bootstrap`.
    """
    from scipy.stats import ttest_rel

    with np.errstate(divide="ignore", invalid="ignore"):
        raw = [float(ttest_rel(base, own).pvalue) for own, base in pairs.values()]
    adjusted = holm([1.0 if math.isnan(p) else p for p in raw])
    table: dict[Any, dict[str, float | str | None]] = {}
    for (arm, (own, base)), p, p_holm in zip(pairs.items(), raw, adjusted, strict=True):
        difference, equal = float(np.mean(own - base)), math.isnan(p)
        table[arm] = {
            "n": len(own),
            "difference": difference,
            "p": None if equal else p,
            "p_holm": None if equal else p_holm,
            "letter": "a" if direction * difference > 0 and p_holm < alpha else None,
        }
    return table
