"""Signatures as the plan reads them, and the arguments that the runner makes of parameters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from rankrepro import signatures
from rankrepro.cell import Cell, Size, trains
from rankrepro.code import Code
from rankrepro.errors import ConfigError, UnknownName
from rankrepro.parameters import bind, capped

METHOD = """
from dataclasses import dataclass
from typing import Annotated, Literal

from methods.parts.recipe import Recipe
from rankrepro.cell import Cell, Size, trains


@trains
def fit(
    cell: Cell,
    *,
    top: Annotated[int, Size(work=1, rehearsal=2)],
    rates: Annotated[list[float], Size(rehearsal=2)],
    loss: Literal["mw", "contrastive"] = "mw",
    ways: list[Literal["free", "constrained"]],
    depth: int | None = None,
    recipe: Recipe,
):
    return helper(cell), cell.inputs["pairs"]


def helper(cell):
    return cell.models["encoder"]
"""
RECIPE = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Base:
    seeded: bool = True


@dataclass(frozen=True, kw_only=True)
class Recipe(Base):
    tokens: Annotated[int, Size(work=1, rehearsal=1000)]
    rate: float = 0.0
"""


@pytest.fixture
def code(tmp_path: Path) -> Code:
    (tmp_path / "methods" / "parts").mkdir(parents=True)
    (tmp_path / "methods" / "toy.py").write_text(METHOD)
    (tmp_path / "methods" / "parts" / "recipe.py").write_text(RECIPE)
    return Code(root=tmp_path)


def test_a_signature_is_flat_and_knows_sizes_models_and_inputs(code: Code) -> None:
    signature = signatures.of("toy.fit", code)
    assert list(signature.parameters) == ["top", "rates", "loss", "ways", "depth", "seeded", "tokens", "rate"]
    required = {name for name, p in signature.parameters.items() if p.required}
    assert required == {"top", "rates", "ways", "tokens"}
    sizes = {name: (p.work, p.rehearsal) for name, p in signature.parameters.items() if p.work or p.rehearsal}
    assert sizes == {"top": (1, 2), "rates": (0, 2), "tokens": (1, 1000)}
    assert signature.trains and not signatures.of("toy.helper", code).trains
    assert signature.models == {"encoder"} and signature.inputs == {"pairs"}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("top", 3, "three"),
        ("top", 3, True),
        ("top", 3, 2.5),
        ("rates", [1, 0.5], 0.5),
        ("rates", [], ["fast"]),
        ("depth", None, "all"),
        ("seeded", False, 0),
        ("rate", 1, "high"),
    ],
)
def test_values_are_held_to_their_types(code: Code, name: str, good: object, bad: object) -> None:
    parameter = signatures.of("toy.fit", code).parameters[name]
    parameter.check(good, "card: here")
    with pytest.raises(ConfigError, match=r"card: here: .* is not of the type that the method declares"):
        parameter.check(bad, "card: here")


@pytest.mark.parametrize(("name", "value", "nearest"), [("loss", "mv", "mw"), ("ways", ["fre"], "free")])
def test_a_choice_is_answered_with_the_nearest(code: Code, name: str, value: object, nearest: str) -> None:
    with pytest.raises(UnknownName, match=f"card: here.*did you mean '{nearest}'"):
        signatures.of("toy.fit", code).parameters[name].check(value, "card: here")


def test_a_rehearsal_caps_what_declares_it(code: Code) -> None:
    params = {"top": 8, "rates": [1.0, 2.0, 3.0], "loss": "mw", "tokens": 10**6, "rate": 0.1}
    small = capped(params, signatures.of("toy.fit", code))
    assert small == {"top": 2, "rates": [1.0, 2.0], "loss": "mw", "tokens": 1000, "rate": 0.1}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    tokens: int
    betas: tuple[float, float] = (0.9, 0.999)


@trains
def method(
    cell: Cell, *, top: Annotated[int, Size(work=1)], loss: Literal["a", "b"] = "a", recipe: Recipe
) -> dict[str, object]:
    return {"top": top, "loss": loss, "recipe": recipe}


def test_flat_parameters_become_arguments() -> None:
    arguments = bind(method, {"top": 3, "tokens": 7, "betas": [0.8, 0.9]})
    assert arguments == {"top": 3, "recipe": Recipe(tokens=7, betas=(0.8, 0.9))}
    assert method(None, **arguments) == {"top": 3, "loss": "a", "recipe": Recipe(tokens=7, betas=(0.8, 0.9))}


def test_an_alias_of_choices_is_spelled_out(code: Code, tmp_path: Path) -> None:
    text = 'from typing import Literal\nMode = Literal["fast", "slow"]\ndef go(cell, *, mode: Mode):\n    return mode\n'
    (tmp_path / "methods" / "aliased.py").write_text(text)
    with pytest.raises(UnknownName, match="did you mean 'fast'"):
        signatures.of("aliased.go", Code(root=tmp_path)).parameters["mode"].check("fst", "card: here")
