"""`seconds`: what a unit took, for the plans to come."""

from __future__ import annotations

from rankrepro.cards import load_cards
from rankrepro.cli import options
from rankrepro.cli.options import RESULTS, Results, Scale


def seconds(scale: Scale = "quick", results: Results = RESULTS) -> None:
    """Measure what plans predict.

    Writes papers/seconds.yaml: the CPU seconds that a unit of each arm and stage took, over its stored results at a
    scale. What was not run there keeps its figure; what no card has any more is removed.
    """
    from rankrepro.seconds import update
    from rankrepro.store import Store

    file, count = update(load_cards(), options.check_scale(scale), Store(results / scale / "store"))
    print(f"wrote {file}: {count} arms and stages measured at scale {scale}")
