"""Claims: parse a card's expressions, estimate them on every benchmark, and give each claim its verdict.

Kinds, with the null each must reject and the target that decides "not reproduced":

| kind           | effect                                        | null      | target             |
|----------------|-----------------------------------------------|-----------|--------------------|
| superiority    | expr                                          | 0         | min_effect         |
| trend          | slope of `levels` (ordered), per level        | 0         | min_effect         |
| share          | share of units with expr > 0                  | bound     | bound + min_effect |
| noninferiority | expr                                          | -margin   | -margin            |
| ratio          | expr (or a `timing`), smaller is better       | bound (1) | bound              |
| equivalence    | expr, two one-sided tests                     | +-margin  | +-margin           |
| identity       | true by construction: no test, never counted  |           |                    |

Over several benchmarks a claim combines as `all_of` (p is the largest, every benchmark must agree), `any_of` (Holm: the
smallest p times their number) or `macro` (mean effect; for a share: the benchmarks are the units).

Reproduced: Holm-adjusted p < alpha over the card's m claims, and the interval at 1 - alpha / m excludes the null, and
the effect reaches the target. Not reproduced: the 95 % interval excludes the target. Otherwise inconclusive. A claim
that is not run still counts in m, so that a verdict does not change as others come in.
"""

from __future__ import annotations

import ast
import math
import operator
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rankrepro.errors import ClaimError, UnknownName
from rankrepro.judge import measures, statistics
from rankrepro.judge.statistics import (
    Array,
    Estimate,
    Evidence,
    Pooled,
    Proportion,
    Sample,
    Timing,
    interval,
    p_value,
)

KINDS = ("superiority", "noninferiority", "equivalence", "ratio", "trend", "share", "identity")
ROLES = ("claim", "placebo", "identity")
COMBINE = ("all_of", "any_of", "macro")
MIN_EFFECT = 0.01
PLACEBO_ALPHA = 0.001

Claim = Mapping[str, Any]
# (arm, benchmark, measure) -> unit -> one value (or material of a pooled measure) per seed, and unit -> cluster label
Lookup = Callable[[str, str, str], tuple[Mapping[str, Sequence[Any]], Mapping[str, str]]]


# --- expressions -----------------------------------------------------------------------------------------------------


class Term(NamedTuple):
    arm: str  # "<card>.<arm>"
    measure: str


@dataclass(frozen=True)
class Expression:
    """Arithmetic over the means of terms; call it with term -> array."""

    text: str
    terms: tuple[Term, ...]
    value: Callable[[Mapping[Any, Array]], Array]

    def __call__(self, values: Mapping[Any, Array]) -> Array:
        return self.value(values)

    @property
    def difference(self) -> tuple[Term, Term] | None:
        """The two terms of a plain m(a) - m(b)."""
        match _body(self.text), self.terms:
            case ast.BinOp(left=ast.Call(func=ast.Name("m")), op=ast.Sub(), right=ast.Call(func=ast.Name("m"))), (a, b):
                return a, b
        return None


_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda a, b: np.divide(a, b),
}
_FUNCTIONS: dict[str, Callable[[list[Array]], Array]] = {
    "abs": lambda v: np.abs(v[0]),
    "min": lambda v: np.minimum.reduce(np.broadcast_arrays(*v)),
    "max": lambda v: np.maximum.reduce(np.broadcast_arrays(*v)),
    "mean": lambda v: np.mean(np.broadcast_arrays(*v), axis=0),
}


def parse(
    expr: str, card: str = "", measure: str = "", arms: Sequence[str] | None = None, claim: str = ""
) -> Expression:
    """An expression of numbers, + - * /, abs, min, max, mean and m(arm[, "measure"]).

    card     owner of bare arm names: m(bm25) is m(<card>.bm25)
    measure  of terms that name none
    arms     the arms that exist, if they are to be checked
    claim    its id, for ClaimError
    """
    where = f"claim '{claim}': " if claim else ""
    terms: list[Term] = []

    def fail(why: str) -> ClaimError:
        return ClaimError(f"{where}{why} in '{expr}'")

    def term(call: ast.Call) -> Term:
        if not 1 <= len(call.args) <= 2 or call.keywords:
            raise fail('m() takes an arm and, if it is not the claim\'s, a measure: m(card.arm, "nDCG@10")')
        arm = _name(call.args[0])
        if not arm:
            raise fail(f"'{ast.unparse(call.args[0])}' is not an arm (write m(arm) or m(card.arm))")
        arm = f"{card}.{arm}" if card and "." not in arm else arm
        named = call.args[1] if len(call.args) == 2 else ast.Constant(measure)
        if not isinstance(named, ast.Constant) or not isinstance(named.value, str) or not named.value:
            raise fail(f"m({arm}) has no measure: quote one, or give the claim a measure")
        try:
            if arms is not None and arm not in arms:
                raise UnknownName("arm", arm, arms)
            measures.get(named.value)
        except UnknownName as e:
            raise fail(str(e)) from None
        return Term(arm, named.value)

    def build(node: ast.expr) -> Callable[[Mapping[Any, Array]], Array]:
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                constant: Array = np.asarray(number, dtype=float)
                return lambda values: constant
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                inner = build(operand)
                return lambda values: -inner(values)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                apply, a, b = _OPERATORS[type(op)], build(left), build(right)
                return lambda values: apply(a(values), b(values))
            case ast.Call(func=ast.Name(id="m")):
                key = term(node)
                if key not in terms:
                    terms.append(key)
                return lambda values: values[key]
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS and args:
                if name == "abs" and len(args) != 1:
                    raise fail("abs() takes one value")
                function, parts = _FUNCTIONS[name], [build(a) for a in args]
                return lambda values: function([p(values) for p in parts])
        raise fail(f"'{ast.unparse(node)}' is not allowed (numbers, + - * /, m(), abs(), min(), max(), mean())")

    try:
        value = build(_body(expr))
    except (SyntaxError, ValueError, RecursionError) as e:
        raise ClaimError(f"{where}'{expr}' is not an expression ({e})") from None
    if not terms:
        raise fail("no m() term")
    return Expression(expr, tuple(terms), value)


def _body(expr: str) -> ast.expr:
    return ast.parse(str(expr).strip(), mode="eval").body


def _name(node: ast.expr) -> str:
    """'a' or 'a.b' of a name or attribute, else ''."""
    if isinstance(node, ast.Attribute):
        owner = _name(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return node.id if isinstance(node, ast.Name) else ""


def expressions(
    claim: Claim, card: str = "", arms: Sequence[str] | None = None
) -> tuple[Expression, Expression | None]:
    """The claim's expression (of a trend: the slope over its levels) and its guard. ClaimError says what is wrong."""
    name, measure = str(claim.get("id", "")), str(claim.get("measure", "nDCG@10"))
    for key, value, known in (
        ("kind", claim.get("kind", "superiority"), KINDS),
        ("role", claim.get("role", "claim"), ROLES),
        ("combine", claim.get("combine", "all_of"), COMBINE),
    ):
        if value not in known:
            raise ClaimError(str(UnknownName(key, str(value), known, where=f"claim '{name}'")))
    if claim.get("kind") in ("noninferiority", "equivalence") and not float(claim.get("margin", 0)) > 0:
        raise ClaimError(f"claim '{name}': a claim of kind {claim['kind']} needs a 'margin' above 0")

    def read(text: str) -> Expression:
        return parse(text, card, measure, arms, name)

    guard = read(claim["guard"]) if claim.get("guard") else None
    if claim.get("kind") != "trend":
        if not claim.get("expr"):
            raise ClaimError(f"claim '{name}' has no 'expr'")
        return read(claim["expr"]), guard
    levels = [read(text if "(" in text else f"m({text})") for text in claim.get("levels", ())]
    if len(levels) < 3:
        raise ClaimError(
            f"claim '{name}': a trend needs three or more 'levels', ordered so that the effect should rise"
        )
    x = np.arange(len(levels)) - (len(levels) - 1) / 2
    slopes = x / (x**2).sum()

    def slope(values: Mapping[Any, Array]) -> Array:
        return np.sum([s * level(values) for s, level in zip(slopes, levels, strict=True)], axis=0)

    terms = tuple(dict.fromkeys(t for level in levels for t in level.terms))
    return Expression(" < ".join(level.text for level in levels), terms, slope), guard


# --- estimates -------------------------------------------------------------------------------------------------------


class NotRun(Exception):
    """Something the claim needs has not been run; says what."""


@dataclass(frozen=True)
class Part:
    """The estimate of one benchmark, or "macro" of all."""

    benchmark: str
    estimate: Evidence


@dataclass(frozen=True)
class Rule:
    """What an estimate must show. direction 1: effect above the null; -1: below; 0: within +-margin of 0."""

    direction: int
    null: float
    target: float

    @staticmethod
    def of(claim: Claim) -> Rule:
        min_effect, margin = float(claim.get("min_effect", MIN_EFFECT)), float(claim.get("margin", 0))
        match claim.get("kind", "superiority"):
            case "noninferiority":
                return Rule(1, -margin, -margin)
            case "equivalence":
                return Rule(0, margin, margin)
            case "ratio":
                bound = float(claim.get("bound", 1))
                return Rule(-1, bound, bound)
            case "share":
                bound = float(claim.get("bound", 0.5))
                return Rule(1, bound, bound + min_effect)
        return Rule(1, 0.0, min_effect)

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
        power = 0.9 if self.direction == 0 else 0.8
        z = statistics.deviates(alpha, power)
        if isinstance(e, Timing):
            return self.null * math.exp(-z * e.log_se)
        if isinstance(e, Proportion):
            se = math.sqrt(max(self.null * (1 - self.null), 0.0) / e.n_effective)
            return min(1.0, self.null + z * se)
        return z * e.se if self.direction == 0 else self.null + self.direction * z * e.se

    def needed_n(self, e: Evidence, alpha: float) -> int | None:
        """Units that the smallest effect of interest needs to exclude the null, at the observed spread."""
        power = 0.9 if self.direction == 0 else 0.8  # both sides of an equivalence must hold
        wanted = self.target - self.null or abs(self.null)
        smallest = abs(e.effect - self.null) if self.direction < 0 else wanted
        if isinstance(e, Timing):
            return statistics.required_n(e.log_se * math.sqrt(e.n_units), abs(math.log(e.effect / self.null)), alpha)
        if isinstance(e, Proportion):
            spread = math.sqrt(max(self.null * (1 - self.null), 0.0) * e.n_units / e.n_effective)
            return statistics.required_n(spread, smallest, alpha, power)
        spread = math.sqrt(e.unit_variance * e.n_units)
        return statistics.required_n(spread, smallest, alpha, power, e.seed_variance)


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

    def parts(self, expression: Expression, benchmarks: Sequence[str], kind: str, key: str) -> list[Part]:
        if kind == "share":
            return [Part(b, self.share(expression, b)) for b in benchmarks]
        return [Part(b, self.estimate(expression, [b], key)) for b in benchmarks]

    def macro(self, expression: Expression, benchmarks: Sequence[str], kind: str, key: str) -> Part:
        if kind != "share":
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
    return max(v.seeds if isinstance(v, Pooled) else len(v) for v in sample.values.values())


# --- verdicts --------------------------------------------------------------------------------------------------------


@dataclass
class Judged:
    """A claim on its way to a verdict."""

    claim: Claim
    kind: str
    role: str
    combine: str
    missing: str = ""
    unsound: str = ""
    parts: tuple[Part, ...] = ()  # per benchmark
    decisive: tuple[Part, ...] = ()  # those that decide: the same, or the macro part
    p: float = 1.0
    p_holm: float | None = None
    guard: dict[str, Any] | None = None
    permutation: float | None = None
    expression: Expression | None = None

    @property
    def rule(self) -> Rule:
        return Rule.of(self.claim)

    @property
    def shown(self) -> Part | None:
        """The weakest benchmark of an all_of, the strongest of an any_of."""
        sign = -1 if self.combine == "any_of" else 1
        order = [(sign * self.rule.p(part.estimate), -sign * self._gain(part)) for part in self.decisive]
        return self.decisive[order.index(max(order))] if order else None

    def _gain(self, part: Part) -> float:
        effect = part.estimate.effect
        return -abs(effect) if self.rule.direction == 0 else self.rule.direction * effect

    def holds(self, level: float) -> bool:
        if self.combine == "any_of":
            level = 1 - (1 - level) / len(self.decisive)
            return any(self.rule.holds(part.estimate, level) for part in self.decisive)
        return all(self.rule.holds(part.estimate, level) for part in self.decisive)

    def excluded(self) -> bool:
        every = all if self.combine == "any_of" else any
        return every(self.rule.excluded(part.estimate) for part in self.decisive)

    def verdict(self, verdicts: bool, alpha: float, m: int) -> str:
        if self.kind == "identity":
            return "identity"
        if self.missing:
            return "not run"
        if not verdicts:
            return "smoke"
        if self.unsound:
            return "inconclusive"
        if self.role == "placebo":
            passed = self.p < PLACEBO_ALPHA and self.holds(1 - PLACEBO_ALPHA)
            return "placebo passed" if passed else "placebo failed as it must"
        if self.excluded():
            return "not reproduced"
        if self.guard and not self.guard["passed"]:
            return "baseline not competent"
        if self.p_holm is not None and self.p_holm < alpha and self.holds(1 - alpha / m):
            return "reproduced"
        return "inconclusive"


def judge_claims(
    claims: Sequence[Claim],
    lookup: Lookup,
    *,
    card: str,
    benchmarks: Sequence[str],
    verdicts: bool = True,
    tagged: Callable[[str, str], set[str]] = lambda benchmark, tag: set(),
    timings: Mapping[str, Mapping[str, Any]] | None = None,
    arms: Sequence[str] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    n_boot: int = statistics.DRAWS,
) -> list[dict[str, Any]]:
    """One result per claim, in the card's order, ready for JSON (None where there is no number).

    claims      the card's claims; those with nothing to evaluate are not specified yet and come back 'not run'
    lookup      (arm, benchmark, measure) -> unit -> list over seeds, and unit -> cluster label; KeyError: not run
    card        its key: a bare arm name is the card's own
    benchmarks  the benchmarks of the card at this scale
    verdicts    False at a scale that gives none: every claim that ran is 'smoke', on all benchmarks there are
    tagged      (benchmark, tag) -> units, for claims with `where`
    timings     name -> ratio, ci, sound, n, for claims with `timing`
    arms        every arm of every card, to catch misspelt ones (ClaimError)
    alpha       family-wise level of the card's claims
    n_boot      draws; with 1,000 or fewer no p-value could be below the level of placebos
    """
    if n_boot <= 1 / PLACEBO_ALPHA:
        raise ValueError(f"n_boot is {n_boot}: placebos are judged at {PLACEBO_ALPHA}, give more than 1,000 draws")
    judged = []
    for claim in claims:
        engine = Engine(lookup, tagged, str(claim.get("where", "")), seed, n_boot)
        over = claim.get("over", "all")
        chosen = [b for b in benchmarks if not verdicts or over == "all" or b in over]
        judged.append(_estimated(claim, engine, card, chosen, timings or {}, arms, alpha, strict=verdicts))
    family = [j for j in judged if j.role == "claim" and j.kind not in ("", "identity")]
    for j, p in zip(family, statistics.holm([j.p for j in family]), strict=True):
        j.p_holm = None if j.missing else p
    return [_result(j, verdicts, alpha, max(1, len(family))) for j in judged]


def _estimated(
    claim: Claim,
    engine: Engine,
    card: str,
    chosen: Sequence[str],
    timings: Mapping[str, Mapping[str, Any]],
    arms: Sequence[str] | None,
    alpha: float,
    strict: bool,
) -> Judged:
    """`strict`: every benchmark of the claim must have been run; else those that were are enough."""
    role = str(claim.get("role", "claim"))
    testable = any(claim.get(key) for key in ("expr", "levels", "timing"))
    kind = "identity" if role == "identity" else str(claim.get("kind", "superiority")) if testable else ""
    if claim.get("kind") == "identity":
        kind = "identity"
    # a leak on one benchmark is a leak: placebos pass if any benchmark lets them
    judged = Judged(claim, kind, role, str(claim.get("combine", "any_of" if role == "placebo" else "all_of")))
    if not kind:
        judged.missing = "the claim is not specified yet"
    if not kind or (kind == "identity" and not claim.get("expr")):
        return judged
    if claim.get("timing"):
        return _timed(judged, timings)
    expression, guard = expressions(claim, card, arms)
    judged.expression = expression
    name = str(claim["id"])
    if not strict:
        needed = [expression, *([guard] if guard else [])]
        chosen = [b for b in chosen if all(engine.ran(e, b) for e in needed)]
    try:
        if not chosen:
            raise NotRun("none of its benchmarks is one of this scale")
        judged.parts = tuple(engine.parts(expression, chosen, kind, name))
        macro = judged.combine == "macro"
        judged.decisive = (engine.macro(expression, chosen, kind, name),) if macro else judged.parts
        if guard and role != "placebo":
            judged.guard = _guard(guard, engine, chosen, macro, f"{name} guard", alpha)
    except NotRun as e:
        judged.missing = str(e)
        return judged
    ps = [judged.rule.p(part.estimate) for part in judged.decisive]
    judged.p = min(1.0, len(ps) * min(ps)) if judged.combine == "any_of" else max(ps)
    if kind == "superiority" and judged.shown and judged.shown.benchmark in chosen:
        judged.permutation = engine.permutation(expression, judged.shown.benchmark, name)
    return judged


def _timed(judged: Judged, timings: Mapping[str, Mapping[str, Any]]) -> Judged:
    """A claim about a ratio of seconds: of kind ratio, against its `bound` (1 where it claims only the direction)."""
    name, claim = judged.claim["timing"], judged.claim
    if judged.kind != "ratio":
        raise ClaimError(f"claim '{claim['id']}': a claim with a timing is of kind ratio, not {judged.kind}")
    measured = timings.get(name)
    if measured is None:
        judged.missing = f"timing {name}"
        return judged
    if not measured["sound"]:
        judged.unsound = f"timing {name}: the arm against itself does not come out at 1"
    evidence = statistics.timing(measured["ratio"], measured["ci"], measured["n"])
    judged.parts = judged.decisive = (Part(f"timing {name}", evidence),)
    judged.p = 1.0 if judged.unsound else judged.rule.p(evidence)
    return judged


def _guard(
    guard: Expression, engine: Engine, benchmarks: Sequence[str], macro: bool, key: str, alpha: float
) -> dict[str, Any]:
    """The losing arm against its floor: > 0 on every benchmark of the claim (macro: on their mean)."""
    parts = [engine.macro(guard, benchmarks, "", key)] if macro else engine.parts(guard, benchmarks, "", key)
    p, weakest = max(((p_value(part.estimate), part) for part in parts), key=lambda pair: pair[0])
    row = _numbers(weakest.estimate)
    return {"expr": guard.text, "benchmark": weakest.benchmark, **row, "p": _number(p), "passed": p < alpha}


def _result(j: Judged, verdicts: bool, alpha: float, m: int) -> dict[str, Any]:
    c, shown, rule = j.claim, j.shown, j.rule
    verdict = j.verdict(verdicts, alpha, m)
    e = shown.estimate if shown and not j.missing else None
    needed = rule.needed_n(e, alpha / m) if e and verdict == "inconclusive" else None
    if e and needed and needed <= e.n_units:
        needed = None  # there are enough units: the effect lies between the null and the target
    return {
        "id": c["id"],
        "kind": j.kind or None,
        "role": j.role,
        "sentence": c.get("sentence"),
        "restated": c.get("restated"),
        "measure": c.get("measure"),
        "expr": c.get("expr"),
        "combine": j.combine,
        "verdict": verdict,
        "note": j.missing or j.unsound or None,
        "benchmark": shown.benchmark if shown and e else None,
        **(_numbers(e) if e else {"effect": None, "ci": [None, None], "n": None, "clusters": None, "seeds": None}),
        "p": _number(j.p) if e and j.kind != "identity" else None,
        "p_holm": _number(j.p_holm),
        "p_permutation": _number(j.permutation),
        "seed_sd": _seed_sd(e),
        "min_effect": c.get("min_effect", MIN_EFFECT) if j.kind in ("superiority", "trend", "share") else None,
        "margin": c.get("margin"),
        "bound": c.get("bound", {"share": 0.5, "ratio": 1.0}.get(j.kind)),
        "needed_n": needed,
        "n_effective": _number(e.n_effective) if isinstance(e, Estimate | Proportion) else None,
        "detectable": _number(rule.detectable(e, alpha / m)) if e and j.kind != "identity" else None,
        "where": c.get("where"),
        "terms": [list(term) for term in j.expression.terms] if j.expression else [],
        "guard": j.guard,
        "per_benchmark": [
            {"benchmark": part.benchmark, **_numbers(part.estimate), "p": _number(rule.p(part.estimate))}
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


def _seed_sd(e: Evidence | None) -> float | None:
    """Standard deviation of the effect between seeds, where there are several."""
    if not isinstance(e, Estimate) or e.n_seeds < 2:
        return None
    return _number(math.sqrt(e.seed_variance * e.n_seeds))


def _number(x: float | None) -> float | None:
    return round(float(x), 6) + 0.0 if x is not None and math.isfinite(x) else None
