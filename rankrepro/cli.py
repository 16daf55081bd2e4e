"""The command line: what a researcher asks, and (hidden) what the workflow's rules call."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from rankrepro.errors import DISK_FULL, RankReproError
from rankrepro.store import no_room

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
benchmarks_app = typer.Typer(no_args_is_help=True, help="List or export benchmarks.")
internal = typer.Typer(help="What the workflow's rules call.")
app.add_typer(benchmarks_app, name="benchmarks")
app.add_typer(internal, name="internal", hidden=True)

Scale = Annotated[str, typer.Option(help="quick, desk or paper.")]
Results = Annotated[Path, typer.Option(help="Folder of generated files of this scale.")]


@app.command()
def papers(scale: Scale = "desk") -> None:
    """All papers: family, number of claims, and the verdicts at a scale (`not run` where there is no method yet)."""
    from rankrepro.cards import ROOT, load_cards

    cards = load_cards()
    width = max(map(len, cards))
    for family in dict.fromkeys(c.family for c in cards.values()):
        print(f"\n{family}")
        for card in (c for c in cards.values() if c.family == family):
            file = ROOT / "reports" / scale / card.key / "results.json"
            verdicts = _verdicts(card.key, file)
            print(f"  {card.key:{width}}  {card.year}  {len(card.claims):2} claims  {verdicts:30}  {card.title}")


def _verdicts(key: str, file: Path) -> str:
    if not file.exists():
        return "not run"
    found = [c["verdict"] for c in json.loads(file.read_text())["papers"][key]["claims"] if c["role"] == "claim"]
    return ", ".join(f"{found.count(v)} {v}" for v in dict.fromkeys(found)) or "no claims"


@app.command()
def plan(
    scale: Scale = "quick", papers: Annotated[str, typer.Option(help="all, or keys with commas.")] = "all"
) -> None:
    """What a run would compute: jobs, cells and predicted minutes."""
    from rankrepro.cards import load_cards
    from rankrepro.plan import make_plan

    made = make_plan(load_cards(), scale, papers)
    for job in made.jobs.values():
        print(f"{job.id}  {job.seconds / 60:7.1f} min  {len(job.nodes):3d} nodes  {job.title}")
    total = sum(j.seconds for j in made.jobs.values()) / 60
    print(f"{len(made.jobs)} jobs, {len(made.nodes)} nodes, {total:.0f} core-minutes predicted")


@app.command()
def verify(
    published: Annotated[bool, typer.Option("--published", help="Check the committed reports.")] = False,
) -> None:
    """Check the artifacts in the cache, or that published reports were made by the code as it stands."""
    from rankrepro import artifacts
    from rankrepro.cards import load_cards
    from rankrepro.report import defects

    if published:
        found = defects(load_cards())
        for line in found:
            print(line)
        if found:
            raise typer.Exit(1)
        print("published reports match the code")
        return
    cache = artifacts.cache_dir()
    for entry in (a for a in artifacts.load_catalogue().values() if a.source == "wheel"):
        there = (cache / "artifacts" / entry.folder).exists()
        print(f"{entry.id}: {'ok' if there and artifacts.verify(entry, cache) else 'not fetched yet'}")


@benchmarks_app.command("list")
def list_benchmarks() -> None:
    """All benchmarks with their counts."""
    from rankrepro import benchmarks

    for entry in benchmarks.entries():
        print(f"{entry.id:24} {entry.units:6d} units  {entry.documents:6d} documents")


@benchmarks_app.command()
def export(benchmark: str, folder: Path) -> None:
    """Write a benchmark as a BEIR folder (corpus.jsonl, queries.jsonl, qrels/<split>.tsv)."""
    import tempfile

    from rankrepro import artifacts, benchmarks
    from rankrepro.benchmarks.export import export_beir

    with tempfile.TemporaryDirectory() as temporary:
        built = Path(temporary) / "built"
        benchmarks.build(benchmark, artifacts.cache_dir(), built)
        export_beir(benchmarks.load(built, benchmark), benchmarks.load_truth(built), folder)
    print(f"{benchmark} written to {folder}")


@internal.command()
def artifact(artifact_id: str, marker: Path) -> None:
    """Fetch, verify, unpack and (for a model) convert an artifact."""
    from rankrepro import artifacts, models

    cache = artifacts.cache_dir()
    entry = artifacts.load_catalogue()[artifact_id]
    path = artifacts.fetch(entry, cache)
    if entry.model:
        path = models.prepare(entry, cache)
    marker.write_text(json.dumps({"id": artifact_id, "digest": entry.digest, "folder": path.name}))


@internal.command("benchmark")
def build_benchmark(benchmark: str, marker: Path) -> None:
    """Build a benchmark into the folder of its marker file."""
    from rankrepro import artifacts, benchmarks

    benchmarks.build(benchmark, artifacts.cache_dir(), marker.parent)


@internal.command()
def judge(paper: str, scale: Scale, results: Results) -> None:
    """Judge a paper's cells and write results.json and units.json."""
    from rankrepro.judge.results import write_results

    write_results(paper, scale, results)


@internal.command()
def track(papers: list[str], scale: Scale, results: Results) -> None:
    """Write judged papers to MLflow."""
    from rankrepro.tracking import ingest

    ingest(papers, scale, results)


@internal.command()
def report(papers: list[str], scale: Scale, results: Results, reports: Annotated[Path, typer.Option()]) -> None:
    """Render the judged papers."""
    from rankrepro.report import render

    render(papers, scale, results, reports)


def main() -> None:
    """Run the command line; a typed error is one line on stderr and exit code 1."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("rankrepro").setLevel(logging.INFO)
    try:
        app()
    except RankReproError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        where = Path(error.filename).parent if error.filename else Path.cwd()
        print(f"StoreError: {no_room(where)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
