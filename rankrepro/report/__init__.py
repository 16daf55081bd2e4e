"""A static site from judged files and cards: pages, and every table as CSV, Markdown, LaTeX and JSON.

render(papers, scale, results, reports)    # copies what was judged to the reports folder, then rebuilds it
rebuild(reports, scale)                    # all pages from that folder and the cards alone
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankrepro.cards import Card, load_cards
from rankrepro.errors import ConfigError
from rankrepro.judge import earlier
from rankrepro.judge.results import SCHEMA
from rankrepro.plan import stale
from rankrepro.report import charts, jobs, pages, sheets, shelf
from rankrepro.report.pages import Paper

FEW = 3  # the most papers whose tables the summary of a run shows


def render(papers: list[str], scale: str, results: Path, reports: Path) -> None:
    """Copy the judged files of `papers` to `reports/<paper>/`, make all pages, and write `reports/summary.md` last."""
    cards = load_cards()
    for key in papers:
        shelf.collect(results / "judged" / key, reports / key, cards)
    if run := jobs.gather(results):
        (reports / "jobs").mkdir(exist_ok=True)
        (reports / "jobs" / "jobs.json").write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    every = rebuild(reports, scale, cards)
    summary = pages.environment().get_template("summary.md")
    shown = [p for p in every if p.key in papers]
    temporary = reports / "summary.md.tmp"
    temporary.write_text(
        summary.render(papers=shown, few=len(shown) <= FEW, scale=scale, reports=reports, results=results, pivot=pivot),
        encoding="utf-8",
    )
    temporary.rename(reports / "summary.md")


def rebuild(reports: Path, scale: str, cards: Mapping[str, Card] | None = None) -> list[Paper]:
    """Rebuild every page of `reports` from the judged files in it and the cards; no store is needed.

    Writes index.html, assets/vega.js and for each card `<paper>/index.html`; for those that were run also
    `<paper>/tables.md` and `<paper>/tables/*`; where `jobs/jobs.json` describes a run, the page of its jobs. Returns
    the papers in the order of their cards.
    """
    cards = cards or load_cards()
    reports.mkdir(parents=True, exist_ok=True)
    papers = [load(card, reports / key, scale) for key, card in cards.items()]
    why = stale(cards, scale, {p.key: p.results["digests"] for p in papers if p.results})
    for paper in papers:
        paper.stale = why.get(paper.key, "")
    env, labels = pages.environment(), pages.labels(cards.values())
    for paper in papers:
        folder = reports / paper.key
        folder.mkdir(exist_ok=True)
        page = pages.paper_page(paper, scale, labels)
        page["specs"] = pages.embedded([*page.get("cost", []), *page["figures"].values()])
        page["copies"] = {s.slug: {"md": sheets.to_markdown(s), "tex": sheets.to_latex(s)} for s in page["sheets"]}
        (folder / "index.html").write_text(env.get_template("paper.html").render(**page), encoding="utf-8")
        if paper.results:
            sheets.write_all(page["sheets"], folder / "tables")
            shelf.write_tables(paper, folder, scale, labels)
    charts.write_bundle(reports / "assets")
    sentence = _jobs_page(reports / "jobs", scale, env)
    (reports / "index.html").write_text(
        env.get_template("index.html").render(**pages.front(papers, scale), jobs=sentence), encoding="utf-8"
    )
    return papers


def _jobs_page(folder: Path, scale: str, env: Any) -> str:
    """The page of the last run's jobs, if its numbers are there; its sentence for the front page, else empty."""
    file = folder / "jobs.json"
    if not file.exists():
        return ""
    run = shelf.read_json(file)
    page = jobs.page(run)
    page |= {"scale": scale, "when": jobs.when(run), "figure_of_jobs": page["figure"]}
    sheets.number_slugs(page["sheets"])
    page["specs"] = pages.embedded([page["figure"]])
    page["copies"] = {s.slug: {"md": sheets.to_markdown(s), "tex": sheets.to_latex(s)} for s in page["sheets"]}
    (folder / "index.html").write_text(env.get_template("jobs.html").render(**page), encoding="utf-8")
    sheets.write_all(page["sheets"], folder / "tables")
    return page["sentence"]


def load(card: Card, folder: Path, scale: str) -> Paper:
    """A card with the judged files of its folder, if it has any. ConfigError names a file that cannot be used."""
    file = folder / "results.json"
    if not file.exists():
        return Paper(card, earlier=earlier.runs(folder))
    results = shelf.read_json(file)
    if results.get("schema") != SCHEMA or results.get("scale") != scale or card.key not in results.get("papers", {}):
        raise ConfigError(
            f"{file} is not a result of '{card.key}' at scale {scale} in the present format; "
            f"run `make reproduce SCALE={scale} PAPERS={card.key}` again, or remove it"
        )
    units, examples = (shelf.read_json(folder / name) for name in ("units.json.gz", "examples.json"))
    return Paper(card, results, units, examples, earlier=earlier.runs(folder))


def pivot(table: Mapping[str, Any], measure: str) -> dict[str, Any]:
    """A table's rows of one measure as {benchmarks, lines: [(arm, {benchmark: row})]}."""
    rows = [r for r in table["rows"] if r["measure"] == measure]
    names = list(dict.fromkeys(r["benchmark"] for r in rows))
    arms = list(dict.fromkeys(r["arm"] for r in rows))
    lines = [(a, {r["benchmark"]: r for r in rows if r["arm"] == a}) for a in arms]
    return {"benchmarks": names, "lines": lines}
