"""From stored cells and truth to results.json and units.json. The only reader of truth."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rankrepro import benchmarks
from rankrepro.benchmarks.base import Benchmark, Truth
from rankrepro.cards import Card, load_cards, qualify, row_index
from rankrepro.cell import OUTPUTS, Output, Retrieval
from rankrepro.errors import BenchmarkError, OutputError
from rankrepro.judge import measures
from rankrepro.judge.claims import judge_claims
from rankrepro.judge.examples import examples
from rankrepro.judge.expressions import parse
from rankrepro.judge.registration import claims_commit, git
from rankrepro.judge.statistics import Sample, against, bootstrap, interval
from rankrepro.plan import Plan, make_plan
from rankrepro.runs import write_run
from rankrepro.store import Store

SCHEMA = 2  # of workflow/schemas/{results,units,examples}.schema.json
ORACLE = "ceiling of "  # prefix of the row that orders an arm's candidates perfectly
NO_COST = {"seconds_per_unit": None, "input_tokens": None}
WORK = ("input_tokens", "generated_tokens", "forward_passes")
SEVERAL_RELEVANT = "several_relevant"  # a tag only truth can tell: two or more relevant documents (multi-hop)


def write_results(paper: str, scale: str, folder: Path) -> None:
    """Judge `paper` from the store under `folder` (results/<scale>); write the three files of `judged/<paper>/`."""
    cards = load_cards()
    judge = Judge(cards, make_plan(cards, scale, [paper]), folder)
    results, units = judge.paper(cards[paper])
    shown = judge.examples(cards[paper], results["papers"][paper]["claims"])
    judge.write_runs(paper)
    target = folder / "judged" / paper
    target.mkdir(parents=True, exist_ok=True)
    for name, value in (("units", units), ("examples", shown), ("results", results)):
        temporary = target / f"{name}.tmp"
        temporary.write_text(json.dumps(clean(value), indent=1, ensure_ascii=False, allow_nan=False))
        temporary.rename(target / f"{name}.json")


class Judge:
    """Reads outputs and truth once, computes measures per unit once, and answers every table and claim from those."""

    def __init__(self, cards: Mapping[str, Card], plan: Plan, folder: Path) -> None:
        self.cards, self.plan, self.folder = cards, plan, folder
        self.store = Store(folder / "store")
        self._outputs: dict[str, dict[str, Any]] = {}
        self._truths: dict[str, Any] = {}
        self._loaded: dict[str, Any] = {}
        self._values: dict[tuple[str, str, str], dict[str, list[float]]] = {}

    # --- per unit ---

    def truth(self, benchmark: str) -> Any:
        if benchmark not in self._truths:
            truth = benchmarks.load_truth(self.folder / "benchmarks" / benchmark)
            if isinstance(truth, Truth) and not any(g > 0 for q in truth.qrels.values() for g in q.values()):
                raise BenchmarkError(f"{benchmark}: no query has a relevant document; rebuild the benchmark")
            self._truths[benchmark] = truth
        return self._truths[benchmark]

    def output(self, digest: str, variant: str) -> Output:
        if digest not in self._outputs:
            self._outputs[digest] = self.store.output(digest)
        stored = self._outputs[digest][variant]
        return OUTPUTS[stored["type"]](stored["values"])

    def values(self, row: str, benchmark: str, measure: str) -> dict[str, list[float]]:
        """Unit -> the measure for each seed. KeyError where the row was not run on this benchmark."""
        key = (row, benchmark, measure)
        if key not in self._values:
            truth = self.truth(benchmark)
            outputs = [self.output(d, v) for _, d, v in self.plan.rows[row.removeprefix(ORACLE)][benchmark]]
            if row.startswith(ORACLE):
                outputs = [measures.oracle(o, truth) for o in outputs]
            per_seed = [measures.per_unit(measure, o, truth) for o in outputs]
            if any(set(s) != set(per_seed[0]) for s in per_seed):
                raise OutputError(f"{row} on {benchmark}: seeds answered other units; delete these cells, run again")
            self._values[key] = {u: [s[u] for s in per_seed] for u in per_seed[0]}
        return self._values[key]

    def lookup(self, row: str, benchmark: str, measure: str) -> tuple[dict[str, list[float]], Mapping[str, str]]:
        values = self.values(row, benchmark, measure)
        return values, measures.get(measure).clusters(values, self.truth(benchmark))

    def tagged(self, benchmark: str, tag: str) -> set[str]:
        """Units of a benchmark that carry a tag: one of its queries' own, or one that its truth tells."""
        if tag == SEVERAL_RELEVANT:
            qrels = getattr(self.truth(benchmark), "qrels", {})
            return {q for q, grades in qrels.items() if sum(grade > 0 for grade in grades.values()) > 1}
        loaded = self.benchmark(benchmark)
        return {q.id for q in loaded.queries.values() if tag in q.tags} if isinstance(loaded, Benchmark) else set()

    def benchmark(self, benchmark: str) -> Any:
        if benchmark not in self._loaded:
            self._loaded[benchmark] = benchmarks.load(self.folder / "benchmarks" / benchmark, benchmark)
        return self._loaded[benchmark]

    def write_runs(self, paper: str) -> None:
        """First-stage runs of a paper's own arms as TREC files: `runs/<benchmark>/<row>-<digest>.trec`."""
        for row in (r for r in self.plan.rows if r.startswith(f"{paper}.")):
            for benchmark, cells in self.plan.rows[row].items():
                _, digest, variant = cells[0]
                output = self.output(digest, variant)
                if isinstance(output, Retrieval):
                    write_run(self.folder / "runs" / benchmark, row, digest, output.values)

    # --- tables ---

    def table(self, card: Card, table: Mapping[str, Any]) -> dict[str, Any]:
        """The rows of a card's table: arms x benchmarks x measures, where they were run and apply."""
        arms = [qualify(card, a) for a in table["arms"]]
        if "oracle" in table:
            arms.append(ORACLE + qualify(card, table["oracle"]))
        rows = [
            self.row(arm, benchmark, measure, units)
            for arm in arms
            for benchmark in self.plan.benchmarks[card.key]
            for measure in table["measures"]
            if benchmark in table.get("over", [benchmark])
            and benchmark in self.plan.rows.get(arm.removeprefix(ORACLE), {})
            and self._applies(arm, benchmark, measure)
            and (units := self._units(arm, benchmark, measure, table.get("where")))
        ]
        baseline = qualify(card, table["baseline"]) if "baseline" in table else None
        if baseline:
            self._compare(rows, baseline, table.get("where"))
        return {
            "name": table["name"],
            "measures": table["measures"],
            "baseline": baseline,
            "where": table.get("where"),
            "rows": rows,
        }

    def _units(self, arm: str, benchmark: str, measure: str, where: str | None) -> list[str]:
        units = self.values(arm, benchmark, measure).keys()
        return sorted(units & self.tagged(benchmark, where) if where else units)

    def _compare(self, rows: list[dict[str, Any]], baseline: str, where: str | None) -> None:
        """Set `against` of rows that share two units or more with the baseline; a benchmark and measure is a family."""
        families: dict[tuple[str, str], dict[int, tuple[np.ndarray, np.ndarray]]] = {}
        for i, row in enumerate(rows):
            arm, benchmark, measure = row["arm"], row["benchmark"], row["measure"]
            skip = arm == baseline or arm.startswith(ORACLE) or benchmark not in self.plan.rows.get(baseline, {})
            if skip or measures.get(measure).pooled or not self._applies(baseline, benchmark, measure):
                continue
            own, base = (self.values(a, benchmark, measure) for a in (arm, baseline))
            shared = [u for u in self._units(arm, benchmark, measure, where) if u in base]
            if len(shared) > 1:
                pair = (np.array([np.mean(values[u]) for u in shared]) for values in (own, base))
                families.setdefault((benchmark, measure), {})[i] = tuple(pair)  # type: ignore[assignment]
        for (_, measure), pairs in families.items():
            for i, found in against(pairs, measures.get(measure).direction).items():
                rows[i]["against"] = found

    def _applies(self, arm: str, benchmark: str, measure: str) -> bool:
        _, digest, variant = self.plan.rows[arm.removeprefix(ORACLE)][benchmark][0]
        return measures.applies(measure, self.output(digest, variant))

    def row(self, arm: str, benchmark: str, measure: str, units: list[str]) -> dict[str, Any]:
        values, clusters = self.lookup(arm, benchmark, measure)
        cells = self.plan.rows[arm.removeprefix(ORACLE)][benchmark]
        term = measures.as_term(measure, [values[u] for u in units])
        estimate = bootstrap(Sample(units, [clusters[u] for u in units], {"v": term}), lambda m: m["v"], n_boot=2000)
        by_seed = term.mean(axis=1) if isinstance(term, np.ndarray) and len(cells) > 1 else None
        split = self.plan.nodes[cells[0][1]].spec["queries"]["split"]
        return {
            "arm": arm,
            "benchmark": benchmark,
            "split": "non-validation" if set(split) == {"train", "test"} else "+".join(split),
            "measure": measure,
            "value": estimate.effect,
            "ci": list(interval(estimate)),
            "n": len(units),
            "clusters": estimate.n_clusters,
            "seeds": len(cells),
            "seed_sd": float(by_seed.std(ddof=1)) if by_seed is not None else None,
            "against": None,
            "cost": self.cost([d for _, d, _ in cells]) if not arm.startswith(ORACLE) else NO_COST,
        }

    def cost(self, digests: Iterable[str]) -> dict[str, float]:
        """Mean cost per unit over units and seeds, and the peak memory of the process that ran the cell."""
        costs = [self.store.cost(d) for d in digests]
        units = [u for c in costs for u in c["units"].values()]
        names = {"seconds": "seconds_per_unit"} | {n: n for n in WORK}
        found = {out: float(np.mean([u.get(n, 0.0) for u in units])) if units else 0.0 for n, out in names.items()}
        if not units:
            found["seconds_per_unit"] = float(np.mean([c["wall_s"] for c in costs]))
        return found | {"peak_bytes": max(c["peak_bytes"] for c in costs)}

    # --- timings ---

    def timing(self, card: Card, name: str, digest: str, seed: int = 0) -> dict[str, Any]:
        """Ratio of total seconds a / b with its interval over units, and the same for A against itself."""
        declared = next(t for t in card.data["timings"] if t["name"] == name)
        seconds, work = self.store.output(digest), self.store.cost(digest)["work"]
        units = sorted(seconds["a"])

        def ratio(over: str, under: str) -> tuple[float, tuple[float, float]]:
            """In logarithms, where a ratio and its inverse are as far from 1, and no interval reaches below 0."""
            values = {t: np.array([[seconds[t][u] for u in units]]) for t in {over, under}}
            estimate = bootstrap(Sample(units, units, values), lambda m: np.log(m[over] / m[under]), seed=seed)
            low, high = interval(estimate)
            return math.exp(estimate.effect), (math.exp(low), math.exp(high))

        effect, ci = ratio("a", "b")
        _, aa = ratio("a", "aa")
        sound = aa[0] <= 1 <= aa[1]
        mean = {side: float(np.mean(list(seconds[side].values()))) for side in ("a", "b")}
        cost = {s: {n: float(np.mean([u.get(n, 0.0) for u in work[s].values()])) for n in WORK} for s in ("a", "b")}
        return {
            "name": name,
            "a": qualify(card, declared["a"]),
            "b": qualify(card, declared["b"]),
            "benchmark": self.plan.nodes[digest].benchmark,
            "ratio": effect,
            "ci": list(ci),
            "aa": list(aa),
            "sound": sound,
            "n": len(units),
            **{f"seconds_{side}": value for side, value in mean.items()},
            **{f"cost_{side}": value for side, value in cost.items()},
        }

    # --- cells ---

    def cells(self, digests: list[str]) -> list[dict[str, Any]]:
        """The stored results of a page, one a digest: what they are and what they cost as a whole."""
        rows: dict[str, list[str]] = {}
        for row, by_benchmark in self.plan.rows.items():
            for _, digest, _ in (c for cells in by_benchmark.values() for c in cells):
                rows.setdefault(digest, []).append(row)
        found = []
        for digest in digests:
            node, cost = self.plan.nodes[digest], self.store.cost(digest)
            units = (
                cost["units"].values()
                if "units" in cost
                else [*cost["work"]["a"].values(), *cost["work"]["b"].values()]
            )
            found.append(
                {
                    "name": node.name,
                    "kind": node.spec["kind"],
                    "rows": sorted(set(rows.get(digest, []))),
                    "benchmark": node.benchmark,
                    "seed": node.spec["seed"],
                    "digest": digest,
                    "units": len(units),
                    "params": node.spec.get("params", {}),
                    "models": {name: m["id"] for name, m in node.spec["models"].items()},
                    **{k: cost[k] for k in ("started", "ended", "wall_s", "cpu_s", "peak_bytes")},
                    **{n: sum(u.get(n, 0.0) for u in units) for n in WORK},
                }
            )
        return sorted(found, key=lambda c: (c["name"], c["benchmark"], c["seed"]))

    def curves(self, digests: list[str]) -> list[dict[str, Any]]:
        """What the cells of a page logged while they trained."""
        nodes = sorted((self.plan.nodes[d] for d in digests), key=lambda n: (n.name, n.benchmark, n.spec["seed"]))
        logged = ((n, self.store.history(n.digest)) for n in nodes)
        return [
            {"cell": n.name, "benchmark": n.benchmark, "seed": n.spec["seed"], "series": series}
            for n, series in logged
            if series
        ]

    # --- examples ---

    def examples(self, card: Card, claims: list[dict[str, Any]]) -> dict[str, Any]:
        """The queries behind each claim that is a plain difference of rankings and was run."""
        shown: dict[str, list[dict[str, Any]]] = {}
        for claim in (c for c in claims if c["expr"] and c["per_benchmark"]):
            pair = parse(claim["expr"], card.key, claim["measure"] or "nDCG@10").difference
            if not pair:
                continue
            found = [self._example(pair, p["benchmark"], claim["where"]) for p in claim["per_benchmark"]]
            if any(found):
                shown[claim["id"]] = [f for f in found if f]
        used = sorted({e["benchmark"] for each in shown.values() for e in each})
        entries = {b: benchmarks.get(b) for b in used}
        attribution = {b: f"{e.licence} {e.citation}".strip() for b, e in entries.items()}
        return {"schema": SCHEMA, "paper": card.key, "attribution": attribution, "claims": shown}

    def _example(self, pair: tuple[Any, Any], benchmark: str, where: str | None) -> dict[str, Any] | None:
        cells = [self.plan.rows[t.arm][benchmark][0] for t in pair]
        outputs = [self.output(digest, variant) for _, digest, variant in cells]
        if any(o.type not in measures.RUNS for o in outputs) or pair[0].measure != pair[1].measure:
            return None
        values = [
            {u: float(np.mean(self.values(t.arm, benchmark, t.measure)[u])) for u in units}
            for t in pair
            for units in [self._units(t.arm, benchmark, t.measure, where)]
        ]
        return examples(
            pair[0].measure,
            (pair[0].arm, pair[1].arm),
            self.benchmark(benchmark),
            self.truth(benchmark).qrels,
            (values[0], values[1]),
            (outputs[0].values, outputs[1].values),
        )

    # --- a paper ---

    def paper(self, card: Card) -> tuple[dict[str, Any], dict[str, Any]]:
        plan = self.plan
        timings = [self.timing(card, name, digest) for name, digest in plan.timings.get(card.key, {}).items()]
        claims = judge_claims(
            card.claims,
            self.lookup,
            card=card.key,
            benchmarks=plan.benchmarks[card.key],
            verdicts=plan.scale["verdicts"],
            tagged=self.tagged,
            timings={t["name"]: t for t in timings},
            arms=list(row_index(self.cards)),
        )
        digests = plan.paper_nodes[card.key]
        page = {
            "tables": [self.table(card, t) for t in card.data.get("tables", [])],
            "claims": claims,
            "timings": timings,
            "curves": self.curves(digests),
            "cells": self.cells(digests),
            "reported": card.data.get("reported", []),
        }
        results = {
            "schema": SCHEMA,
            "scale": plan.scale["scale"],
            "commit": git("rev-parse", "HEAD"),
            "claims_commit": claims_commit(card, plan.scale["scale"]),
            "digests": digests,
            "papers": {card.key: page},
            "totals": self.totals(digests),
        }
        units = [
            {"arm": row, "benchmark": b, "measure": m, "values": values} for (row, b, m), values in self._values.items()
        ]
        seconds = {name: self.store.output(digest) for name, digest in plan.timings.get(card.key, {}).items()}
        return results, {"schema": SCHEMA, "paper": card.key, "rows": units, "timings": seconds}

    def totals(self, digests: list[str]) -> dict[str, float]:
        costs = [self.store.cost(d) for d in digests]
        cell_wall = union([(c["started"], c["ended"]) for c in costs])
        session = self.folder / "session.json"
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


def clean(value: Any) -> Any:
    """JSON without NaN or infinity: they become null."""
    if isinstance(value, Mapping):
        return {k: clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
