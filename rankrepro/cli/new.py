"""`new`: the files of a method of your own."""

from __future__ import annotations

from typing import Annotated

import typer


def new(
    key: Annotated[str, typer.Argument(help="Name of card and module: small letters, digits and _.")],
    of: Annotated[str, typer.Option("--from", help="The card whose comparison the method joins.")] = "baselines",
    benchmark: Annotated[str, typer.Option(help="Benchmark at scale quick.")] = "vital-mini/fever",
    family: Annotated[
        str, typer.Option(help="Folder of card, module and test; without it that of the card joined.")
    ] = "",
    insert: Annotated[
        bool, typer.Option("--insert", help="Append arms and tables to a card that has no method yet.")
    ] = False,
) -> None:
    """Start a new method.

    Writes the card, module and test of a re-ranker that runs as it is. Then change them; docs/contract.md says what
    they can use.

    For a paper that has a card but no method yet, the module and the test are written, and what the card lacks is
    printed, or appended with --insert. Nothing is overwritten.
    """
    from rankrepro.cards import ROOT, file_of, load_cards
    from rankrepro.plan import make_plan
    from rankrepro.scaffold import scaffold

    scaffolded = scaffold(key, of, benchmark, insert, family=family)
    for file in scaffolded.written:
        print(f"wrote {file.relative_to(ROOT)}")
    if scaffolded.stanza:
        print(f"\nadd to {file_of(key)}:\n\n{scaffolded.stanza}")
    cards = load_cards()
    print("next")
    test = next(file for file in scaffolded.written if file.stem == f"test_{key}")
    print(f"  python -m pytest {test.relative_to(ROOT)}")
    print(f"  rankrepro plan --papers {key}")
    minutes = ""
    if cards[key].implemented:
        seconds = sum(j.seconds for j in make_plan(cards, "quick", [key]).jobs.values())
        minutes = "    # cells: " + (
            "under a minute" if seconds < 60 else f"about {seconds / 60:.0f} minutes of one core"
        )
    print(f"  make reproduce PAPERS={key}{minutes}")
    print(f"  rankrepro explain {scaffolded.claim} --scale quick")
