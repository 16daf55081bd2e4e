"""List, show or export benchmarks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from rankrepro.cards import Card
from rankrepro.cli import text
from rankrepro.cli.options import RESULTS, Json, Results

app = typer.Typer(help=__doc__, invoke_without_command=True, rich_markup_mode=None)
COUNTS = ("train", "validation", "test")


@app.callback()
def default(context: typer.Context) -> None:
    """List, show or export benchmarks. Without a command: list them."""
    if context.invoked_subcommand is None:
        list_benchmarks()


@app.command("list")
def list_benchmarks(as_json: Json = False) -> None:
    """All benchmarks with their counts."""
    from rankrepro import benchmarks

    entries = benchmarks.entries()
    if as_json:
        text.dump([{"id": e.id, "family": e.family, "what": e.what, "counts": e.counts} for e in entries])
        return
    rows = [(e.id, e.units or text.NONE, e.documents or text.NONE, e.what) for e in entries]
    text.table(("benchmark", "units", "documents", "what"), rows)
    patterns = [i for ids in benchmarks.families().values() for i in ids if "*" in i]
    print(f"and of ir_datasets: {', '.join(patterns)}")


@app.command()
def show(benchmark: Annotated[str, typer.Argument(help="Its id.")], results: Results = RESULTS) -> None:
    """Show a benchmark.

    What it is, how it is built and split, its licence, its limits, copies in its corpus if it was built here, and which
    papers use it, for their arms or for a stage.
    """
    from rankrepro import artifacts, benchmarks
    from rankrepro.benchmarks import copies
    from rankrepro.cards import load_cards

    entry = benchmarks.get(benchmark)
    print(entry.id)
    for name in ("what", "built", "split", "cannot_show", "licence", "citation"):
        if getattr(entry, name):
            text.heading(name.replace("_", " "))
            text.paragraph(getattr(entry, name), "  ")
    text.heading("counts")
    text.table(("what", "number"), [(k, v) for k, v in entry.counts.items()], "  ")
    for name, share in entry.lost.items():
        print(f"  relevant pairs of the original that fall away, {name.replace('_', ' ')}: {share:.1%}")
    built = [*sorted(results.glob("*/benchmarks")), artifacts.cache_dir() / "benchmarks"]
    found = benchmarks.copies_of(benchmark, built)
    if found is None and entry.documents:
        print("  copies in the corpus: counted when it is built")
    elif found:
        text.paragraph(copies.words(found), "  ")
    text.heading("used by")
    text.paragraph(", ".join(_users(load_cards().values(), benchmark)) or "no card", "  ")


def _users(cards: Iterable[Card], benchmark: str) -> Iterator[str]:
    """Cards, and their stages with a benchmark of their own, and the scales at which they use this one."""
    for card in cards:
        if scales := [scale for scale, ids in card.data.get("benchmarks", {}).items() if benchmark in ids]:
            yield f"{card.key} ({', '.join(scales)})"
        stages: dict[str, list[str]] = {}
        for stage, spec in card.stages.items():
            if scales := [scale for scale, one in (spec.get("benchmark") or {}).items() if one == benchmark]:
                stages.setdefault(", ".join(scales), []).append(stage)
        for scales_of, names in stages.items():
            yield f"{card.key} for its stages {', '.join(names)} ({scales_of})"


@app.command()
def export(
    benchmark: Annotated[str, typer.Argument(help="Its id.")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
) -> None:
    """Write a benchmark as a BEIR folder.

    corpus.jsonl, queries.jsonl and qrels/<split>.tsv.
    """
    import tempfile

    from rankrepro import artifacts, benchmarks
    from rankrepro.benchmarks.export import export_beir
    from rankrepro.errors import BenchmarkError

    with tempfile.TemporaryDirectory() as temporary:
        built = Path(temporary) / "built"
        benchmarks.build(benchmark, artifacts.cache_dir(), built)
        loaded = benchmarks.load(built, benchmark)
        if not isinstance(loaded, benchmarks.Benchmark):
            raise BenchmarkError(f"{benchmark} has no queries and documents: it cannot be written as a BEIR folder")
        export_beir(loaded, benchmarks.load_truth(built), folder)
    print(f"{benchmark} written to {folder}")
