"""The parameters of a method: from a card to keyword-only arguments, some of them dataclasses whose fields are flat.

A card gives them in layers, and the later ones win: the card's for `all`, the card's for a function, the arm's own, the
scale's for `all`, the scale's for a function, the scale's for the arm. What is given for `all` goes to the functions
that have such a parameter; what is given for a function or an arm, they must have.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from rankrepro import signatures
from rankrepro.cards import Card, where_of
from rankrepro.code import Code
from rankrepro.errors import ConfigError, UnknownName

Layer = tuple[str, Mapping[str, Any]]  # the key of a card, and the parameters below it


def of_node(card: Card, name: str, spec: Mapping[str, Any], scale: str, code: Code) -> dict[str, Any]:
    """What an arm's or stage's function is given at a scale. Raises UnknownName or ConfigError that names the key."""
    signature = signatures.of(spec["fn"], code, f"{where_of(card)}: {_kind(card, name)}.{name}.fn")
    params: dict[str, Any] = {}
    for key, layer in layers(card, name, spec, scale):
        for parameter, value in layer.items():
            if parameter in signature.parameters:
                signature.parameters[parameter].check(value, f"{where_of(card)}: {key}.{parameter}")
                params[parameter] = value
            elif not key.endswith(".all"):
                raise UnknownName("parameter", parameter, signature.parameters, where=f"{where_of(card)}: {key}")
    missing = [p.name for p in signature.parameters.values() if p.required and p.name not in params]
    if missing:
        raise ConfigError(
            f"{where_of(card)}: {_kind(card, name)}.{name}: {spec['fn']} needs the parameter '{missing[0]}'; give it "
            f"under `params` of the {_kind(card, name)[:-1]}, or of scale {scale}"
        )
    return params


def check(card: Card, code: Code) -> None:
    """UnknownName for a parameter that a card gives for all, or for a function, and that no arm or stage takes."""
    specs = {**card.stages, **card.arms}
    known = {s["fn"]: signatures.of(s["fn"], code, f"{where_of(card)}: {n}.fn").parameters for n, s in specs.items()}
    anywhere = {parameter: None for parameters in known.values() for parameter in parameters}
    for key, sections in _sections(card):
        for name, params in sections.items():
            accepted: Mapping[str, Any] = anywhere if name == "all" else known.get(name, {})
            names = [*known, "all"] if key == "params" else [*known, *specs, "all"]
            if name not in names:
                raise UnknownName("arm, stage or function", name, names, f"{where_of(card)}: {key}")
            for parameter in params if name not in specs else ():
                if parameter not in accepted:
                    raise UnknownName("parameter", parameter, accepted, where=f"{where_of(card)}: {key}.{name}")
    for name, spec in specs.items():
        for scale in {"desk", *card.data.get("scales", {})}:
            for key, layer in layers(card, name, spec, scale):
                for parameter in layer:
                    if parameter not in known[spec["fn"]] and not key.endswith(".all"):
                        raise UnknownName("parameter", parameter, known[spec["fn"]], where=f"{where_of(card)}: {key}")


def capped(params: Mapping[str, Any], signature: signatures.Signature) -> dict[str, Any]:
    """Numbers and lists cut to what their parameters declare for a rehearsal."""
    caps = {name: p.rehearsal for name, p in signature.parameters.items()}
    return {name: value if caps[name] is None else _least(value, caps[name]) for name, value in params.items()}


def _least(value: Any, cap: Any) -> Any:
    return value[:cap] if isinstance(value, list) else value if value is None else min(value, cap)


def _kind(card: Card, name: str) -> str:
    return "arms" if name in card.arms else "stages"


def _sections(card: Card) -> Iterator[tuple[str, Mapping[str, Mapping[str, Any]]]]:
    yield "params", card.data.get("params", {})
    for scale, settings in card.data.get("scales", {}).items():
        yield f"scales.{scale}.params", settings.get("params", {})


def layers(card: Card, name: str, spec: Mapping[str, Any], scale: str) -> Iterator[Layer]:
    """Key and parameters of each layer that an arm or stage has at a scale, the weakest first."""
    of_card, of_scale = card.data.get("params", {}), card.at(scale).get("params", {})
    for key in ("all", spec["fn"]):
        yield f"params.{key}", of_card.get(key, {})
    yield f"{_kind(card, name)}.{name}.params", spec.get("params", {})
    for key in ("all", spec["fn"], name):
        yield f"scales.{scale}.params.{key}", of_scale.get(key, {})


# --- from parameters to arguments ------------------------------------------------------------------------------------


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
