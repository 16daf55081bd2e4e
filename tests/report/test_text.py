"""How numbers and names are written."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrepro.report import text


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5764, "0.576"), (-0.02, "−0.020"), (None, "–"), (-0.0001, "0.000"), (0.0, "0.000")]
)
def test_numbers(value: float | None, shown: str) -> None:
    assert text.number(value) == shown


def test_intervals_keep_an_open_end() -> None:
    assert text.interval([0.019, 0.093]) == "[0.019, 0.093]"
    assert text.interval([None, 0.5]) == "[–, 0.500]"
    assert text.interval([None, None]) == ""


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0004, "0.4 ms"), (8.7, "8.7 s"), (1860, "31 min"), (8640, "2.4 h"), (None, "–")]
)
def test_seconds(value: float | None, shown: str) -> None:
    assert text.seconds(value) == shown


@given(st.text())
def test_a_slug_is_safe_in_a_path(words: str) -> None:
    slug = text.slug(words)
    assert 1 <= len(slug) <= 60
    assert set(slug) <= {*string.ascii_lowercase, *string.digits, "-"}


@given(st.text())
def test_latex_holds_no_command_but_ours(words: str) -> None:
    latex = text.latex(words)
    for known in (*text._LATEX.values(), r"\texttt{U+"):
        latex = latex.replace(known, "" if known != " " else " ")
    latex = latex.replace("}", "")  # of \texttt{U+05D0}
    assert not set(latex) & set("\\{$&#%_^~")
    assert text.latex("a_b & 50 %") == r"a\_b \& 50 \%"
    assert text.latex("שלום") == r"\texttt{U+05E9}\texttt{U+05DC}\texttt{U+05D5}\texttt{U+05DD}"


def test_markdown_shows_markup_as_text() -> None:
    assert text.markdown("a|b\n<b> *x* `c`") == r"a\|b \<b\> \*x\* \`c\`"


def test_arms_are_bare_on_their_own_page() -> None:
    assert text.short("icr.full", "icr") == "full"
    assert text.short("baselines.bm25", "icr") == "baselines.bm25"
    assert text.short("ceiling of icr.full", "icr") == "ceiling of full"
