"""`papers` and `show`: what there is, what came out, and how to run it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rankrepro.cards import Card, load_cards
from rankrepro.cli import options, text
from rankrepro.cli.options import REPORTS, Json, Reports, Scale
from rankrepro.errors import UnknownName
from rankrepro.judge import earlier
from rankrepro.plan import stale


def papers(
    scale: Scale = "desk",
    family: Annotated[str, typer.Option(help="Only this family.")] = "",
    as_json: Json = False,
    reports: Reports = REPORTS,
) -> None:
    """List the papers, their claims and verdicts.

    By family and year, with the outcome of each paper's claims at a scale.
    `not run`: no report at this scale. `stale`: the code has changed since the report was made.
    """
    options.check_scale(scale)
    cards = load_cards()
    families = list(dict.fromkeys(c.family for c in cards.values()))
    if family and family not in families:
        raise UnknownName("family", family, families)
    rows = [r for r in _rows(cards, scale, reports) if family in ("", r["family"])]
    if as_json:
        text.dump(rows)
        return
    text.table(
        ("family", "paper", "year", "claims", f"verdicts at {scale}", "title"),
        [(r["family"], r["key"], r["year"], r["claims"], _summary(r), r["title"]) for r in rows],
    )
    ran = sum(r["status"] != "not run" for r in rows)
    print(f"\npapers: {len(rows)}, claims: {sum(r['claims'] for r in rows)}, papers run at {scale}: {ran}")


def _rows(cards: Mapping[str, Card], scale: str, reports: Path) -> list[dict[str, Any]]:
    files = {k: f for k in cards if (f := reports / scale / k / "results.json").exists()}
    results = {k: options.read_results(f) for k, f in files.items()}
    old = stale(cards, scale, {k: data["digests"] for k, data in results.items()})
    rows = []
    for card in sorted(cards.values(), key=lambda c: (c.family, c.year, c.key)):
        data = results.get(card.key)
        status = "not run" if data is None else "stale" if card.key in old else "judged"
        judged = data["papers"][card.key]["claims"] if data else []
        rows.append(
            {
                "key": card.key,
                "family": card.family,
                "year": card.year,
                "title": card.title,
                "link": card.link,
                "method": card.implemented,
                "claims": sum(c.get("role", "claim") == "claim" for c in card.claims),
                "scale": scale,
                "status": status,
                "verdicts": _counted(judged, ("paper",)),
                "controls": _counted(judged, ("control", "ours")),
            }
        )
    return rows


def _counted(judged: Sequence[Mapping[str, Any]], origins: Sequence[str]) -> dict[str, int]:
    """Verdict -> number of claims of these origins."""
    return dict(Counter(c["verdict"] for c in judged if c["role"] == "claim" and c.get("origin", "paper") in origins))


def _summary(row: Mapping[str, Any]) -> str:
    if row["status"] == "not run":
        return "not run" if row["method"] else "not run (no method yet)"
    counts = ", ".join(f"{n} {verdict}" for verdict, n in row["verdicts"].items()) or "no claims"
    if row["controls"]:
        counts += "; controls: " + ", ".join(f"{n} {verdict}" for verdict, n in row["controls"].items())
    return f"stale: {counts}" if row["status"] == "stale" else counts


def show(paper: str, scale: Scale = "desk", reports: Reports = REPORTS) -> None:
    """Show a paper: arms, claims, tables, cost.

    Also its benchmarks at every scale, its notes and limits, and the commands that run it.
    """
    options.check_scale(scale)
    cards = load_cards()
    card = options.card_of(cards, paper)
    data = options.judged(paper, scale, reports)
    print(f"{card.key}: {text.plain(card.title)} ({card.year}{', ' + card.venue if card.venue else ''})")
    print(card.link)
    print()
    text.paragraph(card.summary)
    if card.implemented:
        _arms(cards, card)
    _claims(card, scale, data, cards)
    if data:
        _earlier(earlier.runs(reports / scale / paper))
        _tables(data["papers"][paper])
        _cost(data)
    _reported(card)
    if card.notes:
        text.heading("notes and limits")
        text.paragraph(card.notes, "  ")
    _commands(card, scale)


def _arms(cards: Mapping[str, Card], card: Card) -> None:
    """Arm -> function and, per scale, benchmarks x units (and seeds)."""
    from rankrepro.outlook import units_of
    from rankrepro.plan import make_plan

    scales = [s for s in ("quick", "desk", "gpu", "paper") if card.benchmarks_at(s)]
    sizes: dict[tuple[str, str], str] = {}
    for scale in scales:
        text.heading(f"benchmarks at {scale}: {', '.join(card.benchmarks_at(scale))}")
        plan = make_plan(cards, scale, [card.key])
        for row, at in plan.rows.items():
            units = [units_of(plan.nodes[cells[0][1]].spec) for cells in at.values()]
            seeds = max(map(len, at.values()))
            span = f"{min(units)}-{max(units)}" if min(units) < max(units) else str(min(units))
            sizes[row, scale] = f"{len(units)} x {span}" + (f", {seeds} seeds" if seeds > 1 else "")
    text.heading("arms (benchmarks x units)")
    rows = [f"{card.key}.{row}" for arm in card.arms for row in card.rows(arm)]
    others = sorted({row for row, _ in sizes} - set(rows))
    function = {f"{card.key}.{row}": card.arms[arm]["fn"] for arm in card.arms for row in card.rows(arm)}
    text.table(
        ("row", "function", *scales),
        [(r, function.get(r, ""), *(sizes.get((r, s), text.NONE) for s in scales)) for r in [*rows, *others]],
        "  ",
    )


def _claims(card: Card, scale: str, data: Mapping[str, Any] | None, cards: Mapping[str, Card]) -> None:
    state = "" if data else ": not run" if card.implemented else ": not run (no method yet)"
    if data and (why := stale(cards, scale, {card.key: data["digests"]})):
        state = f": stale, {why[card.key]}"
    text.heading(f"claims at {scale}{state}")
    judged = {c["id"]: c for c in data["papers"][card.key]["claims"]} if data else {}
    rows = []
    for claim in card.claims:
        result = judged.get(claim["id"], {})
        kind = claim.get("role", "claim")
        rows.append(
            (
                claim["id"] + (f" ({kind})" if kind != "claim" else ""),
                result.get("verdict", "not run"),
                text.number(result.get("effect")),
                text.interval(result.get("ci")),
                text.probability(result.get("p_holm")),
                result.get("n") or text.NONE,
                result.get("sentence", claim["sentence"])
                + (" (worded anew since)" if result and result["sentence"] != claim["sentence"] else ""),
            )
        )
    text.table(("claim", "verdict", "effect", "95 % interval", "p (Holm)", "n", "sentence"), rows, "  ")


def _earlier(runs: Sequence[Mapping[str, Any]]) -> None:
    """What was published before what is registered, or a budget, was changed."""
    for run in runs:
        text.heading(f"an earlier run, ended on {run['ended']}; changed after it")
        for line in run["changed"]:
            text.paragraph(f"- {line}", "  ")
        rows = [
            (c["id"], c["verdict"], text.number(c["effect"]), text.interval(c["ci"]), c["n"] or text.NONE)
            for c in run["claims"]
        ]
        text.table(("claim", "verdict then", "effect", "95 % interval", "n"), rows, "  ")


def _tables(paper: Mapping[str, Any]) -> None:
    """The first measure of each table: arms down, benchmarks across."""
    for table in paper["tables"]:
        rows = [r for r in table["rows"] if r["measure"] == table["measures"][0]]
        if not rows:
            continue
        names = list(dict.fromkeys(r["benchmark"] for r in rows))
        value = {(r["arm"], r["benchmark"]): text.number(r["value"]) for r in rows}
        n: dict[str, list[int]] = {}
        for r in rows:
            n.setdefault(r["arm"], []).append(r["n"])
        cost = {arm: _mean([r["cost"]["seconds_per_unit"] for r in rows if r["arm"] == arm]) for arm in n}
        text.heading(f"{table['name']}: {table['measures'][0]}")
        text.table(
            ("row", *names, "n", "time per unit"),
            [
                (
                    arm,
                    *(value.get((arm, b), text.NONE) for b in names),
                    "/".join(map(str, dict.fromkeys(ns))),
                    text.seconds(cost[arm]),
                )
                for arm, ns in n.items()
            ],
            "  ",
        )
    if paper["timings"]:
        text.heading("paired timings")
        text.table(
            ("timing", "a / b", "95 % interval", "n"),
            [(t["name"], text.number(t["ratio"]), text.interval(t["ci"]), t["n"]) for t in paper["timings"]],
            "  ",
        )


def _mean(values: Sequence[float | None]) -> float | None:
    """Over benchmarks; None for a ceiling, which is not computed by a cell."""
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _cost(data: Mapping[str, Any]) -> None:
    totals = data["totals"]
    text.heading("cost")
    print(
        f"  {text.duration(totals['compute_s'])} of CPU in {len(data['digests'])} stored results, "
        f"{text.duration(totals['cell_wall_s'])} of wall time on {totals['cores']} cores"
    )
    print(f"  judged by commit {data['commit'] or 'none'}, claims of commit {data['claims_commit'] or 'none'}")


def _reported(card: Card) -> None:
    """The paper's own numbers; those that were not verified apart."""
    told = card.data.get("reported", [])
    for heading, verified in (
        ("reported by the paper, on its own data and models", True),
        ("reported, and not verified: at second hand or from memory", False),
    ):
        rows = [
            (r["table"], r["data"], r["row"], r["column"], r["value"], r["source"])
            for r in told
            if r["verified"] == verified
        ]
        if rows:
            text.heading(heading)
            text.table(("where", "data", "row", "column", "reported", "source"), rows, "  ")


def _commands(card: Card, scale: str) -> None:
    text.heading("commands")
    if not card.implemented:
        print(f"  rankrepro new {card.key}    # a module and a test to begin with")
        return
    print(f"  rankrepro plan --scale {scale} --papers {card.key}")
    print(f"  make reproduce SCALE={scale} PAPERS={card.key}")
    print(f"  rankrepro explain {card.claims[0]['id']} --scale {scale}")
