"""What results cost: per unit, per stored result, as a paired timing, and in all."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rankrepro.judge.statistics import Sample, bootstrap, interval
from rankrepro.plan import Plan
from rankrepro.store import Store

WORK = ("input_tokens", "generated_tokens", "forward_passes", "calls")
NO_COST = {"seconds_per_unit": None, "input_tokens": None}
Units = Mapping[str, Mapping[str, float]]  # unit -> amounts, as `cell.Meter` counts them
MARGIN = (0.8, 1.25)  # within which an arm timed against itself must lie with its whole interval
WARM = 0.95  # a second run that takes less of its first, and clearly so, was helped by it


def metered(cost: Mapping[str, Any], amount: str, units: Iterable[str]) -> dict[str, float]:
    """Unit -> what it cost, of the units that a cell metered; empty if its method does not meter this amount at all."""
    counted: Units = {u: cost["units"][u] for u in units if u in cost["units"]}
    if not any(amount in amounts for amounts in counted.values()):
        return {}
    return {u: amounts.get(amount, 0.0) for u, amounts in counted.items()}


def per_unit_cost(costs: Sequence[Mapping[str, Any]], units: Sequence[str]) -> dict[str, float | None]:
    """Means over `units` and seeds of one row's cells, None where nothing was metered, and their peak memory."""
    names = {"seconds": "seconds_per_unit"} | {n: n for n in WORK}
    means = {out: _mean([v for c in costs for v in metered(c, n, units).values()]) for n, out in names.items()}
    return means | {"peak_bytes": max(c["peak_bytes"] for c in costs)}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _totals(units: Collection[Mapping[str, float]]) -> dict[str, float | None]:
    """Sums over units; None for what none of them metered."""
    return {n: sum(u.get(n, 0.0) for u in units) if any(n in u for u in units) else None for n in WORK}


def stored(plan: Plan, store: Store, digests: Iterable[str]) -> list[dict[str, Any]]:
    """One entry a digest: what the stored result is and what it cost as a whole."""
    rows: dict[str, set[str]] = {}
    for row, by_benchmark in plan.rows.items():
        for _, digest, _ in (c for cells in by_benchmark.values() for c in cells):
            rows.setdefault(digest, set()).add(row)
    found = []
    for digest in digests:
        node, cost = plan.nodes[digest], store.cost(digest)
        work = (
            [u for side in cost["work"].values() for u in side.values()] if "work" in cost else cost["units"].values()
        )
        found.append(
            {
                "name": node.name,
                "kind": node.spec["kind"],
                "rows": sorted(rows.get(digest, ())),
                "benchmark": node.benchmark,
                "seed": node.spec["seed"],
                "digest": digest,
                "units": len(work),
                "params": node.spec.get("params", {}),
                "models": {name: m["id"] for name, m in node.spec["models"].items()},
                **{k: cost[k] for k in ("started", "ended", "wall_s", "cpu_s", "peak_bytes")},
                **_totals(work),
            }
        )
    return sorted(found, key=lambda c: (c["name"], c["benchmark"], c["seed"]))


def curves(plan: Plan, store: Store, digests: Iterable[str]) -> list[dict[str, Any]]:
    """What the cells and stages of a page logged while they trained."""
    nodes = sorted((plan.nodes[d] for d in digests), key=lambda n: (n.name, n.benchmark, n.spec["seed"]))
    logged = ((n, store.history(n.digest)) for n in nodes)
    return [
        {"cell": n.name, "benchmark": n.benchmark, "seed": n.spec["seed"], "series": series}
        for n, series in logged
        if series
    ]


def timing(store: Store, digest: str, seed: int = 0) -> dict[str, Any]:
    """Ratio of total seconds a / b with its interval over units, A against itself, and the work of both sides.

    `aa` compares A's two runs as they are labelled, at random; `repeat` the second of a unit with the first, None where
    nobody recorded which came first. `fault` says why the clock cannot be trusted, None where it can.
    """
    seconds, work = dict(store.output(digest)), store.cost(digest)["work"]
    units = sorted(seconds["a"])
    if order := seconds.get("order"):
        runs = {u: [run for run in order[u] if run in ("a", "aa")] for u in units}
        seconds["first"], seconds["second"] = ({u: seconds[runs[u][i]][u] for u in units} for i in (0, 1))

    def ratio(over: str, under: str) -> tuple[float, tuple[float, float]]:
        """In logarithms, where a ratio and its inverse are as far from 1, and no interval reaches below 0."""
        values = {t: np.array([[seconds[t][u] for u in units]]) for t in {over, under}}
        estimate = bootstrap(Sample(units, units, values), lambda m: np.log(m[over] / m[under]), seed=seed)
        low, high = interval(estimate)
        return math.exp(estimate.effect), (math.exp(low), math.exp(high))

    effect, ci = ratio("a", "b")
    _, aa = ratio("a", "aa")
    repeat = ratio("second", "first") if order else None
    fault = _fault(aa, repeat)
    found = {"ratio": effect, "ci": list(ci), "aa": list(aa), "repeat": list(repeat[1]) if repeat else None}
    found |= {"sound": fault is None, "fault": fault, "n": len(units)}
    for side in ("a", "b"):
        found[f"seconds_{side}"] = float(np.mean(list(seconds[side].values())))
        done = work[side] if work else {}
        totals_of = _totals(done.values())
        found[f"cost_{side}"] = {n: None if t is None else t / len(done) for n, t in totals_of.items()}
    return found


def _fault(aa: tuple[float, float], repeat: tuple[float, tuple[float, float]] | None) -> str | None:
    """Why a clock cannot be trusted: something is kept from run to run, it is off, or it is too unsteady to tell."""
    if repeat and repeat[0] < WARM and repeat[1][1] < 1:
        return f"a second run of a unit takes {repeat[0]:.2f} of the first: the arm keeps something from run to run"
    if not aa[0] <= 1 <= aa[1]:
        return "the arm against itself does not come out at 1"
    for low, high in (aa, *([repeat[1]] if repeat else [])):
        if low < MARGIN[0] or high > MARGIN[1]:
            within = f"{MARGIN[0]:g} to {MARGIN[1]:g}"
            return f"the arm against itself is known only as {low:.2f} to {high:.2f}: more than {within}"
    return None


def timed(store: Store, digest: str) -> dict[str, Any]:
    """What `timing` reads: per unit the seconds of each side (of a once more), their order and the work if known."""
    work = store.cost(digest)["work"]
    return {**store.output(digest), **({"work": work} if work else {})}


def per_unit(store: Store, answered: Mapping[str, Collection[str]]) -> dict[str, Any]:
    """What units cost, short enough to publish: digest -> `amounts`, and unit -> a value each, null for none.

    answered: digest -> the units to tell of.
    """
    found = {}
    for digest, units in answered.items():
        told = {u: cost for u, cost in store.cost(digest)["units"].items() if u in units}
        amounts = sorted({name for cost in told.values() for name in cost})
        if amounts:
            values = {u: [_short(cost.get(name)) for name in amounts] for u, cost in told.items()}
            found[digest] = {"amounts": amounts, "units": values}
    return found


def _short(value: float | None) -> float | int | None:
    """Whole numbers as they are, others to four digits: seconds have no more that mean something."""
    return None if value is None else int(value) if value == int(value) else float(f"{value:.4g}")


def totals(store: Store, digests: Iterable[str], session: Path) -> dict[str, float]:
    """Seconds in all. `session` says when the run started (absent: outside a run)."""
    costs = [store.cost(d) for d in digests]
    cell_wall = union([(c["started"], c["ended"]) for c in costs])
    wall = time.time() - json.loads(session.read_text())["started"] if session.exists() else 0.0
    return {
        "wall_s": round(max(wall, cell_wall), 3),
        "cell_wall_s": round(cell_wall, 3),
        "compute_s": round(sum(c["cpu_s"] for c in costs), 3),
        "cores": os.cpu_count() or 1,
    }


def union(intervals: Iterable[tuple[float, float]]) -> float:
    """Seconds covered by at least one interval."""
    total, end = 0.0, -math.inf
    for start, stop in sorted(intervals):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total
