"""Expressions of claims: arithmetic over the means of arms, parsed without evaluating anything else."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rankrepro.errors import ClaimError, UnknownName
from rankrepro.judge import measures
from rankrepro.judge.statistics import Array

KINDS = ("superiority", "noninferiority", "equivalence", "ratio", "trend", "share", "identity")
ROLES = ("claim", "placebo", "identity")
COMBINE = ("all_of", "any_of", "macro")

Claim = Mapping[str, Any]


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
