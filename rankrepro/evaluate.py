"""Judge a run of the user's own: measures with intervals, and paired tests against our rows on the shared queries."""

from __future__ import annotations

import gzip
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rankrepro import artifacts, benchmarks
from rankrepro.benchmarks import pinned
from rankrepro.benchmarks.base import SPLITS, Benchmark, Truth
from rankrepro.cards import DEFAULT_SPLIT, Card, row_index
from rankrepro.cell import Retrieval
from rankrepro.errors import BenchmarkError, ConfigError, RankReproError, RunFileError, UnknownName, first_line
from rankrepro.judge import measures, statistics
from rankrepro.judge.statistics import Sample
from rankrepro.judge.values import INPUT, ORACLE
from rankrepro.runs import read_run

EXAMPLES = 3  # ids named in a warning
# Judgments that come pinned with our topics (artifact anserini-topics): neither corpus nor ir_datasets is needed.
PINNED = {
    "msmarco-passage/trec-dl-2019": "dl19-passage",
    "msmarco-passage/trec-dl-2020": "dl20-passage",
    "beir/fever/test": "beir-v1.0.0-fever.test",
    "beir/climate-fever": "beir-v1.0.0-climate-fever.test",
    "beir/dbpedia-entity/test": "beir-v1.0.0-dbpedia-entity.test",
}

Units = Mapping[str, Sequence[Any]]  # unit -> one value per seed


@dataclass(frozen=True)
class Ground:
    """What a run is judged against.

    splits     query id -> its split
    excluded   query id -> documents that are no candidates for it
    documents  the ids of the corpus; None where the corpus is not read
    """

    benchmark: str
    splits: Mapping[str, str]
    excluded: Mapping[str, Collection[str]]
    documents: Collection[str] | None
    truth: Truth


@dataclass
class Run:
    """A run cut to the queries that are judged, and what was odd about it."""

    name: str
    output: Retrieval
    queries: int  # of the splits, answered or not
    zeros: list[str] = field(default_factory=list)  # queries without a result that count 0
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """One of our rows: its name, the paper whose file has it, and measure -> unit -> values."""

    arm: str
    paper: str
    values: Mapping[str, Units]


# --- what to judge against -------------------------------------------------------------------------------------------


def ground(benchmark_id: str, built: Path, cache: Path) -> Ground:
    """Queries and truth of a benchmark: as built in `built`, else built in the cache; of ir_datasets without a corpus.

    Raises UnknownName for an id that does not exist, BenchmarkError for a benchmark without queries.
    """
    entry = benchmarks.get(benchmark_id)
    if entry.builder == "irds":
        return _of_ir_datasets(benchmark_id, entry, cache)
    folder = built / benchmark_id
    if not benchmarks.is_current(benchmark_id, folder):
        folder = benchmarks.build(benchmark_id, cache, cache / "benchmarks" / benchmark_id)
    loaded = benchmarks.load(folder, benchmark_id)
    if not isinstance(loaded, Benchmark):
        raise BenchmarkError(f"{benchmark_id} has no queries and documents: a run file cannot be judged on it")
    return _ground(loaded, benchmarks.load_truth(folder), loaded.corpus)


def _ground(benchmark: Benchmark, truth: Truth, documents: Collection[str] | None) -> Ground:
    splits = {q.id: q.split for q in benchmark.queries.values()}
    excluded = {q.id: q.excluded for q in benchmark.queries.values() if q.excluded}
    return Ground(benchmark.id, splits, excluded, documents, truth)


def _of_ir_datasets(benchmark_id: str, entry: Any, cache: Path) -> Ground:
    if name := PINNED.get(benchmark_id.removesuffix("/judged")):
        truth = _pinned_truth(name, cache)
        return Ground(benchmark_id, dict.fromkeys(truth.qrels, "test"), {}, None, truth)
    from rankrepro.benchmarks import irds

    try:
        benchmark, truth = irds.build(benchmark_id, {}, entry.params)
    except RankReproError:
        raise
    except Exception as error:  # ir_datasets passes on errors of the network and of parsers
        raise BenchmarkError(
            f"{benchmark_id}: ir_datasets cannot fetch its queries and judgments: {first_line(error)}"
        ) from error
    return _ground(benchmark, truth, None)


def _pinned_truth(name: str, cache: Path) -> Truth:
    folder = artifacts.fetch(artifacts.load_catalogue()["anserini-topics"], cache)
    return pinned.judgments(folder, f"qrels.{name}.txt")


def our_rows(cards: Mapping[str, Card], scale: str, benchmark_id: str, results: Path, reports: Path) -> list[Row]:
    """The rows judged on a benchmark at a scale: those of `results`, else the published ones of `reports`.

    A row that several papers show is read from the card it belongs to where that was run.
    """
    owners = row_index(cards)
    by_arm: dict[str, Row] = {}
    for card in (c for c in cards.values() if benchmark_id in c.benchmarks_at(scale)):
        values: dict[str, dict[str, Units]] = {}
        for row in _units(card.key, scale, results, reports):
            if row["benchmark"] == benchmark_id and not row["arm"].startswith(INPUT):
                values.setdefault(row["arm"], {})[row["measure"]] = row["values"]
        for arm, by_measure in values.items():
            of_owner = owners.get(arm.removeprefix(ORACLE), ("", ""))[0] == card.key
            if of_owner or arm not in by_arm:
                by_arm[arm] = Row(arm, card.key, by_measure)
    return list(by_arm.values())


def _units(key: str, scale: str, results: Path, reports: Path) -> list[dict[str, Any]]:
    here, published = results / scale / "judged" / key / "units.json", reports / scale / key / "units.json.gz"
    try:
        if here.exists():
            return json.loads(here.read_bytes())["rows"]
        if published.exists():
            return json.loads(gzip.decompress(published.read_bytes()))["rows"]
    except (OSError, ValueError, EOFError, KeyError) as error:
        file = here if here.exists() else published
        raise ConfigError(f"{file} cannot be read ({error}); delete it and run {key} again") from error
    return []


# --- the run ---------------------------------------------------------------------------------------------------------


def take(file: Path, on: Ground, splits: Sequence[str] = DEFAULT_SPLIT, complete: bool = False, name: str = "") -> Run:
    """Read a run and cut it to the judged queries of `splits`; what is left out or unknown is counted and named.

    Documents are ranked by score, ties by id; ranks in the file do not count. `complete`: a query of the splits that
    the run does not answer counts 0; otherwise it is left out. Raises RunFileError where nothing is left to judge.
    """
    for split in splits:
        if split not in SPLITS:
            raise UnknownName("split", split, SPLITS)
    read = read_run(file, foreign=True)
    queries = [q for q, split in on.splits.items() if split in splits]
    run = Run(name or _stem(file), Retrieval({}), len(queries))
    unknown = [q for q in read if q not in on.splits]
    if len(unknown) == len(read):
        raise RunFileError(
            f"{file}: none of its {len(read)} queries is in {on.benchmark} (e.g. '{unknown[0]}'): is it a run of "
            "another benchmark?"
        )
    _warn(run, unknown, "queries of the run are not in the benchmark and left out")
    _warn(run, [q for q in read if on.splits.get(q, splits[0]) not in splits], "queries are of other splits, left out")
    asked = {q: set(on.excluded.get(q, ())) for q in queries if q in read}
    rankings = {q: {d: s for d, s in read[q].items() if d not in excluded} for q, excluded in asked.items()}
    rankings = {q: scores for q, scores in rankings.items() if scores}
    if not rankings:
        raise RunFileError(f"{file}: none of its queries is of split {' or '.join(splits)}; name one with --split")
    missing = [q for q in queries if q not in rankings]
    _warn(run, missing, f"queries have no result in the run and {'count 0' if complete else 'are left out'}")
    if on.documents is None:
        run.warnings.append("documents were not checked: the corpus of this benchmark is not read")
    else:
        strange = sorted({d for scores in rankings.values() for d in scores} - set(on.documents))
        total = len({d for scores in rankings.values() for d in scores})
        if len(strange) == total:
            raise RunFileError(
                f"{file}: none of its {total} documents is in {on.benchmark} (e.g. '{strange[0]}'): is it a run of "
                "another corpus? A blank in an id is written %20"
            )
        _warn(run, strange, "documents of the run are not in the corpus and count as not relevant")
    run.output, run.zeros = Retrieval(rankings), missing if complete else []
    return run


def _warn(run: Run, ids: Sequence[str], what: str) -> None:
    if ids:
        named = ", ".join(ids[:EXAMPLES]) + (", ..." if len(ids) > EXAMPLES else "")
        run.warnings.append(f"{len(ids)} {what} ({named})")


def _stem(file: Path) -> str:
    return file.name.removesuffix(".gz").rpartition(".")[0] or file.name


# --- judging ---------------------------------------------------------------------------------------------------------


def evaluate(run: Run, on: Ground, rows: Sequence[Row], measure: str, against: Sequence[str] = ()) -> dict[str, Any]:
    """The run among our rows by one measure, best first: what `rankrepro evaluate` prints.

    against  compare with these rows only (none: with all); UnknownName for one that was not run here
    Returns {"measure", "rows": [...]} of rows {"arm", "yours", "value", "ci", "n", "judged", "against"}, with
    `against` (None for the run itself, ceilings and rows left out) the run minus the row on the shared queries:
    difference, its cluster bootstrap interval and two-sided p, and ranx's Student p, each with Holm's adjustment.
    """
    known = {r.arm: r for r in rows if measure in r.values}
    for arm in against:
        if arm not in {r.arm for r in rows}:
            raise UnknownName("row", arm, [r.arm for r in rows], where=on.benchmark)
    chosen = [a for a in (against or known) if a in known and (against or not a.startswith(ORACLE))]
    mine = {u: [v] for u, v in measures.per_unit(measure, run.output, on.truth).items()} | {q: [0.0] for q in run.zeros}
    judged = measures.per_unit("Judged@10", run.output, on.truth)
    table = [_line(run.name, True, mine, on, measure, float(np.mean(list(judged.values()))))]
    for arm, row in known.items():
        depth = row.values.get("Judged@10")
        share = float(np.mean([np.mean(v) for v in depth.values()])) if depth else None
        table.append(_line(arm, False, row.values[measure], on, measure, share) | {"paper": row.paper})
    compared = {arm: _compare(mine, known[arm].values[measure], on, measure) for arm in chosen}
    _adjust([c for c in compared.values() if c])
    for line in table:
        line["against"] = compared.get(line["arm"]) if not line["yours"] else None
    sign = measures.get(measure).direction
    return {"measure": measure, "rows": sorted(table, key=lambda r: (-sign * r["value"], r["arm"]))}


def _line(arm: str, yours: bool, values: Units, on: Ground, measure: str, judged: float | None) -> dict[str, Any]:
    sample = _sample({"v": values}, on, measure)
    estimate = statistics.bootstrap(sample, lambda m: m["v"], n_boot=2000)
    line = {"arm": arm, "yours": yours, "paper": None, "value": estimate.effect}
    return line | {"ci": _ci(estimate), "n": len(sample.units), "clusters": estimate.n_clusters, "judged": judged}


def _compare(mine: Units, theirs: Units, on: Ground, measure: str) -> dict[str, Any] | None:
    """The run minus a row on the queries both have; None without any."""
    shared = sorted(set(mine) & set(theirs))
    if not shared:
        return None
    sample = _sample({"a": {u: mine[u] for u in shared}, "b": {u: theirs[u] for u in shared}}, on, measure)
    estimate = statistics.bootstrap(sample, lambda m: m["a"] - m["b"])
    two_sided = min(1.0, 2 * min(statistics.p_value(estimate, 0.0, d) for d in (1, -1)))
    means = {side: np.asarray(sample.values[side]).mean(axis=0) for side in ("a", "b")}
    pair = {"": (means["a"], means["b"])}
    student = statistics.against(pair)[""]["p"] if len(shared) > 1 else None
    return {
        "n": len(shared),
        "clusters": estimate.n_clusters,
        "yours": float(means["a"].mean()),
        "difference": estimate.effect,
        "ci": _ci(estimate),
        "p": 1.0 if np.array_equal(means["a"], means["b"]) else two_sided,
        "student_p": student,
    }


def _adjust(compared: Sequence[dict[str, Any]]) -> None:
    """Holm over the rows compared; a test without a p (equal on every query) counts as 1."""
    for name in ("p", "student_p"):
        adjusted = statistics.holm([1.0 if c[name] is None else c[name] for c in compared])
        for c, p in zip(compared, adjusted, strict=True):
            c[f"{name}_holm"] = None if c[name] is None else p


def _sample(terms: Mapping[str, Units], on: Ground, measure: str) -> Sample:
    units = sorted(next(iter(terms.values())))
    labels = measures.get(measure).clusters(units, on.truth)
    values = {t: measures.as_term(measure, [v[u] for u in units]) for t, v in terms.items()}
    return Sample(units, [labels[u] for u in units], values)


def _ci(estimate: statistics.Estimate) -> list[float | None]:
    return [x + 0.0 if np.isfinite(x) else None for x in statistics.interval(estimate)]
