"""List, show, fetch or verify what the project needs from outside."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rankrepro.cli import text
from rankrepro.cli.options import Json
from rankrepro.errors import RankReproError

app = typer.Typer(help=__doc__, invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def default(context: typer.Context) -> None:
    """List, show, fetch or verify what the project needs from outside. Without a command: list it."""
    if context.invoked_subcommand is None:
        list_artifacts()


@app.command("list")
def list_artifacts(as_json: Json = False) -> None:
    """List sources, size, what is at hand, and licence."""
    from rankrepro import artifacts

    cache = artifacts.cache_dir()
    rows: list[dict[str, Any]] = [
        {
            "id": a.id,
            "source": a.source,
            "sources": [s.title for s in a.places],
            "name": a.name or a.id,
            "version": a.version or a.revision,
            "bytes": a.size,
            "fetched": artifacts.fetched(a, cache) is not None if a.source != "ir_datasets" else None,
            "licence": a.licence,
        }
        for a in artifacts.load_catalogue().values()
    ]
    if as_json:
        text.dump({"cache": str(cache), "artifacts": rows})
        return
    state = {True: "fetched", False: "not fetched", None: "kept by ir_datasets"}
    catalogue = artifacts.load_catalogue()
    text.table(
        ("artifact", "sources", "download", "cache", "licence"),
        [
            (
                r["id"],
                ", ".join(s.kind for s in catalogue[r["id"]].places) or r["source"],
                text.size(r["bytes"]) if r["bytes"] else text.NONE,
                state[r["fetched"]],
                r["licence"],
            )
            for r in rows
        ],
    )
    at_hand = sum(r["bytes"] for r in rows if r["fetched"])
    print(f"\ncache: {cache}, which has {text.size(at_hand)} of these downloads")


@app.command()
def show(artifact: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Show an artifact: what it is, its files, and its sources in the order in which they are tried."""
    from rankrepro import artifacts

    entry = artifacts.find(artifacts.load_catalogue(), artifact)
    folder = artifacts.fetched(entry, artifacts.cache_dir())
    text.heading(entry.id)
    text.paragraph(entry.citation, "  ")
    print(f"  licence: {entry.licence}\n  digest: {entry.digest}\n  in the cache: {folder or 'no'}")
    if model := entry.model:
        print(
            f"  model: {model.kind}, {model.parameters / 1e6:,.0f} million parameters, trained for {model.trained_for}"
        )
    text.heading("sources")
    text.table(("", "size"), [(s.title, text.size(s.size)) for s in entry.places], "  ")
    text.heading("files")
    text.table(
        ("", "size", "sha256"),
        [
            (p, text.size(c.size), c.sha256[:16]) if (c := entry.files.get(p)) else (p, text.NONE, text.NONE)
            for p in entry.inner
        ],
        "  ",
    )


@app.command()
def fetch(
    artifact: Annotated[str, typer.Argument(help="Its id.")] = "",
) -> None:
    """Fetch an artifact, or all of them.

    It is verified, and converted if it is a model. Without an id: all that scales quick and desk need.
    """
    from rankrepro import artifacts, models
    from rankrepro.cards import load_cards
    from rankrepro.clean import needed

    catalogue, cache = artifacts.load_catalogue(), artifacts.cache_dir()
    ids = [artifact] if artifact else sorted(needed(load_cards(), ["quick", "desk"]).artifacts)
    for name in ids:
        entry = artifacts.find(catalogue, name)
        folder = models.prepare(entry, cache) if entry.model else artifacts.fetch(entry, cache)
        print(f"{name}: {folder}")


@app.command()
def verify() -> None:
    """Hash every fetched file again.

    Exit code 1 if one has changed.
    """
    if not verify_all():
        raise typer.Exit(1)


def verify_all() -> bool:
    """Print a line for each artifact; False if one of those in the cache is damaged."""
    from rankrepro import artifacts

    cache, good = artifacts.cache_dir(), True
    for entry in artifacts.load_catalogue().values():
        if entry.source == "ir_datasets":
            continue
        if artifacts.fetched(entry, cache) is None:
            print(f"{entry.id}: not fetched yet")
            continue
        try:
            artifacts.verify(entry, cache)
            print(f"{entry.id}: ok")
        except RankReproError as error:
            good = False
            print(f"{entry.id}: {error}")
    return good
