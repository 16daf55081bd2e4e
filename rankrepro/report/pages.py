"""What a page shows, gathered from judged files and cards, and the templates that show it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from rankrepro import benchmarks, sizes
from rankrepro.cards import Card, qualify, scale_names
from rankrepro.claims import KINDS, ORIGINS
from rankrepro.errors import UnknownName
from rankrepro.judge import earlier
from rankrepro.plan import load_scale
from rankrepro.report import charts, history, sentences, sheets, text

FAMILIES = {
    "llm_rerankers": "LLM re-rankers",
    "ranker_training": "Retriever and ranker training",
    "vision": "Vision and multimodal",
    "language_models": "Language models and losses",
    "controls": "Shared controls",
}
MARKS = {  # verdict -> class, sign, meaning
    "reproduced": ("yes", "✓", "significant after Holm's correction, and the effect reaches the smallest that counts"),
    "not reproduced": ("no", "✗", "the 95 % interval excludes the smallest effect that counts"),
    "inconclusive": ("open", "?", "neither; more units would be needed"),
    "baseline not competent": ("void", "⊘", "the losing arm does not beat its own floor: a win over it proves nothing"),
    "not run": ("none", "○", "something the claim needs is not there yet"),
    "identity": ("same", "≡", "true by construction, held by a unit test, never counted as reproduced"),
    "smoke": ("smoke", "~", "scale quick: it ran, nothing is concluded"),
    "placebo failed as it must": ("kept", "∅", "one ingredient destroyed, and the effect is gone"),
    "placebo passed": ("alarm", "!", "one ingredient destroyed and the effect still there: the comparison is broken"),
    "within tolerance": ("yes", "≈", "within the tolerance of the reported number"),
    "higher": ("open", "↑", "higher than the reported number"),
    "lower": ("no", "↓", "lower than the reported number"),
}
SHARED = "shared"  # besides ORIGINS: claims of the card of shared controls
GAINS = 3  # queries shown with their documents, at each end


@dataclass
class Paper:
    """A card and, where it was run, its judged files."""

    card: Card
    results: Mapping[str, Any] | None = None
    units: Mapping[str, Any] = field(default_factory=dict)
    examples: Mapping[str, Any] = field(default_factory=dict)
    stale: str = ""  # why today's code would compute something else
    earlier: Sequence[Mapping[str, Any]] = ()  # published before what is registered was changed

    @property
    def key(self) -> str:
        return self.card.key

    @property
    def page(self) -> Mapping[str, Any]:
        assert self.results is not None
        return self.results["papers"][self.key]

    @property
    def cells(self) -> list[Mapping[str, Any]]:
        return self.page["cells"] if self.results else []

    @property
    def claims(self) -> list[dict[str, Any]]:
        """The judged claims; those of a card without a run as `not run`."""
        if self.results:
            return [{"origin": "paper"} | c for c in self.page["claims"]]  # older results name none
        return [
            {
                "id": c["id"],
                "sentence": c["sentence"],
                "kind": c.get("kind"),
                "role": c.get("role", "claim"),
                "origin": c.get("origin", "paper"),
                "verdict": "identity" if c.get("kind") == "identity" else "not run",
                "note": None,
                "restated": c.get("restated"),
                "effect": None,
                "ci": [None, None],
                "guard": None,
                "per_benchmark": [],
                "sizes": [],
            }
            for c in self.card.claims
        ]


def environment() -> Any:
    """Jinja with escaping on in HTML and the project's ways to write numbers."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    env = Environment(
        loader=PackageLoader("rankrepro.report"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    env.filters |= {
        "num": text.number,
        "ci": text.interval,
        "p": text.p_value,
        "seconds": text.seconds,
        "count": text.count,
        "size": text.size,
        "cell": text.markdown,
        "prose": prose,
        "inline": inline,
        "slug": text.slug,
        "breakable": breakable,
        "listed": text.listed,
        "date": lambda t: time.strftime("%Y-%m-%d", time.gmtime(t)),
    }
    style, script = _asset("style.css"), _asset("site.js")
    env.globals |= {
        "marks": MARKS,
        "families": FAMILIES,
        "style": style,
        "script": script,
        "script_hash": _sha256(script),
        "plural": text.plural,
        "short": text.short,
        "expression": sentences.expression,
        "kinds": KINDS,
        "origins": ORIGINS,
    }
    return env


@cache
def _asset(name: str) -> Any:
    from markupsafe import Markup

    return Markup(files("rankrepro.report").joinpath("templates", name).read_text(encoding="utf-8"))  # ours, not data


def _sha256(script: str) -> str:
    """The hash by which a page's security policy allows its one inline script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def breakable(name: str) -> Any:
    """A long name with places where a narrow column can break it."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[._/])", name))


def inline(words: str) -> Any:
    """One line of a card's text: `code` marked up, everything else escaped."""
    from markupsafe import Markup, escape

    parts = re.split(r"`([^`]+)`", " ".join(words.split()))
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


def prose(words: str) -> Any:
    """Paragraphs and lists (`- item`) of a card's text."""
    from markupsafe import Markup

    blocks = []
    for block in re.split(r"\n\s*\n", words.strip()):
        lead, *items = re.split(r"(?:^|\n)\s*- ", block)
        if lead.strip():
            blocks.append(Markup("<p>{}</p>").format(inline(lead)))
        if items:
            listed = Markup("").join(Markup("<li>{}</li>").format(inline(i)) for i in items)
            blocks.append(Markup("<ul>{}</ul>").format(listed))
    return Markup("\n").join(blocks)


# --- the front page --------------------------------------------------------------------------------------------------


def front(papers: Sequence[Paper], scale: str) -> dict[str, Any]:
    """What the front page shows: papers by family, verdicts counted, totals over distinct stored results."""
    counted = {origin: _verdicts(papers, origin) for origin in (*ORIGINS, SHARED)}
    return {
        "scale": scale,
        "groups": [(f, [p for p in papers if p.card.family == f]) for f in FAMILIES],
        "verdicts": list(dict.fromkeys(v for counts in counted.values() for v in counts)),
        "counted": {origin: counts for origin, counts in counted.items() if counts},
        "totals": totals(papers),
        "placebos": Counter(c["verdict"] for p in papers for c in p.claims if c["role"] == "placebo"),
        "example": next((p.key for p in papers if p.results), "baselines"),
        "cpu": cpu,
        "tokens": tokens,
        "n_papers": sum(p.card.family != "controls" for p in papers),
        "n_run": sum(p.results is not None and p.card.family != "controls" for p in papers),
    }


def _verdicts(papers: Iterable[Paper], origin: str) -> dict[str, int]:
    """Verdict -> number of claims of this origin; shared controls belong to no paper, whatever their origin."""
    counts = Counter(
        c["verdict"]
        for p in papers
        for c in p.claims
        if c["role"] == "claim" and origin == (SHARED if p.card.family == "controls" else c["origin"])
    )
    return {v: counts[v] for v in MARKS if counts[v]}


def labels(cards: Iterable[Card]) -> dict[str, str]:
    """Row `<card>.<row>` -> what its card calls it for a reader, where it says so; with the size where it has one."""
    every = {f"{c.key}.{row}": label for c in cards for row, label in c.labels().items() if label != row}
    rungs = dict.fromkeys(size for scale in scale_names() for size in sizes.ladder(load_scale(scale)))
    return every | {sizes.at(row, size): f"{label}, {size}" for row, label in every.items() for size in rungs}


def cpu(paper: Paper) -> float:
    return sum(c["cpu_s"] for c in paper.cells)


def tokens(paper: Paper) -> float:
    return sum((c["input_tokens"] or 0) + (c["generated_tokens"] or 0) for c in paper.cells)


def totals(papers: Iterable[Paper]) -> dict[str, float]:
    """Sums over stored results; one that several papers use counts once. wall_s: seconds in which any of them ran."""
    from rankrepro.judge.costs import union

    cells = {c["digest"]: c for p in papers for c in p.cells}.values()
    names = ("cpu_s", "input_tokens", "generated_tokens", "forward_passes")
    sums: dict[str, float] = {n: sum(c[n] or 0 for c in cells) for n in names}
    return sums | {"wall_s": union((c["started"], c["ended"]) for c in cells), "cells": len(cells)}


# --- the page of a paper ---------------------------------------------------------------------------------------------


def words_and_tables(paper: Paper, scale: str, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What the page of a judged paper says, without its charts: all that tables.md needs."""
    results, key, claims = paper.page, paper.key, paper.claims
    timings = {t["name"]: t for t in results["timings"]}
    verdicts = {c["id"]: sentences.verdict(c, key, timings, labels) for c in claims}
    return {
        "scale": scale,
        "card": paper.card,
        "data": paper.results,
        "claims": claims,
        "earlier": {c["id"]: earlier.of_claim(paper.earlier, c["id"], c) for c in claims},
        "runs": paper.earlier,
        "said": verdicts,
        "tables": [(t, sheets.of_table(t, key)) for t in results["tables"] if t["rows"]],
        "made": {
            "claims": sheets.of_claims(claims, verdicts),
            "timings": sheets.of_timings(results["timings"], key) if results["timings"] else None,
            "reported": sheets.of_reported(results["reported"], beside := ours(paper), key),
            "earlier": sheets.of_earlier(paper.earlier, claims),
            "unverified": sheets.of_reported(results["reported"], beside, key, verified=False),
            "sizes": sheets.of_sizes(claims, results["sizes"]),
            "seeds": sheets.of_seeds(results["tables"], claims, key),
            "cells": sheets.of_cells(results["cells"], key),
        },
    }


def paper_page(paper: Paper, scale: str, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What the page of a paper shows, all numbers from its judged files. `labels`: row -> its name for a reader."""
    claims = paper.claims
    page: dict[str, Any] = {
        "scale": scale,
        "paper": paper,
        "card": paper.card,
        "claims": claims,
        "main": [c for c in claims if c["role"] == "claim"],
        "identities": [c for c in claims if c["role"] == "identity"],
        "placebos": [c for c in claims if c["role"] == "placebo"],
        "history": history.changes(paper.card, scale),
        "limits": limits(paper, scale),
        "anchors": {c["id"]: f"claim-{text.slug(c['id'])}" for c in claims},
    }
    if paper.results is None:
        before = {c["id"]: earlier.of_claim(paper.earlier, c["id"]) for c in claims}
        return page | {"said": {}, "figures": {}, "sheets": [], "earlier": before, "runs": paper.earlier}
    results, key = paper.page, paper.key
    page |= words_and_tables(paper, scale, labels)
    figures = drawn(paper)
    every = [s for _, group in page["tables"] for s in group]
    every += [*filter(None, page["made"].values()), *(f.sheet for f in figures)]
    sheets.number_slugs(every)
    return page | {
        "figures": {f.name.split("-")[0]: f for f in figures},
        "cost": [f for f in figures if f.name.startswith("cost-")],
        "sheets": every,
        "timing_words": [sentences.timing(t, key, labels) for t in results["timings"]],
        "examples": examples(paper),
        "pictures": paper.examples.get("pictures", {}),
        "contact": paper.examples.get("sheets", {}),
        "grades": grade,
        "attribution": shared(paper.examples.get("attribution", {})),
        # shared controls may have run earlier: a paper's claims are compared with its own first result
        "started": min((c["started"] for c in results["cells"] if c["name"].startswith(f"{key}.")), default=None),
        "totals": totals([paper]),
    }


def drawn(paper: Paper) -> list[charts.Figure]:
    """The charts of a page, compiled."""
    results, key = paper.page, paper.key
    costs = [charts.cost(t, key) for t in results["tables"] if t["rows"]]
    figures = [
        charts.forest(paper.claims, key),
        *[f for f in costs if f][:2],
        charts.timings(results["timings"], paper.units.get("timings", {}), key),
        charts.curves(results["curves"], key),
    ]
    drawn_figures = [f for f in figures if f]
    for figure in drawn_figures:
        figure.svg = charts.svg(figure.spec, f"{figure.title}. {figure.takeaway}")
    return drawn_figures


def ours(paper: Paper) -> list[Mapping[str, Any] | None]:
    """For each reported number, the row on the same data that the card sets beside it (`ours: {arm, measure}`)."""
    rows = {(r["arm"], r["benchmark"], r["measure"]): r for t in paper.page["tables"] for r in t["rows"]}
    return [
        (named := r.get("ours")) and rows.get((qualify(paper.card, named["arm"]), r.get("data"), named["measure"]))
        for r in paper.page["reported"]
    ]


def examples(paper: Paper) -> dict[str, list[dict[str, Any]]]:
    """Claim -> per benchmark the curve of differences and the queries that differ most, ready to show."""
    by_claim: dict[str, list[dict[str, Any]]] = {}
    for claim, parts in paper.examples.get("claims", {}).items():
        for part in parts:
            details = part["details"]
            ends = details if len(details) <= 2 * GAINS else [*details[:GAINS], *details[-GAINS:]]
            by_claim.setdefault(claim, []).append(
                {
                    **part,
                    "details": ends,
                    "left": len(details) - len(ends),
                    "curve": charts.differences(part["differences"]),
                }
            )
    return by_claim


def grade(value: int) -> tuple[str, str]:
    """Class and word of a picture's grade: below 0 is junk, which measures leave out."""
    if value > 0:
        return "relevant", f"relevant ({value})"
    return ("junk", "junk: not counted") if value < 0 else ("", "not relevant")


def limits(paper: Paper, scale: str) -> list[dict[str, str]]:
    """What the benchmarks of a page cannot show, each text once with the benchmarks it holds for."""
    names = {r["benchmark"]: None for t in paper.page["tables"] for r in t["rows"]} if paper.results else {}
    by_benchmark = {}
    for name in names or paper.card.benchmarks_at(scale):
        try:
            by_benchmark[name] = benchmarks.get(name).cannot_show
        except UnknownName:
            by_benchmark[name] = "No card describes this benchmark."
    return shared(by_benchmark)


def shared(words: Mapping[str, str]) -> list[dict[str, str]]:
    """Benchmark -> text, with benchmarks of the same text together."""
    same: dict[str, list[str]] = {}
    for name, sentence in words.items():
        same.setdefault(sentence, []).append(name)
    return [{"benchmarks": text.listed(names), "words": sentence} for sentence, names in same.items() if sentence]


def embedded(figures: Iterable[charts.Figure]) -> dict[str, Any]:
    """Specifications for the interactive view, by the name of the figure."""
    return {text.slug(f.name): json.loads(json.dumps(f.spec)) for f in figures}
