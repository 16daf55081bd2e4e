"""The parameters of a method: keyword-only arguments, some of them dataclasses whose fields a card gives flat."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any


def bind(function: Callable[..., Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of `function` from the flat parameters of a card.

    A parameter whose annotation is a dataclass is built from those of `params` that are its fields; lists become tuples
    where the annotation is one. The plan has checked that every name is known (`rankrepro.signatures`).
    """
    return {
        name: _built(kind, params) if dataclasses.is_dataclass(kind) else _as(kind, params[name])
        for name, kind in _keywords(function).items()
        if dataclasses.is_dataclass(kind) or name in params
    }


def _built(kind: Any, params: Mapping[str, Any]) -> Any:
    kinds = typing.get_type_hints(kind)
    fields = [f.name for f in dataclasses.fields(kind) if f.init and f.name in params]
    return kind(**{name: _as(kinds[name], params[name]) for name in fields})


def _as(kind: Any, value: Any) -> Any:
    return tuple(value) if typing.get_origin(kind) is tuple and isinstance(value, list) else value


@cache
def _keywords(function: Callable[..., Any]) -> dict[str, Any]:
    """Keyword-only parameter -> its type, without what `Annotated` adds."""
    kinds = typing.get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    return {p.name: kinds.get(p.name, Any) for p in parameters if p.kind is p.KEYWORD_ONLY}
