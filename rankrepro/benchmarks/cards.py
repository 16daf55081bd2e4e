"""The cards of the benchmarks: `config/benchmarks/<family>.yaml`, read and validated.

A key with a slash is a benchmark; the other keys of a file are defaults for its benchmarks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from rankrepro.errors import ConfigError, UnknownName

FOLDER = Path(__file__).parents[2] / "config" / "benchmarks"
COUNTS = (
    *("units", "queries", "documents", "judged", "relevant", "train", "validation", "test"),
    *("components", "largest_component", "clusters", "largest_cluster"),
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One benchmark. The id may hold a `*`: then it stands for every id that matches."""

    id: str
    family: str
    builder: str  # module of rankrepro.benchmarks with `build(id, sources, params)`
    # in words; a test requires all of them
    what: str = ""
    built: str = ""
    licence: str = ""
    citation: str = ""
    split: str = ""
    cannot_show: str = ""
    artifacts: tuple[str, ...] = ()  # ids of config/artifacts.yaml
    tags: tuple[str, ...] = ()  # what its queries may carry beside their split, for claims and tables with `where`
    params: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)  # what a build must find
    tolerance: float = 0.0  # relative deviation of the counts that is tolerated
    lost: Mapping[str, float] = field(default_factory=dict)  # share of the original's relevant pairs missing here

    @property
    def units(self) -> int:
        """Number of queries (or other units), 0 where only a build can tell."""
        return self.counts.get("units", self.counts.get("queries", 0))

    def units_of(self, split: Sequence[str]) -> int:
        """Number of units of these splits; all where they are not counted apart."""
        return sum(self.counts.get(s, 0) for s in split) or self.units

    @property
    def documents(self) -> int:
        """Number of documents, 0 where only a build can tell."""
        return self.counts.get("documents", 0)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have queries."""
        return tuple(self.params.get("shares", ("test",)))


def get(benchmark_id: str) -> Entry:
    """The entry of a benchmark, or UnknownName with the nearest id."""
    known = load(FOLDER)
    if benchmark_id in known and "*" not in benchmark_id:
        return known[benchmark_id]
    for pattern, entry in known.items():
        if "*" in pattern and fnmatchcase(benchmark_id, pattern):
            return replace(entry, id=benchmark_id)
    raise UnknownName("benchmark", benchmark_id, known, "config/benchmarks")


def entries() -> list[Entry]:
    """All benchmarks with an id of their own."""
    return [entry for entry in load(FOLDER).values() if "*" not in entry.id]


def families() -> dict[str, list[str]]:
    """Family -> ids (and patterns of ids) of its benchmarks."""
    by_family: dict[str, list[str]] = {}
    for entry in load(FOLDER).values():
        by_family.setdefault(entry.family, []).append(entry.id)
    return by_family


@cache
def load(folder: Path) -> dict[str, Entry]:
    """All cards of a folder: id (or pattern) -> entry. Raises ConfigError naming file, benchmark and key."""
    cards: dict[str, Entry] = {}
    for file in sorted(folder.glob("*.yaml")):
        for entry in _read(file):
            if entry.id in cards:
                raise ConfigError(f"{file}: benchmark '{entry.id}' is in {cards[entry.id].family}.yaml too; rename one")
            cards[entry.id] = entry
    return cards


def _read(file: Path) -> list[Entry]:
    from rankrepro.cards import load_yaml

    data = load_yaml(file)
    if not isinstance(data, dict) or not any("/" in key for key in data):
        raise ConfigError(f"{file}: needs a mapping with benchmark ids (they have a '/') as keys")
    known = {f.name for f in fields(Entry)} - {"id"}
    shared = {key: value for key, value in data.items() if "/" not in key}
    _check_keys(shared, known, str(file))
    cards = []
    for benchmark_id in (key for key in data if "/" in key):
        where = f"{file}: benchmark '{benchmark_id}'"
        values = {"family": file.stem, "builder": file.stem, **shared, **(data[benchmark_id] or {})}
        _check_keys(values, known, where)
        _check_keys(values.get("counts", {}), COUNTS, f"{where}: counts")
        if values["family"] != file.stem:
            raise ConfigError(f"{where}: family '{values['family']}' has its own file; move the card there")
        if not (Path(__file__).parent / f"{values['builder']}.py").is_file():
            builders = sorted({p.stem for p in Path(__file__).parent.glob("*.py")})
            raise UnknownName("builder", values["builder"], builders, where)
        values |= {key: tuple(values.get(key, ())) for key in ("artifacts", "tags")}
        cards.append(Entry(id=benchmark_id, **values))
    return cards


def _check_keys(mapping: Mapping[str, Any], known: Any, where: str) -> None:
    for key in mapping:
        if key not in known:
            raise UnknownName("key", str(key), known, where)
