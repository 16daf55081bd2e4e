"""Claims: estimate each on its benchmarks and give it a verdict. What each kind must show: `rankrepro.claims.KINDS`.

Over several benchmarks a claim combines as `all_of` (p is the largest, every benchmark must agree), `any_of` (Holm: the
smallest p times their number) or `macro` (mean effect; for a share: the benchmarks are the units).

In this order:

- inconclusive: what decides has fewer than MIN_CLUSTERS clusters, or the evidence is not sound; `note` says which.
- baseline not competent: the guard failed, or a rival lies below its level. What is refuted against a strawman says as
  little as what is confirmed.
- not reproduced: Holm-adjusted p of the refutation < alpha over the card's m claims, and the interval at 1 - alpha / m
  excludes the target; of an all_of on one of its B benchmarks (p times B), of an any_of on all.
- reproduced: Holm-adjusted p < alpha over the m claims, and the interval at 1 - alpha / m excludes the null, and the
  effect reaches the target.
- inconclusive: neither, or an alarm (`rankrepro.judge.alarms`) rang for what would be reproduced; `note` says which.

A placebo that names its floor, as all of today's cards do, must have nothing to give: `failed as it must` takes a 95 %
interval of its distance within the margin, or a place below the floor at 0.001, on every benchmark; `passed` a win over
its rival, or a place above its floor and not equal to it, at 0.001. One that does neither is inconclusive. Above is the
better side, whichever way the measure goes.

A claim that is not run still counts in m, so that a verdict does not change as others come in. A card whose claims are
all false has one `reproduced` with a probability of alpha at most, a card whose claims are all true one
`not reproduced`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rankrepro.claims import Claim, Expression, Levels, family_size
from rankrepro.judge import alarms, measures, statistics
from rankrepro.judge.estimates import Engine, Lookup, NotRun, Part, Rule
from rankrepro.judge.statistics import MIN_CLUSTERS, Estimate, Evidence, Proportion, interval

PLACEBO_ALPHA = 0.001


@dataclass
class Judged:
    """A claim on its way to a verdict."""

    claim: Claim
    missing: str = ""
    unsound: str = ""
    parts: tuple[Part, ...] = ()  # per benchmark
    decisive: tuple[Part, ...] = ()  # those that decide: the same, or the macro part
    p: float = 1.0
    p_holm: float | None = None
    p_refuted: float = 1.0
    p_refuted_holm: float | None = None
    guard: dict[str, Any] | None = None
    floor: dict[str, Any] | None = None
    below_level: list[dict[str, Any]] = field(default_factory=list)
    differs: float | None = None
    alarm: str = ""

    @property
    def rule(self) -> Rule:
        return Rule.of(self.claim)

    @property
    def shown(self) -> Part | None:
        """The weakest benchmark of an all_of, the strongest of an any_of."""
        sign = -1 if self.claim.combine == "any_of" else 1
        order = [(sign * self._p(part), -sign * self._gain(part)) for part in self.decisive]
        return self.decisive[order.index(max(order))] if order else None

    @property
    def refuting(self) -> Part | None:
        """The benchmark that refutes an all_of; the strongest of an any_of, all of which do."""
        if self.claim.combine == "any_of":
            return self.shown
        return min((part for part in self.decisive if not part.thin), key=self.rule.p_refuted, default=None)

    def _p(self, part: Part) -> float:
        return 1.0 if part.thin else self.rule.p(part)

    def combine(self) -> None:
        """Set p and p_refuted from those of the parts."""
        ps = [self._p(part) for part in self.decisive]
        refuted = [1.0 if part.thin else self.rule.p_refuted(part) for part in self.decisive]
        some = self.claim.combine == "any_of"
        self.p = min(1.0, len(ps) * min(ps)) if some else max(ps)
        self.p_refuted = max(refuted) if some else min(1.0, len(ps) * min(refuted))

    def _gain(self, part: Part) -> float:
        effect = part.estimate.effect
        return -abs(effect) if self.rule.direction == 0 else self.rule.direction * effect

    @property
    def thin(self) -> str:
        """Why there are too few clusters for a verdict; empty where there are enough."""
        thin = [part for part in self.decisive if part.thin]
        if not thin or (len(thin) < len(self.decisive) and self.claim.combine == "any_of"):
            return ""
        few, unit = thin[0].estimate.n_clusters, "cluster" if thin[0].estimate.n_clusters == 1 else "clusters"
        return f"{few} {unit} of units ({thin[0].benchmark}); no verdict is given on fewer than {MIN_CLUSTERS}"

    def _corrected(self, level: float, every: bool) -> float:
        """`level` of each part, where one of several is enough."""
        return level if every else 1 - (1 - level) / len(self.decisive)

    def holds(self, level: float) -> bool:
        some = self.claim.combine == "any_of"
        level = self._corrected(level, every=not some)
        parts = [part for part in self.decisive if not part.thin]
        return (any if some else all)(self.rule.holds(part.estimate, level) for part in parts)

    def excluded(self, level: float) -> bool:
        """The interval at `level` excludes the target: for an all_of one of its parts, for an any_of all."""
        some = self.claim.combine == "any_of"
        level = self._corrected(level, every=some)
        return (all if some else any)(
            not part.thin and self.rule.excluded(part.estimate, level) for part in self.decisive
        )

    def verdict(self, verdicts: bool, alpha: float, m: int) -> str:
        if self.claim.identity:
            return "identity"
        if self.missing:
            return "not run"
        if not verdicts:
            return "smoke"
        if self.unsound or self.thin:
            return "inconclusive"
        if self.claim.role == "placebo":
            passed = self.p < PLACEBO_ALPHA and self.holds(1 - PLACEBO_ALPHA)
            if passed or (self.floor and self.floor["above"]):
                return "placebo passed"
            worthless = not self.floor or self.floor["equal"] or self.floor["below"]
            return "placebo failed as it must" if worthless else "inconclusive"
        if (self.guard and not self.guard["passed"]) or self.below_level:
            return "baseline not competent"
        if self.p_refuted_holm is not None and self.p_refuted_holm < alpha and self.excluded(1 - alpha / m):
            return "not reproduced"
        if self.p_holm is not None and self.p_holm < alpha and self.holds(1 - alpha / m):
            return "inconclusive" if self.alarm else "reproduced"
        return "inconclusive"

    def note(self, verdict: str) -> str | None:
        """What is missing, or why the verdict is none."""
        if verdict == "baseline not competent":
            return "; ".join(map(_below, self.below_level)) or None
        unsettled = self.thin or self.alarm or (_floor_note(self.floor) if self.floor else "")
        return self.missing or self.unsound or (unsettled if verdict == "inconclusive" else "") or None


def judge_claims(
    claims: Sequence[Claim],
    lookup: Lookup,
    *,
    benchmarks: Sequence[str],
    verdicts: bool = True,
    tagged: Callable[[str, str], set[str]] = lambda benchmark, tag: set(),
    timings: Mapping[str, Mapping[str, Any]] | None = None,
    levels: Levels | None = None,
    sizes: Mapping[str, Callable[[str], str]] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    n_boot: int = statistics.DRAWS,
) -> list[dict[str, Any]]:
    """One result per claim, in the card's order, ready for JSON (None where there is no number).

    claims      the card's claims; those with nothing to evaluate are not specified yet and come back 'not run'
    lookup      (arm, benchmark, measure) -> unit -> list over seeds, and unit -> cluster label; KeyError: not run
    benchmarks  the benchmarks of the card at this scale
    verdicts    False at a scale that gives none: every claim that ran is 'smoke', on all benchmarks there are
    tagged      (benchmark, tag) -> units, for claims with `where`
    timings     name -> its arms `a` and `b`, benchmark, ratio, ci, sound, fault, n, for claims with `timing`
    sizes       smaller sizes of the language model -> what rows and timings are called there: a claim's effect at each
                is told beside it, without a verdict, and takes no part in the correction
    levels      what rows must reach to be a rival (`rankrepro.claims.levels`)
    alpha       family-wise level of the card's claims
    n_boot      draws; with 1,000 or fewer no p-value could be below the level of placebos
    """
    if n_boot <= 1 / PLACEBO_ALPHA:
        raise ValueError(f"n_boot is {n_boot}: placebos are judged at {PLACEBO_ALPHA}, give more than 1,000 draws")
    judged = []
    for claim in claims:
        engine = Engine(lookup, tagged, claim.where or "", seed, n_boot)
        chosen = claim.of(benchmarks) if verdicts else list(benchmarks)
        found = _estimated(claim, engine, chosen, timings or {}, alpha, strict=verdicts)
        if not found.missing and claim.role == "claim":
            timing = (timings or {}).get(claim.timing or "")
            arms = [timing["a"], timing["b"]] if timing else [term.arm for term in claim.terms]
            where = [timing["benchmark"]] if timing else [part.benchmark for part in found.parts]
            found.below_level = alarms.below_level(arms, lookup, where, levels or {})
        judged.append(found)
    family = [j for j in judged if j.claim.counted]
    ps = statistics.holm([j.p for j in family])
    refuted = statistics.holm([j.p_refuted for j in family])
    for j, p, p_refuted in zip(family, ps, refuted, strict=True):
        if not j.missing:
            j.p_holm, j.p_refuted_holm = p, p_refuted
    m = family_size(claims)
    if verdicts:
        passed = [j.claim for j in judged if j.verdict(verdicts, alpha, m) == "placebo passed"]
        for j in (j for j in judged if j.verdict(verdicts, alpha, m) == "reproduced" and j.claim.expression):
            where = [part.benchmark for part in j.parts]
            j.alarm = alarms.of(
                j.claim, claims, passed, Engine(lookup, tagged, j.claim.where or "", seed, n_boot), where
            )
    told = [_result(j, verdicts, alpha, m) for j in judged]
    for j, result in zip(judged, told, strict=True):
        engine = Engine(lookup, tagged, j.claim.where or "", seed, n_boot)
        each = {size: _at_size(j, naming, engine, timings or {}, alpha) for size, naming in (sizes or {}).items()}
        result["sizes"] = [{"size": size, **numbers} for size, numbers in each.items() if numbers]
    return told


def _at_size(
    judged: Judged,
    naming: Callable[[str], str],
    engine: Engine,
    timings: Mapping[str, Mapping[str, Any]],
    alpha: float,
) -> dict[str, Any] | None:
    """The effect of a claim with a smaller language model, on the benchmarks it was judged on; None where it has none.

    Of an all_of or any_of, on the benchmark that it is shown on at the largest size.
    """
    claim, shown = judged.claim.renamed(naming), judged.shown
    if judged.missing or shown is None or claim == judged.claim:
        return None
    found = _estimated(claim, engine, [p.benchmark for p in judged.parts], timings, alpha, strict=True)
    same = [part for part in found.decisive if part.benchmark == shown.benchmark or claim.timing]
    return _numbers(same[0].estimate) if same and not found.missing else None


def _estimated(
    claim: Claim,
    engine: Engine,
    chosen: Sequence[str],
    timings: Mapping[str, Mapping[str, Any]],
    alpha: float,
    strict: bool,
) -> Judged:
    """`strict`: every benchmark of the claim must have been run; else those that were are enough."""
    judged, kind, name = Judged(claim), claim.kind, claim.id
    if kind is None:
        judged.missing = "the claim is not specified yet"
    if claim.timing and claim.tested:
        return _timed(judged, timings, engine, alpha)
    expression, guard = claim.expression, claim.guard
    if kind is None or expression is None:
        return judged
    if not strict:
        needed = [e for e in (expression, guard, claim.floor) if e]
        chosen = [b for b in chosen if all(engine.ran(e, b) for e in needed)]
    try:
        if not chosen:
            raise NotRun("none of its benchmarks is one of this scale")
        judged.parts = tuple(engine.parts(expression, chosen, kind.estimate, name))
        macro = claim.combine == "macro"
        judged.decisive = (engine.macro(expression, chosen, kind.estimate, name),) if macro else judged.parts
        if guard and claim.role != "placebo":
            judged.guard = _guard(guard, engine, chosen, macro, f"{name} guard", alpha)
        if claim.floor:
            judged.floor = _floor(claim, engine, chosen, macro)
    except NotRun as e:
        judged.missing = str(e)
        return judged
    judged.combine()
    judged.differs = alarms.differing(expression, engine, chosen)
    return judged


def _floor(claim: Claim, engine: Engine, benchmarks: Sequence[str], macro: bool) -> dict[str, Any]:
    """A placebo against what it must be equal to, or below: on every benchmark, or (macro) on their mean."""
    assert claim.floor is not None
    key, margin = f"{claim.id} floor", claim.floor_margin
    parts = [engine.macro(claim.floor, benchmarks, "mean", key)] if macro else None
    parts = parts or engine.parts(claim.floor, benchmarks, "mean", key)
    rule, better = Rule(0, margin, margin), measures.get(claim.floor.terms[0].measure).direction
    equal = [not part.thin and rule.holds(part.estimate, 0.95) for part in parts]
    below = [not part.thin and part.p(0.0, -better) < PLACEBO_ALPHA for part in parts]
    above = min(1.0, len(parts) * min(part.p(0.0, better) for part in parts))
    # shown: of what is neither, or else of all, the one that is the farthest from its floor by what is known of it
    open_ = [part for part, e, b in zip(parts, equal, below, strict=True) if not (e or b)]
    worst = max(open_ or parts, key=rule.p)
    return {
        "expr": claim.floor.text,
        "benchmark": worst.benchmark,
        **_numbers(worst.estimate),
        "margin": margin,
        "p": _number(rule.p(worst)),
        "p_above": _number(above),
        "p_below": _number(worst.p(0.0, -better)),
        "equal": all(equal),
        "above": above < PLACEBO_ALPHA and not all(equal),
        "below": not all(equal) and not open_,
    }


def _floor_note(floor: Mapping[str, Any]) -> str:
    """Why a placebo that is not above its floor is not known to be equal to it or below either."""
    low, high = floor["ci"]
    ends = "" if low is None else f" (95 % CI {low:.3f} to {high:.3f} on {floor['benchmark']})"
    return (
        f"the placebo is neither shown to be equal to its floor {floor['expr']}, within {floor['margin']:g}, nor to "
        f"lie below it{ends}"
    )


def _below(row: Mapping[str, Any]) -> str:
    arm, measure, benchmark = row["arm"], row["measure"], row["benchmark"]
    return f"{arm} reaches {row['value']:.3f} {measure} on {benchmark}, below its level of {row['level']:g}"


def _timed(judged: Judged, timings: Mapping[str, Mapping[str, Any]], engine: Engine, alpha: float) -> Judged:
    """A claim about a ratio of seconds, against its `bound` (1 where it claims only the direction)."""
    name, guard = judged.claim.timing, judged.claim.guard
    measured = timings.get(name or "")
    if measured is None:
        judged.missing = f"timing {name}"
        return judged
    if guard:
        try:
            judged.guard = _guard(guard, engine, [measured["benchmark"]], False, f"{judged.claim.id} guard", alpha)
        except NotRun as e:
            judged.missing = str(e)
            return judged
    if not measured["sound"]:
        judged.unsound = f"timing {name}: {measured['fault']}"
    evidence = statistics.timing(measured["ratio"], measured["ci"], measured["n"])
    judged.parts = judged.decisive = (Part(f"timing {name}", evidence),)
    if not judged.unsound:
        judged.combine()
    return judged


def _guard(
    guard: Expression, engine: Engine, benchmarks: Sequence[str], macro: bool, key: str, alpha: float
) -> dict[str, Any]:
    """The losing arm against its floor: > 0 on every benchmark of the claim (macro: on their mean)."""
    parts = [engine.macro(guard, benchmarks, "mean", key)] if macro else engine.parts(guard, benchmarks, "mean", key)
    p, weakest = max(((part.p(0.0, 1), part) for part in parts), key=lambda pair: pair[0])
    row = _numbers(weakest.estimate)
    return {"expr": guard.text, "benchmark": weakest.benchmark, **row, "p": _number(p), "passed": p < alpha}


def _result(j: Judged, verdicts: bool, alpha: float, m: int) -> dict[str, Any]:
    c, kind = j.claim, j.claim.kind
    verdict = j.verdict(verdicts, alpha, m)
    shown = j.refuting if verdict == "not reproduced" else j.shown
    e = shown.estimate if shown and not j.missing else None
    needed = j.rule.needed_n(e, alpha / m) if e and verdict == "inconclusive" else None
    reads = kind.reads if kind else ()
    if e and needed and needed <= e.n_units:
        needed = None  # there are enough units: the effect lies between the null and the target
    return {
        "id": c.id,
        "kind": kind.name if kind else None,
        "role": c.role,
        "origin": c.origin,
        "sentence": c.sentence,
        "restated": c.restated,
        "measure": c.measure,
        "expr": c.expr,
        "levels": [level.text for level in c.levels],
        "quantity": c.quantity,
        "combine": c.combine,
        "verdict": verdict,
        "note": j.note(verdict),
        "benchmark": shown.benchmark if shown and e else None,
        **(_numbers(e) if e else {"effect": None, "ci": [None, None], "n": None, "clusters": None, "seeds": None}),
        "p": _number(j.p) if e and c.tested else None,
        "p_holm": _number(j.p_holm),
        "p_permutation": _number(j.rule.permutation(shown)) if e and shown and c.tested else None,
        "p_refuted": _number(j.p_refuted_holm),
        "seed_sd": _seed_sd(e),
        **{key: value if key in reads else None for key, value in c.bounds._asdict().items()},
        "needed_n": needed,
        "n_effective": _number(e.n_effective) if isinstance(e, Estimate | Proportion) else None,
        "detectable": _number(j.rule.detectable(j.decisive, c.combine, alpha / m)) if e and c.tested else None,
        "where": c.where,
        "terms": [list(term) for term in c.expression.terms] if c.expression else [],
        "guard": j.guard,
        "floor": j.floor,
        "below_level": j.below_level,
        "differs": _number(j.differs),
        "per_benchmark": [
            {
                "benchmark": part.benchmark,
                **_numbers(part.estimate),
                "p": _number(j.rule.p(part)),
                "unit_sd": _unit_sd(part.estimate),
                "seed_sd": _seed_sd(part.estimate),
            }
            for part in j.parts
        ],
    }


def _numbers(e: Evidence) -> dict[str, Any]:
    low, high = interval(e)
    return {
        "effect": _number(e.effect),
        "ci": [_number(low), _number(high)],
        "n": e.n_units,
        "clusters": e.n_clusters,
        "seeds": e.n_seeds,
    }


def _unit_sd(e: Evidence) -> float | None:
    """Standard deviation of a unit that explains the variance over clusters, were units independent."""
    return _number(math.sqrt(e.unit_variance * e.n_units)) if isinstance(e, Estimate) else None


def _seed_sd(e: Evidence | None) -> float | None:
    """Standard deviation of the effect between seeds, where there are several."""
    if not isinstance(e, Estimate) or e.n_seeds < 2:
        return None
    return _number(math.sqrt(e.seed_variance * e.n_seeds))


def _number(x: float | None) -> float | None:
    return round(float(x), 6) + 0.0 if x is not None and math.isfinite(x) else None
