"""`plan`: what a run would compute, what of it is there already, and what its claims could show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from rankrepro.cards import load_cards
from rankrepro.cli import options, text
from rankrepro.cli.options import REPORTS, RESULTS, Json, Reports, Results, Scale


def plan(
    scale: Scale = "quick",
    papers: Annotated[str, typer.Option(help="all, or keys with commas.")] = "all",
    benchmarks: Annotated[str, typer.Option(help="all of a paper's, or ids with commas.")] = "all",
    claims: Annotated[bool, typer.Option("--claims", help="What each claim could show, instead of the work.")] = False,
    spread: Annotated[
        float, typer.Option(help="With --claims: assumed sd of a paired difference where none was measured.", min=0.001)
    ] = 0.3,
    as_json: Json = False,
    results: Results = RESULTS,
    reports: Reports = REPORTS,
) -> None:
    """Plan a run: cells, stages, minutes, downloads.

    Predicted, by job and by paper, with what is left to do. With --claims: on how many units each claim will rest, and
    the smallest effect they can show.
    """
    from rankrepro import artifacts, downloads
    from rankrepro.plan import make_plan
    from rankrepro.store import Store

    cards = load_cards()
    planned = make_plan(cards, scale, papers, benchmarks)
    if claims:
        _claims(cards, planned, scale, spread, as_json, reports)
        return
    store = Store(results / scale / "store")
    left = {d for d in planned.nodes if not store.has(d)}
    by_paper = [_work(key, planned, set(planned.paper_nodes[key]), left) for key in planned.papers]
    total = _work("all", planned, set(planned.nodes), left)  # less than the sum where papers share cells
    jobs = [
        {
            "id": job.id,
            "title": job.title,
            "nodes": len(job.nodes),
            "left": sum(n.digest in left for n in job.nodes),
            "minutes": job.seconds / 60,
        }
        for job in planned.jobs.values()
    ]
    cache = artifacts.cache_dir()
    if as_json:
        ahead = {a.id: a.size for a in downloads.missing(planned, cache)}
        text.dump({"scale": scale, "papers": by_paper, "total": total, "jobs": jobs, "downloads": ahead})
        return
    lines = [(j["id"], f"{j['minutes']:.1f}", j["nodes"], j["left"], j["title"]) for j in jobs]
    text.table(("job", "minutes", "results", "left", "what"), lines)
    print()
    columns = ("cells", "stages", "timings", "minutes", "left", "minutes_left")
    text.table(
        ("paper", *(c.replace("_", " ") for c in columns)),
        [(w["paper"], *(f"{w[c]:.1f}" if "minutes" in c else w[c] for c in columns)) for w in (*by_paper, total)],
    )
    print(
        f"\n{len(jobs)} jobs; minutes are those of one core, predicted; {len(planned.nodes) - total['left']} of "
        f"{len(planned.nodes)} results are in {store.folder}"
    )
    print(downloads.summary(planned, cache))


def _work(name: str, planned: Any, digests: set[str], left: set[str]) -> dict[str, Any]:
    nodes = [planned.nodes[d] for d in digests]
    kinds = [n.spec["kind"] for n in nodes]
    return {
        "paper": name,
        "cells": kinds.count("cell"),
        "stages": kinds.count("stage"),
        "timings": kinds.count("timing"),
        "minutes": sum(n.seconds for n in nodes) / 60,
        "left": len(digests & left),
        "minutes_left": sum(n.seconds for n in nodes if n.digest in left) / 60,
    }


def _claims(cards: Mapping[str, Any], planned: Any, scale: str, spread: float, as_json: bool, reports: Any) -> None:
    from rankrepro.outlook import stands

    outlooks = {}
    for key in planned.papers:
        measured = options.judged(key, scale, reports) or options.judged(key, "desk", reports)
        outlooks[key] = stands(cards[key], planned, measured, spread)
    if as_json:
        text.dump({key: [s.json() for s in rows] for key, rows in outlooks.items()})
        return
    for key, rows in outlooks.items():
        text.heading(key)
        text.table(
            ("claim", "on", "n", "sd", "spread", "level", "shows", "wanted", "needs n", "note"),
            [
                (
                    s.claim, s.benchmark or text.NONE, s.n or text.NONE, text.number(s.sd), s.source or text.NONE,
                    text.number(s.level, 4), _shows(s), text.number(s.wanted),
                    s.needed or text.NONE, s.note,
                )
                for s in rows
            ],
            "  ",
        )  # fmt: skip
    print(
        "\nshows: the effect that is reproduced with a power of 0.8 (equivalence: the least margin, 0.9), clusters,\n"
        "seeds and the claim's combination. measured: sd by a judged run; measured elsewhere: from another benchmark;\n"
        f"assumed: {spread:g}, no measurement yet (--spread): from independent units and seeds that agree to clusters\n"
        "and seeds that do not."
    )
    if hopeless := [f"{key}: {s.claim}" for key, rows in outlooks.items() for s in rows if not s.decidable]:
        print("\ncannot be decided at this n: " + ", ".join(dict.fromkeys(hopeless)))


def _shows(stand: Any) -> str:
    """One number, or a range where clusters and seeds were never measured."""
    most = text.number(stand.detectable)
    return most if stand.at_best is None else f"{text.number(stand.at_best)} to {most}"
