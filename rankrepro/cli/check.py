"""`verify`, `judge` and `clean`: is what lies there whole, does it follow, and is it still needed?"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

from rankrepro.cards import load_cards
from rankrepro.cli import text
from rankrepro.cli.options import RESULTS, Json, Results
from rankrepro.errors import UnknownName


def verify(
    published: Annotated[
        bool, typer.Option("--published", help="Only: do the committed reports follow from their units and the code?")
    ] = False,
    results: Results = RESULTS,
) -> None:
    """Check that nothing is damaged or stale.

    Artifacts in the cache, stored results, benchmarks and run files; exit code 1 if one is damaged. With --published:
    every row, effect, interval, p, guard and verdict of the published reports is computed again from the units beside
    them, and held against cards, judge, registration and manifest; the first number of a paper that is off is named.
    """
    if published:
        _published()
        return
    from rankrepro.cli.artifacts import verify_all

    good = verify_all()
    for folder in sorted(f for f in results.glob("*") if (f / "store").is_dir()):
        good = _results(folder) and good
    if not good:
        raise typer.Exit(1)


def _published() -> None:
    from rankrepro.report import shelf

    papers = shelf.verify(load_cards())
    for paper in papers:
        for fault in paper.faults:
            print(f"reports/desk/{paper.key}: {fault}")
        if not paper.faults:
            print(paper)
    if any(paper.faults for paper in papers):
        raise typer.Exit(1)


def judge(
    published: Annotated[list[str], typer.Option("--published", help="A published paper, or all; may be repeated.")],
    results: Results = RESULTS,
) -> None:
    """Judge published papers again from their units.

    By the judge and the cards as they stand, without running a cell; the files in reports/desk are written anew. Papers
    whose claims read material that is not published have to be run again.
    """
    from rankrepro.report import shelf

    cards = load_cards()
    there = sorted(file.parent.name for file in shelf.PUBLISHED.glob("*/results.json"))
    for key in there if published == ["all"] else published:
        if key not in there:
            raise UnknownName("published paper", key, there)
        changed = shelf.judge_again(key, cards, results / "desk")
        print(f"{key}: judged again, " + (f"{len(changed)} verdicts changed" if changed else "no verdict changed"))
        for line in changed:
            print(f"  {line}")


def _results(folder: Path) -> bool:
    """Print what is damaged in a results folder, or how much was checked; True if nothing is damaged."""
    from rankrepro.inspection import inspect

    checked, damaged = inspect(folder)
    for line in damaged:
        print(line)
    print(f"{folder}: {checked} results, benchmarks and runs checked, {len(damaged)} damaged")
    return not damaged


def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it they are only listed.")] = False,
    cache: Annotated[
        bool, typer.Option("--cache", help="With --yes: delete in the cache too, which all clones share.")
    ] = False,
    as_json: Json = False,
    results: Results = RESULTS,
) -> None:
    """Delete what no card needs any more.

    Lists, and with --yes deletes, results, jobs, runs, benchmarks and artifacts.

    What a plan of quick, desk or paper needs is never deleted. Refused while a run uses the folder.
    """
    from rankrepro import artifacts
    from rankrepro.clean import leftovers, remove

    found = leftovers(load_cards(), results, artifacts.cache_dir())
    if as_json:
        text.dump(
            [{"path": str(x.path), "kind": x.kind, "bytes": x.size, "why": x.why, "shared": x.shared} for x in found]
        )
    else:
        _list(found)
    if yes:
        chosen = [x for x in found if cache or not x.shared]
        freed = remove(chosen, results)
        if not as_json:
            print(f"{len(chosen)} deleted, {text.size(freed)} freed")
    elif found and not as_json:
        print(
            "nothing was deleted; --yes does" + (", in the cache --yes --cache" if any(x.shared for x in found) else "")
        )


def _list(found: list) -> None:
    if not found:
        print("nothing to clean: all there is is needed")
        return
    text.table(("size", "kind", "path", "why"), [(text.size(x.size), x.kind, x.path, x.why) for x in found])
    total: dict[str, int] = defaultdict(int)
    for x in found:
        total["in the cache" if x.shared else "in results"] += x.size
    print("\n" + ", ".join(f"{text.size(n)} {where}" for where, n in total.items()))
