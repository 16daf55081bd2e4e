"""No leak by construction: what read judgments of a split is not judged on that split, through any chain of inputs.

A benchmark shows methods the judgments of its training and validation queries. The plan knows from the syntax tree
which functions read them, follows what they make through stages, candidates and arms, and refuses a claim or table that
would judge it on those queries. Benchmarks made from the same sources share their splits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rankrepro import benchmarks, signatures
from rankrepro.benchmarks.base import SPLITS
from rankrepro.cards import Card, qualify, where_of
from rankrepro.claims import Claim
from rankrepro.code import Code
from rankrepro.errors import ConfigError
from rankrepro.plan.nodes import Node, Plan


@dataclass(frozen=True)
class Lesson:
    """`node` read the judgments of a split of a benchmark."""

    node: str
    benchmark: str
    split: str


class Lessons:
    """What each node of a plan has learnt from judgments, itself or by what it is given."""

    def __init__(self, nodes: Mapping[str, Node], code: Code) -> None:
        self.nodes, self.code = nodes, code
        self._known: dict[str, frozenset[Lesson]] = {}

    def of(self, digest: str) -> frozenset[Lesson]:
        if digest not in self._known:
            node = self.nodes[digest]
            read = signatures.of(node.spec["fn"], self.code).judgments if "fn" in node.spec else ()
            own = {Lesson(node.name, node.benchmark, split) for split in read}
            self._known[digest] = frozenset(own.union(*map(self.of, node.needs())))
        return self._known[digest]


def refuse(card: Card, claims: Sequence[Claim], plan: Plan, code: Code) -> None:
    """ConfigError for the first claim or table of a card that judges a row on what it has learnt from."""
    lessons = Lessons(plan.nodes, code)
    for key, rows, chosen, where in _judgements(card, claims, plan.benchmarks[card.key]):
        for benchmark in chosen:
            for row in rows:
                for _, digest, _ in plan.rows.get(row, {}).get(benchmark, []):
                    judged = _judged(plan.nodes[digest].spec, where)
                    for lesson in sorted(lessons.of(digest), key=str):
                        if lesson.split in judged and related(lesson.benchmark, benchmark):
                            raise ConfigError(_words(card, key, row, benchmark, lesson))


def related(one: str, other: str) -> bool:
    """Whether two benchmarks are one, or made from the same sources."""
    sources = [set(benchmarks.get(b).artifacts) for b in (one, other)]
    return one == other or bool(sources[0] & sources[1])


def _judgements(
    card: Card, claims: Sequence[Claim], ids: Sequence[str]
) -> Iterator[tuple[str, Iterable[str], Sequence[str], str]]:
    """(key of the card, rows, benchmarks, tag) of every claim that is tested on units, and of every table."""
    for claim in claims:
        if claim.tested and not claim.timing:
            chosen = [b for b in ids if claim.over is None or b in claim.over]
            yield f"claims.{claim.id}", {term.arm for term in claim.terms}, chosen, claim.where or ""
    for table in card.data.get("tables", []):
        rows = [qualify(card, arm) for arm in table["arms"]]
        yield f"tables.{table['name']}", rows, [b for b in ids if b in table.get("over", ids)], table.get("where", "")


def _judged(spec: Mapping[str, Any], where: str) -> set[str]:
    """Splits of the units that are judged; a tag that is no split may stand in any of them."""
    splits = set(spec["queries"]["split"])
    return splits & {where} if where in SPLITS else splits


def _words(card: Card, key: str, row: str, benchmark: str, lesson: Lesson) -> str:
    return (
        f"{where_of(card)}: {key}: {row} would be judged on {lesson.split} queries of {benchmark}, and has learnt from "
        f"judgments of the {lesson.split} split of {lesson.benchmark} ({lesson.node} reads them): add `where: test`, "
        "or say `split: [test]` in the card"
    )
