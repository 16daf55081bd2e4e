"""Options that several commands share, and where judged results lie."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from rankrepro.cards import ROOT, Card
from rankrepro.errors import ConfigError, UnknownName

SCHEMA = 3  # version of results.json (workflow/schemas/results.schema.json)

Scale = Annotated[str, typer.Option(help="quick, desk, gpu, paper or rehearsal.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Results = Annotated[Path, typer.Option(help="Folder of generated files, above the scales.", show_default="results")]
Reports = Annotated[Path, typer.Option(help="Folder of reports, above the scales.", show_default="reports")]
RESULTS, REPORTS = ROOT / "results", ROOT / "reports"


def card_of(cards: Mapping[str, Card], key: str) -> Card:
    if key not in cards:
        raise UnknownName("paper", key, cards)
    return cards[key]


def check_scale(scale: str) -> str:
    from rankrepro.plan import scales

    if scale not in scales():
        raise UnknownName("scale", scale, scales())
    return scale


def read_results(file: Path) -> dict[str, Any]:
    """A results.json of any version, or a ConfigError."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read ({error}); delete it and run the paper again") from None


def judged(key: str, scale: str, reports: Path) -> dict[str, Any] | None:
    """The published results of a paper at a scale, None where it was not run. ConfigError for another version."""
    file = reports / scale / key / "results.json"
    if not file.exists():
        return None
    data = read_results(file)
    if data.get("schema") != SCHEMA or key not in data.get("papers", {}):
        raise ConfigError(
            f"{file} was written by another version of rankrepro; `make reproduce SCALE={scale} PAPERS={key}` writes "
            "it again from what the store has"
        )
    return data
