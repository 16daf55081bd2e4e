"""Judged files of every card, filled with made-up numbers: to measure the report and to look at its pages.

    python tests/synthetic.py FOLDER    # pages of 38 papers in FOLDER/reports

The numbers are plausible and mean nothing. They follow the contract in workflow/schemas and hold what real results may
hold: every kind of claim and verdict, missing bounds, hostile texts, several seeds, curves and timings.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

from rankrepro import claims
from rankrepro.cards import ROOT, Card, load_cards, qualify
from rankrepro.plan import make_plan

BENCHMARKS = ("vital/dbpedia-entity", "vital/fever", "vital/climate-fever", "lint/rules")
MEASURES = ("nDCG@10", "RR", "Judged@10", "Candidates-R")
KINDS = tuple(claims.KINDS)
VERDICTS = ("reproduced", "not reproduced", "inconclusive", "baseline not competent", "not run")
HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">",
    "</script><script>document.title='owned'</script> &amp; {{ 7 * 7 }} <!-- ",
    "שלום עולם \u202eright to left\u202c مرحبا 日本語 🦊 e\u0301 \u0000 | `code` \\textbf{x} $x_1$ % #",
)
QUOTE = "The quick brown fox jumps over the lazy dog near the river bank; " * 4


def judged(cards: Mapping[str, Card], key: str, scale: str = "desk", units: int = 60) -> dict[str, Any]:
    """The three files of a paper by name: results, units, examples. Every call gives the same."""
    return _Maker(cards, cards[key], scale, units).files()


def write(folder: Path, cards: Mapping[str, Card], keys: list[str], scale: str = "desk", units: int = 60) -> None:
    """Write `folder/judged/<key>/*.json`."""
    for key in keys:
        target = folder / "judged" / key
        target.mkdir(parents=True, exist_ok=True)
        for name, value in judged(cards, key, scale, units).items():
            (target / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False, allow_nan=False))


def write_jobs(folder: Path, keys: list[str], each: int = 2) -> None:
    """Write `folder/jobs/*`: jobs of the last run, one of an earlier run, and one that says nothing of its time."""
    (folder / "jobs").mkdir(parents=True, exist_ok=True)
    names = [f"{key}.arm{i}" for key in keys for i in range(each)]
    for i, name in enumerate([*names, "old.arm", "mute.arm"]):
        run = 1_790_000_000.0 if name != "old.arm" else 1_700_000_000.0
        lasts = {"waiting": 5.0 * i, "start-up": 1.0, "imports": 3.0, "loading": 2.0, "computing": 40.0, "writing": 0.5}
        spans, at = [], run
        for phase, seconds in lasts.items():
            node = "" if phase in ("waiting", "start-up") else name
            spans.append({"phase": phase, "node": node, "start": at, "end": at + seconds})
            at += seconds
        spec = {"benchmark": {"id": "vital/fever"}}
        job = {"id": f"{i:016x}", "threads": 1, "seconds": 42.0, "nodes": [{"name": name, "digest": "0", "spec": spec}]}
        mark = {"started": run, "ended": at, "seconds": 42.0, "run": run, "spans": spans}
        (folder / "jobs" / f"{i:016x}.json").write_text(json.dumps(job))
        (folder / "jobs" / f"{i:016x}.done").write_text(json.dumps({} if name == "mute.arm" else mark))


class _Maker:
    def __init__(self, cards: Mapping[str, Card], card: Card, scale: str, units: int) -> None:
        self.cards, self.card, self.scale, self.units = cards, card, scale, units
        self.random = Random(zlib.crc32(card.key.encode()))
        self.benchmarks = card.benchmarks_at(scale) or list(BENCHMARKS)
        self.skill: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def files(self) -> dict[str, Any]:
        key = self.card.key
        tables, rows = self._tables()
        judged = [self._claim(i, claim) for i, claim in enumerate(self._claims())]
        timings, seconds = self._timings()
        cells = list(self._cells(tables))
        page = {
            "sizes": [],
            "tables": tables,
            "claims": judged,
            "timings": timings,
            "curves": self._curves(),
            "cells": cells,
            "reported": self.card.data.get("reported") or self._reported(),
        }
        cpu = sum(c["cpu_s"] for c in cells)
        results = {
            "schema": 3,
            "scale": self.scale,
            "commit": hashlib.sha1(b"commit").hexdigest(),
            "claims_commit": hashlib.sha1(key.encode()).hexdigest(),
            "provenance": {"judge": hashlib.sha256(b"judge").hexdigest(), "registered": {}, "truth": {}},
            "digests": self._digests(cells),
            "papers": {key: page},
            "totals": {"wall_s": cpu / 1.6, "cell_wall_s": cpu / 1.7, "compute_s": cpu, "cores": 2},
        }
        return {
            "results": results,
            "units": {
                "schema": 3,
                "paper": key,
                "benchmarks": {},
                "rows": rows,
                "material": [],
                "left_out": [],
                "timings": seconds,
            },
            "examples": self._examples(judged),
        }

    def _digests(self, cells: list[dict[str, Any]]) -> list[str]:
        """Those the code would compute now, so that the report is current; made up where there is no method."""
        if self.card.implemented:
            return make_plan(self.cards, self.scale, [self.card.key]).paper_nodes[self.card.key]
        return sorted(c["digest"] for c in cells)

    # --- tables ---

    def _specs(self) -> list[dict[str, Any]]:
        if self.card.data.get("tables"):
            return [dict(t) for t in self.card.data["tables"]]
        arms = ["baselines.first_stage", "baselines.random", "baselines.rankgpt", "method", "without_loss", "placebo"]
        return [
            {
                "name": "re-ranking the BM25 top 20",
                "arms": arms,
                "measures": list(MEASURES),
                "baseline": "baselines.first_stage",
                "oracle": "baselines.first_stage",
            },
        ]

    def _tables(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        tables, units = [], []
        for spec in self._specs():
            arms = [qualify(self.card, a) for a in spec["arms"]]
            arms += ["ceiling of " + qualify(self.card, spec["oracle"])] if "oracle" in spec else []
            baseline = qualify(self.card, spec["baseline"]) if "baseline" in spec else None
            rows = [
                self._row(a, b, m, baseline)
                for a, b, m in itertools.product(arms, self.benchmarks, spec["measures"])
                if not (a.endswith("placebo") and b == self.benchmarks[-1])
            ]
            tables.append(
                {
                    "name": spec["name"],
                    "measures": list(spec["measures"]),
                    "baseline": baseline,
                    "where": None,
                    "units_of": None,
                    "rows": rows,
                }
            )
            units += [self._units(r) for r in rows if r["measure"] == spec["measures"][0]]
        return tables, units

    def _row(self, arm: str, benchmark: str, measure: str, baseline: str | None) -> dict[str, Any]:
        r = self.random
        skill = self.skill.setdefault(arm, r.uniform(0.2, 0.7))
        ceiling = arm.startswith("ceiling")
        value = 0.92 if ceiling else min(0.99, max(0.0, skill + r.uniform(-0.1, 0.1)))
        width, seeds = r.uniform(0.02, 0.09), 1 if arm.startswith("baselines") or ceiling else 3
        against = None
        if baseline and not ceiling and arm != baseline:
            p = r.random() ** 6
            difference = round(value - self.skill.get(baseline, 0.4), 4)
            against = {
                "n": self.units,
                "difference": difference,
                "p": p,
                "p_holm": min(1.0, 4 * p),
                "letter": "a" if 4 * p < 0.05 and difference > 0 else None,
            }
        seconds = self.seconds.setdefault(arm, 10 ** r.uniform(-3, 1))
        cost = {
            "seconds_per_unit": seconds,
            "input_tokens": round(seconds * 300, 1),
            "generated_tokens": round(seconds * 5, 1),
            "forward_passes": round(seconds + 1, 1),
            "peak_bytes": int(r.uniform(2e8, 3e9)),
        }
        return {
            "arm": arm,
            "benchmark": benchmark,
            "split": "test",
            "measure": measure,
            "value": round(value, 4),
            "ci": [round(value - width, 4), round(value + width, 4)] if self.units > 1 else [None, None],
            "n": self.units,
            "clusters": max(1, self.units * 2 // 3),
            "seeds": seeds,
            "by_seed": [round(value, 4)] * seeds,
            "seed_sd": round(r.uniform(0.001, 0.02), 4) if seeds > 1 else None,
            "against": against,
            "cost": {"seconds_per_unit": None, "input_tokens": None} if ceiling else cost,
        }

    def _units(self, row: Mapping[str, Any]) -> dict[str, Any]:
        values = {
            f"q{i}": [round(min(1.0, max(0.0, self.random.gauss(row["value"], 0.3))), 4) for _ in range(row["seeds"])]
            for i in range(row["n"])
        }
        return {"arm": row["arm"], "benchmark": row["benchmark"], "measure": row["measure"], "values": values}

    # --- claims ---

    def _claims(self) -> list[dict[str, Any]]:
        """The card's, and where it has no test yet one that destroys an ingredient."""
        given = [dict(c) for c in self.card.claims]
        if not any(c.get("role") == "placebo" for c in given):
            given.append(
                {
                    "id": f"{self.card.key}-placebo",
                    "role": "placebo",
                    "kind": "superiority",
                    "sentence": "The method improves on its baseline with another query in its place.",
                }
            )
        return given

    def _claim(self, i: int, claim: Mapping[str, Any]) -> dict[str, Any]:
        r = self.random
        offset = zlib.crc32(self.card.key.encode()) + i
        role = claim.get("role", "claim")
        kind = claim.get("kind") or KINDS[offset % len(KINDS)]
        kind = "identity" if role == "identity" else kind
        if kind == "identity":
            verdict = "identity"
        elif role == "placebo":
            verdict = "placebo failed as it must"
        else:
            verdict = VERDICTS[(offset // 2) % len(VERDICTS)]
        if self.scale == "quick" and verdict != "identity":
            verdict = "not run" if verdict == "not run" else "smoke"
        measure = claim.get("measure") or "nDCG@10"
        expr = claim.get("expr") or (None if claim.get("timing") else "m(method) - m(baselines.first_stage)")
        ran = verdict not in ("not run", "identity")
        numbers = self._numbers(kind, verdict) if ran else _nothing()
        combine = claim.get("combine", "macro")
        parts = [
            {"benchmark": b, **self._numbers(kind, verdict), "p": round(r.random() ** 4, 5)} for b in self.benchmarks
        ]
        guard = None
        if verdict == "baseline not competent" or (verdict == "reproduced" and claim.get("guard")):
            passed = verdict == "reproduced"
            guard = {
                "expr": claim.get("guard", "m(baselines.rankgpt) - m(baselines.random)"),
                "benchmark": "macro",
                "effect": 0.12 if passed else 0.004,
                "ci": [0.08, 0.16] if passed else [-0.02, 0.03],
                "n": self.units,
                "clusters": 40,
                "seeds": 1,
                "p": 0.0002 if passed else 0.31,
                "passed": passed,
            }
        timing = f"timing {claim['timing']}" if claim.get("timing") else None
        return {
            "id": claim["id"],
            "kind": kind,
            "role": role,
            "origin": claim.get("origin") or ("paper", "paper", "control", "ours")[offset % 4],
            "sentence": claim["sentence"],
            "quantity": claim.get("quantity"),
            "levels": claim.get("levels", []),
            "restated": claim.get("restated") or ("the paper uses a model of 7 billion parameters" if i == 1 else None),
            "measure": None if timing else measure,
            "expr": expr,
            "combine": combine,
            "verdict": verdict,
            "note": f"{self.card.key}.method on {self.benchmarks[-1]}" if verdict == "not run" else None,
            "benchmark": (timing or ("macro" if combine == "macro" else self.benchmarks[0])) if ran else None,
            **numbers,
            "p": round(r.random() ** 4, 5) if ran else None,
            "p_holm": 0.0014 if verdict == "reproduced" else (0.4 if ran and role == "claim" else None),
            "p_permutation": None,
            "seed_sd": 0.004 if ran and i % 2 else None,
            "min_effect": claim.get("min_effect", 0.01) if "min_effect" in claims.KINDS[kind].reads else None,
            "margin": claim.get("margin") or (0.02 if kind in ("noninferiority", "equivalence") else None),
            "bound": claim.get("bound") or {"share": 0.5, "ratio": 1.0}.get(kind),
            "needed_n": 840 if verdict == "inconclusive" else None,
            "guard": guard,
            "per_benchmark": parts if ran and not timing else [],
            "sizes": [],
            "terms": [[f"{self.card.key}.method", measure], ["baselines.first_stage", measure]] if expr else [],
            "where": None,
            "n_effective": round(self.units * 0.7, 1) if ran else None,
            "detectable": round(r.uniform(0.02, 0.05), 4) if ran else None,
        }

    def _numbers(self, kind: str, verdict: str) -> dict[str, Any]:
        r = self.random
        centre = {"ratio": 1.0, "share": 0.5}.get(kind, 0.0)
        sign = -1 if kind == "ratio" else 1
        size = {
            "reproduced": r.uniform(0.05, 0.2),
            "baseline not competent": r.uniform(0.05, 0.2),
            "not reproduced": -r.uniform(0.05, 0.15),
            "placebo failed as it must": -r.uniform(0.1, 0.3),
        }.get(verdict, r.uniform(-0.01, 0.03))
        if kind in ("equivalence", "noninferiority"):
            size /= 10
        effect, width = centre + sign * size, max(0.006, abs(size) * 0.7)
        return {
            "effect": round(effect, 5),
            "ci": [round(effect - width, 5), round(effect + width, 5)],
            "n": self.units * len(self.benchmarks),
            "clusters": self.units,
            "seeds": 3,
        }

    # --- the rest ---

    def _timings(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        names = [t["name"] for t in self.card.data.get("timings", [])] or [
            "method_over_generation",
            "method_over_forced",
        ]
        timings, seconds = [], {}
        work = {"input_tokens": 900.0, "generated_tokens": 0.0, "forward_passes": 2.0}
        for name, sound in zip(names, (True, False), strict=False):
            units = {f"q{i}": self.random.uniform(0.5, 3) for i in range(16)}
            sides = {
                "a": {u: round(s * self.random.uniform(0.3, 0.5), 4) for u, s in units.items()},
                "b": {u: round(s, 4) for u, s in units.items()},
                "aa": {u: round(s * self.random.uniform(0.3, 0.5), 4) for u, s in units.items()},
            }
            mean = {s: sum(v.values()) / len(v) for s, v in sides.items()}
            timings.append(
                {
                    "name": name,
                    "a": f"{self.card.key}.method",
                    "b": "baselines.rankgpt",
                    "benchmark": self.benchmarks[0],
                    "ratio": mean["a"] / mean["b"],
                    "ci": [0.35, 0.46],
                    "aa": [0.97, 1.04] if sound else [1.02, 1.2],
                    "repeat": [0.97, 1.02],
                    "sound": sound,
                    "fault": None if sound else "the arm against itself does not come out at 1",
                    "n": 16,
                    "seconds_a": mean["a"],
                    "seconds_b": mean["b"],
                    "cost_a": work,
                    "cost_b": {"input_tokens": 1400.0, "generated_tokens": 60.0, "forward_passes": 63.0},
                }
            )
            seconds[name] = sides
        return timings, seconds

    def _curves(self) -> list[dict[str, Any]]:
        if self.card.family == "controls":
            return []
        curves = []
        for cell, seed in itertools.product(("method", "without_loss"), range(3)):
            loss = [[s, round(2.2 * 0.985**s + self.random.uniform(0, 0.1), 4)] for s in range(0, 300, 3)]
            quality = [[s, round(0.6 - 0.3 * 0.98**s + self.random.uniform(0, 0.02), 4)] for s in range(0, 300, 30)]
            series = {"loss": loss, "validation nDCG@10": quality}
            curves.append(
                {"cell": f"{self.card.key}.{cell}", "benchmark": self.benchmarks[0], "seed": seed, "series": series}
            )
        return curves

    def _cells(self, tables: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        rows = {
            (r["arm"], r["benchmark"], r["seeds"]) for t in tables for r in t["rows"] if r["cost"].get("peak_bytes")
        }
        for arm, benchmark, seeds in sorted(rows):
            for seed in range(seeds):
                seconds = self.seconds[arm] * self.units
                yield {
                    "name": arm,
                    "kind": "cell",
                    "rows": [arm],
                    "benchmark": benchmark,
                    "seed": seed,
                    "digest": hashlib.sha256(f"{arm} {benchmark} {seed}".encode()).hexdigest(),
                    "units": self.units,
                    "params": {"passage_tokens": 40, "window": 14},
                    "models": {"llm": "smollm2-135m-instruct"},
                    "started": 1.76e9,
                    "ended": 1.76e9 + seconds,
                    "wall_s": seconds,
                    "cpu_s": seconds * 1.8,
                    "peak_bytes": 1_500_000_000,
                    "input_tokens": seconds * 300,
                    "generated_tokens": seconds * 5,
                    "forward_passes": seconds * 2,
                }

    def _reported(self) -> list[dict[str, Any]]:
        return [
            {
                "table": "Table 2",
                "data": self.benchmarks[0] if i == 0 else "BEIR",
                "row": row,
                "column": "nDCG@10",
                "value": value,
                "source": "table 2 of the paper",
                "verified": i == 0,
            }
            | ({"ours": {"arm": "method", "measure": "nDCG@10"}} if i == 0 else {})
            for i, (row, value) in enumerate(
                (("method", 54.3), ("baseline", 50.1), ("latency", "more than 60 % lower"))
            )
        ]

    def _examples(self, claims: list[dict[str, Any]]) -> dict[str, Any]:
        shown = [c for c in claims if c["expr"] and c["effect"] is not None and c["role"] == "claim"][:6]
        return {
            "schema": 3,
            "paper": self.card.key,
            "attribution": {b: "Wikipedia contributors, CC BY-SA 4.0 <b>" for b in self.benchmarks},
            "claims": {c["id"]: [self._example(b) for b in self.benchmarks] for c in shown},
        }

    def _example(self, benchmark: str) -> dict[str, Any]:
        differences = sorted((round(self.random.gauss(0.05, 0.3), 4) for _ in range(self.units)), reverse=True)
        ends = [*range(3), *range(self.units - 3, self.units)] if self.units >= 6 else range(self.units)
        details = [
            {
                "unit": f"q{i}",
                "query": f"{HOSTILE[i % 3]} query {i}",
                "difference": differences[i],
                "a": [self._document(i + k) for k in range(3)],
                "b": [self._document(i + k + 1) for k in range(3)],
            }
            for i in ends
        ]
        return {
            "benchmark": benchmark,
            "measure": "nDCG@10",
            "a": f"{self.card.key}.method",
            "b": "baselines.first_stage",
            "differences": differences,
            "details": details,
        }

    def _document(self, i: int) -> dict[str, Any]:
        texts = (*HOSTILE, QUOTE)
        return {
            "id": f"d{i}",
            "title": HOSTILE[0] if i % 5 == 0 else f"Article {i}",
            "quote": texts[i % 4][:200],
            "grade": i % 3,
        }


def _nothing() -> dict[str, Any]:
    return {"effect": None, "ci": [None, None], "n": None, "clusters": None, "seeds": None}


def build_site(folder: Path, keys: list[str] | None = None, scale: str = "desk", units: int = 60) -> Path:
    """Judged files of the cards `keys` (all), and the site made from them by the workflow's own entry point."""
    from rankrepro.report import render

    cards = load_cards(ROOT / "papers")
    chosen = keys or list(cards)
    write(folder / "results", cards, chosen, scale, units)
    write_jobs(folder / "results", chosen)
    render(chosen, scale, folder / "results", folder / "reports")
    return folder / "reports"


def main(folder: Path) -> None:
    print(build_site(folder) / "index.html")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
