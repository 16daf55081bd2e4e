"""What is written to MLflow: judged files and stored results as records, one per run. Does not import MLflow."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rankrepro.cards import file_of
from rankrepro.errors import StoreError
from rankrepro.store import Store, digest_of
from rankrepro.tracking.names import cut_tag, metric_name, params

LARGEST_COPY = 5_000_000  # bytes; larger files stay in the store, and a tag says where
COSTS = ("wall_s", "cpu_s", "peak_bytes", "input_tokens", "generated_tokens", "forward_passes", "calls")
VERDICT = "verdict."  # tag of a claim

Metric = tuple[str, float, int]  # legal name, value, step


@dataclass(frozen=True)
class Record:
    """One MLflow run.

    id       which run this is, in every ingest: `<scale>/<digest>` or `<scale>/verdicts`
    times    start and end, seconds since 1970
    params   name -> text (immutable in MLflow)
    metrics  (name, value, step); cost and measures at step 0, training curves at theirs
    tags     name -> text (a later ingest may change them)
    files    artifact path -> a file, or text
    """

    id: str
    name: str
    times: tuple[float, float]
    params: Mapping[str, str]
    metrics: Sequence[Metric]
    tags: Mapping[str, str]
    files: Mapping[str, Path | str]

    @cached_property
    def content(self) -> str:
        """Hash of what cannot be changed in a run once it is written; when it differs, the run is replaced."""
        return digest_of([self.name, self.params, self.metrics, sorted(self.files)])[:16]

    @cached_property
    def version(self) -> str:
        """Hash of the files; when it differs, they are written again."""
        return digest_of({k: f if isinstance(f, str) else f.stat().st_size for k, f in self.files.items()})[:16]


class Judged:
    """A judged paper: `results/<scale>/judged/<key>/`, with the store beside it."""

    def __init__(self, key: str, scale: str, results: Path) -> None:
        self.key, self.scale, self.folder = key, scale, results / "judged" / key
        self.store = Store(results / "store")
        self.file = self.folder / "results.json"
        self.data = self._read("results")
        if self.data["scale"] != scale:
            raise StoreError(f"{self.file} is of scale {self.data['scale']}, not {scale}; name its own scale")
        self.paper: Mapping[str, Any] = self.data["papers"][key]

    def records(self) -> Iterator[Record]:
        """A record for each stored result, and one for the verdicts."""
        for cell in self.paper["cells"]:
            yield self.cell(cell)
        yield self.summary()

    def _read(self, name: str) -> Any:
        """A judged file; StoreError if this version's judge did not write it."""
        from rankrepro.judge.results import SCHEMA

        file = self.folder / f"{name}.json"
        try:
            data = json.loads(file.read_text())
            problem = "" if data["schema"] == SCHEMA else "of another version"
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            data, problem = None, f"missing or damaged ({type(error).__name__})"
        if problem:
            raise StoreError(
                f"{file} is {problem}; delete it and run the same command again: the paper is judged again, nothing is "
                "recomputed"
            )
        return data

    @cached_property
    def units(self) -> dict[tuple[str, str, str], Mapping[str, Sequence[Any]]]:
        """(row, benchmark, measure) -> unit -> one value per seed."""
        return {(r["arm"], r["benchmark"], r["measure"]): r["values"] for r in self._read("units")["rows"]}

    # --- a stored result ---

    def cell(self, cell: Mapping[str, Any]) -> Record:
        spec = self.store.manifest(cell["digest"])["spec"]
        copied, left = self._files(cell["digest"])
        timing = self._timing(cell)
        metrics = [*self._measures(cell), *_timing_metrics(timing), *_costs(cell), *self._curves(cell)]
        tags = self._common(cell["kind"]) | {
            "arm": cell["name"],
            "benchmark": cell["benchmark"],
            "seed": str(cell["seed"]),
            "digest": cell["digest"],
            "mlflow.source.name": f"methods/{spec['fn'].split('.')[0]}.py" if "fn" in spec else "methods",
        }
        tags |= {"rows": cut_tag(", ".join(cell["rows"]))} if cell["rows"] else {}
        tags |= {"not_copied": cut_tag("; ".join(left))} if left else {}
        tags |= {VERDICT + c["id"]: c["verdict"] for c in self.paper["claims"] if _names(c, cell, timing)}
        return Record(
            id=f"{self.scale}/{cell['digest']}",
            name=f"{cell['name']} on {cell['benchmark']} seed {cell['seed']}",
            times=(cell["started"], cell["ended"]),
            params=params(cell["params"]) | _spec_params(spec) | params(cell["models"], "model."),
            metrics=_distinct(metrics),
            tags=tags,
            files=copied,
        )

    def _common(self, kind: str) -> dict[str, str]:
        commits = {
            "commit": self.data["commit"],
            "mlflow.source.git.commit": self.data["commit"],
            "claims_commit": self.data["claims_commit"],
        }
        return {"paper": self.key, "scale": self.scale, "kind": kind} | {k: v for k, v in commits.items() if v}

    def _files(self, digest: str) -> tuple[dict[str, Path | str], list[str]]:
        """The files of a stored result: those to copy, and a line for each that is too large."""
        copied: dict[str, Path | str] = {}
        left = []
        for file in sorted(self.store.path(digest).iterdir()):
            size = file.stat().st_size
            if size <= LARGEST_COPY:
                copied[file.name] = file
            else:
                left.append(f"results/{self.scale}/store/{digest}/{file.name} ({size / 1e6:.0f} MB)")
        return copied, left

    def _measures(self, cell: Mapping[str, Any]) -> Iterator[Metric]:
        """The measures of the tables' rows, by this cell's own seed and all units it answered: `<measure>`, or
        `<measure>/<row>` where the cell holds several rows.

        What a table says about some units only is `<measure>/where.<tag>` or `<measure>/units_of.<row>`, beside the
        value over all units, except for a pooled measure whose material is not published.
        """
        for table in self.paper["tables"]:
            conditions = [f"{k}.{table[k]}" for k in ("where", "units_of") if table[k]]
            for row in table["rows"]:
                if row["arm"] not in cell["rows"] or row["benchmark"] != cell["benchmark"]:
                    continue
                name = [row["measure"], *([row["arm"].split(".")[1]] if len(cell["rows"]) > 1 else [])]
                same = [
                    c for c in self.paper["cells"] if row["arm"] in c["rows"] and c["benchmark"] == row["benchmark"]
                ]
                index = sorted(c["seed"] for c in same).index(cell["seed"])  # as Card.seeds has them
                if row["by_seed"][index] is not None:
                    yield metric_name("/".join([*name, *conditions])), row["by_seed"][index], 0
                if conditions and (units := self.units.get((row["arm"], row["benchmark"], row["measure"]))):
                    yield metric_name("/".join(name)), _over_all(row["measure"], units)[index], 0

    def _curves(self, cell: Mapping[str, Any]) -> Iterator[Metric]:
        which = (cell["name"], cell["benchmark"], cell["seed"])
        for curve in self.paper["curves"]:
            if (curve["cell"], curve["benchmark"], curve["seed"]) == which:
                for series, points in curve["series"].items():
                    name = metric_name(f"training/{series}")
                    yield from ((name, value, step) for step, value in points if value is not None)

    def _timing(self, cell: Mapping[str, Any]) -> Mapping[str, Any] | None:
        name = cell["name"].split(".", 1)[1]
        return next((t for t in self.paper["timings"] if cell["kind"] == "timing" and t["name"] == name), None)

    # --- the verdicts ---

    def summary(self) -> Record:
        """The run of the paper as a whole: claims, tables and all that was judged."""
        claims, cells = self.paper["claims"], self.paper["cells"]
        verdicts = [c["verdict"] for c in claims]
        judged = self.file.stat().st_mtime
        ended = max((c["ended"] for c in cells), default=judged)  # so that it comes first, above its cells
        metrics = [
            (metric_name(f"{name}/{c['id']}"), float(c[name]), 0)
            for c in claims
            for name in ("effect", "p_holm")
            if c[name] is not None
        ]
        tags = self._common("verdicts") | {
            "verdicts": ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts)) or "no claims",
            "mlflow.source.name": file_of(self.key),
            "mlflow.note.content": cut_tag(
                "\n".join(f"- **{c['verdict']}**: {c['sentence']} (`{c['id']}`)" for c in claims)
            ),
        }
        tables = {
            f"tables/{i:02}-{re.sub('[^a-z0-9]+', '-', t['name'].lower()).strip('-')}.csv": table_csv(t)
            for i, t in enumerate(self.paper["tables"], 1)
        }
        return Record(
            id=f"{self.scale}/verdicts",
            name=f"{self.key} verdicts",
            times=(ended, ended),
            params={"claims": str(len(claims)), "cells": str(len(cells))},
            metrics=_distinct(metrics),
            tags=tags | {VERDICT + c["id"]: c["verdict"] for c in claims},
            files={"results.json": self.file.read_text(), **tables},
        )


def _over_all(measure: str, units: Mapping[str, Sequence[Any]]) -> Sequence[float]:
    """The value of each seed over all units."""
    from rankrepro.judge.measures import as_term
    from rankrepro.judge.statistics import by_seed

    return by_seed(as_term(measure, list(units.values())), len(units)).tolist()


def table_csv(table: Mapping[str, Any]) -> str:
    """A table's rows as CSV, one line per arm, benchmark and measure."""
    lines = []
    for row in table["rows"]:
        against = row["against"] or dict.fromkeys(("difference", "p_holm", "letter"))
        line = {k: row[k] for k in ("arm", "benchmark", "split", "measure", "value")}
        line |= {"ci_low": row["ci"][0], "ci_high": row["ci"][1]}
        line |= {k: row[k] for k in ("n", "clusters", "seeds", "seed_sd")}
        line |= {k: table[k] for k in ("baseline", "where", "units_of")}
        line |= {k: against[k] for k in ("difference", "p_holm", "letter")}
        line |= {k: row["cost"].get(k) for k in ("seconds_per_unit", "input_tokens", "generated_tokens")}
        lines.append(line)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]) if lines else ["arm"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _names(claim: Mapping[str, Any], cell: Mapping[str, Any], timing: Mapping[str, Any] | None) -> bool:
    """Whether a claim is about a row of this cell, or about this timing."""
    if timing:
        return claim["benchmark"] == f"timing {timing['name']}"
    return any(arm in cell["rows"] for arm, _ in claim["terms"])


def _costs(cell: Mapping[str, Any]) -> Iterator[Metric]:
    yield "units", float(cell["units"]), 0
    yield from ((f"cost/{name}", float(cell[name]), 0) for name in COSTS if cell.get(name) is not None)


def _timing_metrics(timing: Mapping[str, Any] | None) -> Iterator[Metric]:
    if timing is None:
        return
    pairs = {"ratio": timing["ratio"], "seconds_a": timing["seconds_a"], "seconds_b": timing["seconds_b"]}
    pairs |= {"ratio_low": timing["ci"][0], "ratio_high": timing["ci"][1]}
    pairs |= {"aa_low": timing["aa"][0], "aa_high": timing["aa"][1]}
    yield from ((f"timing/{name}", float(v), 0) for name, v in pairs.items() if v is not None)


def _spec_params(spec: Mapping[str, Any]) -> dict[str, str]:
    """What else determined a result, besides the arm's own parameters."""
    values = {k: spec[k] for k in ("fn", "threads", "dtype", "n") if k in spec}
    values |= {f"queries.{k}": v for k, v in spec.get("queries", {}).items()}
    values |= {f"candidates.{k}": v for k, v in (spec["candidates"] or {}).items() if k in ("depth", "order")}
    return params(values, "spec.")


def _distinct(metrics: Sequence[Metric]) -> list[Metric]:
    """One finite value per name and step: two tables may show the same row."""
    by_step = {(n, s): v for n, v, s in metrics}
    return [(name, value, step) for (name, step), value in by_step.items() if math.isfinite(value)]
