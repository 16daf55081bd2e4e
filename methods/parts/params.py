"""Parameters that name one of a few ways."""

from __future__ import annotations

from collections.abc import Iterable

from rankrepro.cell import Cell
from rankrepro.errors import UnknownName


def check(cell: Cell, **known: Iterable[str]) -> None:
    """UnknownName if a parameter, or an item of a list of them, is not one of those named."""
    for name, options in known.items():
        value = getattr(cell.params, name)
        for one in value if isinstance(value, list) else [value]:
            if one not in options:
                raise UnknownName(name, str(one), options, cell.name)
