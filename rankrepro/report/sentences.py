"""A verdict in a sentence: the effect with its interval and n, and what would change our mind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rankrepro.errors import RankReproError
from rankrepro.judge import expressions, measures
from rankrepro.report.text import interval, listed, number, p_value, plural, seconds, short

Claim = Mapping[str, Any]


def verdict(claim: Claim, card: str, timings: Mapping[str, Any]) -> str:
    """One or two sentences in plain words, without the verdict's own name.

    timings   name -> timing of the paper, for claims about seconds
    """
    match claim["verdict"]:
        case "not run":
            return f"Missing: {short(claim['note'], card)}."
        case "identity":
            return "True by construction and held by a unit test; never counted as reproduced."
    finding = _finding(claim, card, timings)
    # a sentence that begins with the name of an arm or measure keeps its spelling
    return re.sub(r"^the ", "The ", finding) + _consequence(claim, card)


def _finding(claim: Claim, card: str, timings: Mapping[str, Any]) -> str:
    """What was measured: `nDCG@10 of full is 0.056 [0.019, 0.093] higher than that of bm25 on 320 queries`."""
    effect, ci, kind = claim["effect"], claim["ci"], claim["kind"]
    where = _where(claim)
    if effect is None:
        return f"the effect cannot be computed {where}"
    timing = timings.get((claim["benchmark"] or "").removeprefix("timing "))
    if timing:
        a, b = short(timing["a"], card), short(timing["b"], card)
        return f"{a} takes {_with(number(effect, 2), interval(ci, 2))} times the seconds of {b} {where}"
    measure = claim["measure"] or "the measure"
    pair = difference(claim, card)
    match kind:
        case "share":
            better = f"{pair[0]} beats {pair[1]} in {measure}" if pair else f"the claimed sign shows in {measure}"
            return f"{better} on {_percent(effect, ci)} of {where.removeprefix('on ')}"
        case "ratio":
            return f"the ratio in {measure} is {_with(number(effect), interval(ci))} {where}"
        case "trend":
            return f"{measure} {_moves(effect)} by {_with(number(abs(effect)), _signed(effect, ci))} per level {where}"
    if pair:
        size = _with(number(abs(effect)), _signed(effect, ci))
        return f"{measure} is {size} {'lower' if effect < 0 else 'higher'} with {pair[0]} than with {pair[1]} {where}"
    subject = words(claim["expr"], card) if claim["expr"] else "the effect"
    return f"{subject} is {_with(number(effect, signed=True), interval(ci))} in {measure} {where}"


def _consequence(claim: Claim, card: str) -> str:
    """What follows from it, and what would change our mind."""
    match claim["verdict"]:
        case "smoke":
            return ". Too few units for a verdict."
        case "reproduced":
            return f"; {_against(claim)} would change our mind."
        case "not reproduced":
            return f". The interval excludes {_target(claim)}; one that reaches it would change our mind."
        case "inconclusive":
            return f". {_undecided(claim)}"
        case "baseline not competent":
            guard = claim["guard"]
            floor = _with(number(guard["effect"]), interval(guard["ci"]))
            return (
                f". But the losing arm does not beat its own floor: {words(guard['expr'], card)} is {floor}, "
                f"p {p_value(guard['p'])}. Winning against it proves nothing; a baseline that beats its floor would "
                "change our mind."
            )
        case "placebo failed as it must":
            return ". With its ingredient destroyed the effect is not significant at 0.001, as it must be."
        case "placebo passed":
            return ". Its ingredient is destroyed and still it passes at 0.001: the comparison is broken."
        case other:
            return f": {other} the reported number, by the tolerance of its kind."


def _against(claim: Claim) -> str:
    """What a second look would have to show against a claim that holds."""
    match claim["kind"]:
        case "noninferiority":
            return f"an interval reaching {number(-claim['margin'])} (worse by the margin)"
        case "equivalence":
            return f"an interval reaching ±{number(claim['margin'])}"
        case "ratio":
            return f"an interval reaching {number(claim['bound'], 2)}"
        case "share":
            low = claim["bound"] + claim["min_effect"]
            return f"a share below {100 * low:.0f} % or an interval reaching {100 * claim['bound']:.0f} %"
    return f"an effect below {_trim(claim['min_effect'])} or an interval reaching 0"


def _target(claim: Claim) -> str:
    """What the interval had to hold for the claim to stand."""
    match claim["kind"]:
        case "noninferiority":
            return f"a loss within the margin of {_trim(claim['margin'])}"
        case "equivalence":
            return f"a difference within ±{_trim(claim['margin'])}"
        case "ratio":
            return f"a ratio of {number(claim['bound'], 2)} or less"
        case "share":
            return f"a share of {100 * (claim['bound'] + claim['min_effect']):.0f} %"
    return f"the smallest effect that counts, {_trim(claim['min_effect'])}"


def _undecided(claim: Claim) -> str:
    if claim["note"]:
        return f"The evidence is not sound: {claim['note']}."
    said = f"That excludes neither no effect nor {_target(claim)}"
    unit = unit_of(claim)
    if claim["needed_n"]:
        said += f"; about {plural(claim['needed_n'], unit)} would tell"
    if claim["detectable"] is not None:
        digits = 2 if claim["kind"] == "ratio" else 3
        said += f" (these can show an effect of {number(claim['detectable'], digits)})"
    return said + "."


def _where(claim: Claim) -> str:
    """`on 320 queries of 4 benchmarks`, `on 100 queries of vital/fever, its weakest benchmark`."""
    units = plural(claim["n"], unit_of(claim)) if claim["n"] else "its units"
    tag = f" tagged {claim['where']}" if claim["where"] else ""
    names = [part["benchmark"] for part in claim["per_benchmark"]]
    benchmark = claim["benchmark"] or ""
    if benchmark == "macro":
        if len(names) == 1:
            return f"on {units}{tag} of {names[0]}"
        return f"on {units}{tag}, mean over {listed(names) if len(names) < 3 else plural(len(names), 'benchmark')}"
    if benchmark.startswith("timing "):
        return f"on {units}{tag}"
    extreme = "strongest" if claim["combine"] == "any_of" else "weakest"
    return f"on {units}{tag} of {benchmark}" + (f", its {extreme} of {len(names)} benchmarks" if len(names) > 1 else "")


def unit_of(claim: Claim) -> str:
    """The word for what is measured: query, task, block."""
    try:
        return measures.get(claim["measure"]).unit if claim["measure"] else "query"
    except RankReproError:
        return "unit"


def difference(claim: Claim, card: str) -> tuple[str, str] | None:
    """The two arms of a plain m(a) - m(b) by one measure, named as on the page of `card`."""
    if not claim["expr"]:
        return None
    try:
        pair = expressions.parse(claim["expr"], card, claim["measure"] or "").difference
    except RankReproError:
        return None
    if pair is None or pair[0].measure != pair[1].measure:
        return None
    return short(pair[0].arm, card), short(pair[1].arm, card)


def expression(expr: str, card: str) -> str:
    """An expression as on the page of `card`: its own arms bare."""
    return expr.replace(f"m({card}.", "m(").replace(" - ", " − ")


def words(expr: str, card: str) -> str:
    """An expression to read in a sentence: `full − max(query_last, attention_sorting)`."""
    return re.sub(r"\bm\(([^(),]+)(?:,\s*[\"'][^\"']*[\"'])?\)", r"\1", expression(expr, card))


def _with(value: str, ci: str) -> str:
    return f"{value} {ci}" if ci else value


def _signed(effect: float, ci: Any) -> str:
    """The interval of an effect told by its size: turned round where it is negative."""
    low, high = ci
    if effect >= 0:
        return interval(ci)
    return interval([None if high is None else -high, None if low is None else -low])


def _percent(effect: float, ci: Any) -> str:
    return _with(f"{100 * effect:.0f} %", interval([None if v is None else 100 * v for v in ci], 0))


def _moves(effect: float) -> str:
    return "falls" if effect < 0 else "rises"


def _trim(value: float) -> str:
    return f"{value:g}"


def timing(t: Mapping[str, Any], card: str) -> str:
    """The finding of a paired timing, and whether its control allows one."""
    a, b = short(t["a"], card), short(t["b"], card)
    ratio = _with(number(t["ratio"], 2), interval(t["ci"], 2))
    control = f"A against A gives {interval(t['aa'], 2) or 'no interval'}"
    sound = "which holds 1: the clock is sound" if t["sound"] else "which does not hold 1: no conclusion"
    return (
        f"{a} takes {ratio} times the seconds of {b} ({seconds(t['seconds_a'])} against {seconds(t['seconds_b'])} "
        f"a query) on {plural(t['n'], 'query')} of {t['benchmark']}. {control}, {sound}."
    )
