"""From stored cells and truth to the three files of a judged paper: results, units, examples."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from rankrepro import benchmarks, claims, sizes
from rankrepro.benchmarks.base import Truth
from rankrepro.benchmarks.images import ImageBenchmark, ImageTruth
from rankrepro.cards import ROOT, Card, load_cards, qualify
from rankrepro.cell import Retrieval
from rankrepro.claims import Term
from rankrepro.code import Code, Definition
from rankrepro.judge import costs, measures, pooled, thumbnails
from rankrepro.judge.claims import judge_claims
from rankrepro.judge.examples import LEVELS, examples
from rankrepro.judge.registration import claims_commit, git, registration
from rankrepro.judge.tables import table, tables_of
from rankrepro.judge.values import Values, own
from rankrepro.plan import make_plan
from rankrepro.runs import write_run
from rankrepro.store import digest_of

SCHEMA = 3  # of workflow/schemas/{results,units,examples}.schema.json


def write_results(paper: str, scale: str, folder: Path, only: str = "all") -> None:
    """Judge `paper` from the store under `folder` (results/<scale>); write the files of `judged/<paper>/` and runs.

    `only`: the benchmarks that were planned.
    """
    cards = load_cards()
    card, values = cards[paper], Values(make_plan(cards, scale, [paper], only), folder)
    results = judge(card, values, cards)
    files = {
        "units": units(card, values),
        "examples": shown(card, values, results["papers"][paper]["claims"]),
        "results": results,
    }
    write_runs(card, values)
    write_files(folder / "judged" / paper, files)


def write_files(folder: Path, files: Mapping[str, Any]) -> None:
    """`folder/<name>.json` of each, whole or not at all; units, which are many, without a line each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        layout: dict[str, Any] = {"separators": (",", ":")} if name == "units" else {"indent": 1}
        temporary = folder / f"{name}.tmp"
        temporary.write_text(json.dumps(clean(value), ensure_ascii=False, allow_nan=False, **layout), encoding="utf-8")
        temporary.rename(folder / f"{name}.json")


def judge(card: Card, values: Values, cards: Mapping[str, Card]) -> dict[str, Any]:
    """results.json of a card. `cards`: all of them, for what its claims read of others."""
    plan, store = values.plan, values.store
    digests, scale = plan.paper_nodes[card.key], plan.scale["scale"]
    page = judged(card, values, cards) | {
        "curves": costs.curves(plan, store, digests),
        "cells": costs.stored(plan, store, digests),
    }
    return {
        "schema": SCHEMA,
        "scale": scale,
        "commit": git("rev-parse", "HEAD"),
        "claims_commit": claims_commit(card, cards, scale),
        "provenance": provenance(card, values, cards),
        "digests": digests,
        "papers": {card.key: page},
        "totals": costs.totals(store, digests, values.folder / "session.json"),
    }


def judged(card: Card, values: Values, cards: Mapping[str, Card]) -> dict[str, Any]:
    """What follows from cards and values alone: tables, claims, timings, and the card's reported numbers."""
    plan = values.plan
    smaller = plan.sizes.get(card.key, [])
    timings = [timing(card, values, name) for name in plan.timings.get(card.key, {})]
    found = judge_claims(
        claims.of(card),
        values.lookup,
        benchmarks=plan.benchmarks[card.key],
        verdicts=plan.scale["verdicts"],
        tagged=values.tagged,
        timings={t["name"]: t for t in timings},
        levels=claims.levels(cards),
        sizes={size: partial(values.sized, size=size) for size in smaller},
    )
    return {
        "sizes": [*smaller, sizes.largest(plan.scale)] if smaller else [],
        "tables": [table(values, card, t, size) for t, size in tables_of(card, values)],
        "claims": found,
        "timings": timings,
        "reported": card.data.get("reported", []),
    }


@cache
def code(root: Path = ROOT) -> str:
    """Hash of the code that judges, by its syntax trees. `root`: the folder of the package."""
    ours = Code(["rankrepro.judge", "rankrepro.claims", "rankrepro.measure_names"], root)
    parts = (Definition(judged.__module__, judged.__name__), Definition(Values.__module__, Values.__name__))
    return digest_of([ours.digest(part) for part in parts])


def provenance(card: Card, values: Values, cards: Mapping[str, Card]) -> dict[str, Any]:
    """What the verdicts depend on beside the results: the judge, what the card registers, and the truth."""
    registered = registration(card, cards, values.plan.scale)
    return {
        "judge": code(),
        "registered": dict(registered.claims),
        "truth": {b: values.truth_identity(b) for b in values.plan.benchmarks[card.key]},
    }


def timing(card: Card, values: Values, name: str) -> dict[str, Any]:
    """A timing of the card: its arms, and what was measured."""
    declared = next(t for t in card.data["timings"] if t["name"] == sizes.bare(name))
    digest = values.plan.timings[card.key][name]
    sides = {side: values.sized(qualify(card, declared[side]), sizes.of(name)) for side in ("a", "b")}
    benchmark = values.plan.nodes[digest].benchmark
    return {"name": name, **sides, "benchmark": benchmark, **costs.timing(values.store, digest)}


def units(card: Card, values: Values) -> dict[str, Any]:
    """units.json: all that it takes to compute tables, claims and timings again.

    Material of pooled measures that is not `shown` is given where a claim reads it; tables that show more of it have
    their numbers and no units (`left_out`).
    """
    claimed = {
        (t.arm, b, t.measure) for c in claims.of(card) for t in c.terms for b in c.of(values.plan.benchmarks[card.key])
    }
    rows, material, left_out = [], [], list(values.left_out)
    scored = {(row, b, measures.get(m).score) for row, b, m in claimed}
    for (row, b, m), v in values.known.items():
        told, measure = {"arm": row, "benchmark": b, "measure": m}, measures.get(m)
        if measure.shown:
            rows.append(told | {"values": v})
        elif (row, b, measure.score) not in scored:
            left_out += [told] if told not in left_out else []
        elif (row, b, m) in claimed:
            material.append(told | {"values": pooled.packed(v)})
    answered: dict[str, set[str]] = {}
    for (_, b, _), v in values.known.items():
        answered.setdefault(b, set()).update(v)
    return {
        "schema": SCHEMA,
        "paper": card.key,
        "benchmarks": {b: values.labels(b, us) for b, us in answered.items()},
        "rows": rows,
        "material": material,
        "left_out": left_out,
        "timings": {name: costs.timed(values.store, d) for name, d in values.plan.timings.get(card.key, {}).items()},
        "costs": costs.per_unit(values.store, _answered(values)),
    }


def _answered(values: Values) -> dict[str, set[str]]:
    """Digest of a cell -> units of which something is known."""
    found: dict[str, set[str]] = {}
    for (row, benchmark, _), per_unit in values.known.items():
        if row == own(row):
            for _, digest, _ in values.plan.rows[row][benchmark]:
                found.setdefault(digest, set()).update(per_unit)
    return found


def shown(card: Card, values: Values, judged: list[dict[str, Any]]) -> dict[str, Any]:
    """examples.json: the queries behind each claim that is a plain difference of rankings and was run."""
    found: dict[str, list[dict[str, Any]]] = {}
    for claim in (c for c in judged if c["expr"] and c["per_benchmark"]):
        expression = claims.of_result(claim, card.key).expression
        pair = expression and expression.difference
        # a pooled measure has no difference on a single query
        if pair and pair[0].measure == pair[1].measure and not measures.get(pair[0].measure).pooled:
            where = [_example(pair, p["benchmark"], claim["where"], values) for p in claim["per_benchmark"]]
            if some := [e for e in where if e]:
                found[claim["id"]] = some
    told = [e for each in found.values() for e in each]
    pictured = [b for b in values.plan.benchmarks[card.key] if isinstance(values.benchmark(b), ImageBenchmark)]
    entries = (benchmarks.get(b) for b in sorted({e["benchmark"] for e in told} | set(pictured)))
    attribution = {e.id: f"{e.licence} {e.citation}".strip() for e in entries}
    return {
        "schema": SCHEMA,
        "paper": card.key,
        "attribution": attribution,
        "claims": found,
        "pictures": {b: thumbnails.named(values.benchmark(b), told) for b in pictured},
        "sheets": {b: thumbnails.sheet(values.benchmark(b), _poses(values.truth(b))) for b in pictured},
    }


def _example(pair: tuple[Term, Term], benchmark: str, where: str | None, values: Values) -> dict[str, Any] | None:
    """What `examples` shows of one benchmark; None where the arms rank nothing."""
    cells = [values.plan.rows[t.arm][benchmark][0] for t in pair]
    outputs = [values.output(digest, variant) for _, digest, variant in cells]
    if any(o.type not in measures.RUNS for o in outputs):
        return None
    kept = values.tagged(benchmark, where) if where else None
    a, b = ({u: v for u, v in values.means(t.arm, benchmark, t.measure).items() if not kept or u in kept} for t in pair)
    rows, rankings = (pair[0].arm, pair[1].arm), (outputs[0].values, outputs[1].values)
    loaded, truth = values.benchmark(benchmark), values.truth(benchmark)
    units = benchmarks.pose_units(benchmark) or LEVELS
    return examples(pair[0].measure, rows, loaded, truth.qrels, (a, b), rankings, _poses(truth), units)


def _poses(truth: Truth) -> Mapping[str, Sequence[Any]]:
    """Where pictures were taken; empty where nobody knows, and where there are none."""
    return truth.poses if isinstance(truth, ImageTruth) else {}


def write_runs(card: Card, values: Values) -> None:
    """What a paper's arms retrieved or were given to re-rank, as TREC files: `runs/<benchmark>/<row>-<digest>.trec`."""

    def write(row: str, benchmark: str, digest: str, variant: str) -> None:
        output = values.output(digest, variant)
        if isinstance(output, Retrieval):
            write_run(values.folder / "runs" / benchmark, row, digest, output.values)

    for arm, spec in card.arms.items():
        for row in (f"{card.key}.{name}" for name in card.rows(arm)):
            for benchmark, cells in values.plan.rows.get(row, {}).items():
                _, digest, variant = cells[0]
                write(row, benchmark, digest, variant)
                if source := values.plan.nodes[digest].spec["candidates"]:
                    write(qualify(card, spec["candidates"]["from"]), benchmark, source["digest"], source["variant"])


def clean(value: Any) -> Any:
    """JSON without NaN or infinity: they become null."""
    if isinstance(value, Mapping):
        return {k: clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
