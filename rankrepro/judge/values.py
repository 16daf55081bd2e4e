"""What the judge reads: stored outputs, truth, and from them the measures of every unit, each computed once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rankrepro import benchmarks, sizes
from rankrepro.benchmarks.base import SPLITS, Benchmark, Truth
from rankrepro.cell import OUTPUTS, Output, Ranking, given
from rankrepro.claims import SEVERAL_RELEVANT
from rankrepro.errors import BenchmarkError, OutputError
from rankrepro.judge import costs, measures
from rankrepro.judge.estimates import NotRun
from rankrepro.plan import Plan
from rankrepro.store import Store

ORACLE = "ceiling of "  # prefix of the row that orders an arm's candidates perfectly
INPUT = "order given to "  # prefix of the row that leaves an arm's candidates as they are
IDENTITY = "floors.identity"  # the arm that is the order it is given, and says so


def own(row: str) -> str:
    """The arm that a row is derived from."""
    return row.removeprefix(ORACLE).removeprefix(INPUT)


class Values:
    """The only reader of truth. `folder` is results/<scale>."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self.store = Store(folder / "store")
        self.left_out: list[dict[str, str]] = []  # rows of a published paper whose units are not
        self.known: dict[tuple[str, str, str], dict[str, list[Any]]] = {}  # (row, benchmark, measure) -> per unit
        self._outputs: dict[str, dict[str, Any]] = {}
        self._truths: dict[str, Any] = {}
        self._benchmarks: dict[str, Any] = {}

    def truth(self, benchmark: str) -> Any:
        if benchmark not in self._truths:
            truth = benchmarks.load_truth(self.folder / "benchmarks" / benchmark)
            if isinstance(truth, Truth) and not any(g > 0 for q in truth.qrels.values() for g in q.values()):
                raise BenchmarkError(f"{benchmark}: no query has a relevant document; rebuild the benchmark")
            self._truths[benchmark] = truth
        return self._truths[benchmark]

    def truth_identity(self, benchmark: str) -> dict[str, str]:
        """The digest of a built benchmark, and the sha256 of its truth."""
        return benchmarks.truth_identity(self.folder / "benchmarks" / benchmark)

    def output(self, digest: str, variant: str) -> Output:
        if digest not in self._outputs:
            self._outputs[digest] = self.store.output(digest)
        stored = self._outputs[digest][variant]
        return OUTPUTS[stored["type"]](stored["values"])

    def per_unit(self, row: str, benchmark: str, measure: str) -> dict[str, list[Any]]:
        """Unit -> the measure (or the material of a pooled one) for each seed.

        KeyError where the row was not run on this benchmark or was given no order, NotRun where its method does not
        meter a cost.
        """
        key = (row, benchmark, measure)
        if key not in self.known:
            truth = self.truth(benchmark)
            cells = [(d, self.output(d, v)) for _, d, v in self.plan.rows[own(row)][benchmark]]
            if not self.applies(row, benchmark, measure) and measures.get(measure).cost:
                raise NotRun(f"{measure} of {row} on {benchmark}, which its method does not meter")
            if row.startswith(ORACLE):
                cells = [(d, measures.oracle(o, truth)) for d, o in cells]
            elif row.startswith(INPUT):
                cells = [(d, self._given(d, o)) for d, o in cells]
            per_seed = [self._per_unit(measure, d, o, truth) for d, o in cells]
            if any(set(s) != set(per_seed[0]) for s in per_seed):
                raise OutputError(f"{row} on {benchmark}: seeds answered other units; delete these cells, run again")
            self.known[key] = {u: [s[u] for s in per_seed] for u in per_seed[0]}
        return self.known[key]

    def _given(self, digest: str, output: Output) -> Ranking:
        """The candidates of a cell in the order in which it was given them."""
        spec = self.plan.nodes[digest].spec
        source = spec["candidates"]
        if source is None or spec["fn"] == IDENTITY:
            raise KeyError(INPUT + self.plan.nodes[digest].name)
        ranked = self.output(source["digest"], source["variant"]).values
        orders = {q: given(ranked[q], source["depth"], source["order"], q, spec["seed"]) for q in output.values}
        return Ranking({q: {d: -float(i) for i, d in enumerate(order)} for q, order in orders.items()})

    def _per_unit(self, measure: str, digest: str, output: Output, truth: Any) -> dict[str, Any]:
        if amount := measures.get(measure).cost:
            return costs.metered(self.store.cost(digest), amount, output.values)
        return measures.per_unit(measure, output, truth)

    def means(self, row: str, benchmark: str, measure: str) -> dict[str, float]:
        """Unit -> the measure, seeds averaged."""
        values = self.per_unit(row, benchmark, measure)
        return dict(zip(values, np.array(list(values.values()), dtype=float).mean(axis=1).tolist(), strict=True))

    def lookup(self, row: str, benchmark: str, measure: str) -> tuple[dict[str, list[Any]], Mapping[str, str]]:
        values = self.per_unit(row, benchmark, measure)
        return values, measures.get(measure).clusters(values, self.truth(benchmark))

    def tagged(self, benchmark: str, tag: str) -> set[str]:
        """Units of a benchmark that carry a tag: one of its queries' own, their split, or one that its truth tells."""
        if tag == SEVERAL_RELEVANT:
            qrels = getattr(self.truth(benchmark), "qrels", {})
            return {q for q, grades in qrels.items() if sum(grade > 0 for grade in grades.values()) > 1}
        loaded = self.benchmark(benchmark)
        return (
            {q.id for q in loaded.queries.values() if tag in (q.split, *q.tags)}
            if isinstance(loaded, Benchmark)
            else set()
        )

    def labels(self, benchmark: str, units: Iterable[str]) -> dict[str, Any]:
        """What a reader needs to know of units to draw them again.

        clusters  unit -> label, of those that are not alone in their cluster
        splits    split -> its units
        tags      tag -> the units that carry it
        """
        names, clusters = sorted(units), self.truth(benchmark).clusters
        loaded = self.benchmark(benchmark)
        queries = loaded.queries if isinstance(loaded, Benchmark) else {}
        tags = sorted({tag for query in queries.values() for tag in query.tags})
        every = {tag: self.tagged(benchmark, tag) for tag in (*SPLITS, *tags, SEVERAL_RELEVANT)}
        carried = {tag: [u for u in names if u in found] for tag, found in every.items()}
        return {
            "clusters": {u: clusters[u] for u in names if clusters.get(u, u) != u},
            "splits": {split: carried[split] for split in SPLITS if carried[split]},
            "tags": {tag: us for tag, us in carried.items() if us and tag not in SPLITS},
        }

    def benchmark(self, benchmark: str) -> Any:
        if benchmark not in self._benchmarks:
            self._benchmarks[benchmark] = benchmarks.load(self.folder / "benchmarks" / benchmark, benchmark)
        return self._benchmarks[benchmark]

    def units(self, row: str, benchmark: str) -> set[str]:
        """Units that a row answered."""
        _, digest, variant = self.plan.rows[row][benchmark][0]
        return set(self.output(digest, variant).values)

    def sized(self, name: str, size: str) -> str:
        """What a row or timing is called at a size: its own name where the language model has no part in it."""
        there = sizes.at(name, size)
        ran = there in self.plan.rows or any(there in timings for timings in self.plan.timings.values())
        return there if ran else name

    def ran(self, row: str, benchmark: str) -> bool:
        return benchmark in self.plan.rows.get(own(row), {})

    def applies(self, row: str, benchmark: str, measure: str) -> bool:
        """Whether the measure reads outputs of the row's type, or its method meters the cost."""
        _, digest, variant = self.plan.rows[own(row)][benchmark][0]
        output = self.output(digest, variant)
        if amount := measures.get(measure).cost:
            return row == own(row) and bool(costs.metered(self.store.cost(digest), amount, output.values))
        return measures.applies(measure, output)
