"""Listwise re-ranking of a long list by windows, and the identifiers that name passages inside one."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from string import ascii_uppercase as LETTERS
from typing import TypeVar

from rankrepro.errors import ConfigError

K = TypeVar("K", bound=Hashable)
Order = list[str]


def slide(
    orders: Mapping[K, Sequence[str]],
    window: int,
    step: int,
    rank: Callable[[dict[K, Order]], Mapping[K, Sequence[str]]],
) -> dict[K, Order]:
    """Re-rank lists from tail to head: each window is permuted in place, the next one starts `step` further up.

    `rank` gets the current window of every list not yet finished and returns them permuted (Sun et al. 2023, 3.3).
    """
    assert 0 < step <= window
    result = {key: list(order) for key, order in orders.items()}
    ends = {key: len(order) for key, order in orders.items()}
    while ends:
        spans = {key: slice(max(0, end - window), end) for key, end in ends.items()}
        for key, permuted in rank({key: result[key][span] for key, span in spans.items()}).items():
            result[key][spans[key]] = permuted
        ends = {key: ends[key] - step for key, span in spans.items() if span.start > 0}
    return result


def check_windows(name: str, window: int, step: int) -> None:
    """ConfigError unless windows overlap, or touch, and every passage of one has a letter."""
    if not 0 < step <= window <= len(LETTERS):
        raise ConfigError(f"{name}: window {window}, step {step}: need 0 < step <= window <= {len(LETTERS)}")


def plain(text: str) -> str:
    """`[3]` in a passage becomes `(3)`, so that it cannot be taken for an identifier."""
    return re.sub(r"\[(\w+)\]", r"(\1)", text)


def written(indices: Iterable[int]) -> str:
    """The answer that names these passages in this order: `[B] > [A]`."""
    return " > ".join(f"[{LETTERS[i]}]" for i in indices)


def parse(answer: str) -> list[int]:
    """Indices named in an answer such as `[B] > [A]`, in order, repetitions included."""
    return [LETTERS.index(letter) for letter in re.findall(r"\[([A-Z])\]", answer)]


def well_formed(indices: Sequence[int], n: int) -> bool:
    """Whether each of n passages is named exactly once, and nothing else."""
    return sorted(indices) == list(range(n))


def repair(indices: Sequence[int], n: int) -> list[int]:
    """A permutation of n: first mentions kept, unknown ones dropped, missing ones appended in input order."""
    named = dict.fromkeys(i for i in indices if i < n)
    return [*named, *(i for i in range(n) if i not in named)]
