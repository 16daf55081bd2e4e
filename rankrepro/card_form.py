"""From the form in which a card is written to the one that everything else reads: lists unrolled, defaults filled in.

    each:
      losses:                                    # a named list; the values of an item are parameters
        cl: {loss: contrastive, label: Contrastive}
        mw: {loss: mw, label: MW}
    arms:
      "{}": {each: losses, fn: mw_loss.retrieve, label: "{label}, trained", inputs: {weights: "train_{}"}}

A template (an arm, stage, claim, table or timing with `each`) becomes one copy per item. In its keys and strings `{}`
is the item's name and `{label}` the item's value of that name; a string that is only `{label}` becomes the value
itself. Values that no template of the list names in this way are parameters: they are merged into `params` of arms and
stages, below what the template says itself (`own: false`: not at all).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

from rankrepro.errors import ConfigError, UnknownName

SECTIONS = ("stages", "arms", "tables", "timings", "claims")
FIELD = re.compile(r"\{(\w*)\}")

Item = Mapping[str, Any]


def expanded(card: Any, where: str) -> Any:
    """The card as everything but `load_cards` sees it; `card` stays as it is. A card without these forms is unchanged.

    Only what concerns the forms is checked: ConfigError or UnknownName naming `where` (the file), the key and the
    nearest name. Whatever else is wrong is left to the schema.
    """
    if not isinstance(card, dict):
        return card
    data = copy.deepcopy(card)
    lists = _lists(data.pop("each", {}), where)
    defaults = _mapping(data.pop("defaults", {}), f"{where}: defaults")
    for section, values in defaults.items():
        if section not in SECTIONS:
            raise UnknownName("key", str(section), SECTIONS, where=f"{where}: defaults")
        _mapping(values, f"{where}: defaults.{section}")
    words = _words(data, lists)
    for section in SECTIONS:
        if section in data:
            data[section] = _section(data[section], section, lists, words, defaults.get(section, {}), where)
    if isinstance(data.get("scales"), dict):
        _every_arm(data)
    if isinstance(data.get("reported"), list):
        tables = ((f"{where}: reported.{i}", table) for i, table in enumerate(data["reported"]))
        data["reported"] = [cell for at, table in tables for cell in _cells(table, at)]
    return data


def _lists(each: Any, where: str) -> dict[str, dict[str, Item]]:
    """Name of a list -> name of an item -> its values (none where the items are names alone)."""
    return {name: _items(items, f"{where}: each.{name}") for name, items in _mapping(each, f"{where}: each").items()}


def _items(items: Any, where: str) -> dict[str, Item]:
    if isinstance(items, list):
        return {str(item): {} for item in items}
    return {str(name): _mapping(values or {}, f"{where}.{name}") for name, values in _mapping(items, where).items()}


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: needs a mapping, not {value!r}")
    return value


# --- each and defaults -----------------------------------------------------------------------------------------------


def _section(
    section: Any,
    kind: str,
    lists: Mapping[str, Mapping[str, Item]],
    words: Mapping[str, set[str]],
    defaults: Mapping[str, Any],
    where: str,
) -> Any:
    """A mapping of arms or stages, or a list of claims, tables or timings, with its templates unrolled."""
    if isinstance(section, dict):
        result: dict[str, Any] = {}
        for key, spec in section.items():
            for name, one in _unrolled(key, spec, kind, lists, words, f"{where}: {kind}.{key}"):
                if name in result:
                    raise ConfigError(f"{where}: {kind}.{key}: '{name}' appears twice; a template's key needs a {{}}")
                result[name] = _with_defaults(one, defaults)
        return result
    if isinstance(section, list):
        specs = (
            one
            for i, spec in enumerate(section)
            for _, one in _unrolled("", spec, kind, lists, words, f"{where}: {kind}.{_named(spec, i)}")
        )
        # what is not compared (a timing, an identity, a sentence not tested yet) takes no default measure
        tested = kind != "claims"
        return [_with_defaults(m, defaults if tested or _compares(m) else {}) for m in specs]
    return section


def _named(spec: Any, position: int) -> Any:
    return spec.get("id", spec.get("name", position)) if isinstance(spec, dict) else position


def _compares(claim: Any) -> bool:
    return isinstance(claim, dict) and bool({"expr", "levels"} & claim.keys())


def _unrolled(
    key: str, spec: Any, kind: str, lists: Mapping[str, Mapping[str, Item]], words: Mapping[str, set[str]], where: str
) -> Iterator[tuple[str, Any]]:
    if not isinstance(spec, dict) or "each" not in spec:
        yield key, spec
        return
    named = spec["each"]
    if isinstance(named, str) and named not in lists:
        raise UnknownName("list", named, lists, where=f"{where}.each")
    items = lists[named] if isinstance(named, str) else _items(named, f"{where}.each")
    template = {k: v for k, v in spec.items() if k not in ("each", "own")}
    for name, item in items.items():
        one = _filled(template, name, item, where)
        filled_in = words.get(named, set()) if isinstance(named, str) else _fields(template)
        params = {k: v for k, v in item.items() if k not in filled_in}
        if params and kind in ("arms", "stages") and spec.get("own", True):
            one["params"] = {**params, **_mapping(one.get("params", {}), f"{where}.params")}
        yield str(_filled(key, name, item, where)), one


def _with_defaults(spec: Any, defaults: Mapping[str, Any]) -> Any:
    """The spec with defaults for what it does not say; `null` in the spec removes a default."""
    return {k: v for k, v in {**defaults, **spec}.items() if v is not None} if isinstance(spec, dict) else spec


def _words(data: Mapping[str, Any], lists: Mapping[str, Any]) -> dict[str, set[str]]:
    """List -> the values of its items that a template names as `{value}`: words of the card, no parameters."""
    words: dict[str, set[str]] = {name: set() for name in lists}
    for section in SECTIONS:
        specs = data.get(section, ())
        for spec in specs.values() if isinstance(specs, dict) else specs if isinstance(specs, list) else ():
            if isinstance(spec, dict) and isinstance(spec.get("each"), str) and spec["each"] in words:
                words[spec["each"]] |= _fields(spec)
    return words


def _fields(value: Any) -> set[str]:
    if isinstance(value, str):
        return set(FIELD.findall(value)) - {""}
    parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {name for part in parts for name in _fields(part)}


def _filled(value: Any, name: str, item: Item, where: str) -> Any:
    if isinstance(value, dict):
        return {_filled(k, name, item, where): _filled(v, name, item, where) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(v, name, item, where) for v in value]
    if not isinstance(value, str):
        return copy.deepcopy(value)

    def known(field: str) -> Any:
        if field and field not in item:
            raise UnknownName("value", field, item, where=f"{where}: item '{name}'")
        return item[field] if field else name

    field_alone = FIELD.fullmatch(value)
    return copy.deepcopy(known(field_alone[1])) if field_alone else FIELD.sub(lambda m: str(known(m[1])), value)


def _every_arm(data: Mapping[str, Any]) -> None:
    """`all` under a scale's `seeds` or `benchmarks`: every arm of the card that is not named beside it."""
    for settings in data["scales"].values():
        for key in ("seeds", "benchmarks"):
            if isinstance(settings, dict) and isinstance(settings.get(key), dict) and "all" in settings[key]:
                named = {arm: value for arm, value in settings[key].items() if arm != "all"}
                settings[key] = {**dict.fromkeys(data.get("arms", {}), settings[key]["all"]), **named}


# --- reported numbers ------------------------------------------------------------------------------------------------


def _cells(table: Any, where: str) -> list[Any]:
    """One entry per number of a table that is given as rows and columns; null is a number the paper does not have.

    `ours` names the row of our tables beside it: `rows` (row -> arm), `columns` (column -> measure, and `data`: the
    benchmark that the number was measured on), and keys that hold for all columns. `{name}` in an arm is the column's
    value of that name.
    """
    if not isinstance(table, dict) or "rows" not in table:
        return [table]
    columns, ours = table.get("columns"), _mapping(table.get("ours", {}), f"{where}.ours")
    if not isinstance(columns, list) or not all(isinstance(column, str) for column in columns):
        raise ConfigError(f"{where}.columns: needs a list of names, not {columns!r}")
    for part, known in (("rows", table["rows"]), ("columns", columns)):
        for name in _mapping(ours.get(part, {}), f"{where}.ours.{part}"):
            if name not in known:
                raise UnknownName(part[:-1], name, known, where=f"{where}.ours.{part}")
    shared = {k: v for k, v in table.items() if k not in ("rows", "columns", "ours")}
    cells = []
    for row, values in _mapping(table["rows"], f"{where}.rows").items():
        if not isinstance(values, list) or len(values) != len(columns):
            raise ConfigError(f"{where}.rows.{row}: needs {len(columns)} values, one for each of {', '.join(columns)}")
        for column, value in zip(columns, values, strict=True):
            beside = _beside(ours, row, column, where)
            if value is not None:
                cells.append({**shared, "row": row, "column": column, "value": value, **beside})
    return cells


def _beside(ours: Mapping[str, Any], row: str, column: str, where: str) -> dict[str, Any]:
    if row not in ours.get("rows", {}) or column not in ours.get("columns", {}):
        return {}
    of_all = {k: v for k, v in ours.items() if k not in ("rows", "columns")}
    values = {**of_all, **_mapping(ours["columns"][column], f"{where}.ours.columns.{column}")}
    arm = _filled(ours["rows"][row], column, values, f"{where}.ours.rows.{row}")
    words = _fields(list(ours["rows"].values()))
    data = {"data": values.pop("data")} if "data" in values else {}
    return data | {"ours": {"arm": arm, **{k: v for k, v in values.items() if k not in words}}}
