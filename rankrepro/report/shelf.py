"""The shelf: published papers, whose folders check themselves and can be judged again without running a cell."""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rankrepro import benchmarks
from rankrepro.cards import ROOT, Card
from rankrepro.errors import ConfigError, RankReproError
from rankrepro.files import sha256
from rankrepro.judge import earlier
from rankrepro.judge import results as judge
from rankrepro.judge.costs import union
from rankrepro.judge.published import Difference, Files, Published, differences, judged_again, read, read_json
from rankrepro.judge.registration import claims_commit, git, registered_at, registration
from rankrepro.plan import load_scale, stale
from rankrepro.report import pages, sheets
from rankrepro.report.pages import Paper

PUBLISHED = ROOT / "reports" / "desk"
FILES = ("results.json", "units.json.gz", "examples.json", "tables.md", earlier.FILE)  # the last only if there is any
MANIFEST = "manifest.json"
ROUNDED = 2e-4  # differences of examples have four digits
MILLISECOND = 2e-3  # totals have three


@dataclass(frozen=True)
class Verified:
    """A published paper: what of it is wrong, and what could be computed again."""

    key: str
    faults: Sequence[str]
    claims: int = 0
    rows: int = 0
    summaries: int = 0  # rows whose units are not published

    def __str__(self) -> str:
        rest = f"; {self.summaries} more rows have no units here" if self.summaries else ""
        return f"{self.key}: {self.claims} claims and {self.rows} rows follow from the published units{rest}"


# --- files of a paper ------------------------------------------------------------------------------------------------


def collect(judged: Path, folder: Path, cards: Mapping[str, Card]) -> None:
    """Copy results.json, examples.json and units.json (compressed, always to the same bytes).

    The verdicts of results that these supersede are kept in earlier.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    earlier.keep(folder, read_json(judged / "results.json"), cards)
    for name in ("results", "examples"):
        shutil.copyfile(judged / f"{name}.json", folder / f"{name}.json")
    (folder / "units.json.gz").write_bytes(gzip.compress((judged / "units.json").read_bytes(), mtime=0))
    write_manifest(folder)


def write_manifest(folder: Path, only: Sequence[str] = FILES) -> None:
    """The sha256 of each published file. `only`: those just written; of the others a manifest keeps what it says."""
    file = folder / MANIFEST
    told = read_json(file)["files"] if file.exists() else {}
    there = [name for name in FILES if (folder / name).exists()]
    told |= {name: sha256(folder / name) for name in there if name in only or name not in told}
    file.write_text(json.dumps({"files": dict(sorted(told.items()))}, indent=1) + "\n", encoding="utf-8")


def write_tables(paper: Paper, folder: Path, scale: str, labels: Mapping[str, str]) -> None:
    """tables.md, and its line of the manifest."""
    (folder / "tables.md").write_text(tables(paper, scale, labels), encoding="utf-8")
    write_manifest(folder, ["tables.md"])


def tables(paper: Paper, scale: str, labels: Mapping[str, str]) -> str:
    """tables.md of a judged paper."""
    page = pages.words_and_tables(paper, scale, labels)
    return pages.environment().get_template("paper.md").render(**page, to_markdown=sheets.to_markdown)


# --- does it follow from itself? -------------------------------------------------------------------------------------


def verify(cards: Mapping[str, Card], published: Path = PUBLISHED) -> list[Verified]:
    """Every published paper of a folder, held against its own units, its card and the judge, without running a cell."""
    papers: dict[str, Files | RankReproError] = {}
    for folder in sorted(file.parent for file in published.glob("*/results.json")):
        try:
            papers[folder.name] = read(folder)
        except RankReproError as error:
            papers[folder.name] = error
    known = {k: p.results for k, p in papers.items() if k in cards and isinstance(p, Files)}
    old = stale(cards, "desk", {key: results.get("digests", ()) for key, results in known.items()})
    labels = pages.labels(cards.values())
    return [_verified(published / key, files, cards, labels, old.get(key, "")) for key, files in papers.items()]


def _verified(
    folder: Path, files: Files | RankReproError, cards: Mapping[str, Card], labels: Mapping[str, str], old: str
) -> Verified:
    key = folder.name
    if isinstance(files, RankReproError):
        return Verified(key, [str(files)])
    try:
        scale, schema = files.results.get("scale"), files.results.get("schema")
        if scale != "desk":
            return Verified(key, [f"made at scale {scale}, not desk: remove it"])
        if key not in cards or key not in files.results.get("papers", {}):
            return Verified(key, ["no card has this key, or its results are of another: remove it"])
        if {schema, files.units.get("schema"), files.examples.get("schema")} != {judge.SCHEMA}:
            again = f"`rankrepro judge --published {key}` writes it anew"
            return Verified(key, [f"its files are of version {schema}, not {judge.SCHEMA}: {again}"])
        values = Published(cards[key], cards, files)
        faults = list(_faults(folder, values, cards, labels, old))
        rows = sum(len(t["rows"]) for t in values.page["tables"])
        left = len(values.summaries)
        return Verified(key, faults, len(values.page["claims"]), rows - left, left)
    except RankReproError as error:
        return Verified(key, [str(error)])
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, StopIteration) as error:
        return Verified(key, [f"its files are not what their schemas say ({type(error).__name__}: {error})"])


def _faults(
    folder: Path, values: Published, cards: Mapping[str, Card], labels: Mapping[str, str], old: str
) -> Iterator[str]:
    """One line for each thing that is wrong, what a reader would be misled by first."""
    card, results = cards[folder.name], values.files.results
    again = f"`rankrepro judge --published {card.key}` judges it again"
    found = differences(values.page, judged_again(card, values, cards))
    if first := next(found, None):
        more = sum(1 for _ in found)
        yield f"{first}" + (f" (and {more} more)" if more else "")
    yield from islice(map(str, _examples(values)), 1)
    yield from map(str, _totals(results, values.page))
    if old:
        yield f"stale: {old}; run `make reproduce SCALE=desk PAPERS={card.key}` and commit the report"
    else:
        yield from _registered(card, cards, results, again)
    if results["provenance"]["judge"] != judge.code():
        yield f"another judge made it than the code as it stands: {again}"
    yield from _commits(card.key, results)
    yield from _earlier(folder)
    for claim in values.page["claims"]:
        if claim["verdict"] == "placebo passed":
            yield f"placebo '{claim['id']}' passed: mend the arm, its claim means nothing"
    if (folder / "tables.md").read_text(encoding="utf-8") != _tables_of(folder, card, values, labels):
        yield "tables.md is not what results.json and the card say: run `rankrepro report`"
    yield from _changed(folder)


def _examples(values: Published) -> Iterator[Difference]:
    """Differences shown beside a claim, against those of its units; both are rounded to four digits."""
    where = {claim["id"]: claim["where"] for claim in values.page["claims"]}
    for claim, parts in values.files.examples["claims"].items():
        for part in parts:
            benchmark, measure, told = part["benchmark"], part["measure"], part["differences"]
            a, b = (values.means(part[side], benchmark, measure) for side in ("a", "b"))
            shared = a.keys() & b.keys()
            if tag := where.get(claim):
                shared &= values.tagged(benchmark, tag)
            gains = {u: round(a[u] - b[u], 4) for u in shared}
            falling = sorted(gains.values(), reverse=True)
            what = f"examples of claim '{claim}' on {benchmark}"
            if len(told) != len(falling) or any(abs(x - y) > ROUNDED for x, y in zip(told, falling, strict=True)):
                yield Difference(what, told, falling)
            for detail in part["details"]:
                unit, gain = detail["unit"], gains.get(detail["unit"])
                if gain is None or abs(gain - detail["difference"]) > ROUNDED:
                    yield Difference(f"{what}: {unit}", detail["difference"], gain)


def _totals(results: Mapping[str, Any], page: Mapping[str, Any]) -> Iterator[Difference]:
    cells, told = page["cells"], results["totals"]
    digests = sorted(c["digest"] for c in cells)
    if sorted(results["digests"]) != digests:
        yield Difference("digests", results["digests"], digests)
    sums = {
        "compute_s": sum(c["cpu_s"] for c in cells),
        "cell_wall_s": union((c["started"], c["ended"]) for c in cells),
    }
    for name, value in sums.items():
        if abs(told[name] - value) > MILLISECOND:
            yield Difference(name, told[name], value)


def _registered(card: Card, cards: Mapping[str, Card], results: Mapping[str, Any], again: str) -> Iterator[str]:
    told = results["provenance"]["registered"]
    now = registration(card, cards, load_scale(results["scale"])).claims
    for claim in dict.fromkeys([*told, *now]):
        if told.get(claim) != now.get(claim):
            yield f"claim '{claim}': the card registers something else now, or what it compares has changed: {again}"
            return


def _commits(key: str, results: Mapping[str, Any]) -> Iterator[str]:
    """Commits that the history does not know; nothing where there is no history, or only a part of it."""
    if git("rev-parse", "--is-shallow-repository") != "false":
        return
    for name in ("commit", "claims_commit"):
        if not _in_history(results[name]):
            yield f"{name} {results[name]} is no commit of this history"
            return
    then = registered_at(results["claims_commit"], key, results["scale"])
    if then is not None and then.claims != results["provenance"]["registered"]:
        yield f"claims_commit {results['claims_commit']}: something else was registered then"


def _in_history(commit: str | None) -> bool:
    """True where only a part of the history is known."""
    if git("rev-parse", "--is-shallow-repository") != "false":
        return True
    return commit is not None and git("merge-base", "--is-ancestor", commit, "HEAD") is not None


def _earlier(folder: Path) -> Iterator[str]:
    """Earlier runs whose commits the history does not know."""
    for run in earlier.runs(folder):
        if not _in_history(run["commit"]):
            yield f"{earlier.FILE}: the run of {run['ended']} was judged by {run['commit']}, no commit of this history"
            return


def _tables_of(folder: Path, card: Card, values: Published, labels: Mapping[str, str]) -> str:
    files = values.files
    paper = Paper(card, files.results, files.units, files.examples, earlier=earlier.runs(folder))
    return tables(paper, files.results["scale"], labels)


def _changed(folder: Path) -> Iterator[str]:
    told = read_json(folder / MANIFEST)["files"]
    for name in FILES:
        if told.get(name) != (sha256(folder / name) if (folder / name).exists() else None):
            yield f"{name} has changed since it was published ({MANIFEST})"
            return


# --- judged again ----------------------------------------------------------------------------------------------------


def judge_again(key: str, cards: Mapping[str, Card], results: Path, published: Path = PUBLISHED) -> list[str]:
    """Judge a published paper again from its units, by today's judge and card; returns the verdicts that changed.

    results: results/<scale>, whose benchmarks tell clusters, splits and tags for files of an older version.
    ConfigError where units or material are missing, BenchmarkError where a benchmark is not built as it would be today.
    """
    card, folder = cards[key], published / key
    files = read(folder)
    values = Published(card, cards, files, results)
    if not values.labelled:
        for benchmark in values.plan.benchmarks[key]:
            if not benchmarks.is_current(benchmark, built := results / "benchmarks" / benchmark):
                command = f"rankrepro internal benchmark {benchmark} {built / benchmarks.MARKER}"
                raise ConfigError(f"{built} does not hold {benchmark} as it is built today: run `{command}`")
    page = judged_again(card, values, cards)
    claims = {claim["id"] for claim in page["claims"]}
    units = judge.units(card, values)
    del units["costs"]
    if values.metered:
        units["costs"] = files.units["costs"]
    files_now = {
        "results": {
            "schema": judge.SCHEMA,
            "scale": files.results["scale"],
            "commit": git("rev-parse", "HEAD"),
            "claims_commit": claims_commit(card, cards, files.results["scale"]),
            "provenance": judge.provenance(card, values, cards),
            **{name: files.results[name] for name in ("digests", "totals")},
            "papers": {key: {**values.page, **page}},
        },
        "units": units,
        "examples": {
            **files.examples,
            "schema": judge.SCHEMA,
            "claims": {c: parts for c, parts in files.examples["claims"].items() if c in claims},
        },
    }
    with tempfile.TemporaryDirectory() as judged:
        judge.write_files(Path(judged), files_now)
        collect(Path(judged), folder, cards)
    now = read(folder)
    paper = Paper(card, now.results, now.units, now.examples, earlier=earlier.runs(folder))
    write_tables(paper, folder, files.results["scale"], pages.labels(cards.values()))
    then = {claim["id"]: claim["verdict"] for claim in values.page["claims"]}
    return [
        f"{claim['id']}: {then.get(claim['id'], 'not there')} -> {claim['verdict']}"
        for claim in page["claims"]
        if then.get(claim["id"]) != claim["verdict"]
    ]
