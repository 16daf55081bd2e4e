"""What a plan will be able to tell: for each claim the units it will stand on and the smallest effect they can show.

The judge's own rule is played through (`rankrepro.judge.power`): its level, its combination over benchmarks, clusters
and seeds. Spreads are those of a judged run. Where nothing was measured there is a range: from independent units and
seeds that agree, to clusters and seeds as uneven as we have measured elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from rankrepro import benchmarks, claims
from rankrepro.cards import Card
from rankrepro.claims import Claim
from rankrepro.plan import Plan

if TYPE_CHECKING:
    from rankrepro.judge.power import Spread

# assumed where nothing was measured
SPREAD = 0.3  # standard deviation of a paired difference of a measure in [0, 1]
WITHIN = 0.3  # at most: correlation of two units of a cluster
SEED_SPREAD = 0.03  # at most: standard deviation of a difference between seeds
ALL_WON = 0.95  # a share that has to be so large is no question any more


def units_of(spec: Mapping[str, Any]) -> int:
    """Units a cell of this specification answers, told from the benchmark's card; 0 where only a build can tell."""
    there = benchmarks.get(spec["benchmark"]["id"]).units_of(spec["queries"]["split"])
    sample = spec["queries"]["sample"]
    return there if sample is None else min(there, sample)


@dataclass(frozen=True)
class Stand:
    """Where a claim will stand on one benchmark, or on all of them by its combination: macro, all_of, any_of.

    n           units, at most (a claim with `where` has fewer)
    clusters    of units, by the benchmark's card or a judged run; None: as many as units, for all we know
    seeds       of the arm with most
    sd          standard deviation of one unit's contribution, inflated by clustering where it was measured
    source      where `sd` comes from: "measured", "measured elsewhere", "assumed" or "binomial"
    level       the error level that decides here: alpha over the card's claims (and any_of's benchmarks)
    detectable  the effect that is reproduced with a power of 0.8; of an equivalence (0.9) the least margin
    at_best     the same if units are independent and seeds agree, where neither was measured: the range's other end
    wanted      the effect that counts: min_effect, or the margin or bound
    needed      units that it would take to exclude the null at that effect; None where the claim is a direction
    decidable   False: whatever the run gives, the claim will hardly be shown; `note` says why
    note        why there are no numbers, or what is wrong with them
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
    clusters: int | None = None
    seeds: int = 1
    at_best: float | None = None
    decidable: bool = True

    def json(self) -> dict[str, Any]:
        return asdict(self)


def stands(
    card: Card, plan: Plan, measured: Mapping[str, Any] | None, spread: float, alpha: float = 0.05
) -> list[Stand]:
    """Every claim of `card` under `plan`, in the card's order.

    measured  a judged results.json of the card at this or another scale, which tells spreads and clusters
    spread    assumed where nothing was measured
    """
    published = {c["id"]: c for c in measured["papers"][card.key]["claims"]} if measured else {}
    parsed = claims.of(card)
    outlook = _Outlook(card, plan, spread, alpha, claims.family_size(parsed))
    return [stand for claim in parsed for stand in outlook.of(claim, published.get(claim.id, {}))]


@dataclass(frozen=True)
class _Part:
    """What one benchmark brings: units, clusters (None: unknown), seeds, and spreads from `least` to `most`."""

    n: int
    clusters: int | None
    seeds: int
    least: tuple[float, float]  # standard deviation of a unit, and of the effect between seeds
    most: tuple[float, float]
    source: str

    def spread(self, most: bool) -> Spread:
        from rankrepro.judge.power import Spread

        unit_sd, seed_sd = self.most if most else self.least
        clusters = self.n if self.clusters is None else min(self.clusters, self.n)
        return Spread.of(unit_sd, self.n, clusters, seed_sd, self.seeds)


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
        stands, parts = [], []
        for benchmark in chosen:
            missing = [r for r in rows if benchmark not in self.plan.rows.get(r, {})]
            if missing:
                stands.append(Stand(name, benchmark, note=f"{missing[0]} does not run there"))
                continue
            part = self._part(claim, published, benchmark, rows)
            parts.append(part)
            stand = self._stand(claim, benchmark, [part], level, "all_of")
            # by a mean, or by the best of several, one of them decides nothing
            alone = claim.combine == "all_of" or len(chosen) == 1
            aside = stand.note.replace("cannot be decided:", "not by itself:")
            stands.append(stand if alone else replace(stand, decidable=True, note=aside))
        if (
            len(chosen) > 1
            and len(parts) == len(chosen)
            and (claim.combine != "macro" or claim.kind.estimate == "mean")
        ):
            level *= len(chosen) if claim.combine == "any_of" else 1
            stands.append(self._stand(claim, claim.combine, parts, level, claim.combine))
        elif claim.combine == "macro" and claim.kind.estimate == "share":
            stands.append(self._wins(claim, len(parts), level))
        return stands

    def _part(self, claim: Claim, published: Mapping[str, Any], benchmark: str, rows: Sequence[str]) -> _Part:
        nodes = [self.plan.nodes[self.plan.rows[r][benchmark][0][1]] for r in rows]
        n = 1 if _of_model(claim) else min(units_of(node.spec) for node in nodes)
        seeds = max(len(self.plan.rows[r][benchmark]) for r in rows)
        judged = {part["benchmark"]: part for part in published.get("per_benchmark", [])}
        clusters = _clusters(judged.get(benchmark), benchmark, n)
        sds = {name: found for name, part in judged.items() if (found := _measured(part))}
        size = n / clusters if clusters else 1.0
        assert claim.kind is not None
        if claim.kind.spread == "binomial":
            sd = math.sqrt(claim.null * (1 - claim.null))
            return _Part(n, clusters, seeds, (sd, 0), (sd * math.sqrt(_design(size)), 0), "binomial")
        if benchmark in sds:
            return _Part(n, clusters, seeds, sds[benchmark], sds[benchmark], "measured")
        if sds:
            unit, seed = (max(column) for column in zip(*sds.values(), strict=True))
            return _Part(n, clusters, seeds, (unit, seed), (unit, seed), "measured elsewhere")
        if claim.kind.spread == "measured" or not _bounded(claim):
            return _Part(n, clusters, seeds, (math.nan, 0), (math.nan, 0), "")
        most = self.spread * math.sqrt(_design(size)), SEED_SPREAD if seeds > 1 else 0.0
        return _Part(n, clusters, seeds, (self.spread, 0), most, "assumed")

    def _stand(self, claim: Claim, benchmark: str, parts: Sequence[_Part], level: float, combine: str) -> Stand:
        """The parts by a combination; `level` is that of the claim."""
        n, seeds = sum(p.n for p in parts), max(p.seeds for p in parts)
        clusters = sum(p.n if p.clusters is None else p.clusters for p in parts)
        known = all(p.clusters is not None for p in parts)
        stand = Stand(
            claim.id, benchmark, n, level=level, wanted=claim.target, clusters=clusters if known else None, seeds=seeds
        )
        if lacks := next((lack for p in parts if (lack := _lacks(p))), ""):
            return replace(stand, note=lacks)
        if n < 2:
            return replace(stand, decidable=False, note="cannot be decided: a single unit has no spread")
        most, least = (self._detectable(claim, parts, level, combine, wide) for wide in (True, False))
        sd = parts[0].least[0] if len(parts) == 1 else None
        stand = replace(
            stand,
            sd=sd,
            source=" and ".join(dict.fromkeys(p.source for p in parts)),
            detectable=most,
            at_best=least if least != most else None,
            needed=_needed(claim, parts[0], level) if len(parts) == 1 else None,
            note=f"at most: only units tagged {claim.where}" if claim.where else "",
        )
        why = _undecidable(claim, stand, parts, combine)
        return replace(stand, decidable=False, note=f"cannot be decided: {why}") if why else stand

    def _detectable(self, claim: Claim, parts: Sequence[_Part], level: float, combine: str, most: bool) -> float | None:
        from rankrepro.judge import power
        from rankrepro.judge.power import Spread

        assert claim.kind is not None
        if claim.kind.estimate == "share":
            sizes = [p.n * (p.least[0] / p.most[0]) ** 2 if most and p.most[0] else float(p.n) for p in parts]
            return power.detectable_share(sizes, combine, level, claim.null, claim.target, claim.kind.power)
        spreads = [part.spread(most) for part in parts]
        if combine == "macro":
            spreads = [Spread.macro(spreads)]
        found = claim.null, claim.target, claim.kind.direction, claim.kind.power
        return power.detectable(spreads, combine, level, *found)

    def _wins(self, claim: Claim, benchmarks: int, level: float) -> Stand:
        """A share of benchmarks, which are its units."""
        part = _Part(benchmarks, benchmarks, 1, (1, 0), (1, 0), "binomial")
        return self._stand(claim, "macro", [part], level, "all_of")

    def _timing(self, claim: Claim, level: float) -> Stand:
        from rankrepro.judge.statistics import MIN_CLUSTERS

        name = claim.timing or ""
        digest = self.plan.timings.get(self.card.key, {}).get(name)
        if digest is None:
            return Stand(claim.id, f"timing {name}", note="not timed at this scale")
        n = self.plan.nodes[digest].spec["n"]
        stand = Stand(claim.id, f"timing {name}", n, level=level, note="a ratio of seconds: measured, not assumed")
        few = f"cannot be decided: {n} units; no verdict is given on fewer than {MIN_CLUSTERS}"
        return replace(stand, decidable=False, note=few) if n < MIN_CLUSTERS else stand


def _lacks(part: _Part) -> str:
    """Why a part has no spread."""
    if part.n == 0:
        return "the benchmark's card has no counts"
    return "its spread has to be measured first" if math.isnan(part.least[0]) and part.n > 1 else ""


def _bounded(claim: Claim) -> bool:
    """Whether its measures lie in [0, 1], so that a spread can be assumed."""
    from rankrepro.judge import measures

    assert claim.expression is not None
    return all(math.isfinite(sum(measures.get(t.measure).limits)) for t in claim.expression.terms)


def _of_model(claim: Claim) -> bool:
    """Whether a whole model is the unit of its measures."""
    from rankrepro.judge import measures

    assert claim.expression is not None
    return any(measures.get(t.measure).unit == "model" for t in claim.expression.terms)


def _undecidable(claim: Claim, stand: Stand, parts: Sequence[_Part], combine: str) -> str:
    """Why a claim will hardly be shown on what the plan gives it; empty where it may be."""
    from rankrepro.judge.statistics import MIN_CLUSTERS

    of_parts = [p.n if p.clusters is None else p.clusters for p in parts]
    clusters = sum(of_parts) if combine == "macro" else max(of_parts) if combine == "any_of" else min(of_parts)
    paired = claim.expression is not None and claim.expression.difference is not None
    assert claim.kind is not None
    best = stand.detectable if stand.at_best is None else stand.at_best
    if clusters < MIN_CLUSTERS:
        units = "1 cluster" if clusters == 1 else f"{clusters} clusters"
        return f"{units} of units; no verdict is given on fewer than {MIN_CLUSTERS}"
    if paired and claim.kind.estimate == "mean" and 0.5**clusters >= (level := stand.level or 1.0):
        return f"no p of {clusters} clusters is below {0.5**clusters:.2g}, the level is {level:.2g}"
    if claim.kind.estimate == "share" and (best is None or best > ALL_WON):
        return f"{'more than all' if best is None else f'{100 * best:.0f} %'} of the units would have to be won"
    margin = abs(claim.null)
    if claim.kind.direction == 0 and best is not None and best > margin:
        return f"its margin is {margin:g}, and {best:.2g} can be told at best"
    if claim.kind.direction > 0 and claim.null < 0 and best is not None and best > 0:
        return f"its margin is {margin:g}, and {best - claim.null:.2g} can be told at best"
    return ""


def _needed(claim: Claim, part: _Part, level: float) -> int | None:
    """Units that exclude the null at the effect that counts; a direction has no such effect."""
    from rankrepro.judge.statistics import required_n

    assert claim.kind is not None
    distance = _distance(claim)
    seed_variance = part.least[1] ** 2 / part.seeds if part.seeds > 1 else 0.0
    return required_n(part.least[0], distance, level, claim.kind.power, seed_variance) if distance else None


def _clusters(part: Mapping[str, Any] | None, benchmark: str, n: int) -> int | None:
    """Clusters of n units, as many a unit as in a judged run or by the benchmark's card; None where nobody says."""
    if part and part["clusters"] and part["n"]:
        return max(1, min(n, round(part["clusters"] * n / part["n"])))
    counts = benchmarks.get(benchmark).counts
    clusters, units = counts.get("clusters"), counts.get("units", counts.get("queries", 0))
    if not clusters or not units:
        return None
    # those that n queries meet, if clusters were of equal size
    return min(n, math.ceil(clusters * (1 - (1 - 1 / clusters) ** n)))


def _design(size: float) -> float:
    """By which a variance grows if units come in clusters of this size, at most."""
    return 1 + (size - 1) * WITHIN


def _measured(part: Mapping[str, Any]) -> tuple[float, float] | None:
    """The standard deviations of a unit and of seeds in a judged run; of one that does not say, by its interval."""
    if part.get("unit_sd") is not None:
        return part["unit_sd"], part.get("seed_sd") or 0.0
    low, high = part["ci"]
    if low is None or high is None or not part["n"] or high <= low:
        return None
    return (high - low) / (2 * 1.959964) * math.sqrt(part["n"]), 0.0


def _distance(claim: Claim) -> float | None:
    """Between the claim's null and its target (a margin from 0 where both are the same); None for a direction."""
    assert claim.kind is not None
    return None if claim.kind.direction < 0 else claim.target - claim.null or abs(claim.null)
