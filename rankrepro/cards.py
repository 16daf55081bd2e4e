"""Cards: `papers/<family>/<key>.yaml`, read, brought into full form, validated and cross-checked at parse time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rankrepro.card_form import expanded
from rankrepro.errors import ConfigError, UnknownName
from rankrepro.files import LOADER

ROOT = Path(__file__).resolve().parent.parent
PAPERS = ROOT / "papers"
SCHEMAS = ROOT / "workflow" / "schemas"
CONFIG = ROOT / "config"
DEFAULT_SPLIT = ["train", "test"]  # everything but validation
SECONDS = "seconds.yaml"  # beside the families' folders: measured, written by `rankrepro seconds`


@dataclass(frozen=True)
class Card:
    """One paper. `data` is the validated card in full form; the properties are what the plan and the judge read."""

    key: str
    file: Path
    data: Mapping[str, Any]
    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # scale -> arm or stage -> per unit

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

    def split(self, benchmark: str) -> list[str]:
        """The splits of a benchmark that arms answer: the card's, or those it gives this benchmark."""
        given = self.data.get("split", DEFAULT_SPLIT)
        return given.get(benchmark, given.get("default", DEFAULT_SPLIT)) if isinstance(given, Mapping) else given

    def seeds(self, arm: str, scale: str) -> list[int]:
        """The seeds an arm runs with at a scale, ascending: the order in which results list the values of a unit."""
        return sorted(self.at(scale).get("seeds", {}).get(arm, self.arms[arm].get("seeds", [0])))

    def rows(self, arm: str) -> dict[str, str]:
        """Row name -> the key of its result in what the arm's function returns (`main` for a single output)."""
        variants = self.arms[arm].get("variants", {arm: "main"})
        return dict(variants) if isinstance(variants, Mapping) else {row: row for row in variants}

    def labels(self) -> dict[str, str]:
        """Row -> what a reader sees: the `label` of its arm, the row's name where there is none."""
        labels = {}
        for arm, spec in self.arms.items():
            of_arm = spec.get("label", {})
            for row in self.rows(arm):
                labels[row] = of_arm.get(row, row) if isinstance(of_arm, Mapping) else of_arm
        return labels


def load_yaml(path: Path) -> Any:
    """A YAML file, or a ConfigError that names file and line; a key that is repeated in a mapping is an error."""
    try:
        loader = LOADER(path.read_text(encoding="utf-8"))
        try:
            root = loader.get_single_node()
            _refuse_twice(root, path)
            return loader.construct_document(root) if root else None
        finally:
            loader.dispose()
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None


def _refuse_twice(root: Any, path: Path) -> None:
    """YAML would silently keep the last value of a repeated key and drop the others."""
    todo, seen = [root], set()
    while todo:
        node = todo.pop()
        if id(node) in seen:  # an anchor's
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo += node.value
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if key.value in lines and isinstance(key, yaml.ScalarNode) and key.value != "<<":
                    raise ConfigError(f"{path}: '{key.value}' in line {line} stands in line {lines[key.value]} already")
                lines[str(key.value)] = line
                todo.append(value)


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
    """All cards of a folder by key, cross-checked: every name a card uses must exist somewhere.

    A card lies in the folder of its family: `folder/<family>/<key>.yaml`.
    """
    cards: dict[str, Card] = {}
    for stray in sorted(f for f in folder.glob("*.yaml") if f.name != SECONDS):
        raise ConfigError(f"{_short(stray)}: a card lies in the folder of its family: papers/<family>/{stray.name}")
    measured = _measured(folder / SECONDS)
    for file in sorted(folder.glob("*/*.yaml"), key=lambda f: f.stem):
        data = expanded(load_yaml(file), _short(file))
        validate(data, "card", _short(file))
        key = data["key"]
        if key != file.stem:
            raise ConfigError(f"{_short(file)}: key '{key}' is not the file's name; rename one of them")
        if key in cards:
            raise ConfigError(f"{_short(file)}: {where_of(cards[key])} has this key already; rename one")
        if data["family"] != file.parent.name:
            raise ConfigError(
                f"{_short(file)}: family '{data['family']}' is not the folder's name; move the file to "
                f"papers/{data['family']}/ or correct the family"
            )
        seconds = {scale: of_card[key] for scale, of_card in measured.items() if key in of_card}
        cards[key] = Card(key, file, data, data.get("arms", {}), seconds)
    for card in cards.values():
        _cross_check(card, cards)
    return cards


def _measured(file: Path) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    """Scale -> card -> arm or stage -> seconds per unit on one core."""
    data = load_yaml(file) if file.exists() else {}
    validate(data, "seconds", _short(file))
    return data


def seconds_per_unit(cards: Mapping[str, Card], card: Card, name: str, fn: str, scale: str, default: float) -> float:
    """Predicted seconds per unit, on one core, of an arm or stage of `card` whose function is `fn`.

    What was measured at `scale`, else at another scale; else what the same function takes, as a mean over the arms or
    stages that have it: in this card, in another, at another scale; else `default`.
    """
    scales = [scale, *sorted({s for c in cards.values() for s in c.seconds} - {scale})]
    for s in scales:
        if name in card.seconds.get(s, {}):
            return card.seconds[s][name]
    for s in scales:
        for group in ([card], list(cards.values())):
            same = [c.seconds[s][n] for c in group for n in _named_in(c, fn) if n in c.seconds.get(s, {})]
            if same:
                return sum(same) / len(same)
    return default


def _named_in(card: Card, fn: str) -> list[str]:
    """The arms and stages of a card that a function computes."""
    return [name for name, spec in {**card.stages, **card.arms}.items() if spec["fn"] == fn]


def file_of(key: str, folder: Path = PAPERS) -> str:
    """The card's file as messages name it, found without reading a card."""
    return _short(next(iter(folder.glob(f"*/{key}.yaml")), folder / f"{key}.yaml"))


def row_index(cards: Mapping[str, Card]) -> dict[str, tuple[str, str]]:
    """Row id `<card>.<row>` -> (card key, arm)."""
    return {f"{c.key}.{row}": (c.key, arm) for c in cards.values() for arm in c.arms for row in c.rows(arm)}


def qualify(card: Card, name: str) -> str:
    """`icr.full` as it is; a bare `full` is the card's own."""
    return name if "." in name else f"{card.key}.{name}"


def stage_of(cards: Mapping[str, Card], card: Card, name: str) -> tuple[Card, str, str] | None:
    """The card, the stage and the variant that `stage` (the card's own) or `card.stage` names; None if it names none.

    `stage.variant` is one of several things that a stage returned; without it the variant is "".
    """
    first, *rest = name.split(".")
    owner, path = (card, [first, *rest]) if first in card.stages else (cards.get(first), rest)
    if owner is None or not path or path[0] not in owner.stages or len(path) > 2:
        return None
    return owner, path[0], path[1] if len(path) > 1 else ""


def stage_inputs(spec: Mapping[str, Any]) -> dict[str, str]:
    """Name of an input -> `corpus`, `benchmark`, a stage or a row. In a list a stage or row goes by its own name."""
    inputs = spec.get("inputs", {})
    return dict(inputs) if isinstance(inputs, Mapping) else {i.rpartition(".")[2]: i for i in inputs}


# --- every name a card uses must exist somewhere ---------------------------------------------------------------------


@cache
def scale_names() -> tuple[str, ...]:
    """The scales a card can name: those of config/scales that are not `like` another."""
    files = sorted((CONFIG / "scales").glob("*.yaml"))
    return tuple(f.stem for f in files if "like" not in (load_yaml(f) or {}))


@cache
def _roles() -> frozenset[str]:
    """The roles of models that scales fill."""
    return frozenset(r for s in scale_names() for r in load_yaml(CONFIG / "scales" / f"{s}.yaml").get("models", {}))


@cache
def _benchmarks() -> tuple[str, ...]:
    """Ids (and patterns of ids) of the benchmarks in config/benchmarks."""
    return tuple(
        key for f in sorted((CONFIG / "benchmarks").glob("*.yaml")) for key in load_yaml(f) or {} if "/" in str(key)
    )


def _known_benchmark(benchmark: str) -> bool:
    return any(fnmatchcase(benchmark, pattern) for pattern in _benchmarks())


def _cross_check(card: Card, cards: Mapping[str, Card]) -> None:
    where = _short(card.file)
    _check_rows(card, where)
    _check_sources(card, cards, where)
    _check_scales(card, where)
    ids = [c["id"] for c in card.claims]
    for claim in card.claims:
        if ids.count(claim["id"]) > 1:
            raise ConfigError(f"{where}: claims: id '{claim['id']}' appears twice")
        if "timing" in claim:
            names = [t["name"] for t in card.data.get("timings", [])]
            _check("timing", claim["timing"], names, f"{where}: claims.{claim['id']}.timing")


def _check(kind: str, name: str, known: Iterable[str], where: str) -> None:
    if name not in known:
        raise UnknownName(kind, name, known, where=where)


def _check_rows(card: Card, where: str) -> None:
    """No row twice; labels are those of rows."""
    seen: set[str] = set()
    for arm, spec in card.arms.items():
        rows = card.rows(arm)
        for row in rows:
            if row in seen:
                raise ConfigError(f"{where}: arms.{arm}: row '{row}' appears twice in this card; rename one")
            seen.add(row)
        label = spec.get("label", {})
        if isinstance(label, str) and len(rows) > 1:
            raise ConfigError(f"{where}: arms.{arm}.label: the arm has {len(rows)} rows; give a mapping row -> label")
        for row in () if isinstance(label, str) else label:
            _check("row", row, rows, f"{where}: arms.{arm}.label")


def _check_sources(card: Card, cards: Mapping[str, Card], where: str) -> None:
    """Arms, stages and rows that are read, shown or timed."""
    rows = row_index(cards)
    stages = [f"{c.key}.{s}" for c in cards.values() for s in c.stages]

    def check(name: str, key: str, known: Iterable[str] = rows) -> None:
        _check("arm or stage" if known is not rows else "arm", qualify(card, name), known, f"{where}: {key}")

    for arm, spec in card.arms.items():
        if "candidates" in spec:
            check(spec["candidates"]["from"], f"arms.{arm}.candidates.from")
        for name, source in spec.get("inputs", {}).items():
            if not stage_of(cards, card, source):
                check(source, f"arms.{arm}.inputs.{name}", [*rows, *stages])
    for stage, spec in card.stages.items():
        for name, source in stage_inputs(spec).items():
            if source not in ("corpus", "benchmark") and not stage_of(cards, card, source):
                check(source, f"stages.{stage}.inputs.{name}", [*rows, *stages])
    for i, table in enumerate(card.data.get("tables", [])):
        for arm in [*table["arms"], *(table[key] for key in ("baseline", "units_of", "oracle") if key in table)]:
            check(arm, f"tables.{i}.arms")
    for i, reported in enumerate(card.data.get("reported", [])):
        if "ours" in reported:
            check(reported["ours"]["arm"], f"reported.{i}.ours.arm")
    for timing in card.data.get("timings", []):
        for side in ("a", "b"):
            check(timing[side], f"timings.{timing['name']}.{side}")


def _check_scales(card: Card, where: str) -> None:
    """Scales, and what differs by scale: benchmarks, models, sample groups, arms, stages and functions."""
    nodes = {**card.stages, **card.arms}
    used = {role for spec in nodes.values() for role in spec.get("models", {}).values()}
    own_roles = {role for roles in card.data.get("models", {}).values() for role in roles}
    for role in own_roles:
        _check("model role", role, used, f"{where}: models")
    for key, by_scale in _by_scale(card):
        for scale, ids in by_scale.items():
            _check("scale", scale, scale_names(), f"{where}: {key}")
            for benchmark in ids if key.endswith("benchmark") or key == "benchmarks" else ():
                _check_benchmark(benchmark, f"{where}: {key}.{scale}")
    split = card.data.get("split")
    for benchmark in split if isinstance(split, Mapping) else ():
        if benchmark != "default":
            _check_benchmark(benchmark, f"{where}: split")
    for timing in card.data.get("timings", []):
        if "benchmark" in timing:
            of_card = [b for scale in scale_names() for b in card.benchmarks_at(scale)]
            _check("benchmark", timing["benchmark"], of_card, f"{where}: timings.{timing['name']}.benchmark")
    for i, reported in enumerate(card.data.get("reported", [])):
        if "ours" in reported and not _known_benchmark(reported["data"]):
            raise ConfigError(
                f"{where}: reported.{i}: a row of ours stands beside a number on the same data alone, and "
                f"'{reported['data']}' is no benchmark here; name the benchmark under `data`, or leave `ours` out"
            )
    for name, spec in nodes.items():
        for role in spec.get("models", {}).values():
            _check("model role", role, _roles() | own_roles, f"{where}: {name}.models")
    functions = {spec["fn"] for spec in nodes.values()}
    for name in card.data.get("params", {}):
        _check("function", name, {*functions, "all"}, f"{where}: params")
    for scale, settings in card.data.get("scales", {}).items():
        at = f"{where}: scales.{scale}"
        for name in settings.get("params", {}):
            _check("arm, stage or function", name, {*nodes, *functions, "all"}, f"{at}.params")
        for name in settings.get("gpus", {}):
            _check("arm, stage or function", name, {*nodes, *functions}, f"{at}.gpus")
        for key in ("arms", "seeds", "benchmarks"):
            for name in settings.get(key, {}):
                _check("arm", name, card.arms, f"{at}.{key}")
        for name, ids in settings.get("benchmarks", {}).items():
            for benchmark in ids:
                _check("benchmark", benchmark, card.benchmarks_at(scale), f"{at}.benchmarks.{name}")
        if "sample" in settings:
            _check_sample(card, settings["sample"], card.benchmarks_at(scale), at)


def _by_scale(card: Card) -> Iterator[tuple[str, Mapping[str, Iterable[str]]]]:
    """Every part of a card that is told by scale: its key, and scale -> ids of benchmarks where it holds such."""
    for key in ("benchmarks", "models", "scales"):
        yield key, card.data.get(key, {})
    for stage, spec in card.stages.items():
        yield f"stages.{stage}.benchmark", {scale: [b] for scale, b in spec.get("benchmark", {}).items()}
    for timing in card.data.get("timings", []):
        if isinstance(timing["n"], Mapping):
            yield f"timings.{timing['name']}.n", dict.fromkeys(timing["n"], ())


def _check_benchmark(benchmark: str, where: str) -> None:
    if not _known_benchmark(benchmark):
        raise UnknownName("benchmark", benchmark, _benchmarks(), where=where)


def _check_sample(card: Card, groups: Mapping[str, Any], benchmarks: list[str], where: str) -> None:
    """A group that an arm names but no scale sizes would mean all queries; one that no arm names has no effect."""
    named = {spec.get("sample", "all"): arm for arm, spec in card.arms.items()}
    for group, arm in named.items():
        if group != "all":
            _check("sample group", group, groups, f"{where}.sample has none for arms.{arm}.sample")
    for group, size in groups.items():
        _check("sample group", group, {*named, "all"}, f"{where}.sample")
        for benchmark in size if isinstance(size, Mapping) else ():
            _check("benchmark", benchmark, [*benchmarks, "default"], f"{where}.sample.{group}")


def where_of(card: Card) -> str:
    """The file of a card, as errors name it."""
    return _short(card.file)


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
