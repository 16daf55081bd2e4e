"""Names and values that MLflow accepts."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterator, Mapping
from typing import Any

PLAIN = frozenset(string.ascii_letters + string.digits + "-. ")
ESCAPE = re.compile(r"_(at|x[0-9a-f]+)_")
LONGEST_PARAM, LONGEST_TAG = 6000, 8000  # characters; MLflow itself cuts longer ones silently


def metric_name(name: str) -> str:
    """`nDCG@10` -> `nDCG_at_10`: a legal MLflow name, different for every `name` (which must not be empty).

    `@` becomes `_at_`, any other foreign character `_x<its code>_`. `/` groups metrics in MLflow's pages and stays
    between two parts; an underscore stays unless what follows would make it read as an escape.
    """
    out = ""
    for i in range(len(name) - 1, -1, -1):  # from the end, because what follows decides
        char, begins = name[i], i == 0 or name[i - 1] == "/"
        if char == "@":
            out = "_at_" + out
        elif (
            (char in PLAIN and not (char == "." and begins))  # `.` and `..` are folders
            or (char == "/" and i > 0 and out[:1] not in ("", "/"))
            or (char == "_" and not ESCAPE.match(char + out))
        ):
            out = char + out
        else:
            out = f"_x{ord(char):x}_" + out
    return out


def params(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as dotted names and text; what is too long for MLflow is cut, with a note."""
    return {
        metric_name(prefix + key): _cut(text, LONGEST_PARAM, ", all of them in manifest.json")
        for key, text in _flat(values)
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def cut_tag(text: str) -> str:
    """A tag's value; what is too long for MLflow is cut, with a note."""
    return _cut(text, LONGEST_TAG, "")


def _cut(text: str, longest: int, where: str) -> str:
    if len(text) <= longest:
        return text
    note = f" [cut: {len(text)} characters{where}]"
    return text[: longest - len(note)] + note
