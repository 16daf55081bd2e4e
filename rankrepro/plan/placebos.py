"""A placebo that is, by all that determines a result, an arm of a claim: nothing of it was destroyed."""

from __future__ import annotations

from collections.abc import Sequence

from rankrepro.cards import Card, where_of
from rankrepro.claims import Claim
from rankrepro.errors import ConfigError
from rankrepro.plan.nodes import Plan


def refuse(card: Card, claims: Sequence[Claim], plan: Plan) -> None:
    """ConfigError for the first placebo of a card whose arm is the same computation as an arm that a claim reads.

    A claim may name the placebo's arm, its rival or its floor, but not as what is to be better.
    """
    counted = [claim for claim in claims if claim.counted and claim.expression]
    claimed = dict.fromkeys(term.arm for claim in counted for term in claim.terms)
    better = {pair[0].arm for claim in counted if claim.expression and (pair := claim.expression.difference)}
    for placebo in (c for c in claims if c.role == "placebo" and c.expression):
        arm, own = placebo.terms[0].arm, {term.arm for term in placebo.terms}
        for benchmark in plan.benchmarks[card.key]:
            for row in (r for r in claimed if r in better or r not in own):
                if _results(plan, arm, benchmark) & _results(plan, row, benchmark):
                    raise ConfigError(
                        f"{where_of(card)}: claims.{placebo.id}: {arm} is the very computation that {row} is "
                        f"({benchmark}), so nothing of it is destroyed; give it `queries: decoy`, the parameter that "
                        "permutes its labels, or another variant"
                    )


def _results(plan: Plan, row: str, benchmark: str) -> set[tuple[str, str]]:
    return {(digest, variant) for _, digest, variant in plan.rows.get(row, {}).get(benchmark, [])}
