"""Measures: what a cell's output is worth, unit by unit, against the truth.

To add one, add an entry to MEASURES: its name (which `rankrepro.measure_names` lists for the plan), the output types it
reads, and a function (output, truth) -> unit -> value. A pooled measure (perplexity, a pooled AUC) returns the material
of each unit instead, ready for JSON, and names a `pool` that turns the materials of many units into the value
(rankrepro.judge.pooled). Three kinds need no entry:

    nDCG@3, P(rel=2)@10     rankings: any measure of ir_measures, by its name there
    fact:tau                a fact by its name (`cell.Facts`); higher is better. `fact:bytes:low`: lower is better
    GeneratedTokens         what a unit cost (COSTS), of every arm whose method meters it

nDCG@10 has linear gains; measures of binary relevance count grades >= 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rankrepro import measure_names
from rankrepro.benchmarks.base import Truth
from rankrepro.cell import Facts, Output, Ranking, ordered
from rankrepro.errors import BenchmarkError, OutputError, UnknownName
from rankrepro.judge import pooled
from rankrepro.judge.confusion import MEASURES as CONFUSION
from rankrepro.judge.confusion import confusion_measure
from rankrepro.judge.pictures import landmark_measures, place_measures
from rankrepro.judge.statistics import Array, Pooled
from rankrepro.measure_names import FACT, LOW

RUNS = ("ranking", "retrieval")
SHARE = (0.0, 1.0)


@dataclass(frozen=True)
class Measure:
    """outputs: the output types it reads · unit: what is measured · direction: 1 if higher is better, else -1.

    cluster is "truth" where units are resampled by the benchmark's clusters, "unit" where each stands for itself.
    shown: whether units.json lists the units (the material of a pooled measure may be a hundred numbers each).
    cost: the amount of a cell's meter that it reads, whatever the output; `score` is not called then.
    limits: between which values lie · rate: whether a unit's value is itself a share of yes and no.
    """

    name: str
    outputs: tuple[str, ...]
    score: Callable[[Any, Any], dict[str, Any]]  # a measure reads the output and truth types of its own family
    unit: str = "query"
    cluster: str = "truth"
    direction: int = 1
    pool: pooled.Pool | None = None
    shown: bool = True
    cost: str = ""
    limits: tuple[float, float] = (-math.inf, math.inf)
    rate: bool = False

    @property
    def pooled(self) -> bool:
        return self.pool is not None

    def clusters(self, units: Iterable[str], truth: Truth) -> dict[str, str]:
        """Unit -> the label of the cluster it is resampled with; a unit the truth does not cluster is its own."""
        return {u: truth.clusters.get(u, u) if self.cluster == "truth" else u for u in units}


def get(name: str) -> Measure:
    """The measure of that name; UnknownName names the nearest one."""
    if name.startswith(FACT):
        return _fact(name)
    return MEASURES.get(name) or _parsed(name)


def per_unit(name: str, output: Output, truth: Truth) -> dict[str, Any]:
    """Unit -> value in [0, 1] or the measure's own unit (for a pooled measure: the unit's material).

    Ranking measures cover every judged query of `output`; one without a value counts 0.
    """
    measure = get(name)
    if output.type not in measure.outputs and not measure.cost:
        raise OutputError(f"measure '{name}' reads {' or '.join(measure.outputs)}, not an output of type {output.type}")
    return measure.score(output, truth)


def applies(name: str, output: Output) -> bool:
    """Whether the measure reads outputs of this type."""
    return output.type in get(name).outputs


def as_term(name: str, rows: Sequence[Sequence[Any]]) -> Array | Pooled:
    """Values (or materials) of one arm, per unit and seed, as a term of a `statistics.Sample`: [seeds, units]."""
    pool = get(name).pool
    if pool is None:
        return np.array(rows, dtype=float).T
    return Pooled([pool([row[seed] for row in rows]) for seed in range(len(rows[0]))])


def oracle(output: Output, truth: Truth) -> Ranking:
    """The best ordering of the same documents: any measure of it is the ceiling of a re-ranker of these candidates."""
    run = _run(output)
    return Ranking({q: {d: float(truth.qrels.get(q, {}).get(d, 0)) for d in scores} for q, scores in run.items()})


# --- rankings --------------------------------------------------------------------------------------------------------


def _run(output: Output) -> Mapping[str, Mapping[str, float]]:
    if output.type not in RUNS:
        raise OutputError(f"an output of type {output.type} has no ranked documents; expected {' or '.join(RUNS)}")
    return output.values


def _judged(output: Output, truth: Truth) -> dict[str, Mapping[str, int]]:
    """The judgments of the output's queries; BenchmarkError where none of them has a relevant document."""
    judged = {q: truth.qrels[q] for q in _run(output) if q in truth.qrels}
    if not any(grade >= 1 for grades in judged.values() for grade in grades.values()):
        raise BenchmarkError(
            f"none of the {len(output.values)} queries has a relevant document: judge an output on its own benchmark"
        )
    return judged


def _ir(name: str) -> Measure:
    """A measure of ir_measures, parsed when first used."""

    def score(output: Output, truth: Truth) -> dict[str, float]:
        import ir_measures

        judged = _judged(output, truth)
        # Ranks instead of scores, so that no provider breaks ties its own way; numbers instead of ids, because some
        # providers misread ids that hold a blank or are no number.
        number = {q: str(i) for i, q in enumerate(judged, 1)}
        documents: dict[str, str] = {}
        qrels, run = {}, {}
        for q, grades in judged.items():
            ranks = ordered(output.values[q])
            for d in (*ranks, *grades):
                documents.setdefault(d, str(len(documents) + 1))
            qrels[number[q]] = {documents[d]: grade for d, grade in grades.items()}
            run[number[q]] = {documents[d]: float(len(ranks) - i) for i, d in enumerate(ranks)}
        values = {m.query_id: float(m.value) for m in ir_measures.iter_calc([measure_names.parsed(name)], qrels, run)}
        return {q: values.get(n, 0.0) for q, n in number.items()}

    return Measure(name, RUNS, score, limits=(-math.inf, math.inf) if name.startswith("Num") else SHARE)


def _parsed(name: str) -> Measure:
    measure_names.check(name)
    return _ir(name)


def _candidates_recall(output: Output, truth: Truth) -> dict[str, float]:
    """Share of a query's relevant documents among its candidates: recall of the first stage at the re-ranked depth."""
    recall = {}
    for q, grades in _judged(output, truth).items():
        relevant = {d for d, grade in grades.items() if grade >= 1}
        recall[q] = len(relevant & set(output.values[q])) / len(relevant) if relevant else 0.0
    return recall


# --- other outputs ---------------------------------------------------------------------------------------------------


def _fact(name: str) -> Measure:
    """`fact:<name>`, or `fact:<name>:low` where lower is better."""
    measure_names.check(name)
    return _fact_measure(name, name.removeprefix(FACT).removesuffix(LOW), -1 if name.endswith(LOW) else 1)


def _fact_measure(name: str, fact: str, direction: int, unit: str = "unit") -> Measure:
    def score(output: Facts, truth: Truth) -> dict[str, float]:
        known = next(iter(output.values.values()), {})
        if fact not in known:
            raise UnknownName("fact", fact, known, where=f"measure '{name}'")
        return {u: float(facts[fact]) for u, facts in output.values.items()}

    return Measure(name, ("facts",), score, unit, direction=direction)


def _only_fact(output: Facts, truth: Truth) -> dict[str, float]:
    """The fact of an output that has one."""
    names = sorted({name for facts in output.values.values() for name in facts})
    if len(names) != 1:
        raise OutputError(f"'value' reads an output with one fact; ask for one of {', '.join(FACT + n for n in names)}")
    return {u: float(facts[names[0]]) for u, facts in output.values.items()}


# Facts that published claims and tables name like this: TargetParameters is the fact target_parameters.
_NAMED_FACTS = (
    *("TargetParameters", "Parameters", "ComputedBytes", "MeasuredBytes"),
    *("LearningRate", "ResidualSpread", "ByResidual", "StepsToBest"),
)


def _named_fact(name: str, unit: str = "model") -> Measure:
    return _fact_measure(name, re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(), -1, unit)


def _rate(name: str, unit: str) -> Measure:
    return replace(_named_fact(name, unit), limits=SHARE, rate=True)


# --- costs -----------------------------------------------------------------------------------------------------------

COSTS = {  # measure -> what a method meters (`cell.meter.add`); seconds are metered by `cell.map`
    "InputTokens": "input_tokens",
    "GeneratedTokens": "generated_tokens",
    "ForwardPasses": "forward_passes",
    "Calls": "calls",
    "Seconds": "seconds",
}


def _of_cost(name: str, amount: str) -> Measure:
    def score(output: Output, truth: Truth) -> dict[str, float]:
        raise OutputError(f"'{name}' is read from a cell's meter, not from its output")

    return Measure(name, (), score, "unit", direction=-1, cost=amount)


_IR_NAMES = ("nDCG@10", "nDCG@5", "RR", "RR@10", "AP", "P@10", "R@10", "R@20", "R@100", "Success@1", "Judged@10")

MEASURES: dict[str, Measure] = {
    m.name: m
    for m in (
        *map(_ir, _IR_NAMES),
        Measure("Candidates-R", RUNS, _candidates_recall, limits=SHARE),
        _rate("MalformedRate", unit="query"),
        *map(_named_fact, _NAMED_FACTS),
        Measure("value", ("facts",), _only_fact, unit="fact"),
        *(_of_cost(name, amount) for name, amount in COSTS.items()),
        *(
            Measure(n, ("predictions",), confusion_measure(n), unit="task", limits=SHARE)  # type: ignore[arg-type]
            for n in CONFUSION
        ),
        *(Measure(n, RUNS, f, limits=SHARE) for n, f in (landmark_measures() | place_measures()).items()),
        Measure("Perplexity", ("likelihoods",), pooled.likelihoods, "block", direction=-1, pool=pooled.perplexity),
        Measure("WithinAUC", ("retrieval",), pooled.within_auc, limits=SHARE),
        Measure("PooledAUC", ("retrieval",), pooled.scores, pool=pooled.auc, shown=False, limits=SHARE),
        *(
            Measure(f"TPR@{r}", ("retrieval",), pooled.scores, pool=pooled.true_positives(r), shown=False, limits=SHARE)
            for r in pooled.FALSE_POSITIVES
        ),
    )
}
