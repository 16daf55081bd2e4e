"""Plain pages from results.json: one truth, rendered as HTML and Markdown. Reads judged files only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankrepro.cards import ROOT, Card, load_cards
from rankrepro.errors import RankReproError

PUBLISHED = ROOT / "reports" / "desk"


def render(papers: list[str], scale: str, results: Path, reports: Path) -> None:
    """Write `reports/<paper>/{results.json,index.html,tables.md}` and `reports/{index.html,summary.md}`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    env = Environment(
        loader=PackageLoader("rankrepro.report"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"num": _number, "pm": _interval, "p": _p, "cost": _cost, "cell": _markdown_cell}
    cards = load_cards()
    judged = {}
    for key in papers:
        file = results / "judged" / key / "results.json"
        data = json.loads(file.read_text())
        judged[key] = data
        folder = reports / key
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / "results.json")
        page = {"card": cards[key], "paper": data["papers"][key], "data": data, "pivot": pivot, "scale": scale}
        (folder / "index.html").write_text(env.get_template("paper.html").render(**page))
        (folder / "tables.md").write_text(env.get_template("paper.md").render(**page))
    front = {"cards": cards, "judged": judged, "scale": scale, "reports": reports, "results": results, "pivot": pivot}
    there = {key: json.loads(f.read_text()) for key in cards if (f := reports / key / "results.json").exists()}
    (reports / "index.html").write_text(env.get_template("index.html").render(**front | {"judged": there}))
    temporary = reports / "summary.md.tmp"
    temporary.write_text(env.get_template("summary.md").render(**front))
    temporary.rename(reports / "summary.md")


def pivot(table: Mapping[str, Any], measure: str) -> dict[str, Any]:
    """A table's rows of one measure as {benchmarks, lines: [(arm, {benchmark: row})]}."""
    rows = [r for r in table["rows"] if r["measure"] == measure]
    names = list(dict.fromkeys(r["benchmark"] for r in rows))
    arms = list(dict.fromkeys(r["arm"] for r in rows))
    lines = [(a, {r["benchmark"]: r for r in rows if r["arm"] == a}) for a in arms]
    return {"benchmarks": names, "lines": lines}


def defects(cards: Mapping[str, Card], published: Path = PUBLISHED) -> list[str]:
    """One line for each published report that the code as it stands did not make, and for each placebo that passed."""
    from rankrepro.plan import make_plan

    found = []
    for file in sorted(published.glob("*/results.json")):
        key = file.parent.name
        try:
            now = make_plan(cards, "desk", [key]).paper_nodes[key]
        except RankReproError as error:
            found.append(f"reports/desk/{key}: {error}")
            continue
        results = json.loads(file.read_text())
        then = results["digests"]
        for claim in results["papers"][key]["claims"]:
            if claim["verdict"] == "placebo passed":
                found.append(
                    f"reports/desk/{key}: placebo '{claim['id']}' passed: mend the arm, its claim means nothing"
                )
        if set(now) != set(then):
            found.append(
                f"reports/desk/{key}: stale: {len(set(now) - set(then))} of {len(now)} results would be computed "
                f"anew; run `make reproduce SCALE=desk PAPERS={key}` and commit the report"
            )
    return found


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _interval(pair: list[float] | None) -> str:
    return "" if not pair or pair[0] is None else f"[{pair[0]:.3f}, {pair[1]:.3f}]"


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _cost(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds:.1f} s"


def _markdown_cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
