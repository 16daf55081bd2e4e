"""What makes a result suspect, whatever its numbers say: each of these keeps a claim from being `reproduced`.

- A placebo passed that shares an arm with the claim: without its key ingredient the comparison still comes out.
- A placebo is equal, unit by unit, to an arm of the claim, or its output is the same: nothing was destroyed.
- The arm reaches its ceiling on every unit, and its rival does not: it orders its candidates as the truth does.
- The arm hands back its candidates in the order in which it was given them, on all units or all but a few: whatever it
  wins, its candidates won. (An arm whose function is to do that is exempt.)
- An arm that is to be no worse than another, or equal to it, is the other on all units or all but a few: nothing
  happened that could have done harm.

And what makes a rival none: a shared baseline below the level that its card asks of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rankrepro.claims import Claim, Expression, Levels, Term
from rankrepro.errors import RankReproError
from rankrepro.judge import measures
from rankrepro.judge.estimates import Engine, Lookup, NotRun, differences
from rankrepro.judge.statistics import MIN_CLUSTERS
from rankrepro.judge.values import INPUT, ORACLE

Values = dict[str, float]  # unit -> value, seeds averaged
HARMLESS = ("noninferiority", "equivalence")


def of(
    claim: Claim, claims: Sequence[Claim], passed: Sequence[Claim], engine: Engine, benchmarks: Sequence[str]
) -> str:
    """The first alarm that rings for a claim; empty where none does.

    claims      those of the card
    passed      its placebos that passed
    benchmarks  those that the claim was judged on
    """
    assert claim.expression is not None and claim.kind is not None
    for placebo in passed:
        if _arms(placebo.expression) & _arms(claim.expression):
            return f"the placebo {placebo.id} passed, so this comparison shows nothing"
    for placebo in (c for c in claims if c.role == "placebo"):
        if same := _same_as_placebo(claim.expression, placebo, engine, benchmarks):
            return same
    if claim.kind.direction >= 0 and claim.expression.difference:
        arm, rival = claim.expression.difference
        # where both are, the order does not count: R@100 of 100 documents
        if all(_at_ceiling(arm, engine, b) and not _at_ceiling(rival, engine, b) for b in benchmarks):
            return f"{arm.arm} reaches its ceiling in {arm.measure} on every unit"
    return _idle(claim, engine, benchmarks)


def differing(expression: Expression, engine: Engine, benchmarks: Sequence[str]) -> float | None:
    """The share of units on which the two arms of a plain difference have different values; None for anything else."""
    each = [differences(expression, engine.sample(expression, b)) for b in benchmarks]
    if any(d is None for d in each):
        return None
    return float(np.mean(np.abs(np.concatenate(each)) > 1e-12))


def below_level(arms: Iterable[str], lookup: Lookup, benchmarks: Sequence[str], levels: Levels) -> list[dict[str, Any]]:
    """Those of a claim's arms that do not reach the level of their card: arm, benchmark, measure, level, value."""
    rows = []
    for arm in dict.fromkeys(arms):
        for measure, at in levels.get(arm, {}).items():
            for benchmark in (b for b in benchmarks if b in at):
                values = _values(Term(arm, measure), lookup, benchmark)
                mean = float(np.mean(list(values.values()))) if values else None
                if mean is not None and mean < at[benchmark]:
                    told = {"arm": arm, "benchmark": benchmark, "measure": measure}
                    rows.append(told | {"level": at[benchmark], "value": round(mean, 6)})
    return rows


def _arms(expression: Expression | None) -> set[str]:
    return {term.arm for term in expression.terms} if expression else set()


def _values(term: Term, lookup: Lookup, benchmark: str) -> Values | None:
    """The means over seeds of every unit; None where the arm was not run there, or the measure is pooled."""
    if measures.get(term.measure).pooled:
        return None
    try:
        found, _ = lookup(term.arm, benchmark, term.measure)
    except (KeyError, NotRun, RankReproError):
        return None
    return {unit: float(np.mean(v)) for unit, v in found.items()}


def _equal(a: Values | None, b: Values | None) -> bool:
    """Whether both are the same on all units they share, which are enough to be no accident."""
    shared = set(a or ()) & set(b or ())
    enough = a is not None and b is not None and len(shared) >= MIN_CLUSTERS
    return enough and all(_same(a[u], b[u]) for u in shared)  # type: ignore[index]


def _same(x: float, y: float) -> bool:
    return math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-12)


def _same_as_placebo(expression: Expression, placebo: Claim, engine: Engine, benchmarks: Sequence[str]) -> str:
    if placebo.expression is None:
        return ""
    destroyed = placebo.expression.terms[0]
    named = _arms(placebo.expression) | _arms(placebo.floor)
    for term in (t for t in expression.terms if t.arm not in named):
        of_placebo = Term(destroyed.arm, term.measure)
        both = [(_material(term, engine.lookup, b), _material(of_placebo, engine.lookup, b)) for b in benchmarks]
        ran = [(a, b) for a, b in both if a and b]
        if ran and all(_identical(a, b) for a, b in ran):
            return f"{destroyed.arm}, a placebo, is equal to {term.arm} on every unit"
    return ""


def _material(term: Term, lookup: Lookup, benchmark: str) -> Mapping[str, Any] | None:
    """Unit -> what the measure is made of, for each seed: of a pooled one the scores themselves."""
    try:
        return lookup(term.arm, benchmark, term.measure)[0]
    except (KeyError, NotRun, RankReproError):
        return None


def _identical(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether the material of all shared units is the same, seed by seed, and there is enough of it."""
    shared = a.keys() & b.keys()
    return len(shared) >= MIN_CLUSTERS and all(_alike(a[u], b[u]) for u in shared)


def _alike(x: Any, y: Any) -> bool:
    if isinstance(x, int | float) and isinstance(y, int | float):
        return _same(x, y)
    return len(x) == len(y) and all(map(_alike, x, y))


def _at_ceiling(arm: Term, engine: Engine, benchmark: str) -> bool:
    """Whether the arm has the best possible order of its candidates, or the best value there is, on every unit."""
    measure, values = measures.get(arm.measure), _values(arm, engine.lookup, benchmark)
    if not values or measure.direction < 0:
        return False
    best = _values(Term(ORACLE + arm.arm, arm.measure), engine.lookup, benchmark)
    if best is None:
        best = dict.fromkeys(values, measure.limits[1])
    return _equal(values, best)


def _idle(claim: Claim, engine: Engine, benchmarks: Sequence[str]) -> str:
    """An arm that hands back its candidates; of a claim to do no harm also one that is its rival, or a guard's arm."""
    pair = claim.expression.difference if claim.expression else None
    if pair is None or claim.kind is None or claim.kind.direction < 0:
        return ""
    arm, (handed, n) = pair[0], _changed(pair[0], Term(INPUT + pair[0].arm, pair[0].measure), engine, benchmarks)
    # where the order does not count, as in R@100 of 100 documents, it is also the best one
    if n and handed < MIN_CLUSTERS and not all(_at_ceiling(arm, engine, b) for b in benchmarks):
        return f"{arm.arm} hands back the order that it is given on {n - handed} of {n} units"
    if claim.kind.name not in HARMLESS:
        return ""
    rivals = dict.fromkeys([pair[1], *(claim.guard.terms if claim.guard else ())])
    for rival in (r for r in rivals if r.arm != arm.arm and r.measure == arm.measure):
        changed, n = _changed(arm, rival, engine, benchmarks)
        if n and not changed:
            return f"{arm.arm} and {rival.arm} are identical on all {n} units"
        if n and changed < MIN_CLUSTERS:
            return f"{arm.arm} and {rival.arm} differ on {changed} of {n} units"
    return ""


def _changed(a: Term, b: Term, engine: Engine, benchmarks: Sequence[str]) -> tuple[int, int]:
    """On how many units two rows differ, and of how many."""
    both = [(_values(a, engine.lookup, x), _values(b, engine.lookup, x)) for x in benchmarks]
    units = [(x[u], y[u]) for x, y in both if x and y for u in set(x) & set(y)]
    return sum(not _same(x, y) for x, y in units), len(units)
