"""`evaluate`: a run file of the user's own among our rows."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rankrepro.cards import load_cards
from rankrepro.cli import options, text
from rankrepro.cli.options import REPORTS, RESULTS, Json, Reports, Results, Scale


def evaluate(
    run: Annotated[Path, typer.Argument(help="TREC run: query Q0 document rank score tag; .gz is unpacked.")],
    benchmark: Annotated[str, typer.Option(help="Its benchmark; `rankrepro benchmarks` lists them.")],
    measure: Annotated[
        list[str] | None, typer.Option(help="As ir_measures writes it; may be repeated.  [default: nDCG@10]")
    ] = None,
    against: Annotated[
        list[str] | None, typer.Option(help="Compare with this row only; may be repeated.  [default: all]")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Queries that count; may be repeated.  [default: train, test]")
    ] = None,
    complete: Annotated[
        bool, typer.Option("--complete", help="Count queries without a result as 0, as trec_eval -c does.")
    ] = False,
    name: Annotated[str, typer.Option(help="What to call the run; by default its file name.")] = "",
    scale: Scale = "desk",
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, one line per row and measure.")] = False,
    results: Results = RESULTS,
    reports: Reports = REPORTS,
) -> None:
    """Score a run file and compare it with our rows.

    Prints its measures with 95 % intervals over clusters of queries, the share of its top 10 that was judged, and for
    each of our rows the paired difference on the queries both have: its interval, a two-sided p of the cluster
    bootstrap and Student's p as ranx computes it, both adjusted by Holm's method over the rows compared.
    """
    from rankrepro import artifacts
    from rankrepro import evaluate as judge
    from rankrepro.judge import measures

    options.check_scale(scale)
    names, splits = measure or ["nDCG@10"], split or ["train", "test"]
    for m in names:
        measures.get(m)
    on = judge.ground(benchmark, results / scale / "benchmarks", artifacts.cache_dir())
    submission = judge.take(run, on, splits, complete, name)
    rows = judge.our_rows(load_cards(), scale, benchmark, results, reports)
    tables = [judge.evaluate(submission, on, rows, m, against or ()) for m in names]
    head = {
        "run": submission.name,
        "benchmark": benchmark,
        "scale": scale,
        "split": splits,
        "queries": {"judged": len(submission.output.values) + len(submission.zeros), "of": submission.queries},
        "warnings": submission.warnings,
    }
    if as_json:
        text.dump({**head, "measures": tables})
    elif as_csv:
        _csv(head, tables)
    else:
        _print(head, tables)


def _print(head: Mapping[str, Any], tables: Sequence[Mapping[str, Any]]) -> None:
    judged, of = head["queries"]["judged"], head["queries"]["of"]
    print(f"{text.plain(head['run'])} on {head['benchmark']}: {judged} of {of} queries ({'+'.join(head['split'])})")
    for warning in head["warnings"]:
        print(f"  note: {text.plain(warning)}")
    for table in tables:
        text.heading(f"{table['measure']}, our rows of scale {head['scale']}")
        text.table(
            ("", "row", "value", "95 % interval", "n", "judged@10", "shared", "yours", "difference", "95 % interval",
             "p (Holm)", "Student (Holm)"),
            [_shown(i, row) for i, row in enumerate(table["rows"], 1)],
        )  # fmt: skip
        if len(table["rows"]) == 1:
            print(f"no row of ours has {table['measure']} on {head['benchmark']} at scale {head['scale']}")
    print("\nshared: queries that both answered; yours and difference (yours minus the row's) are over those alone")


def _shown(place: int, row: Mapping[str, Any]) -> tuple[Any, ...]:
    c = row["against"]
    first = (
        f"{place}{' >' if row['yours'] else ''}", row["arm"], text.number(row["value"]), text.interval(row["ci"]),
        row["n"], text.number(row["judged"], 2),
    )  # fmt: skip
    if not c:
        return (*first, *[text.NONE] * 6)
    difference = f"{c['difference']:+.3f}"
    ps = (text.probability(c["p_holm"]), text.probability(c["student_p_holm"]))
    return (*first, c["n"], text.number(c["yours"]), difference, text.interval(c["ci"]), *ps)


def _csv(head: Mapping[str, Any], tables: Sequence[Mapping[str, Any]]) -> None:
    fields = ("arm", "yours", "value", "low", "high", "n", "clusters", "judged")
    paired = ("n", "yours", "difference", "low", "high", "p", "p_holm", "student_p", "student_p_holm")
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["benchmark", "scale", "measure", *fields, *(f"shared_{name}" for name in paired)])
    for table in tables:
        for row in table["rows"]:
            flat = {**row, "low": row["ci"][0], "high": row["ci"][1], "yours": int(row["yours"])}
            c = row["against"]
            pair = {**c, "low": c["ci"][0], "high": c["ci"][1]} if c else {}
            out.writerow(
                [
                    head["benchmark"],
                    head["scale"],
                    table["measure"],
                    *(flat[k] for k in fields),
                    *map(pair.get, paired),
                ]
            )
    for warning in head["warnings"]:
        print(f"note: {text.plain(warning)}", file=sys.stderr)
