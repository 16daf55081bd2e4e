"""Estimates of an expression on benchmarks, and the rule that a claim's evidence must meet."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rankrepro.claims import Claim, Expression, Term
from rankrepro.errors import ClaimError
from rankrepro.judge import measures, power, statistics
from rankrepro.judge.power import Spread
from rankrepro.judge.statistics import (
    MIN_CLUSTERS,
    Estimate,
    Evidence,
    Paired,
    Pooled,
    Proportion,
    Sample,
    Timing,
    interval,
    p_value,
    permutation_p,
)

# (arm, benchmark, measure) -> unit -> one value (or material of a pooled measure) per seed, and unit -> cluster label
Lookup = Callable[[str, str, str], tuple[Mapping[str, Sequence[Any]], Mapping[str, str]]]


class NotRun(Exception):
    """Something the claim needs has not been run; says what."""


@dataclass(frozen=True)
class Part:
    """The estimate of one benchmark, or "macro" of all.

    pairs   the differences of units behind it, by benchmark, where it is the mean of a paired difference
    stream  the random numbers of its permutation test
    """

    benchmark: str
    estimate: Evidence
    pairs: tuple[Paired, ...] = ()
    stream: tuple[int, int] = (0, 0)
    n_boot: int = statistics.DRAWS
    _known: dict[tuple[str, float, int], float] = field(default_factory=dict)  # p-values, each asked for often

    @property
    def thin(self) -> bool:
        """Too few clusters for any verdict."""
        return self.estimate.n_clusters < MIN_CLUSTERS

    def p(self, null: float, direction: int) -> float:
        """One-sided p: the larger of the interval inverted and, of a paired difference, the permutation test."""
        key = ("bootstrap", null, direction)
        if key not in self._known:
            self._known[key] = p_value(self.estimate, null, direction)
        return max(self._known[key], self.permutation(null, direction)) if self.pairs else self._known[key]

    def permutation(self, null: float, direction: int) -> float:
        key = ("permutation", null, direction)
        if key not in self._known:
            self._known[key] = permutation_p(self.pairs, null, direction, self.stream, self.n_boot)
        return self._known[key]


@dataclass(frozen=True)
class Rule:
    """What an estimate must show. direction 1: effect above the null; -1: below; 0: within +-null of 0."""

    direction: int
    null: float
    target: float
    power: float = 0.8

    @staticmethod
    def of(claim: Claim) -> Rule:
        """The rule of the claim's kind with its bounds (rankrepro.claims.KINDS)."""
        assert claim.kind is not None
        return Rule(claim.kind.direction, claim.null, claim.target, claim.kind.power)

    def p(self, part: Part) -> float:
        """Of the claim: that the effect does not lie where it should."""
        if self.direction == 0:
            return max(part.p(-self.null, 1), part.p(self.null, -1))
        return part.p(self.null, self.direction)

    def p_refuted(self, part: Part) -> float:
        """Of its refutation: that the effect does reach the target."""
        if self.direction == 0:
            return min(1.0, 2 * min(part.p(-self.target, -1), part.p(self.target, 1)))
        return part.p(self.target, -self.direction)

    def permutation(self, part: Part) -> float | None:
        """The share that the permutation test has in `p`."""
        if not part.pairs:
            return None
        if self.direction == 0:
            return max(part.permutation(-self.null, 1), part.permutation(self.null, -1))
        return part.permutation(self.null, self.direction)

    def holds(self, e: Evidence, level: float) -> bool:
        """The interval at `level` excludes the null and the effect reaches the target."""
        low, high = interval(e, level)
        if self.direction == 0:
            return -self.null < low and high < self.null
        if self.direction < 0:
            return high < self.null
        return low > self.null and e.effect >= self.target

    def excluded(self, e: Evidence, level: float) -> bool:
        """The interval at `level` excludes the target."""
        low, high = interval(e, level)
        if self.direction == 0:
            return high <= -self.target or low >= self.target
        return low > self.target if self.direction < 0 else high < self.target

    def detectable(self, parts: Sequence[Part], combine: str, alpha: float) -> float | None:
        """The effect, on all parts, that they show with this spread and n; of an equivalence the least margin."""
        estimates = [part.estimate for part in parts]
        if all(isinstance(e, Proportion) for e in estimates):
            n = [e.n_effective for e in estimates if isinstance(e, Proportion)]
            return power.detectable_share(n, combine, alpha, self.null, self.target, self.power)
        if isinstance(estimates[0], Timing):
            return self.null * math.exp(-statistics.deviates(alpha, self.power) * estimates[0].log_se)
        spreads = [Spread.seen(e) for e in estimates if isinstance(e, Estimate)]
        if not all(math.isfinite(sum(spread.variances)) for spread in spreads):
            return None
        return power.detectable(spreads, combine, alpha, self.null, self.target, self.direction, self.power)

    def needed_n(self, e: Evidence, alpha: float) -> int | None:
        """Units that the smallest effect of interest needs to exclude the null, at the observed spread."""
        wanted = self.target - self.null or abs(self.null)
        smallest = abs(e.effect - self.null) if self.direction < 0 else wanted
        if isinstance(e, Timing):
            return statistics.required_n(e.log_se * math.sqrt(e.n_units), abs(math.log(e.effect / self.null)), alpha)
        if isinstance(e, Proportion):
            spread = math.sqrt(max(self.null * (1 - self.null), 0.0) * e.n_units / e.n_effective)
            return statistics.required_n(spread, smallest, alpha, self.power)
        spread = math.sqrt(e.unit_variance * e.n_units)
        return statistics.required_n(spread, smallest, alpha, self.power, e.seed_variance)


@dataclass(frozen=True)
class Engine:
    """Estimates expressions from looked-up values. Every estimate has its own stream, whatever the order of claims."""

    lookup: Lookup
    tagged: Callable[[str, str], set[str]]
    where: str
    seed: int
    n_boot: int

    def sample(self, expression: Expression, benchmark: str) -> Sample:
        """The units that all terms share, with all their seeds, of the claim's tag if it has one."""
        found: dict[Term, Mapping[str, Sequence[Any]]] = {}
        clusters: dict[str, str] = {}
        for term in expression.terms:
            try:
                found[term], labels = self.lookup(term.arm, benchmark, term.measure)
            except KeyError:
                raise NotRun(f"{term.arm} on {benchmark}") from None
            clusters.update(labels)
        seeds = {t: max(map(len, v.values()), default=0) for t, v in found.items()}
        shared = set.intersection(*({u for u, v in vs.items() if len(v) == seeds[t]} for t, vs in found.items()))
        units = sorted(shared & self.tagged(benchmark, self.where) if self.where else shared)
        if not units:
            tag = f" tagged '{self.where}'" if self.where else ""
            raise NotRun(f"no unit{tag} in common to {', '.join(t.arm for t in found)} on {benchmark}")
        values = {t: measures.as_term(t.measure, [vs[u] for u in units]) for t, vs in found.items()}
        return Sample(units, [clusters.get(u, u) for u in units], values)

    def ran(self, expression: Expression, benchmark: str) -> bool:
        """Whether every term of the expression was run on the benchmark."""
        try:
            self.sample(expression, benchmark)
        except NotRun:
            return False
        return True

    def mean(self, expression: Expression, benchmarks: Sequence[str], key: str, name: str) -> Part:
        """The expression on one benchmark, or its mean over several."""
        samples = [self.sample(expression, b) for b in benchmarks]
        stream = (self.seed, zlib.crc32(f"{key}\t{expression.text}\t{' '.join(benchmarks)}".encode()))
        estimate = estimated(expression, samples, self.n_boot, stream)
        pairs = [differences(expression, s) for s in samples]
        paired = tuple((d, s.clusters) for d, s in zip(pairs, samples, strict=True) if d is not None)
        return Part(name, estimate, paired if len(paired) == len(samples) else (), stream, self.n_boot)

    def share(self, expression: Expression, benchmark: str) -> Proportion:
        """The share of units with expr > 0, every term averaged over its seeds."""
        sample = self.sample(expression, benchmark)
        values = {t: v.mean(axis=0) for t, v in sample.values.items() if not isinstance(v, Pooled)}
        if len(values) < len(expression.terms):
            raise ClaimError(f"'{expression.text}' has a pooled measure, which single units do not: it is no share")
        with np.errstate(divide="ignore", invalid="ignore"):
            wins = np.broadcast_to(expression(values) > 0, len(sample.units))
        return statistics.proportion(wins, sample.clusters, _n_seeds(sample))

    def parts(self, expression: Expression, benchmarks: Sequence[str], of: str, key: str) -> list[Part]:
        """Each benchmark by itself. `of`: "mean" of the expression, or the "share" of units on which it is above 0."""
        if of == "share":
            return [Part(b, self.share(expression, b)) for b in benchmarks]
        return [self.mean(expression, [b], key, b) for b in benchmarks]

    def macro(self, expression: Expression, benchmarks: Sequence[str], of: str, key: str) -> Part:
        """All benchmarks together: the mean of their effects, or the "share" of benchmarks with one above 0."""
        if of != "share":
            return self.mean(expression, benchmarks, key, "macro")
        effects = [statistics.bootstrap(self.sample(expression, b), expression, n_boot=1) for b in benchmarks]
        wins = np.array([e.effect > 0 for e in effects], dtype=float)
        return Part("macro", statistics.proportion(wins, list(benchmarks), max(e.n_seeds for e in effects)))


def estimated(
    expression: Expression, samples: Sequence[Sample], n_boot: int, stream: Sequence[int] | int = 0
) -> Estimate | Proportion:
    """The mean of an expression over samples: by bootstrap, or exact where it is one term that is a rate."""
    term = expression.tree
    if isinstance(term, Term) and all(is_rate(s, term) for s in samples):
        shares = [statistics.proportion(s.values[term], s.clusters) for s in samples]  # type: ignore[arg-type]
        return statistics.mean_proportion(shares)
    return statistics.bootstrap(samples, expression, n_boot, stream, limits_of(expression, samples))


def differences(expression: Expression, sample: Sample) -> Any:
    """The difference of each unit, seeds averaged, of a plain m(a) - m(b); None for anything else."""
    terms = [sample.values[t] for t in expression.difference or ()]
    if not terms or any(isinstance(v, Pooled) for v in terms):
        return None
    a, b = terms
    return a.mean(axis=0) - b.mean(axis=0)  # type: ignore[union-attr]


def is_rate(sample: Sample, term: Term) -> bool:
    """Whether the mean of the term is a proportion: every value is 0 or 1, or a share of yes and no by its measure."""
    values = sample.values[term]
    if isinstance(values, Pooled):
        return False
    if measures.get(term.measure).rate:
        return bool(((values >= 0) & (values <= 1)).all())
    return bool(((values == 0) | (values == 1)).all())


def limits_of(expression: Expression, samples: Sequence[Sample]) -> tuple[float, float]:
    """The range of an expression, from those of its measures; none where a value lies outside of its measure's."""

    def of_term(term: Term) -> tuple[float, float]:
        low, high = measures.get(term.measure).limits
        means = [v for s in samples if not isinstance(v := s.values[term], Pooled)]
        inside = all(low <= v.min() and v.max() <= high for v in means)
        return (low, high) if inside else (-math.inf, math.inf)

    return expression.limits(of_term)


def _n_seeds(sample: Sample) -> int:
    return max(map(len, sample.values.values()))
