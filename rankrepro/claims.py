"""A card's claims, each parsed once: what is compared, what that has to show, and the words for it.

Everything that a kind of claim needs stands in KINDS: a new kind is one entry of that table and a test. The plan reads
which arms a claim names, the judge what it must show, the outlook how many units that takes, sentences and
`explain` the words. `parse` refuses a claim that cannot be judged, `check` one whose names do not exist, with the
nearest that does.

| kind           | effect                                                  | null      | target             |
|----------------|---------------------------------------------------------|-----------|--------------------|
| superiority    | expr                                                    | 0         | min_effect         |
| noninferiority | expr                                                    | -margin   | -margin            |
| equivalence    | expr, two one-sided tests                               | +-margin  | +-margin           |
| ratio          | expr or a `timing`, smaller is better                   | bound (1) | bound              |
| trend          | slope of `levels` (ordered), per level                  | 0         | min_effect         |
| growth         | slope of the difference that each of `levels` is        | 0         | min_effect         |
| share          | share of units with expr > 0                            | bound     | bound + min_effect |
| identity       | true by construction: no test, never counted            |           |                    |

A claim of `role: placebo` is the comparison with one ingredient destroyed, and names its `floor`: what its arm (the
first term of `expr`) is worth without that ingredient. That is a random order of the same candidates, the arm before
training where labels were destroyed, another draw where the choice itself was, or a number where chance is known: 0 for
what is found in thousands of documents. The placebo fails as it must where it is equal to its floor within `margin`, or
below it at 0.001: either way it has nothing to give (docs/statistics.md).
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from rankrepro.cards import Card, qualify, where_of
from rankrepro.errors import ClaimError, ConfigError, UnknownName

ROLES = ("claim", "placebo", "identity")
ORIGINS = {"paper": "a sentence of the paper", "control": "our stricter control", "ours": "our own question"}
COMBINE = ("all_of", "any_of", "macro")
MEASURE = "nDCG@10"  # of a claim that names none
MIN_EFFECT = 0.01
PLACEBO_MARGIN = 0.05  # within which a placebo must lie of its floor, where the card gives no margin
SEVERAL_RELEVANT = "several_relevant"  # two or more relevant documents (multi-hop)
TOLD_BY_TRUTH = (SEVERAL_RELEVANT,)  # tags that no query carries: the judge alone can tell


# --- expressions -----------------------------------------------------------------------------------------------------


class Term(NamedTuple):
    arm: str  # "<card>.<arm>"
    measure: str


@dataclass(frozen=True)
class Expression:
    """Arithmetic over the means of terms; call it with term -> array.

    tree: a Term, a number, or a tuple of an operator (`+ - * / neg abs min max mean sum`) and its operands.
    """

    text: str
    terms: tuple[Term, ...]
    tree: Any

    def __call__(self, values: Mapping[Any, Any]) -> Any:
        return _value(self.tree, values)

    def limits(self, of_term: Callable[[Term], tuple[float, float]]) -> tuple[float, float]:
        """The least and the largest value it can have, if each term lies between its own limits."""
        return _limits(self.tree, of_term)

    def renamed(self, naming: Callable[[str], str]) -> Expression:
        """The same of other arms: `naming` gives each its name."""

        def tree(node: Any) -> Any:
            if isinstance(node, Term):
                return Term(naming(node.arm), node.measure)
            return (node[0], *map(tree, node[1:])) if isinstance(node, tuple) else node

        return Expression(self.text, tuple(tree(term) for term in self.terms), tree(self.tree))

    @property
    def difference(self) -> tuple[Term, Term] | None:
        """The two terms of a plain m(a) - m(b)."""
        return self._pair("-")

    @property
    def ratio(self) -> tuple[Term, Term] | None:
        """The two terms of a plain m(a) / m(b)."""
        return self._pair("/")

    def _pair(self, operator: str) -> tuple[Term, Term] | None:
        match self.tree:
            case (str(op), Term() as a, Term() as b) if op == operator and a != b:
                return a, b
        return None


def _value(tree: Any, values: Mapping[Any, Any]) -> Any:
    import numpy as np

    if isinstance(tree, Term):
        return values[tree]
    if not isinstance(tree, tuple):
        return np.asarray(tree, dtype=float)
    operator, *operands = tree
    parts = [_value(operand, values) for operand in operands]
    match operator:
        case "neg":
            return -parts[0]
        case "+":
            return parts[0] + parts[1]
        case "-":
            return parts[0] - parts[1]
        case "*":
            return parts[0] * parts[1]
        case "/":
            return np.divide(parts[0], parts[1])
        case "abs":
            return np.abs(parts[0])
        case "min":
            return np.minimum.reduce(np.broadcast_arrays(*parts))
        case "max":
            return np.maximum.reduce(np.broadcast_arrays(*parts))
        case "mean":
            return np.mean(np.broadcast_arrays(*parts), axis=0)
        case "sum":
            return np.sum(np.broadcast_arrays(*parts), axis=0)
    raise AssertionError(operator)


def _limits(tree: Any, of_term: Callable[[Term], tuple[float, float]]) -> tuple[float, float]:
    """Interval arithmetic: never too narrow, too wide where a term stands twice."""
    if isinstance(tree, Term):
        return of_term(tree)
    if not isinstance(tree, tuple):
        return float(tree), float(tree)
    operator, *operands = tree
    lows, highs = zip(*(_limits(operand, of_term) for operand in operands), strict=True)
    match operator:
        case "neg":
            return -highs[0], -lows[0]
        case "+" | "sum":
            return sum(lows), sum(highs)
        case "-":
            return lows[0] - highs[1], highs[0] - lows[1]
        case "*":
            corners = [a * b if a and b else 0.0 for a in (lows[0], highs[0]) for b in (lows[1], highs[1])]
            return min(corners), max(corners)
        case "/":
            return (0.0 if lows[0] >= 0 and lows[1] >= 0 else -math.inf), math.inf
        case "abs":
            return max(lows[0], -highs[0], 0.0), max(abs(lows[0]), abs(highs[0]))
        case "min":
            return min(lows), min(highs)
        case "max":
            return max(lows), max(highs)
        case "mean":
            return sum(lows) / len(lows), sum(highs) / len(highs)
    raise AssertionError(operator)


_OPERATORS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_FUNCTIONS = ("abs", "min", "max", "mean")


def expression(text: str, card: str = "", measure: str = "", where: str = "", number: bool = False) -> Expression:
    """An expression of numbers, + - * /, abs, min, max, mean and m(arm[, "measure"]); nothing else is read.

    card     owner of bare arm names: m(bm25) is m(<card>.bm25)
    measure  of terms that name none
    where    file and claim, for the ClaimError
    number   one without any term will do
    """
    terms: list[Term] = []

    def fail(why: str) -> ClaimError:
        return ClaimError(f"{where + ': ' if where else ''}{why} in '{text}'")

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
        found = Term(arm, named.value)
        if found not in terms:
            terms.append(found)
        return found

    def tree(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return float(number)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return ("neg", tree(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return (_OPERATORS[type(op)], tree(left), tree(right))
            case ast.Call(func=ast.Name(id="m")):
                return term(node)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS and args:
                if name == "abs" and len(args) != 1:
                    raise fail("abs() takes one value")
                return (name, *map(tree, args))
        raise fail(f"'{ast.unparse(node)}' is not allowed (numbers, + - * /, m(), abs(), min(), max(), mean())")

    try:
        parsed = tree(ast.parse(str(text).strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        raise ClaimError(f"{where + ': ' if where else ''}'{text}' is not an expression ({e})") from None
    if not terms and not number:
        raise fail("no m() term")
    return Expression(text, tuple(terms), parsed)


def _name(node: ast.expr) -> str:
    """'a' or 'a.b' of a name or attribute, else ''."""
    if isinstance(node, ast.Attribute):
        owner = _name(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return node.id if isinstance(node, ast.Name) else ""


def slope(levels: Sequence[Expression]) -> Expression:
    """The least-squares slope of expressions over their positions 0, 1, 2, ..."""
    x = [i - (len(levels) - 1) / 2 for i in range(len(levels))]
    square = sum(v**2 for v in x)
    parts = [("*", v / square, level.tree) for v, level in zip(x, levels, strict=True)]
    terms = tuple(dict.fromkeys(t for level in levels for t in level.terms))
    return Expression(" < ".join(level.text for level in levels), terms, ("sum", *parts))


# --- kinds -----------------------------------------------------------------------------------------------------------


class Bounds(NamedTuple):
    """What a claim's effect is held against."""

    min_effect: float = MIN_EFFECT
    margin: float = 0.0
    bound: float = 0.0


@dataclass(frozen=True)
class Words:
    """How an effect is spoken of. The texts are templates; `rankrepro.report.sentences` fills them.

    effect    what `explain` calls it
    axis      the title of its axis: {measure}
    found     what was measured, by the form the claim has: `timing`, `difference` and `ratio` (two plain terms),
              `arm` (one), `any` (a quantity or an expression in words: {subject})
    subject   what moves, where the claim gives no quantity and the expression is not to be read out: {measure}
    refuted   the interval excludes the target
    shows     what the units there are could show: {detectable}
    needs     what more units would be needed for
    reaches   nothing is shown or refuted, where "too few data" does not say why
    holds     added to a claim that is reproduced, where the finding alone does not say so
    against   what would change our mind about it
    percent   numbers are shares of 100
    digits    behind the point
    """

    effect: str
    axis: str
    found: Mapping[str, str]
    refuted: str
    shows: str
    needs: str
    against: str
    subject: str = ""
    holds: str = ""
    reaches: str = ""
    percent: bool = False
    digits: int = 3


@dataclass(frozen=True)
class Kind:
    """All that one kind of claim needs.

    direction  1: the effect must lie above the null; -1: below; 0: within +-null
    null       what the interval must exclude
    target     what the effect must reach: an interval at the level of the card that excludes it refutes the claim
    requires   keys of a claim of this kind
    reads      which of `min_effect`, `margin` and `bound` it is held against
    bound      where the claim gives none
    compose    makes one expression of `levels`, of which there are at least `fewest`, each with `terms` terms or more
    estimate   of a mean of the expression, or of the share of units on which it is above 0
    spread     where the outlook has a unit's spread from, if nothing was measured
    power      of the outlook: the chance to show an effect that is there
    timed      may stand on a `timing` instead of an expression
    log        its axis is logarithmic
    """

    name: str
    words: Words
    direction: int = 1
    null: Callable[[Bounds], float] = lambda b: 0.0
    target: Callable[[Bounds], float] = lambda b: b.min_effect
    requires: tuple[str, ...] = ("expr",)
    reads: tuple[str, ...] = ("min_effect",)
    bound: float = 0.0
    compose: Callable[[Sequence[Expression]], Expression] | None = None
    fewest: int = 0
    terms: int = 1
    estimate: Literal["mean", "share"] = "mean"
    spread: Literal["assumed", "binomial", "measured"] = "assumed"
    power: float = 0.8
    timed: bool = False
    log: bool = False

    def bounds(self, given: Mapping[str, Any]) -> Bounds:
        """The bounds of a claim (or of its result), with this kind's defaults."""
        defaults = Bounds(bound=self.bound)._asdict()
        return Bounds(**{k: float(v if given.get(k) is None else given[k]) for k, v in defaults.items()})

    def no_effect(self, bounds: Bounds) -> float:
        """Where there is none: 0, the bound of a ratio or share, the margin a noninferior arm may lose."""
        return self.null(bounds) if self.direction else 0.0


_DIFFERENCE = {
    "difference": "{compared} ({size_evidence})",
    "arm": "{measure} of {a} is {value} ({evidence})",
    "any": "{subject} is {signed}{in_measure} ({evidence})",
}
_GAIN = Words(
    effect="difference",
    axis="difference in {measure}",
    found=_DIFFERENCE,
    refuted="Even the optimistic end of the interval is below {min_effect}, the smallest gain we would count",
    shows="differences of {detectable} or more",
    needs="{min_effect}",
    against="an effect below {min_effect} or an interval reaching 0",
)
_RISE = Words(
    effect="slope per level",
    axis="rise of {measure} per level",
    found={"any": "{subject} {rises} by {size} per level ({size_evidence})"},
    subject="{measure}",
    refuted="Even the optimistic end of the interval is below {min_effect} per level, the smallest rise we would count",
    shows="slopes of {detectable} or more",
    needs="{min_effect}",
    against="a slope below {min_effect} or an interval reaching 0",
)

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("superiority", _GAIN),
        Kind(
            "noninferiority",
            Words(
                effect="difference",
                axis="difference in {measure}",
                found=_DIFFERENCE,
                refuted="The whole interval lies below {null}: the loss is larger than the margin",
                shows="effects of {detectable} or more to lose less than the margin",
                needs="an effect of 0",
                holds="no loss beyond the margin of {margin}",
                reaches="The interval reaches beyond {null}, so a loss larger than the margin is not ruled out",
                against="an interval reaching {null} (worse by the margin)",
            ),
            null=lambda b: -b.margin,
            target=lambda b: -b.margin,
            requires=("expr", "margin"),
            reads=("margin",),
        ),
        Kind(
            "equivalence",
            Words(
                effect="difference",
                axis="difference in {measure}",
                found=_DIFFERENCE,
                refuted="The whole interval lies outside ±{margin}: the difference is larger than the margin",
                shows="equality within ±{detectable}",
                needs="±{margin}",
                holds="equal within ±{margin}",
                reaches="The interval reaches beyond ±{margin}, so a difference that counts is not ruled out",
                against="an interval reaching ±{margin}",
            ),
            direction=0,
            null=lambda b: b.margin,
            target=lambda b: b.margin,
            requires=("expr", "margin"),
            reads=("margin",),
            power=0.9,  # both sides must hold
        ),
        Kind(
            "ratio",
            Words(
                effect="ratio",
                axis="ratio ({measure}), smaller is better",
                found={
                    "timing": "{a} takes {value} times the seconds of {b} ({evidence})",
                    "ratio": "{measure} of {a} is {value} times that of {b} ({evidence})",
                    "any": "{subject} is {value}{in_measure} ({evidence})",
                },
                refuted="Even the optimistic end of the interval is above {bound}",
                shows="ratios of {detectable} or less",
                needs="the ratio as observed",
                against="an interval reaching {bound}",
                digits=2,
            ),
            direction=-1,
            null=lambda b: b.bound,
            target=lambda b: b.bound,
            reads=("bound",),
            bound=1.0,
            spread="measured",
            timed=True,
            log=True,
        ),
        Kind("trend", _RISE, requires=("levels",), compose=slope, fewest=3),
        Kind(
            "growth",
            Words(
                effect="growth of the difference per level",
                axis="growth of the difference in {measure} per level",
                found={"any": "{subject} {grows} by {size} per level ({size_evidence})"},
                subject="the difference in {measure}",
                refuted=(
                    "Even the optimistic end of the interval is below {min_effect} per level, the smallest growth we "
                    "would count"
                ),
                shows="growth of {detectable} per level or more",
                needs="{min_effect}",
                against="growth below {min_effect} per level or an interval reaching 0",
            ),
            requires=("levels",),
            compose=slope,
            fewest=2,
            terms=2,
        ),
        Kind(
            "share",
            Words(
                effect="share of units",
                axis="share of units won",
                found={
                    "difference": "{a} beats {b} in {measure} on {value} of {where} ({ci})",
                    "any": "{subject} is above 0{in_measure} on {value} of {where} ({ci})",
                },
                refuted="Even the optimistic end of the interval is below {target}",
                shows="a share of {detectable} or more",
                needs="{target}",
                against="a share below {target} or an interval reaching {bound}",
                percent=True,
                digits=0,
            ),
            null=lambda b: b.bound,
            target=lambda b: b.bound + b.min_effect,
            reads=("min_effect", "bound"),
            bound=0.5,
            estimate="share",
            spread="binomial",
        ),
        Kind("identity", _GAIN, requires=(), reads=()),
    )
}


# --- claims ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """A claim as the card means it, defaults filled in.

    card        key of the card it stands in
    kind        None: the card does not say yet how the sentence is tested
    expression  what is estimated, of `levels` their slope; None for a timing and where nothing is tested
    levels      the expressions of a trend or growth, in the order in which they should rise
    over        benchmarks; None: all of the card's
    where       only units with this tag
    floor       of a placebo: its arm (the first term) against what that must be equal to, 0 where it is
    quantity    in words what the expression is, where it is no plain difference
    """

    card: str
    id: str
    sentence: str
    kind: Kind | None
    role: str = "claim"
    origin: str = "paper"
    measure: str | None = None
    expression: Expression | None = None
    levels: tuple[Expression, ...] = ()
    guard: Expression | None = None
    floor: Expression | None = None
    over: tuple[str, ...] | None = None
    combine: str = "all_of"
    where: str | None = None
    timing: str | None = None
    bounds: Bounds = field(default_factory=Bounds)
    quantity: str | None = None
    restated: str | None = None
    test: str | None = None

    @property
    def identity(self) -> bool:
        return self.kind is not None and self.kind.name == "identity"

    @property
    def tested(self) -> bool:
        """Whether it is given a verdict by statistics."""
        return self.kind is not None and not self.identity

    @property
    def counted(self) -> bool:
        """Whether it is one of the m claims over which the card's error level is divided, run or not."""
        return self.tested and self.role == "claim"

    @property
    def null(self) -> float:
        assert self.kind is not None
        return self.kind.null(self.bounds)

    @property
    def target(self) -> float:
        assert self.kind is not None
        return self.kind.target(self.bounds)

    @property
    def expr(self) -> str | None:
        """The expression as the card writes it; None where it is made of levels."""
        return self.expression.text if self.expression and not self.levels else None

    @property
    def terms(self) -> tuple[Term, ...]:
        """What the claim reads, of its guard and floor too."""
        each = (e.terms for e in (self.expression, self.guard, self.floor) if e)
        return tuple(dict.fromkeys(term for terms in each for term in terms))

    @property
    def floor_margin(self) -> float:
        """How far from its floor a placebo may lie."""
        return self.bounds.margin or PLACEBO_MARGIN

    def renamed(self, naming: Callable[[str], str]) -> Claim:
        """The same claim about other arms and another timing, as `naming` calls them."""

        def of(expression: Expression | None) -> Expression | None:
            return expression.renamed(naming) if expression else None

        return replace(
            self,
            expression=of(self.expression),
            guard=of(self.guard),
            floor=of(self.floor),
            timing=naming(self.timing) if self.timing else None,
        )

    def of(self, benchmarks: Iterable[str]) -> list[str]:
        """Those of `benchmarks` that the claim is about."""
        return [b for b in benchmarks if self.over is None or b in self.over]


def of(card: Card) -> tuple[Claim, ...]:
    """The claims of a card, in its order. ClaimError names file and claim."""
    return tuple(parse(claim, card.key, where_of(card)) for claim in card.claims)


Levels = Mapping[str, Mapping[str, Mapping[str, float]]]  # row -> measure -> benchmark -> the least it must reach


def levels(cards: Mapping[str, Card]) -> Levels:
    """What rows that others are compared with must reach to be a rival, from `levels` of the cards they stand in."""
    return {
        qualify(card, row): by_measure
        for card in cards.values()
        for row, by_measure in (card.data.get("levels") or {}).items()
    }


def family_size(claims: Iterable[Claim]) -> int:
    """The number m over which a card's error level is divided."""
    return max(1, sum(claim.counted for claim in claims))


def of_result(judged: Mapping[str, Any], card: str) -> Claim:
    """The claim of an entry in results.json, as it was when it was judged."""
    guard, (prefix, _, timing) = judged["guard"], (judged["benchmark"] or "").partition(" ")
    floor = judged.get("floor")
    as_in_card = {
        "guard": guard and guard["expr"],
        "timing": timing if prefix == "timing" else None,
        "floor": floor and floor["expr"],
        "margin": floor["margin"] if floor else judged.get("margin"),
    }
    return parse({**judged, **as_in_card}, card, judged=True)


def parse(data: Mapping[str, Any], card: str, file: str = "", judged: bool = False) -> Claim:
    """A claim from its mapping in a card. `judged`: it says what it is, and nothing it lacks is missed.

    Keys that are null are as good as missing. ClaimError says which claim, what is wrong and what to write instead.
    """
    given = {key: value for key, value in data.items() if value is not None}
    name = str(given.get("id", ""))
    where = f"{file + ': ' if file else ''}claim '{name}'"
    for key, known in (("kind", KINDS), ("role", ROLES), ("origin", ORIGINS), ("combine", COMBINE)):
        if key in given and given[key] not in known:
            raise ClaimError(str(UnknownName(key, str(given[key]), known, where=where)))
    role = given.get("role", "claim")
    kind = KINDS.get(given.get("kind", "")) if judged else _kind(given, role)
    measure = given.get("measure") or (MEASURE if "expr" in given or "levels" in given else None)
    if kind and not judged:
        _refuse(given, kind, where)

    def read(text: str) -> Expression:
        return expression(text, card, measure or MEASURE, where)

    levels = tuple(read(text if "(" in text else f"m({text})") for text in given.get("levels", ()))
    composed = kind.compose(levels) if kind and kind.compose and levels else None
    if kind and kind.compose and not judged:
        _refuse_levels(levels, kind, where)
    compared = composed or (read(given["expr"]) if "expr" in given else None)
    floor = expression(str(given["floor"]), card, measure or MEASURE, where, number=True) if "floor" in given else None
    over = given.get("over", "all")
    return Claim(
        card=card,
        id=name,
        sentence=str(given.get("sentence", "")),
        kind=kind,
        role=role,
        origin=given.get("origin", "paper"),
        measure=measure,
        expression=compared,
        levels=levels if composed else (),
        guard=read(given["guard"]) if given.get("guard") else None,
        floor=_over_floor(compared, floor, role, where) if floor else None,
        over=None if over == "all" else tuple(over),
        # a leak on one benchmark is a leak: placebos pass if any benchmark lets them
        combine=given.get("combine", "any_of" if role == "placebo" else "all_of"),
        where=given.get("where"),
        timing=given.get("timing"),
        bounds=kind.bounds(given) if kind else Bounds(),
        quantity=given.get("quantity"),
        restated=given.get("restated"),
        test=given.get("test"),
    )


def _over_floor(compared: Expression | None, floor: Expression, role: str, where: str) -> Expression:
    """The arm of a placebo against its floor, as `expr` has it against its rival: m(arm) - ..., or m(arm) / ... - 1."""
    tree: Any = None
    match compared.tree if compared and role == "placebo" else None:
        case ("-", Term() as arm, _):
            tree = ("-", arm, floor.tree)
        case ("-", ("/", Term() as arm, _), 1.0):
            tree = ("-", ("/", arm, floor.tree), 1.0)
    if tree is None:
        raise ClaimError(
            f"{where}: a 'floor' says what a placebo must be equal to; its `expr` is to be m(placebo) - m(rival), or "
            "m(placebo) / m(rival) - 1"
        )
    if arm.arm in {term.arm for term in floor.terms}:
        raise ClaimError(f"{where}: the placebo {arm.arm} is its own 'floor'; name another arm, or a number")
    return Expression(floor.text, tuple(dict.fromkeys((arm, *floor.terms))), tree)


def _kind(given: Mapping[str, Any], role: str) -> Kind | None:
    if role == "identity" or given.get("kind") == "identity":
        return KINDS["identity"]
    testable = any(given.get(key) for key in ("expr", "levels", "timing"))
    return KINDS[given.get("kind", "superiority")] if testable else None


def _refuse(given: Mapping[str, Any], kind: Kind, where: str) -> None:
    """ClaimError for what a claim of this kind lacks, or has and cannot use."""
    if given.get("timing") and not kind.timed:
        timed = " or ".join(k.name for k in KINDS.values() if k.timed)
        raise ClaimError(f"{where}: a claim with a timing is of kind {timed}, not {kind.name}; write `kind: {timed}`")
    for key in kind.requires:
        if key == "expr" and given.get("timing"):
            continue
        if key == "margin" and not float(given.get("margin", 0)) > 0:
            raise ClaimError(f"{where}: a claim of kind {kind.name} needs a 'margin' above 0")
        if not given.get(key):
            raise ClaimError(f"{where}: a claim of kind {kind.name} needs '{key}'")


def _refuse_levels(levels: Sequence[Expression], kind: Kind, where: str) -> None:
    if len(levels) < kind.fewest:
        raise ClaimError(
            f"{where}: a {kind.name} needs {kind.fewest} or more 'levels', ordered so that the effect should rise"
        )
    for level in levels:
        if len(level.terms) < kind.terms:
            raise ClaimError(
                f"{where}: each of the 'levels' of a {kind.name} is a difference like m(a) - m(b), not '{level.text}'"
            )


# --- what a plan refuses ---------------------------------------------------------------------------------------------


def check(
    card: Card, rows: Collection[str], tags: Callable[[str], Collection[str]], measure: Callable[[str, str], None]
) -> None:
    """ConfigError for the first thing in the claims and tables of a card that cannot be right, with the remedy.

    rows     every row of every card
    tags     benchmark -> what its card says its units may carry: tags and splits
    measure  (name, where): raises UnknownName for a measure that does not exist
    """
    claims, file = of(card), where_of(card)
    if any(claim.tested for claim in claims) and not any(claim.role == "placebo" for claim in claims):
        raise ConfigError(
            f"{file}: claims: none has `role: placebo`; add the same comparison with one ingredient destroyed "
            "(`queries: decoy`, labels permuted), which must fail"
        )
    for claim in claims:
        if claim.tested and claim.role == "placebo" and claim.floor is None:
            raise ConfigError(
                f"{file}: claims.{claim.id}: a placebo without a `floor`: losing to its rival is no proof that it "
                "knows nothing. Say what its arm must be equal to, within `margin`: `floor: m(baselines.random)`, the "
                "arm before training where labels are destroyed, or a number where chance is known (`floor: 0`)"
            )
    every = {b for ids in (card.data.get("benchmarks") or {}).values() for b in ids}

    def names(
        where: str, arms: Iterable[str], measures: Iterable[str], over: Iterable[str] | None, tag: str | None
    ) -> None:
        for arm in dict.fromkeys(arms):
            if arm not in rows:
                raise UnknownName("arm", arm, rows, where=where)
        for name in dict.fromkeys(measures):
            measure(name, where)
        for benchmark in over or ():
            if benchmark not in every:
                raise UnknownName("benchmark", benchmark, every, where=f"{where}.over")
        if tag is not None:
            there = {t for b in (every if over is None else over) for t in tags(b)} | set(TOLD_BY_TRUTH)
            if tag not in there:
                raise UnknownName("tag", tag, there, where=f"{where}.where")

    for claim in claims:
        names(
            f"{file}: claims.{claim.id}",
            [term.arm for term in claim.terms],
            [term.measure for term in claim.terms],
            claim.over,
            claim.where,
        )
    for row, by_measure in (card.data.get("levels") or {}).items():
        for name, by_benchmark in by_measure.items():
            names(f"{file}: levels.{row}", [qualify(card, row)], [name], by_benchmark, None)
    for table in card.data.get("tables") or ():
        keys = [table[key] for key in ("baseline", "units_of", "oracle") if table.get(key)]
        arms = [qualify(card, arm) for arm in [*table["arms"], *keys]]
        names(f"{file}: table '{table['name']}'", arms, table["measures"], table.get("over"), table.get("where"))
