"""Estimates of an expression on benchmarks, and the rule that a claim's evidence must meet."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankrepro.claims import Claim, Expression, Term
from rankrepro.errors import ClaimError
from rankrepro.judge import measures, statistics
from rankrepro.judge.statistics import Estimate, Evidence, Pooled, Proportion, Sample, Timing, interval, p_value

# (arm, benchmark, measure) -> unit -> one value (or material of a pooled measure) per seed, and unit -> cluster label
Lookup = Callable[[str, str, str], tuple[Mapping[str, Sequence[Any]], Mapping[str, str]]]


class NotRun(Exception):
    """Something the claim needs has not been run; says what."""


@dataclass(frozen=True)
class Part:
    """The estimate of one benchmark, or "macro" of all."""

    benchmark: str
    estimate: Evidence


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

    def p(self, e: Evidence) -> float:
        if self.direction == 0:
            return max(p_value(e, -self.null, 1), p_value(e, self.null, -1))
        return p_value(e, self.null, self.direction)

    def holds(self, e: Evidence, level: float) -> bool:
        """The interval at `level` excludes the null and the effect reaches the target."""
        low, high = interval(e, level)
        if self.direction == 0:
            return -self.null < low and high < self.null
        if self.direction < 0:
            return high < self.null
        return low > self.null and e.effect >= self.target

    def excluded(self, e: Evidence) -> bool:
        """The 95 % interval excludes the target."""
        low, high = interval(e)
        if self.direction == 0:
            return high <= -self.target or low >= self.target
        return low > self.target if self.direction < 0 else high < self.target

    def detectable(self, e: Evidence, alpha: float) -> float | None:
        """The effect that this evidence's spread and n exclude the null with; of an equivalence the least margin."""
        z = statistics.deviates(alpha, self.power)
        if isinstance(e, Timing):
            return self.null * math.exp(-z * e.log_se)
        if isinstance(e, Proportion):
            se = math.sqrt(max(self.null * (1 - self.null), 0.0) / e.n_effective)
            return min(1.0, self.null + z * se)
        return z * e.se if self.direction == 0 else self.null + self.direction * z * e.se

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

    def estimate(self, expression: Expression, benchmarks: Sequence[str], key: str) -> Estimate:
        samples = [self.sample(expression, b) for b in benchmarks]
        stream = [self.seed, zlib.crc32(f"{key}\t{expression.text}\t{' '.join(benchmarks)}".encode())]
        return statistics.bootstrap(samples, expression, self.n_boot, stream)

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
        return [Part(b, self.estimate(expression, [b], key)) for b in benchmarks]

    def macro(self, expression: Expression, benchmarks: Sequence[str], of: str, key: str) -> Part:
        """All benchmarks together: the mean of their effects, or the "share" of benchmarks with one above 0."""
        if of != "share":
            return Part("macro", self.estimate(expression, benchmarks, key))
        effects = [statistics.bootstrap(self.sample(expression, b), expression, n_boot=1) for b in benchmarks]
        wins = np.array([e.effect > 0 for e in effects], dtype=float)
        return Part("macro", statistics.proportion(wins, list(benchmarks), max(e.n_seeds for e in effects)))

    def permutation(self, expression: Expression, benchmark: str, key: str) -> float | None:
        """Confirmation of a plain paired difference by sign flips; None for anything else."""
        pair = expression.difference
        if pair is None:
            return None
        sample = self.sample(expression, benchmark)
        a, b = (sample.values[t] for t in pair)
        if isinstance(a, Pooled) or isinstance(b, Pooled):
            return None
        seed = self.seed + zlib.crc32(f"{key}\t{benchmark}".encode())
        return statistics.permutation_p(a.mean(axis=0) - b.mean(axis=0), sample.clusters, seed, self.n_boot)


def _n_seeds(sample: Sample) -> int:
    return max(map(len, sample.values.values()))
