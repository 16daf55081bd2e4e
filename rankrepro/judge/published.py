"""A published paper as the judge reads it: what is committed is enough to judge it again, without running a cell."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rankrepro import claims, sizes
from rankrepro.cards import DEFAULT_SPLIT, Card, row_index
from rankrepro.errors import ConfigError
from rankrepro.judge import measures, pooled
from rankrepro.judge.estimates import NotRun
from rankrepro.judge.results import clean, judged
from rankrepro.judge.tables import arms_of, tables_of
from rankrepro.judge.values import Values
from rankrepro.plan import Node, Plan, load_scale


@dataclass(frozen=True)
class Files:
    """The judged files of a folder of reports."""

    results: Mapping[str, Any]
    units: Mapping[str, Any]
    examples: Mapping[str, Any]


def read(folder: Path) -> Files:
    """The files of `reports/<scale>/<paper>`. ConfigError names the one that cannot be read."""
    return Files(*(read_json(folder / name) for name in ("results.json", "units.json.gz", "examples.json")))


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file, which may be compressed; ConfigError where it cannot be read."""
    try:
        raw = file.read_bytes()
        return json.loads(gzip.decompress(raw) if file.suffix == ".gz" else raw)
    except (OSError, EOFError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read ({error}); run the paper again") from None


SHOWN = 160  # characters of a value in a message


class Published(Values):
    """The values of published files in the place of a store's.

    built   results/<scale>, for its benchmarks: files of version 2 had no clusters, tags and splits
    """

    def __init__(self, card: Card, cards: Mapping[str, Card], files: Files, built: Path | None = None) -> None:
        super().__init__(_plan(card, cards, files.results), built or Path())
        self.files, self.page = files, files.results["papers"][card.key]
        self.store = _Costs(files.units, self.page["cells"], self.plan.timings.get(card.key, {}))  # type: ignore[assignment]
        self._labels = files.units.get("benchmarks")
        for row in files.units["rows"]:
            self.known[row["arm"], row["benchmark"], row["measure"]] = row["values"]
        for row in files.units.get("material", ()):
            self.known[row["arm"], row["benchmark"], row["measure"]] = pooled.unpacked(row["values"])
        hidden = (row for row in _hidden(self.page["tables"]) if not self.applies(*row.values()))
        self.left_out = files.units["left_out"] if "left_out" in files.units else list(hidden)

    @property
    def summaries(self) -> set[tuple[str, str, str]]:
        """Rows of tables whose units are not published."""
        return {_row_key(row) for row in self.left_out}

    @property
    def metered(self) -> bool:
        """Whether costs of units are published."""
        return "costs" in self.files.units

    @property
    def labelled(self) -> bool:
        """Whether the files themselves say which cluster, split and tags each unit has."""
        return self._labels is not None

    def truth(self, benchmark: str) -> Any:
        """Clusters alone: what is published holds no judgment."""
        if self._labels is None:
            return super().truth(benchmark)
        return SimpleNamespace(clusters=self._labels[benchmark]["clusters"])

    def truth_identity(self, benchmark: str) -> dict[str, str]:
        if self._labels is None:
            return super().truth_identity(benchmark)
        try:
            return self.files.results["provenance"]["truth"][benchmark]
        except KeyError:
            raise ConfigError(
                f"what is published was not run on {benchmark}, which the card names now: run the paper again"
            ) from None

    def labels(self, benchmark: str, units: Iterable[str]) -> dict[str, Any]:
        return super().labels(benchmark, units) if self._labels is None else self._labels[benchmark]

    def tagged(self, benchmark: str, tag: str) -> set[str]:
        if self._labels is None:
            return super().tagged(benchmark, tag)
        told = self._labels[benchmark]
        return {*told["splits"].get(tag, ()), *told["tags"].get(tag, ())}

    def per_unit(self, row: str, benchmark: str, measure: str) -> dict[str, list[Any]]:
        if not self.ran(row, benchmark):
            raise KeyError(row)
        key = (row, benchmark, measure)
        if key not in self.known:
            asked = measures.get(measure)
            for other, values in self.known.items():  # measures of one material: the area and rates of a ROC curve
                if not asked.shown and other[:2] == key[:2] and measures.get(other[2]).score is asked.score:
                    return values
            raise NotRun(f"{measure} of {row} on {benchmark}, whose units are not published")
        return self.known[key]

    def units(self, row: str, benchmark: str) -> set[str]:
        """Units of which any measure of the row is known."""
        return {u for key, values in self.known.items() if key[:2] == (row, benchmark) for u in values}

    def applies(self, row: str, benchmark: str, measure: str) -> bool:
        try:
            self.per_unit(row, benchmark, measure)
        except NotRun:
            return False
        return True


def _hidden(tables: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Rows of measures whose material is not published unless a claim reads it."""
    rows = (row for table in tables for row in table["rows"] if not measures.get(row["measure"]).shown)
    keys = {(row["arm"], row["benchmark"], row["measure"]): None for row in rows}
    return [dict(zip(("arm", "benchmark", "measure"), key, strict=True)) for key in keys]


class _Costs:
    """Costs and seconds of published files by digest, as a store gives them."""

    def __init__(
        self, units: Mapping[str, Any], cells: Iterable[Mapping[str, Any]], timings: Mapping[str, str]
    ) -> None:
        self._units: Mapping[str, Any] = units.get("costs", {})
        self._peaks = {c["digest"]: c["peak_bytes"] for c in cells}
        self._timings = {digest: units["timings"][name] for name, digest in timings.items() if name in units["timings"]}

    def cost(self, digest: str) -> dict[str, Any]:
        if digest in self._timings:
            return {"work": self._timings[digest].get("work")}
        told = self._units.get(digest, {"amounts": [], "units": {}})
        amounts = {
            unit: {name: v for name, v in zip(told["amounts"], values, strict=True) if v is not None}
            for unit, values in told["units"].items()
        }
        return {"units": amounts, "peak_bytes": self._peaks[digest]}

    def output(self, digest: str) -> Any:
        return {part: told for part, told in self._timings[digest].items() if part != "work"}


def _plan(card: Card, cards: Mapping[str, Card], results: Mapping[str, Any]) -> Plan:
    """What was run, as the published cells tell it; how rows and benchmarks are asked for is the card's."""
    scale = load_scale(results["scale"])
    plan = Plan(scale, [card.key], benchmarks={card.key: card.benchmarks_at(scale.get("like", scale["scale"]))})
    owners = row_index(cards)
    plan.sizes[card.key] = list(results["papers"][card.key].get("sizes", ()))[:-1]
    for cell in sorted(results["papers"][card.key]["cells"], key=lambda c: c["seed"]):
        digest, benchmark = cell["digest"], cell["benchmark"]
        if cell["kind"] == "timing":
            plan.timings.setdefault(card.key, {})[cell["name"].partition(".")[2]] = digest
        split = DEFAULT_SPLIT
        for row in cell["rows"]:
            plan.rows.setdefault(row, {}).setdefault(benchmark, []).append((cell["seed"], digest, ""))
            if sizes.bare(row) in owners:
                split = cards[owners[sizes.bare(row)][0]].split(benchmark)
        spec = {"benchmark": {"id": benchmark}, "queries": {"split": split}}
        plan.nodes[digest] = Node(cell["name"], digest, spec, 0.0, 0)
    return plan


# --- judged again ----------------------------------------------------------------------------------------------------


def judged_again(card: Card, values: Published, cards: Mapping[str, Card]) -> dict[str, Any]:
    """Tables, claims, timings and reported numbers from published values by today's judge and card.

    What no unit is published of stands as it was: rows whose material was left out, and the costs of older files.
    ConfigError where a claim reads material that is not there.
    """
    _refuse(card, values)
    page = clean(judged(card, values, cards))
    then = {(t["name"], *_row_key(row)): row for t in values.page["tables"] for row in t["rows"]}
    for (declared, size), table in zip(tables_of(card, values), page["tables"], strict=True):
        rows = {_row_key(row): row for row in table["rows"]}
        missing = {key[1:]: row for key, row in then.items() if key[0] == table["name"] and key[1:] in values.summaries}
        order = (arms_of(values, card, declared, size), values.plan.benchmarks[card.key], declared["measures"])
        table["rows"] = sorted({**missing, **rows}.values(), key=_position(order))
        for row in rows.values():
            old = then.get((table["name"], *_row_key(row)))
            if old and not values.metered:
                row["cost"] = old["cost"]
    timings = {t["name"]: t for t in values.page["timings"]}
    for timing in page["timings"]:
        if values.store.cost(values.plan.timings[card.key][timing["name"]])["work"] is None:
            timing |= {side: timings[timing["name"]][side] for side in ("cost_a", "cost_b")}
    return page


def _refuse(card: Card, values: Published) -> None:
    for claim in claims.of(card):
        for term in claim.terms:
            for benchmark in claim.of(values.plan.benchmarks[card.key]):
                hidden = not measures.get(term.measure).shown and values.ran(term.arm, benchmark)
                if hidden and not values.applies(term.arm, benchmark, term.measure):
                    raise ConfigError(
                        f"claim '{claim.id}' of {card.key} reads {term.measure} of {term.arm} on {benchmark}, whose "
                        f"material is not published: `make reproduce SCALE={values.plan.scale['scale']} "
                        f"PAPERS={card.key}` computes it"
                    )


def _row_name(row: Mapping[str, Any]) -> str:
    return "{} on {} by {}".format(*_row_key(row))


def _row_key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["arm"], row["benchmark"], row["measure"]


def _position(order: Sequence[Sequence[str]]) -> Callable[[Mapping[str, Any]], list[int]]:
    """Where a row stands: by arm, benchmark and measure, each in the order of its list."""
    return lambda row: [names.index(name) for names, name in zip(order, _row_key(row), strict=True)]


# --- differences -----------------------------------------------------------------------------------------------------

COSTS = ("cost", "cost_a", "cost_b")  # published to four digits a unit


@dataclass(frozen=True)
class Difference:
    """Something published that does not follow from what is published with it."""

    what: str
    published: Any
    computed: Any

    def __str__(self) -> str:
        return f"{self.what}: published {_said(self.published)}, computed {_said(self.computed)}"


def differences(told: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Difference]:
    """What of a published page is not as computed: claims first, in the order of the page."""
    yield from _listed("claim", told["claims"], found["claims"], lambda c: c["id"])
    tables = {t["name"]: t for t in found["tables"]}
    heads = [[{**t, "rows": None} for t in page["tables"]] for page in (told, found)]
    yield from _listed("table", heads[0], heads[1], lambda t: t["name"])
    for table in told["tables"]:
        if table["name"] in tables:
            rows = tables[table["name"]]["rows"]
            yield from _listed(f"table '{table['name']}': row", table["rows"], rows, _row_name)
    yield from _listed("timing", told["timings"], found["timings"], lambda t: t["name"])
    yield from _compared("reported", told["reported"], found["reported"])


def _listed(
    what: str,
    told: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    name: Callable[[Mapping[str, Any]], str],
) -> Iterator[Difference]:
    """Entries of two lists, matched by name."""
    computed, published = {name(e): e for e in found}, {name(e): e for e in told}
    for key, entry in published.items():
        if key not in computed:
            yield Difference(f"{what} '{key}'", "it", None)
        else:
            yield from _compared(f"{what} '{key}'", entry, computed[key])
    for key in computed.keys() - published.keys():
        yield Difference(f"{what} '{key}'", None, "it")
    if list(published) != list(computed) and published.keys() == computed.keys():
        yield Difference(f"order of {what}s", list(published), list(computed))


def _compared(what: str, told: Any, found: Any, loose: float = 1e-6) -> Iterator[Difference]:
    if isinstance(told, Mapping) and isinstance(found, Mapping):
        for key in dict.fromkeys([*told, *found]):
            close = 1e-3 if key in COSTS else loose
            yield from _compared(f"{what}: {key}", told.get(key), found.get(key), close)
    elif isinstance(told, Sequence) and isinstance(found, Sequence) and not isinstance(told, str):
        if len(told) != len(found):
            yield Difference(what, told, found)
        else:
            for i, (one, other) in enumerate(zip(told, found, strict=True)):
                yield from _compared(f"{what}[{i}]", one, other, loose)
    elif not _same(told, found, loose):
        yield Difference(what, told, found)


def _same(told: Any, found: Any, loose: float) -> bool:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (told, found))
    return math.isclose(told, found, rel_tol=loose, abs_tol=2e-6) if numbers else told == found


def _said(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return "nothing" if value is None else text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
