"""A card's tables: rows with intervals, costs, and each arm against the table's baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rankrepro.cards import Card, qualify
from rankrepro.claims import Expression, Term
from rankrepro.judge import measures
from rankrepro.judge.costs import NO_COST, per_unit_cost
from rankrepro.judge.estimates import estimated
from rankrepro.judge.statistics import Sample, against, by_seed, interval
from rankrepro.judge.values import ORACLE, Values


def tables_of(card: Card, values: Values) -> list[tuple[Mapping[str, Any], str]]:
    """The tables that a card declares, each at the largest size, and below it at those where any row differs."""
    return [
        (declared, size)
        for declared in card.data.get("tables", ())
        for size in ("", *values.plan.sizes.get(card.key, ()))
        if not size or any(values.sized(row, size) != row for row in (qualify(card, a) for a in declared["arms"]))
    ]


def arms_of(values: Values, card: Card, declared: Mapping[str, Any], size: str) -> list[str]:
    """The rows of a table at a size, in the card's order."""
    arms = [values.sized(qualify(card, arm), size) for arm in declared["arms"]]
    oracle = [ORACLE + values.sized(qualify(card, declared["oracle"]), size)] if "oracle" in declared else []
    return [*arms, *oracle]


def table(values: Values, card: Card, declared: Mapping[str, Any], size: str = "") -> dict[str, Any]:
    """The rows of a table of the card: arms x benchmarks x measures, where they were run and apply.

    size: of the language model; "" the largest
    """
    arms = arms_of(values, card, declared, size)
    where = declared.get("where")
    named = (declared.get(k) for k in ("units_of", "baseline"))
    units_of, baseline = (values.sized(qualify(card, name), size) if name else None for name in named)
    rows, kept = [], []
    for arm in arms:
        for benchmark in values.plan.benchmarks[card.key]:
            if benchmark not in declared.get("over", [benchmark]) or not values.ran(arm, benchmark):
                continue
            for measure in declared["measures"]:
                if values.applies(arm, benchmark, measure):
                    units = _units(values, arm, benchmark, measure, where, units_of)
                    if units:
                        rows.append(_row(values, arm, benchmark, measure, units, where))
                        kept.append(units)
    if baseline:
        _compare(values, rows, kept, baseline)
    name = f"{declared['name']}, at {size}" if size else declared["name"]
    return {
        "name": name,
        "measures": declared["measures"],
        "baseline": baseline,
        "where": where,
        "units_of": units_of,
        "rows": rows,
    }


def _units(
    values: Values, arm: str, benchmark: str, measure: str, where: str | None, units_of: str | None
) -> list[str]:
    """Units of a row; where asked for, only those with tag `where` and those that the row `units_of` answered."""
    units = set(values.per_unit(arm, benchmark, measure))
    if where:
        units &= values.tagged(benchmark, where)
    if units_of and values.ran(units_of, benchmark):
        units &= values.units(units_of, benchmark)
    return sorted(units)


def _row(values: Values, arm: str, benchmark: str, measure: str, units: list[str], where: str | None) -> dict[str, Any]:
    found, clusters = values.lookup(arm, benchmark, measure)
    cells = values.plan.rows[arm.removeprefix(ORACLE)][benchmark]
    term = measures.as_term(measure, [found[u] for u in units])
    sample = Sample(units, [clusters[u] for u in units], {(mean := Term(arm, measure)): term})
    estimate = estimated(Expression(arm, (mean,), mean), [sample], n_boot=2000)
    seeds = by_seed(term, len(units))
    answered = values.plan.nodes[cells[0][1]].spec["queries"]["split"]
    split = [where] if where and where in answered else answered
    costs = [values.store.cost(digest) for _, digest, _ in cells]
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
        "by_seed": seeds.tolist(),
        "seed_sd": float(seeds.std(ddof=1)) if len(seeds) > 1 else None,
        "against": None,
        "cost": NO_COST if arm.startswith(ORACLE) else per_unit_cost(costs, units),
    }


def _compare(values: Values, rows: list[dict[str, Any]], kept: list[list[str]], baseline: str) -> None:
    """Set `against` of rows that share two units or more with the baseline; a benchmark and measure is a family.

    kept: the units of each row.
    """
    families: dict[tuple[str, str], dict[int, tuple[np.ndarray, np.ndarray]]] = {}
    for i, (row, units) in enumerate(zip(rows, kept, strict=True)):
        arm, benchmark, measure = row["arm"], row["benchmark"], row["measure"]
        skip = arm == baseline or arm.startswith(ORACLE) or not values.ran(baseline, benchmark)
        if skip or measures.get(measure).pooled or not values.applies(baseline, benchmark, measure):
            continue
        own, base = (values.means(a, benchmark, measure) for a in (arm, baseline))
        shared = [u for u in units if u in base]
        if len(shared) > 1:
            own_means, base_means = (np.array([v[u] for u in shared]) for v in (own, base))
            families.setdefault((benchmark, measure), {})[i] = own_means, base_means
    for (_, measure), pairs in families.items():
        for i, found in against(pairs, measures.get(measure).direction).items():
            rows[i]["against"] = found
