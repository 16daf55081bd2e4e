"""How numbers and names are written: the same on pages, in Markdown and in LaTeX."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence

NONE = "–"
MINUS = "−"


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """`0.576`, `−0.020`, `+0.056` if signed, `790,528`; a dash where there is none."""
    if value is None:
        return NONE
    text = f"{value:{'+' if signed else ''},.{digits}f}"
    return text.replace("-", MINUS) if any(c in "123456789" for c in text) else f"{0:.{digits}f}"


def decimals(value: float | None) -> int:
    """Digits to write after the point: three, none of thousands, of less than a thousandth two that say something."""
    if value is None or value == 0:
        return 3
    if abs(value) >= 1000:
        return 0
    return 3 if abs(value) >= 0.001 else 1 - math.floor(math.log10(abs(value)))


def interval(pair: Sequence[float | None] | None, digits: int = 3) -> str:
    """`[0.019, 0.093]`; an open end where the data cannot bound it, nothing where both ends are open."""
    if not pair or (pair[0] is None and pair[1] is None):
        return ""
    low, high = (NONE if v is None else number(v, digits) for v in pair)
    return f"[{low}, {high}]"


def p_value(value: float | None) -> str:
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def seconds(value: float | None) -> str:
    """`0.4 ms`, `8.7 s`, `31 min`, `2.4 h`."""
    if value is None:
        return NONE
    if value < 0.1:
        return f"{value * 1000:.1f} ms"
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def count(value: float | None) -> str:
    """`812`, `12,300`, `1.9 M`; below ten with one decimal unless it is an integer."""
    if value is None:
        return NONE
    if value >= 1e6:
        return f"{value / 1e6:.1f} M"
    return f"{value:.1f}" if value < 10 and value != int(value) else f"{round(value):,}"


def size(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def plural(n: int, word: str) -> str:
    """`1 query`, `320 queries`."""
    many = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return f"{n:,} {word if n == 1 else many}"


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words))


def short(name: str, card: str) -> str:
    """A row without the card it is shown on: `full` on the page of icr, `baselines.bm25` anywhere else."""
    return name.replace(f"{card}.", "", 1) if name.removeprefix("ceiling of ").startswith(f"{card}.") else name


def slug(text: str) -> str:
    """A name that is safe in a path and a fragment: a-z, 0-9 and hyphens."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-")[:60].strip("-") or "table"


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "–": "--", "—": "---", "−": "$-$", "≤": r"$\leq$", "≥": r"$\geq$",
    "±": r"$\pm$", "×": r"$\times$", "’": "'", "‘": "`", "“": "``", "”": "''", "…": r"\ldots{}", "\n": " ",
    "\u00a0": "~",
}  # fmt: skip


def latex(text: str) -> str:
    """Text in LaTeX. A character that pdfLaTeX's own fonts lack stands as its code point."""
    return "".join(_LATEX.get(c) or _latex_character(c) for c in text)


_ACCENTS = set(
    "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327"
)  # all fonts of LaTeX have them


def _latex_character(c: str) -> str:
    letter, *accents = list(unicodedata.normalize("NFD", c))
    if " " <= letter <= "~" and len(accents) <= 1 and set(accents) <= _ACCENTS:
        return c
    return "" if unicodedata.category(c) in ("Cc", "Cf") else rf"\texttt{{U+{ord(c):04X}}}"


def markdown(text: str) -> str:
    """Text in a cell of a Markdown table: no markup, no HTML, one line."""
    escaped = re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;")
