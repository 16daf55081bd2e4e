"""Cards whose truth is known: what the judge says of them, and what a plan promises, in the long run.

python tests/simulated.py    # writes the table of docs/statistics.md
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rankrepro.claims import parse
from rankrepro.judge.claims import judge_claims
from rankrepro.judge.power import Spread, detectable

DOCS = Path(__file__).parents[1] / "docs" / "statistics.md"
DRAWS = 1001  # the fewest that the judge takes
UNIT, CLUSTER, SEED = 0.2, 0.1, 0.02  # standard deviations of a difference: of a query, its cluster, a training run


@dataclass(frozen=True)
class World:
    """A card of `claims` claims on `benchmarks` each; every one has clusters of `size` queries, and `seeds` runs."""

    combine: str = "all_of"
    claims: int = 4
    benchmarks: int = 1
    clusters: int = 40
    size: int = 6
    seeds: int = 1
    seed_sd: float = SEED
    cluster_sd: float = CLUSTER

    @property
    def names(self) -> list[str]:
        return [f"b{i}" for i in range(self.benchmarks)]

    @property
    def labels(self) -> list[str]:
        return [f"c{i}" for i in np.repeat(np.arange(self.clusters), self.size)]

    def card(self, rng: np.random.Generator, effects: Any, **claim: Any) -> list[dict[str, Any]]:
        """A card's judged claims. effects: [benchmarks] that every claim has."""
        labels, units = self.labels, self.clusters * self.size
        values: dict[tuple[str, str], Any] = {("p.b", b): np.zeros((1, units)) for b in self.names}
        for i in range(self.claims):
            for b, effect in zip(self.names, np.broadcast_to(effects, self.benchmarks), strict=True):
                shared = np.repeat(rng.normal(0, self.cluster_sd, self.clusters), self.size)
                of_seeds = rng.normal(0, self.seed_sd, (self.seeds, 1)) if self.seeds > 1 else 0.0
                values[f"p.a{i}", b] = effect + shared + rng.normal(0, UNIT, units) + of_seeds

        def lookup(arm: str, benchmark: str, measure: str) -> tuple[Mapping[str, Any], Mapping[str, str]]:
            rows = np.atleast_2d(values[arm, benchmark]).T.tolist()
            names = [f"u{i}" for i in range(units)]
            return dict(zip(names, rows, strict=True)), dict(zip(names, labels, strict=True))

        common = {"sentence": "", "measure": "Seconds", "combine": self.combine, **claim}
        parsed = [parse({"id": f"c{i}", "expr": f"m(a{i}) - m(b)", **common}, "p") for i in range(self.claims)]
        return judge_claims(parsed, lookup, benchmarks=self.names, seed=int(rng.integers(2**31)), n_boot=DRAWS)

    def cards(self, runs: int, effects: Any, **claim: Any) -> Iterator[list[str]]:
        """The verdicts of as many cards."""
        rng = np.random.default_rng([runs, self.benchmarks, self.clusters, self.seeds])
        for _ in range(runs):
            yield [c["verdict"] for c in self.card(rng, effects, **claim)]

    # --- what is measured ---

    def false_positives(self, runs: int) -> float:
        """The share of cards with a `reproduced`, where no claim is true: of an all_of one benchmark has no effect."""
        effects = [0.0] + [0.5 if self.combine == "all_of" else 0.0] * (self.benchmarks - 1)
        return _with_any(self.cards(runs, effects, min_effect=1e-6), "reproduced")

    def false_refutations(self, runs: int) -> float:
        """The share of cards with a `not reproduced`, where every claim is true and none more than it must be."""
        effects = [0.05] + [-0.5 if self.combine == "any_of" else 0.05] * (self.benchmarks - 1)
        return _with_any(self.cards(runs, effects, min_effect=0.05), "not reproduced")

    def promised(self) -> float:
        """The effect that a plan says each claim finds with a power of 80 %."""
        unit_sd = math.sqrt(self.size * self.cluster_sd**2 + UNIT**2)
        part = Spread.of(unit_sd, self.clusters * self.size, self.clusters, self.seed_sd, self.seeds)
        parts = [part] * self.benchmarks
        parts = [Spread.macro(parts)] if self.combine == "macro" else parts
        found = detectable(parts, self.combine, 0.05 / self.claims, target=0.01)
        assert found is not None
        return found

    def power(self, runs: int) -> float:
        """The share of claims that are found where the promised effect is there."""
        return float(np.mean([v == "reproduced" for card in self.cards(runs, self.promised()) for v in card]))


def _with_any(cards: Iterator[list[str]], verdict: str) -> float:
    return float(np.mean([verdict in card for card in cards]))


RUNS, POWER_RUNS = 300, 120  # cards
WORLDS = {
    "6 claims": World(claims=6),
    "4 claims, 3 seeds": World(claims=4, seeds=3),
    "3 claims, all of 4 benchmarks, 3 seeds": World(claims=3, benchmarks=4, clusters=15, seeds=3),
    "3 claims, any of 4 benchmarks": World("any_of", claims=3, benchmarks=4, clusters=15),
    "3 claims, mean of 4 benchmarks, 3 seeds": World("macro", claims=3, benchmarks=4, clusters=15, seeds=3),
}
_ROW = re.compile(r"^\| (.+?) \| (\d+) \| ([\d.]+) % \| ([\d.]+) % \| ([\d.]+) % \|$", re.MULTILINE)


def measured(name: str) -> tuple[float, float, float]:
    """False positives, false refutations and power of a world, in per cent."""
    world = WORLDS[name]
    rates = world.false_positives(RUNS), world.false_refutations(RUNS), world.power(POWER_RUNS)
    return tuple(100 * rate for rate in rates)  # type: ignore[return-value]


def stated() -> dict[str, tuple[float, float, float]]:
    """The same as docs/statistics.md has it."""
    rows = _ROW.findall(DOCS.read_text())
    return {name: (float(a), float(b), float(c)) for name, _, a, b, c in rows}


def main() -> None:
    text = DOCS.read_text()
    for name, clusters, *_ in _ROW.findall(text):
        rates = " | ".join(f"{rate:.1f} %" for rate in measured(name))
        text = re.sub(rf"^\| {re.escape(name)} \|.*$", f"| {name} | {clusters} | {rates} |", text, flags=re.MULTILINE)
    DOCS.write_text(text)


if __name__ == "__main__":
    main()
