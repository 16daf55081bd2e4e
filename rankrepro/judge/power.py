"""Which effect a claim will find: the judge's rule played through before the run, on spreads that are known or assumed.

A run to come is drawn many times: the error of the effect, and the variances that the judge would see of it. Each draw
gives the smallest true effect that the judge would still call reproduced; over all benchmarks of an all_of it is the
largest of them, of an any_of the least. The effect that is found with a power of 80 % is the 80 % quantile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from rankrepro.judge.statistics import MIN_CLUSTERS, Array, Estimate, least_wins, satterthwaite

DRAWS = 4000


@dataclass(frozen=True)
class Spread:
    """What makes the effect of one benchmark (or of the mean of several) vary.

    variances  variance of the effect, by source: the clusters of each benchmark, the seeds
    dfs        degrees of freedom with which the judge will know each
    clusters   of units, in all
    """

    variances: tuple[float, ...]
    dfs: tuple[float, ...]
    clusters: int

    @staticmethod
    def of(unit_sd: float, n: int, clusters: int, seed_sd: float = 0.0, seeds: int = 1) -> Spread:
        """From the standard deviation of a unit (inflated by clusters) and of the effect between seeds."""
        variances, dfs = [unit_sd**2 / n], [max(1.0, clusters - 1.0)]
        if seeds > 1:
            variances, dfs = [*variances, seed_sd**2 / seeds], [*dfs, seeds - 1.0]
        return Spread(tuple(variances), tuple(dfs), clusters)

    @staticmethod
    def seen(estimate: Estimate) -> Spread:
        """That of an estimate, taken for the true one."""
        variances, dfs = zip(*estimate.components, strict=True)
        return Spread(variances, dfs, estimate.n_clusters)

    @staticmethod
    def macro(parts: Sequence[Spread]) -> Spread:
        """Of the mean over benchmarks, whose clusters are independent and whose seeds are the same."""
        b = len(parts)
        variances = [part.variances[0] / b**2 for part in parts]
        dfs = [part.dfs[0] for part in parts]
        seeds = [(part.variances[1], part.dfs[1]) for part in parts if len(part.variances) > 1]
        if seeds:
            variances.append(sum(v for v, _ in seeds) / b**2)
            dfs.append(min(df for _, df in seeds))
        return Spread(tuple(variances), tuple(dfs), sum(part.clusters for part in parts))

    def draw(self, rng: np.random.Generator, level: float) -> tuple[Array, Array]:
        """Of runs to come: the error of the effect, and half the width of its two-sided interval at 1 - `level`."""
        seen = np.stack([v * rng.chisquare(df, DRAWS) / df for v, df in zip(self.variances, self.dfs, strict=True)])
        error = rng.normal(0, math.sqrt(sum(self.variances)), DRAWS)
        known = sum(self.variances) > 0 and len(self.dfs) > 1
        df = satterthwaite(seen, self.dfs) if known else np.array([min(self.dfs)])
        return error, _quantile(level / 2, df) * np.sqrt(seen.sum(axis=0))


def _quantile(tail: float, df: Array) -> Array:
    """Student's upper quantile for many degrees of freedom: its logarithm is smooth in 1 / df, and slow to compute."""
    inverse = 1 / df
    grid = np.linspace(inverse.min(), inverse.max(), 50)
    return np.asarray(np.exp(np.interp(inverse, grid, np.log(-special.stdtrit(1 / grid, tail)))))


def detectable(
    parts: Sequence[Spread],
    combine: str,
    level: float,
    null: float = 0.0,
    target: float = -math.inf,
    direction: int = 1,
    power: float = 0.8,
) -> float | None:
    """The true effect, the same on all `parts`, that is reproduced with `power`; of an equivalence the least margin.

    level    of the claim: alpha over the claims of its card; divided by the parts of an any_of
    target   which the effect that is seen must reach too
    None where no effect would be: too few clusters for a verdict.
    """
    some = combine == "any_of"
    usable = [part for part in parts if part.clusters >= MIN_CLUSTERS]
    if not usable or (len(usable) < len(parts) and not some):
        return None
    rng = np.random.default_rng(0)
    needed = []
    for part in usable:
        error, half = part.draw(rng, level / len(parts) if some else level)
        if direction == 0:
            needed.append(np.abs(error) + half)
        elif direction > 0:
            needed.append(np.maximum(null + half, target) - error)
        else:
            needed.append(half - error - null)  # the mirror: -effect must be at least this
    found = float(np.quantile((np.min if some else np.max)(needed, axis=0), power))
    return -found if direction < 0 else found


def detectable_share(
    n: Sequence[float], combine: str, level: float, null: float, target: float, power: float = 0.8
) -> float | None:
    """The true share of wins, on every benchmark of `n` independent units, that is reproduced with `power`."""
    some = combine == "any_of"
    rng = np.random.default_rng(0)
    needed = []
    for units in n:
        least = max(least_wins(units, null, 1 - (level / len(n) if some else level)), math.ceil(target * units - 1e-9))
        if least > units:
            if not some:
                return None
            continue
        # X of n units suffice if X >= least: so often does a Beta(least, n - least + 1) lie below the true share
        needed.append(rng.beta(least, units - least + 1, DRAWS))
    return float(np.quantile((np.min if some else np.max)(needed, axis=0), power)) if needed else None
