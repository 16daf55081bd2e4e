"""A small judged paper with its stored results, for tests of what reads them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from random import Random
from typing import Any

from rankrepro.store import Store

KEY, SCALE, BENCHMARK = "anyloss", "desk", "tabular/real"
STEPS = 700  # of a curve; two curves are more than MLFlow takes in one call
TASKS = [f"task{i}" for i in range(8)]


def digest(name: str, seed: int = 0) -> str:
    return hashlib.sha256(f"{name} {seed}".encode()).hexdigest()


def write_judged(results: Path, verdict: str = "reproduced") -> Path:
    """`results`/judged/anyloss and the store: a cell of two rows, one of three seeds, a stage and a timing."""
    random = Random(1)
    values = {
        "anyloss.slp_any_f1": {t: [random.random()] for t in TASKS},
        "anyloss.slp_bce_f1": {t: [random.random()] for t in TASKS},
        "anyloss.mlp_any_f1": {t: [random.random() for _ in range(3)] for t in TASKS},
    }
    cells = [_cell("slp", ["anyloss.slp_any_f1", "anyloss.slp_bce_f1"], 0)]
    cells += [_cell("mlp", ["anyloss.mlp_any_f1"], seed) for seed in (2, 0, 1)]  # in whatever order the judge has them
    cells += [_cell("scaler", [], 0, "stage"), _cell("slp_over_mlp", [], 0, "timing")]
    for cell in cells:
        _store(Store(results / "store"), cell)
    table = {"name": "F1", "measures": ["F1"], "baseline": "anyloss.slp_bce_f1", "where": None, "units_of": None}
    table["rows"] = [_row(arm, "F1", v) for arm, v in values.items()]
    ranked = {"name": "ranked: hard ones", "measures": ["nDCG@10"], "baseline": None, "where": "hard", "units_of": None}
    ranked["rows"] = [_row(arm, "nDCG@10", {t: v[t] for t in TASKS[:3]}) for arm, v in values.items()]
    timing = {
        "name": "slp_over_mlp", "a": "anyloss.slp_any_f1", "b": "anyloss.mlp_any_f1", "benchmark": BENCHMARK,
        "ratio": 0.4, "ci": [0.3, 0.5], "aa": [0.9, 1.1], "repeat": None, "sound": True, "fault": None, "n": 8,
        "seconds_a": 1.0, "seconds_b": 2.5, "cost_a": _work(), "cost_b": _work(),
    }  # fmt: skip
    page = {
        "sizes": [],
        "tables": [table, ranked],
        "claims": [
            _claim("f1-over-bce", verdict, [["anyloss.slp_any_f1", "F1"], ["anyloss.slp_bce_f1", "F1"]], 0.12),
            _claim("mlp-too", "inconclusive", [["anyloss.mlp_any_f1", "F1"]], -0.01),
            _claim("faster", "reproduced", [], 0.4) | {"kind": "ratio", "benchmark": "timing slp_over_mlp"},
        ],
        "timings": [timing],
        "curves": [_curve(seed) for seed in range(3)],
        "cells": cells,
        "reported": [],
    }
    data = {
        "schema": 3, "scale": SCALE, "commit": "a" * 40, "claims_commit": "b" * 40,
        "provenance": {"judge": "c" * 64, "registered": {}, "truth": {}},
        "digests": [c["digest"] for c in cells], "papers": {KEY: page},
        "totals": {"wall_s": 9.0, "cell_wall_s": 8.0, "compute_s": 12.0, "cores": 2},
    }  # fmt: skip
    rows = [
        {"arm": a, "benchmark": BENCHMARK, "measure": m, "values": v}
        for a, v in values.items()
        for m in ("F1", "nDCG@10")
    ]
    folder = results / "judged" / KEY
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(data))
    known = {BENCHMARK: {"clusters": {}, "splits": {}, "tags": {}}}
    units = {"benchmarks": known, "rows": rows, "material": [], "left_out": [], "timings": {}}
    (folder / "units.json").write_text(json.dumps({"schema": 3, "paper": KEY} | units))
    return folder


def edit(folder: Path, change: Any) -> None:
    """Apply `change` to the paper in a results.json."""
    data = json.loads((folder / "results.json").read_text())
    change(data["papers"][KEY])
    (folder / "results.json").write_text(json.dumps(data))


def _cell(name: str, rows: list[str], seed: int, kind: str = "cell") -> dict[str, Any]:
    return {
        "name": f"anyloss.{name}", "kind": kind, "rows": rows, "benchmark": BENCHMARK, "seed": seed,
        "digest": digest(name, seed), "units": len(TASKS), "models": {"llm": "smollm2"} if name == "mlp" else {},
        "params": {"steps": 150, "rates": [0.03, 0.01], "inner": {"depth": 2, "prompt": "word " * 2000}},
        "started": 1.76e9 + seed, "ended": 1.76e9 + seed + 60.5, "wall_s": 60.5, "cpu_s": 70.25, "peak_bytes": 10**9,
        "input_tokens": 0.0, "generated_tokens": 0.0, "forward_passes": 300.0,
    }  # fmt: skip


def _store(store: Store, cell: dict[str, Any]) -> None:
    import numpy as np

    spec = {"fn": "anyloss.slp_arms", "threads": 1, "dtype": "float32", "candidates": None,
            "queries": {"split": ["test"], "sample": None, "mode": "own"}}  # fmt: skip
    manifest = {"name": cell["name"], "digest": cell["digest"], "spec": spec}
    if cell["kind"] == "timing":
        manifest["spec"] = {"a": spec, "b": spec, "n": 8, "threads": 0, "dtype": "float32", "candidates": None}
    if store.has(cell["digest"]):
        return
    content: dict[str, Any] = {"output": {"main": {"type": "predictions", "values": {t: [0.5] for t in TASKS}}}}
    if cell["kind"] == "stage":
        content = {"arrays": {"mean": np.zeros(2_000_000, dtype=np.float32)}}  # 8 MB: too large to copy
    store.put(cell["digest"], manifest, {"units": {}}, **content)


def _row(arm: str, measure: str, values: dict[str, list[float]]) -> dict[str, Any]:
    means = [sum(v) / len(v) for v in values.values()]
    seeds = len(values["task0"])
    return {
        "arm": arm, "benchmark": BENCHMARK, "split": "test", "measure": measure, "value": sum(means) / len(means),
        "ci": [0.2, None], "n": len(means), "clusters": 5, "seeds": seeds, "seed_sd": 0.1 if seeds > 1 else None,
        "by_seed": [sum(v[s] for v in values.values()) / len(values) for s in range(seeds)],
        "against": {"n": 8, "difference": 0.1, "p": 0.01, "p_holm": 0.02, "letter": "a"},
        "cost": _work() | {"seconds_per_unit": 0.1, "peak_bytes": 10**9},
    }  # fmt: skip


def _work() -> dict[str, Any]:
    return {"input_tokens": 0.0, "generated_tokens": 0.0, "forward_passes": 1.0}


def _claim(name: str, verdict: str, terms: list[list[str]], effect: float) -> dict[str, Any]:
    nothing = dict.fromkeys(
        ("restated", "note", "p_permutation", "seed_sd", "margin", "bound", "needed_n", "guard", "where", "n_effective",
         "detectable", "measure", "expr")
    )  # fmt: skip
    return nothing | {
        "id": name, "kind": "superiority", "role": "claim", "sentence": f"The claim {name} holds.", "combine": "macro",
        "verdict": verdict, "benchmark": "macro", "effect": effect, "ci": [effect - 0.1, effect + 0.1], "n": 8,
        "clusters": 5, "seeds": 1, "p": 0.01, "p_holm": 0.03, "min_effect": 0.01, "per_benchmark": [], "sizes": [],
        "terms": terms,
    }  # fmt: skip


def _curve(seed: int) -> dict[str, Any]:
    series = {
        "loss": [[step, 1 / (1 + step + seed)] for step in range(STEPS)],
        "validation F1@best": [[step, step / STEPS if step else None] for step in range(STEPS)],
    }
    return {"cell": "anyloss.mlp", "benchmark": BENCHMARK, "seed": seed, "series": series}
