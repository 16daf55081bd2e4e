"""Sizes: the rungs of the ladder of language models at which a paper is asked.

A scale names its rungs, from the smallest to the one that gives the headline verdict; a card says at which of them it
is asked. A row at a smaller size is `icr.full@135M`, a timing `icr_over_generation@135M`; a name without a size is that
of the largest. What no language model of the ladder has a part in has one size only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rankrepro.cards import Card, where_of
from rankrepro.errors import ConfigError, UnknownName

ROLE = "llm"  # of models: the one that the ladder fills
MARK = "@"


def at(name: str, size: str) -> str:
    """A row or timing at a size; "" is the largest."""
    return f"{name}{MARK}{size}" if size else name


def bare(name: str) -> str:
    """A row or timing without its size."""
    return name.partition(MARK)[0]


def of(name: str) -> str:
    """The size in a name; "" where it has none."""
    return name.partition(MARK)[2]


def ladder(scale: Mapping[str, Any]) -> dict[str, str]:
    """Size -> artifact of the language model, the smallest first, the scale's own last; empty where there is one only.

    ConfigError where the last is not the scale's model.
    """
    rungs = dict(scale.get("ladder", {}))
    if rungs and [*rungs.values()][-1] != scale["models"].get(ROLE):
        raise ConfigError(
            f"config/scales/{scale['scale']}.yaml: the last rung of the ladder is {[*rungs.values()][-1]}, and models."
            f"{ROLE} is {scale['models'].get(ROLE)}: make them the same, the largest model"
        )
    return rungs


def largest(scale: Mapping[str, Any]) -> str:
    """The size of the headline verdict; "" where the scale has no ladder."""
    return ([*ladder(scale)] or [""])[-1]


def smaller(card: Card, scale: Mapping[str, Any]) -> list[str]:
    """The sizes below the largest at which a card is asked, in the order of the ladder.

    UnknownName for a size that the scale does not have, ConfigError for a card that is not asked at the largest.
    """
    rungs, name = ladder(scale), scale.get("like", scale["scale"])
    asked: Sequence[str] = (card.data.get("sizes") or {}).get(name, ())
    for size in asked:
        if size not in rungs:
            raise UnknownName("size", size, rungs, where=f"{where_of(card)}: sizes.{name}")
    if asked and largest(scale) not in asked:
        raise ConfigError(
            f"{where_of(card)}: sizes.{name}: {largest(scale)} is missing, and the headline verdict is that of the "
            "largest; add it"
        )
    return [size for size in rungs if size in asked and size != largest(scale)]
