"""Orders made without a model."""

from __future__ import annotations

from collections.abc import Callable

from methods.controls import floors
from rankrepro.cell import Cell

MakeCell = Callable[..., Cell]


def test_floors(make_cell: MakeCell) -> None:
    cell = make_cell({"q": "x"}, {"q": ["d2", "d0", "d1"]})
    assert list(floors.identity(cell).checked(cell).values["q"]) == ["d2", "d0", "d1"]
    assert list(floors.constant(cell).checked(cell).values["q"]) == ["d0", "d1", "d2"]


def test_random_is_fixed_per_seed_and_query(make_cell: MakeCell) -> None:
    def order(q: str, seed: int, docs: list[str]) -> list[str]:
        cell = make_cell({q: "x"}, {q: docs}, seed=seed)
        return list(floors.random(cell).checked(cell).values[q])

    docs = [f"d{i}" for i in range(7)]
    # written down, since every process and machine must draw the same
    assert order("q1", 0, docs) == GOLDEN_RANDOM
    assert order("q1", 0, docs[::-1]) == GOLDEN_RANDOM
    assert sorted(order("q2", 0, docs)) == docs
    assert len({tuple(order(q, seed, docs)) for q in ("q1", "q2") for seed in (0, 1)}) == 4


GOLDEN_RANDOM = ["d0", "d1", "d3", "d2", "d6", "d4", "d5"]
