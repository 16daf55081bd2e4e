"""A verdict in a sentence: the effect with its interval and n, and what would change our mind.

The words of each kind of claim stand in `rankrepro.claims.KINDS`; here numbers and names are put into them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rankrepro import claims
from rankrepro.claims import Expression
from rankrepro.errors import RankReproError
from rankrepro.judge import measures
from rankrepro.report.text import listed, number, p_value, plural, seconds, short

LEVEL = 0.05
Judged = Mapping[str, Any]  # a claim of results.json
Labels = Mapping[str, str]  # row -> what a reader sees of it


def verdict(judged: Judged, card: str, timings: Mapping[str, Any], labels: Labels | None = None) -> str:
    """One or two sentences in plain words, without the verdict's own name.

    timings   name -> timing of the paper, for claims about seconds
    labels    row `<card>.<row>` -> its name for a reader; others go by their own, bare on the page of `card`
    """
    match judged["verdict"]:
        case "not run":
            return f"Missing: {short(judged['note'], card)}."
        case "identity":
            return "True by construction and held by a unit test; never counted as reproduced."
    return _Sentence(judged, card, timings, labels or {}).text()


class _Sentence:
    """A judged claim with all that its kind's templates may ask for."""

    def __init__(self, judged: Judged, card: str, timings: Mapping[str, Any], labels: Labels) -> None:
        self.judged, self.card, self.labels = judged, card, labels
        self.claim = claims.of_result(judged, card)
        assert self.claim.kind is not None
        self.kind, self.words = self.claim.kind, self.claim.kind.words
        self.timing = timings.get((judged["benchmark"] or "").removeprefix("timing "))
        self.fields = {**self._bounds(), **self._names(), **self._effect()}

    def text(self) -> str:
        finding = self._finding()
        # a sentence that begins with the name of an arm or measure keeps its spelling
        return re.sub(r"^the ", "The ", finding) + self._consequence()

    def _filled(self, template: str) -> str:
        return template.format_map(self.fields)

    # --- what the templates are filled with ---

    def _number(self, value: float, signed: bool = False) -> str:
        """A number of this claim's own unit: a share in per cent, a ratio with two digits."""
        if self.words.percent:
            return f"{100 * value:.0f} %"
        return number(value, self.words.digits, signed)

    def _bounds(self) -> dict[str, str]:
        """What the card says is written as the card says it; what was measured, with the digits of the kind."""
        given = {**self.claim.bounds._asdict(), "null": self.claim.null, "target": self.claim.target}
        bounds = {k: f"{100 * v:.0f} %" if self.words.percent else _plain(v) for k, v in given.items()}
        shown = self.judged["detectable"]
        return bounds | {"detectable": "" if shown is None else self._number(shown)}

    def _names(self) -> dict[str, str]:
        claim, measure = self.claim, self.claim.measure or "the measure"
        expression = claim.expression
        pair = self._pair()
        a, b = pair or ((self._name(expression.terms[0].arm), "") if expression else ("", ""))
        subject = claim.quantity or self.words.subject.format(measure=measure)
        if not subject:
            subject = self._worded(expression) if expression else "the effect"
        return {
            "a": a,
            "b": b,
            "measure": measure,
            "subject": subject[:1].upper() + subject[1:] if claim.quantity else subject,
            "in_measure": "" if claim.quantity else f" in {measure}",
        }

    def _pair(self) -> tuple[str, str] | None:
        """The names of the two sides: of a timing, a plain difference or a plain ratio by one measure."""
        if self.timing:
            return self._name(self.timing["a"]), self._name(self.timing["b"])
        expression = self.claim.expression
        pair = expression and (expression.difference or expression.ratio)
        return (
            (self._name(pair[0].arm), self._name(pair[1].arm)) if pair and pair[0].measure == pair[1].measure else None
        )

    def _name(self, row: str) -> str:
        return self.labels.get(row) or short(row, self.card)

    def _worded(self, expression: Expression) -> str:
        """An expression to read in a sentence: `full − max(query_last, attention_sorting)`."""
        rows = {term.arm for term in expression.terms}

        def name(match: re.Match[str]) -> str:
            bare = match.group(1)
            return self._name(bare if bare in rows else f"{self.card}.{bare}")

        return re.sub(r"\bm\(\s*([\w.]+)\s*(?:,[^)]*)?\)", name, expression.text).replace(" - ", " − ")

    def _effect(self) -> dict[str, str]:
        effect, ci = self.judged["effect"], self.judged["ci"]
        where = self._where()
        if effect is None:
            return {"where": where}
        low, high = ci
        # an effect told by its size has its interval turned round where it is negative
        turned = (low, high) if effect >= 0 else (_negative(high), _negative(low))
        names = self._names()
        up, size = effect >= 0, self._number(abs(effect))
        if self._higher_is_better():
            compared = f"{names['a']} scores {size} {names['measure']} {'above' if up else 'below'} {names['b']}"
        else:
            compared = f"{names['a']} has {size} {'more' if up else 'less'} {names['measure']} than {names['b']}"
        between = self._between(ci)
        return {
            "value": self._number(effect),
            "signed": self._number(effect, signed=True),
            "size": size,
            "compared": compared,
            "rises": "rises" if up else "falls",
            "grows": "grows" if up else "shrinks",
            "where": where,
            "ci": between,
            "evidence": "; ".join(filter(None, (between, where))),
            "size_evidence": "; ".join(filter(None, (self._between(turned), where))),
        }

    def _higher_is_better(self) -> bool:
        try:
            return measures.get(self.claim.measure or claims.MEASURE).direction > 0
        except RankReproError:
            return True

    def _between(self, ci: Sequence[float | None]) -> str:
        """`95 % CI 0.019 to 0.093`; one end where the data bound no other, nothing where they bound none."""
        low, high = (None if v is None else self._number(v) for v in ci)
        if low is None and high is None:
            return ""
        if low is None or high is None:
            return f"95 % CI {'up to' if low is None else 'from'} {low or high}"
        return f"95 % CI {low.removesuffix(' %')} to {high}"

    def _where(self) -> str:
        """`320 queries, mean of 4 benchmarks`, `100 queries of vital/fever, its weakest of 3 benchmarks`."""
        judged = self.judged
        units = self._units() + (f" tagged {judged['where']}" if judged["where"] else "")
        names = [part["benchmark"] for part in judged["per_benchmark"]]
        benchmark = judged["benchmark"] or ""
        if benchmark == "macro":
            if len(names) == 1:
                return f"{units} of {names[0]}"
            return f"{units}, mean of {listed(names) if len(names) < 3 else plural(len(names), 'benchmark')}"
        if benchmark.startswith("timing "):
            return units
        extreme = "strongest" if judged["combine"] == "any_of" else "weakest"
        several = f", its {extreme} of {len(names)} benchmarks" if len(names) > 1 else ""
        return f"{units} of {benchmark}{several}"

    def _units(self) -> str:
        return plural(self.judged["n"], unit_of(self.judged)) if self.judged["n"] else "its units"

    # --- what is said ---

    def _finding(self) -> str:
        """What was measured: `ICR scores 0.098 nDCG@10 below RankGPT (95 % CI 0.049 to 0.143; 320 queries)`."""
        if self.judged["effect"] is None:
            return f"the effect cannot be computed on {self.fields['where']}"
        template = next(self.words.found[form] for form in self._forms() if form in self.words.found)
        return self._filled(template).replace(" ()", "")

    def _forms(self) -> list[str]:
        """The forms of words that fit the claim, the most telling first."""
        expression, pair = self.claim.expression, self._pair()
        if self.timing:
            return ["timing"]
        if self.claim.quantity or expression is None:
            return ["any"]
        forms = ["difference"] if pair and expression.difference else ["ratio"] if pair and expression.ratio else []
        return [*forms, *(["arm"] if isinstance(expression.tree, claims.Term) else []), "any"]

    def _consequence(self) -> str:
        """What follows from it, and what would change our mind."""
        match self.judged["verdict"]:
            case "smoke":
                return ". Too few units for a verdict."
            case "reproduced":
                holds = f": {self._filled(self.words.holds)}" if self.words.holds else ""
                return f"{holds}; {self._filled(self.words.against)} would change our mind."
            case "not reproduced":
                return f". {self._filled(self.words.refuted)}."
            case "inconclusive":
                return f". {self._undecided()}"
            case "baseline not competent":
                return f". {self._strawman()}"
            case "placebo failed as it must":
                if (floor := self.judged.get("floor")) and floor["below"]:
                    return f". With the key ingredient destroyed it is worse than its floor: {self._on_floor()}."
                if floor:
                    return f". With the key ingredient destroyed it is where it must be: {self._on_floor()}."
                return ". With the key ingredient destroyed the effect disappears, as it should."
            case "placebo passed":
                if (floor := self.judged.get("floor")) and floor["above"]:
                    return f". Its key ingredient is destroyed, and still it is above its floor: {self._on_floor()}."
                return ". Its key ingredient is destroyed and the effect is still there: the comparison is broken."
            case other:
                return f": {other} the reported number, by the tolerance of its kind."

    def _undecided(self) -> str:
        judged = self.judged
        if judged["note"]:
            return f"The evidence is not sound: {judged['note']}."
        if None in judged["ci"]:
            lead = "The data cannot bound the effect on both sides"
        elif side(judged) > 0:
            if self.kind.direction > 0 and judged["effect"] < self.claim.target:
                lead = f"The interval excludes no effect, but the effect is smaller than {self.fields['target']}"
            else:
                p = judged["p_holm"]
                corrected = f" (p = {p_value(p)})" if p is not None and p >= LEVEL else ""
                lead = f"Significant alone, but not after correcting for all claims of this paper{corrected}"
        elif _beyond_target(judged):
            p = judged.get("p_refuted")
            corrected = f" (p = {p_value(p)})" if p is not None and p >= LEVEL else ""
            lead = f"Against the claim alone, but not after correcting for all claims of this paper{corrected}"
        elif self.words.reaches:
            lead = self._filled(self.words.reaches)
        else:
            lead = "Too few data" if judged["needed_n"] else "Too close to call"
        shows = f"{self._units()} can show {self._filled(self.words.shows)}"
        needs = self._needs()
        if judged["detectable"] is None:
            return f"{lead}{'; ' + needs if needs else ''}."
        return f"{lead}: {shows}{'; ' + needs if needs else ''}."

    def _on_floor(self) -> str:
        """`+0.012 from random (95 % CI -0.020 to 0.040; margin 0.05)`."""
        floor = self.judged["floor"]
        low, high = floor["ci"]
        ci = "" if low is None or high is None else f"95 % CI {number(low)} to {number(high)}; "
        bare = claims.expression(floor["expr"], self.card, self.claim.measure or claims.MEASURE, number=True)
        effect = number(floor["effect"], signed=True)
        return f"{effect} from {self._worded(bare)} ({ci}margin {_plain(floor['margin'])})"

    def _needs(self) -> str:
        needed = self.judged["needed_n"]
        if not needed:
            return ""
        return f"{self._filled(self.words.needs)} needs about {_rounded(needed):,}"

    def _strawman(self) -> str:
        """Of a failed guard: which baseline is not better than what."""
        guard = self.judged["guard"]
        if guard is None or guard["passed"]:
            return f"But {short(self.judged['note'] or 'its rival is below its level', self.card)}: no rival to beat."
        floor = claims.expression(guard["expr"], self.card, self.claim.measure or claims.MEASURE)
        low, high = guard["ci"]
        ci = "" if low is None or high is None else f", 95 % CI {number(low)} to {number(high)}"
        measured = f"{number(guard['effect'], signed=True)}{ci}, p {p_value(guard['p'])}"
        if floor.difference:
            a, b = (self._name(term.arm) for term in floor.difference)
            return f"But here {a} is not shown to be better than {b} ({measured}), so beating it would prove nothing."
        return f"But here {self._worded(floor)} is not shown to be above 0 ({measured}), so a win would prove nothing."


def no_effect(judged: Judged) -> float:
    """Where there is none: 0, the bound of a ratio or share, the margin a noninferior arm may lose."""
    kind = claims.KINDS[judged["kind"]]
    return kind.no_effect(kind.bounds(judged))


def side(judged: Judged) -> int:
    """1 if the 95 % interval lies on the claimed side of no effect, −1 on the other, 0 if it holds it or has no end."""
    low, high = judged["ci"]
    if low is None or high is None:
        return 0
    kind = claims.KINDS[judged["kind"]]
    null = kind.null(kind.bounds(judged))
    if kind.direction == 0:
        return 1 if -null < low and high < null else 0
    return kind.direction if low > null else -kind.direction if high < null else 0


def _beyond_target(judged: Judged) -> bool:
    """Whether the 95 % interval excludes what is claimed: alone that would refute it."""
    low, high = judged["ci"]
    kind = claims.KINDS[judged["kind"]]
    target = kind.target(kind.bounds(judged))
    if low is None or high is None:
        return False
    if kind.direction == 0:
        return bool(high <= -target or low >= target)
    return bool(low > target if kind.direction < 0 else high < target)


def _rounded(n: int) -> int:
    """Two figures of an estimate that has no more."""
    return int(float(f"{n:.2g}"))


def unit_of(judged: Judged) -> str:
    """The word for what is measured: query, task, block."""
    try:
        return measures.get(judged["measure"]).unit if judged["measure"] else "query"
    except RankReproError:
        return "unit"


def expression(expr: str, card: str) -> str:
    """An expression as on the page of `card`: its own arms bare."""
    return expr.replace(f"m({card}.", "m(").replace(" - ", " − ")


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


def _plain(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def timing(t: Mapping[str, Any], card: str, labels: Labels | None = None) -> str:
    """The finding of a paired timing, and whether its control allows one."""
    a, b = ((labels or {}).get(t[arm]) or short(t[arm], card) for arm in ("a", "b"))
    low, high = t["ci"]
    ratio = f"{number(t['ratio'], 2)} times the seconds of {b} (95 % CI {number(low, 2)} to {number(high, 2)}; "
    ratio += f"{seconds(t['seconds_a'])} against {seconds(t['seconds_b'])} a query; "
    ratio += f"{plural(t['n'], 'query')} of {t['benchmark']})"
    first, last = (number(v, 2) for v in t["aa"])
    control = f"Control: an arm timed against itself gives {first} to {last}"
    trusted = "so the clock can be trusted" if t["sound"] else f"but the clock cannot be trusted: {t['fault']}"
    return f"{a} takes {ratio}. {control}, {trusted}."
