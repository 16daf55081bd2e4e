"""rankrepro: which claims of ranking papers hold, with what statistics, and how a method of your own compares."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import typer

from rankrepro.cli import (
    artifacts,
    benchmarks,
    check,
    evaluate,
    explain,
    internal,
    new,
    pack,
    papers,
    plan,
    seconds,
    site,
)
from rankrepro.errors import DISK_FULL, RankReproError
from rankrepro.store import no_room

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False, rich_markup_mode=None
)
for command in (
    papers.papers, papers.show, explain.explain, plan.plan, new.new, evaluate.evaluate, check.verify, check.judge,
    check.clean, seconds.seconds, site.report, pack.pack, pack.merge,
):  # fmt: skip
    app.command()(command)
app.add_typer(benchmarks.app, name="benchmarks")
app.add_typer(artifacts.app, name="artifacts")
app.add_typer(internal.app, name="internal", hidden=True)


def main() -> None:
    """Run the command line; a typed error is one line on stderr and exit code 1, a usage error exit code 2."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the judge's products are narrow: a second thread only spins
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
