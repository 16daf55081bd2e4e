"""What a plan will be able to tell: for each claim the units it will stand on and the smallest effect they can show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rankrepro import benchmarks, claims
from rankrepro.cards import Card
from rankrepro.claims import Claim
from rankrepro.plan import Plan

SPREAD = 0.3  # assumed standard deviation of a paired difference of a measure in [0, 1], where nothing was measured


def units_of(spec: Mapping[str, Any]) -> int:
    """Units a cell of this specification answers, told from the benchmark's card; 0 where only a build can tell."""
    counts = benchmarks.get(spec["benchmark"]["id"]).counts
    of_splits = sum(counts.get(split, 0) for split in spec["queries"]["split"])
    there = of_splits or counts.get("units", counts.get("queries", 0))
    sample = spec["queries"]["sample"]
    return there if sample is None else min(there, sample)


@dataclass(frozen=True)
class Stand:
    """Where a claim will stand on one benchmark (or on the mean of all: macro).

    n           units, at most (a claim with `where` has fewer)
    sd          standard deviation of one unit's contribution, inflated by clustering where it was measured
    source      where `sd` comes from: "measured", "measured elsewhere", "assumed" or "binomial"
    level       the error level that decides here: alpha over the card's claims (and any_of's benchmarks)
    detectable  the effect that n units show with a power of 0.8; of an equivalence (0.9) the least margin
    wanted      the effect that counts: min_effect, or the margin or bound
    needed      units that it would take to show that; None where the claim is a direction
    note        why there are no numbers
    """

    claim: str
    benchmark: str
    n: int = 0
    sd: float | None = None
    source: str = ""
    level: float | None = None
    detectable: float | None = None
    wanted: float | None = None
    needed: int | None = None
    note: str = ""

    def json(self) -> dict[str, Any]:
        return asdict(self)


def detectable(sd: float, n: int, alpha: float, power: float = 0.8) -> float | None:
    """The effect off its null for which `statistics.required_n` gives `n` units: its formula solved for the effect."""
    from rankrepro.judge.statistics import deviates

    if n < 2 or not math.isfinite(sd):
        return None
    return deviates(alpha, power) * sd / math.sqrt(n)


def stands(
    card: Card, plan: Plan, measured: Mapping[str, Any] | None, spread: float, alpha: float = 0.05
) -> list[Stand]:
    """Every claim of `card` under `plan`, in the card's order.

    measured  a judged results.json of the card at this or another scale, whose intervals tell spreads
    spread    assumed where nothing was measured
    """
    published = {c["id"]: c for c in measured["papers"][card.key]["claims"]} if measured else {}
    parsed = claims.of(card)
    outlook = _Outlook(card, plan, spread, alpha, claims.family_size(parsed))
    return [stand for claim in parsed for stand in outlook.of(claim, published.get(claim.id, {}))]


@dataclass
class _Outlook:
    card: Card
    plan: Plan
    spread: float
    alpha: float
    m: int

    def of(self, claim: Claim, published: Mapping[str, Any]) -> list[Stand]:
        from rankrepro.judge.claims import PLACEBO_ALPHA

        name = claim.id
        if not claim.tested:
            return [Stand(name, "", note="true by construction" if claim.identity else "not specified yet")]
        level = PLACEBO_ALPHA if claim.role == "placebo" else self.alpha / self.m
        if claim.timing:
            return [self._timing(claim, level)]
        chosen = claim.of(self.plan.benchmarks[self.card.key])
        if not chosen:
            return [Stand(name, "", note="none of its benchmarks is one of this scale")]
        assert claim.kind is not None and claim.expression is not None
        rows = [term.arm for term in claim.expression.terms]
        if claim.combine == "any_of":
            level /= len(chosen)
        parts = []
        for benchmark in chosen:
            missing = [r for r in rows if benchmark not in self.plan.rows.get(r, {})]
            if missing:
                parts.append(Stand(name, benchmark, note=f"{missing[0]} does not run there"))
                continue
            nodes = [self.plan.nodes[self.plan.rows[r][benchmark][0][1]] for r in rows]
            n = min(units_of(node.spec) for node in nodes)
            parts.append(self._part(claim, published, benchmark, n, level))
        if claim.combine == "macro" and claim.kind.estimate == "mean" and all(p.sd for p in parts):
            parts.append(self._macro(claim, parts, level))
        return parts

    def _part(self, claim: Claim, published: Mapping[str, Any], benchmark: str, n: int, level: float) -> Stand:
        from rankrepro.judge.statistics import required_n

        sd, source = self._spread(claim, published, benchmark)
        assert claim.kind is not None
        wanted, power = claim.target, claim.kind.power
        note = f"at most: only units tagged {claim.where}" if claim.where else ""
        if sd is None or n < 2:
            few = {0: "the benchmark's card has no counts", 1: "a single unit has no spread"}
            lacks = few.get(n, "a ratio's spread has to be measured first")
            return Stand(claim.id, benchmark, n, level=level, wanted=wanted, note=lacks)
        distance = _distance(claim)
        needed = required_n(sd, distance, level, power) if distance else None
        shown = _effect(claim, detectable(sd, n, level, power))
        return Stand(claim.id, benchmark, n, sd, source, level, shown, wanted, needed, note)

    def _macro(self, claim: Claim, parts: Sequence[Stand], level: float) -> Stand:
        """The mean over benchmarks: variances of the parts added, over their number squared."""
        n = sum(p.n for p in parts)
        se = math.sqrt(sum((p.sd or 0) ** 2 / p.n for p in parts)) / len(parts)
        sd = se * math.sqrt(n)
        assert claim.kind is not None
        shown = _effect(claim, detectable(sd, n, level, claim.kind.power))
        source = " and ".join(dict.fromkeys(p.source for p in parts))
        return Stand(claim.id, "macro", n, sd, source, level, shown, claim.target)

    def _timing(self, claim: Claim, level: float) -> Stand:
        name = claim.timing or ""
        digest = self.plan.timings.get(self.card.key, {}).get(name)
        if digest is None:
            return Stand(claim.id, f"timing {name}", note="not timed at this scale")
        n = self.plan.nodes[digest].spec["n"]
        return Stand(claim.id, f"timing {name}", n, level=level, note="a ratio of seconds: measured, not assumed")

    def _spread(self, claim: Claim, published: Mapping[str, Any], benchmark: str) -> tuple[float | None, str]:
        assert claim.kind is not None
        if claim.kind.spread == "binomial":
            return math.sqrt(claim.null * (1 - claim.null)), "binomial"
        spreads = {p["benchmark"]: s for p in published.get("per_benchmark", []) if (s := _measured(p)) is not None}
        if benchmark in spreads:
            return spreads[benchmark], "measured"
        if spreads:
            return max(spreads.values()), "measured elsewhere"
        return (None, "") if claim.kind.spread == "measured" else (self.spread, "assumed")


def _measured(part: Mapping[str, Any]) -> float | None:
    """The standard deviation of a unit that explains a 95 % interval over n units."""
    low, high = part["ci"]
    if low is None or high is None or not part["n"] or high <= low:
        return None
    return (high - low) / (2 * 1.959964) * math.sqrt(part["n"])


def _distance(claim: Claim) -> float | None:
    """Between the claim's null and its target (a margin from 0 where both are the same); None for a direction."""
    assert claim.kind is not None
    return None if claim.kind.direction < 0 else claim.target - claim.null or abs(claim.null)


def _effect(claim: Claim, distance: float | None) -> float | None:
    """The effect that lies `distance` off the null; of an equivalence the margin."""
    assert claim.kind is not None
    if distance is None or claim.kind.direction == 0:
        return distance
    return claim.null + claim.kind.direction * distance
