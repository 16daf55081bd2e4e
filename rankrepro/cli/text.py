"""What commands print: aligned tables in a pipe, rich ones on a terminal, and numbers written one way everywhere."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

NONE = "–"


def plain(value: Any) -> str:
    """One line without control characters: ids and titles come from others, and terminals obey escapes."""
    text = " ".join(str(value).split())
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in text)


def number(value: float | None, digits: int = 3) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def interval(pair: Sequence[float | None] | None, digits: int = 3) -> str:
    """`[low, high]`; a bound that the data cannot give is a dash."""
    if not pair or (pair[0] is None and pair[1] is None):
        return NONE
    return f"[{number(pair[0], digits)}, {number(pair[1], digits)}]"


def probability(value: float | None) -> str:
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def seconds(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value * 1000:.1f} ms" if value < 0.1 else f"{value:.1f} s"


def duration(value: float) -> str:
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


def size(octets: int) -> str:
    """Bytes in the unit that gives one to three digits before the point."""
    value = float(octets)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def paragraph(text: str, indent: str = "") -> None:
    """Print a text wrapped; blank lines and list items (`- `) start a new line."""
    import textwrap

    for i, block in enumerate(re.split(r"\n(?=- )|\n\s*\n", text.strip())):
        if i and not block.startswith("- "):
            print()
        hanging = indent + ("  " if block.startswith("- ") else "")
        print(
            textwrap.fill(plain(block), 100, initial_indent=indent, subsequent_indent=hanging, break_on_hyphens=False)
        )


def heading(text: str) -> None:
    print(f"\n{plain(text)}")


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], indent: str = "") -> None:
    """Print rows under their columns; columns of numbers are aligned right."""
    cells = [[plain(c) for c in row] for row in rows]
    right = [bool(cells) and all(_is_number(row[i]) for row in cells) for i in range(len(columns))]
    if sys.stdout.isatty():
        _rich(columns, cells, right, len(indent))
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for row in (columns, *cells):
        parts = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
        print(indent + "  ".join(parts).rstrip())


def _is_number(text: str) -> bool:
    """A number, perhaps with a sign and one short unit, or the dash of a missing one."""
    return text == NONE or re.fullmatch(r"[-+<]? ?\d[\d.,]*( ?[a-zA-Z%]{1,3})?", text) is not None


def _rich(columns: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[bool], indent: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name, to_right in zip(columns, right, strict=True):
        grid.add_column(Text(name), justify="right" if to_right else "left", overflow="fold")
    for row in cells:
        grid.add_row(*map(Text, row))  # Text: square brackets in an id are no markup
    Console(highlight=False).print(Padding(grid, (0, 0, 0, indent)))


def dump(value: Any) -> None:
    """Print JSON; callers have replaced numbers that are not finite by None."""
    print(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))
