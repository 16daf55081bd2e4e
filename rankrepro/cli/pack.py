"""`rankrepro pack` and `rankrepro merge`: run papers on a machine without internet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rankrepro.cli.options import RESULTS, Results, Scale, check_scale


def pack(
    folder: Annotated[Path, typer.Argument(help="Folder to write, to be copied to the other machine.")],
    scale: Scale,
    papers: Annotated[str, typer.Option(help="Keys of cards, separated by commas, or all.")] = "all",
    piece_mb: Annotated[int, typer.Option(min=1, help="Largest size of a file, in megabytes.")] = 500,
    results: Results = RESULTS,
) -> None:
    """Pack what is still to be run, with all it needs, for a machine that has Python, torch and transformers alone."""
    from rankrepro.away import pack as packing
    from rankrepro.cards import load_cards

    done = packing.pack(folder, load_cards(), check_scale(scale), papers, results / scale, piece_mb)
    rest = f"; {done.done} are done already" if done.done else ""
    typer.echo(
        f"{done.jobs} jobs{rest}, about {done.seconds / 60:.0f} core-minutes on a machine like this\n"
        f"{folder}: {done.size / 1e6:,.0f} MB in {done.pieces} {'piece' if done.pieces == 1 else 'pieces'}\n"
        "copy the folder to the other machine and run there: python run.py\n"
        f"copy its folder `back` here, and put it into the store: rankrepro merge {folder}"
    )


def merge(
    folder: Annotated[Path, typer.Argument(help="What came back: the folder `back`, or the pack with it inside.")],
    partial: Annotated[bool, typer.Option(help="Take what there is of a run that did not end.")] = False,
    results: Results = RESULTS,
) -> None:
    """Check what a pack's jobs computed, file by file, and put it into the store."""
    from rankrepro.away import merge as merging
    from rankrepro.cards import load_cards

    done = merging.merge(folder, load_cards(), results, partial)
    typer.echo(
        f"{done.results} new results, {done.jobs} jobs done" + (f", {done.missing} missing" * bool(done.missing))
    )
    typer.echo(f"go on with: make reproduce SCALE={done.scale} PAPERS={','.join(done.papers)}")
