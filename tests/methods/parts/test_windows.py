"""Sliding windows and identifiers, without a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from methods.parts.language.windows import Order, check_windows, parse, plain, repair, slide, well_formed
from rankrepro.errors import ConfigError


def by_number(windows: dict[str, Order]) -> dict[str, Order]:
    return {key: sorted(docs, key=int) for key, docs in windows.items()}


def test_windows_of_twenty() -> None:
    seen = []

    def rank(windows: dict[str, Order]) -> dict[str, Order]:
        seen.append(windows["a"])
        return windows

    order = [str(i) for i in range(20)]
    assert slide({"a": order}, 10, 5, rank) == {"a": order}
    assert seen == [order[10:20], order[5:15], order[0:10]]


def test_a_perfect_comparator_puts_the_best_on_top() -> None:
    """With step = window / 2, half a window's best documents reach the top in one walk (and only they must)."""
    order = [str(i) for i in range(20)][::-1]
    assert slide({"a": order}, 10, 5, by_number)["a"][:5] == ["0", "1", "2", "3", "4"]


def test_lists_of_different_length_walk_side_by_side() -> None:
    calls = []

    def rank(windows: dict[str, Order]) -> dict[str, Order]:
        calls.append({key: len(docs) for key, docs in windows.items()})
        return by_number(windows)

    lists = {"short": ["3", "1"], "long": ["7", "6", "5", "4", "3", "2", "1"], "even": ["4", "3", "2", "1"]}
    done = slide(lists, 4, 2, rank)
    assert calls == [{"short": 2, "long": 4, "even": 4}, {"long": 4}, {"long": 3}]
    assert done["short"] == ["1", "3"] and done["even"] == ["1", "2", "3", "4"] and done["long"][:2] == ["1", "2"]
    assert lists["short"] == ["3", "1"]  # the caller's lists stay as they are


@given(
    st.lists(st.integers(0, 99), min_size=1, max_size=40, unique=True),
    st.integers(2, 12).flatmap(lambda w: st.tuples(st.just(w), st.integers(1, w - 1))),
)
def test_any_walk_keeps_the_documents_and_finds_the_best(numbers: list[int], shape: tuple[int, int]) -> None:
    order = [str(n) for n in numbers]
    done = slide({"a": order}, *shape, by_number)["a"]
    assert sorted(done) == sorted(order)
    overlap = min(shape[0] - shape[1], len(order))  # what overlaps from one window to the next
    assert done[:overlap] == sorted(order, key=int)[:overlap]


def test_windows_that_cannot_be_walked_are_named() -> None:
    check_windows("first.joint", 26, 26)
    for window, step in ((4, 5), (4, 0), (27, 5)):  # a gap, no step, more passages than letters
        with pytest.raises(ConfigError, match=f"first.joint: window {window}, step {step}: need"):
            check_windows("first.joint", window, step)


def test_parse_reads_identifiers_and_nothing_else() -> None:
    assert parse("[B] > [A] > [C]") == [1, 0, 2]
    assert parse("Sure! [B]>[B] > [Z] and [AB] or [1] or C > (D)") == [1, 1, 25]
    assert parse("[A] > [") == [0]
    assert parse("") == []


def test_repair_keeps_first_mentions_and_appends_the_missing_in_input_order() -> None:
    assert repair([2, 0, 1], 3) == [2, 0, 1]
    assert repair([2, 2, 9], 4) == [2, 0, 1, 3]
    assert repair([], 3) == [0, 1, 2]


def test_well_formed_is_a_full_permutation() -> None:
    assert well_formed([2, 0, 1], 3)
    assert not well_formed([0, 1], 3)  # one missing
    assert not well_formed([0, 1, 2, 2], 3)  # one twice
    assert not well_formed([0, 1, 2, 3], 3)  # one too many


@given(st.lists(st.integers(0, 25)), st.integers(1, 26))
def test_repair_always_gives_a_permutation(indices: list[int], n: int) -> None:
    assert well_formed(repair(indices, n), n)


def test_brackets_in_passages_cannot_be_taken_for_identifiers() -> None:
    assert plain("the capital [2] of [A] and [citation needed]") == "the capital (2) of (A) and [citation needed]"
