"""Cards: `papers/<key>.yaml`, read, validated and cross-checked at parse time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rankrepro.errors import ConfigError, UnknownName

ROOT = Path(__file__).resolve().parent.parent
PAPERS = ROOT / "papers"
SCHEMAS = ROOT / "workflow" / "schemas"

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # safe_load, ten times as fast


@dataclass(frozen=True)
class Card:
    """One paper. `data` is the validated YAML; the properties are the parts the plan and the judge read."""

    key: str
    file: Path
    data: Mapping[str, Any]
    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.data.get(name)

    @property
    def stages(self) -> Mapping[str, Mapping[str, Any]]:
        return self.data.get("stages", {})

    @property
    def claims(self) -> list[Mapping[str, Any]]:
        return self.data["claims"]

    @property
    def implemented(self) -> bool:
        return bool(self.arms)

    def at(self, scale: str) -> Mapping[str, Any]:
        return self.data.get("scales", {}).get(scale, {})

    def benchmarks_at(self, scale: str) -> list[str]:
        return self.data.get("benchmarks", {}).get(scale, [])

    def seeds(self, arm: str, scale: str) -> list[int]:
        """The seeds an arm runs with at a scale, rising: the order in which results list the values of a unit."""
        return sorted(self.at(scale).get("seeds", {}).get(arm, self.arms[arm].get("seeds", [0])))

    def rows(self, arm: str) -> dict[str, str]:
        """Row name -> the key of its result in what the arm's function returns (`main` for a single output)."""
        variants = self.arms[arm].get("variants", {arm: "main"})
        return dict(variants) if isinstance(variants, Mapping) else {row: row for row in variants}


def load_yaml(path: Path) -> Any:
    """A YAML file, or a ConfigError that names file and line."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None


@cache
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads((SCHEMAS / f"{schema}.schema.json").read_text()))


def validate(data: Any, schema: str, where: str) -> None:
    """Check `data` against `workflow/schemas/<schema>.schema.json`; an unknown key is answered with the nearest."""
    # a misspelt key is also a missing one: name the misspelling
    errors = sorted(
        _validator(schema).iter_errors(data), key=lambda e: (e.validator != "additionalProperties", str(e.message))
    )
    if not errors:
        return
    error = errors[0]
    key = ".".join(str(p) for p in error.absolute_path)
    if error.validator == "additionalProperties" and isinstance(error.schema.get("properties"), dict):
        unknown = sorted(set(error.instance) - set(error.schema["properties"]))
        raise UnknownName("key", unknown[0], error.schema["properties"], where=f"{where}: {key or 'top level'}")
    if error.validator == "enum" and isinstance(error.instance, str):
        raise UnknownName("value", error.instance, map(str, error.validator_value), where=f"{where}: {key}")
    raise ConfigError(f"{where}: {key or 'top level'}: {error.message}")


def load_cards(folder: Path = PAPERS) -> dict[str, Card]:
    """All cards of a folder by key, cross-checked: every name a card uses must exist somewhere."""
    cards: dict[str, Card] = {}
    for file in sorted(folder.glob("*.yaml")):
        data = load_yaml(file)
        validate(data, "card", _short(file))
        if data["key"] != file.stem:
            raise ConfigError(f"{_short(file)}: key '{data['key']}' is not the file's name; rename one of them")
        cards[data["key"]] = Card(data["key"], file, data, data.get("arms", {}))
    for card in cards.values():
        _cross_check(card, cards)
    return cards


def row_index(cards: Mapping[str, Card]) -> dict[str, tuple[str, str]]:
    """Row id `<card>.<row>` -> (card key, arm)."""
    return {f"{c.key}.{row}": (c.key, arm) for c in cards.values() for arm in c.arms for row in c.rows(arm)}


def qualify(card: Card, name: str) -> str:
    """`icr.full` as it is; a bare `full` is the card's own."""
    return name if "." in name else f"{card.key}.{name}"


def stage_of(cards: Mapping[str, Card], card: Card, name: str) -> tuple[Card, str] | None:
    """The stage that `stage` (the card's own) or `card.stage` names, with its card; None if it names none."""
    key, _, stage = name.rpartition(".")
    owner = cards.get(key) if key else card
    return (owner, stage) if owner and stage in owner.stages else None


def stage_inputs(spec: Mapping[str, Any]) -> dict[str, str]:
    """Name of an input -> `corpus`, `benchmark`, a stage or a row. In a list a stage or row goes by its own name."""
    inputs = spec.get("inputs", {})
    return dict(inputs) if isinstance(inputs, Mapping) else {i.rpartition(".")[2]: i for i in inputs}


def _cross_check(card: Card, cards: Mapping[str, Card]) -> None:
    rows = row_index(cards)
    where = _short(card.file)
    seen: set[str] = set()
    for arm in card.arms:
        for row in card.rows(arm):
            if row in seen:
                raise ConfigError(f"{where}: arms.{arm}: row '{row}' appears twice in this card; rename one")
            seen.add(row)

    def check(name: str, key: str) -> None:
        if qualify(card, name) not in rows:
            raise UnknownName("arm", qualify(card, name), rows, where=f"{where}: {key}")

    for arm, spec in card.arms.items():
        if "candidates" in spec:
            check(spec["candidates"]["from"], f"arms.{arm}.candidates.from")
        for name, source in spec.get("inputs", {}).items():
            if not stage_of(cards, card, source):
                check(source, f"arms.{arm}.inputs.{name}")
    for stage, spec in card.stages.items():
        for name, source in stage_inputs(spec).items():
            if source not in ("corpus", "benchmark") and not stage_of(cards, card, source):
                check(source, f"stages.{stage}.inputs.{name}")
    for i, table in enumerate(card.data.get("tables", [])):
        for arm in [*table["arms"], *(table[key] for key in ("baseline", "units_of", "oracle") if key in table)]:
            check(arm, f"tables.{i}.arms")
    for i, reported in enumerate(card.data.get("reported", [])):
        if "ours" in reported:
            check(reported["ours"]["arm"], f"reported.{i}.ours.arm")
    for timing in card.data.get("timings", []):
        check(timing["a"], f"timings.{timing['name']}.a")
        check(timing["b"], f"timings.{timing['name']}.b")
    ids = [c["id"] for c in card.claims]
    for claim in card.claims:
        if ids.count(claim["id"]) > 1:
            raise ConfigError(f"{where}: claims: id '{claim['id']}' appears twice")
        if "timing" in claim:
            names = [t["name"] for t in card.data.get("timings", [])]
            if claim["timing"] not in names:
                raise UnknownName("timing", claim["timing"], names, where=f"{where}: claims.{claim['id']}.timing")
    for scale, settings in card.data.get("scales", {}).items():
        known = {*card.arms, *card.stages}
        for key in ("arms", "params", "seeds", "benchmarks", "seconds"):
            for name in settings.get(key, {}):
                if name not in known and (key, name) not in (("params", "all"), ("seconds", "all")):
                    raise UnknownName("arm", name, known, where=f"{where}: scales.{scale}.{key}")


def where_of(card: Card) -> str:
    """The file of a card, as errors name it."""
    return _short(card.file)


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
