"""Commands that the workflow's rules call; hidden from `--help`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rankrepro.cli.options import Scale

app = typer.Typer(help=__doc__, rich_markup_mode=None)
Results = Annotated[Path, typer.Option(help="Folder of generated files of this scale.")]


@app.command()
def stand_ins(results: Results) -> None:
    """Make what a rehearsal uses instead of models and data from outside."""
    from rankrepro.rehearsal import make

    make(results)


@app.command()
def paper_scale() -> None:
    """Write docs/paper-scale.md from the plan of scale paper."""
    from rankrepro import budget
    from rankrepro.cards import ROOT, load_cards

    (ROOT / budget.PAGE).write_text(budget.page(load_cards()), encoding="utf-8")


@app.command()
def artifact(artifact_id: str, marker: Path) -> None:
    """Fetch, verify, unpack and (for a model) convert an artifact."""
    from rankrepro import artifacts, models, rehearsal

    rehearsal.enter(marker)
    cache = artifacts.cache_dir()
    entry = artifacts.load_catalogue()[artifact_id]
    path = artifacts.fetch(entry, cache)
    if entry.model:
        path = models.prepare(entry, cache)
    marker.write_text(json.dumps({"id": artifact_id, "digest": entry.digest, "folder": path.name}))


@app.command("benchmark")
def build_benchmark(benchmark: str, marker: Path) -> None:
    """Build a benchmark into the folder of its marker file."""
    from rankrepro import artifacts, benchmarks, rehearsal

    rehearsal.enter(marker)
    benchmarks.build(benchmark, artifacts.cache_dir(), marker.parent)


@app.command()
def retire(papers: list[str], scale: Scale = "desk") -> None:
    """Take papers off the shelf that the code no longer makes; their verdicts stay as those of an earlier run."""
    from rankrepro.cards import ROOT, load_cards
    from rankrepro.cli.options import card_of
    from rankrepro.judge import earlier

    cards = load_cards()
    for key in papers:
        earlier.retire(ROOT / "reports" / scale / key, card_of(cards, key), cards, scale)


@app.command()
def judge(paper: str, scale: Scale, results: Results, benchmarks: str = "all") -> None:
    """Judge a paper's cells and write results.json and units.json."""
    from rankrepro import rehearsal
    from rankrepro.judge.results import write_results

    rehearsal.enter(results)
    write_results(paper, scale, results, benchmarks)


@app.command()
def track(papers: list[str], scale: Scale, results: Results) -> None:
    """Write judged papers to MLflow."""
    from rankrepro.tracking import ingest

    ingest(papers, scale, results)


@app.command()
def report(papers: list[str], scale: Scale, results: Results, reports: Annotated[Path, typer.Option()]) -> None:
    """Render the judged papers."""
    from rankrepro.report import render

    render(papers, scale, results, reports)
