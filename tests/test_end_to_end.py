"""The main job on tiny slices of real benchmarks: every baseline, real models, no stand-ins."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator

from tests_support import ROOT, make_project


def test_every_baseline_from_artifacts_to_report(tmp_path: Path) -> None:
    project = make_project(tmp_path, ["baselines"])
    file = project.folder / "papers" / "controls" / "baselines.yaml"
    card = yaml.safe_load(file.read_text())
    card["benchmarks"]["quick"] = ["vital-mini/fever"]
    quick = card["scales"]["quick"]
    quick["sample"] = {**dict.fromkeys(quick["sample"], 2), "all": 40}
    quick["benchmarks"] = {"mpnet": []}  # its weights are 400 MB
    for arm in ("embeddings", "dense", "dense_decoy"):
        quick["params"][arm] = {"max_tokens": 32}
    file.write_text(yaml.safe_dump(card, sort_keys=False))
    done = project.run("papers=baselines", timeout=900)

    report = project.folder / "reports" / "quick"
    data = json.loads((report / "baselines" / "results.json").read_text())
    schema = json.loads((ROOT / "workflow" / "schemas" / "results.schema.json").read_text())
    Draft202012Validator(schema).validate(data)
    tables = {t["name"]: t["rows"] for t in data["papers"]["baselines"]["tables"]}
    retrieval = {r["arm"]: r["value"] for r in tables["retrieval"] if r["measure"] == "nDCG@10"}
    ranking = {r["arm"]: r for r in tables["re-ranking the BM25 top 20"] if r["measure"] == "nDCG@10"}

    # does it make sense: words beat chance, a placebo does not retrieve, nothing beats its ceiling
    assert retrieval["baselines.bm25"] > 0.5
    assert retrieval["baselines.dense"] > 0.5
    assert retrieval["baselines.dense_decoy"] < 0.1
    claims = {c["id"]: c for c in data["papers"]["baselines"]["claims"]}
    assert claims["bl-bm25-over-random"]["n"] == 40 and claims["bl-bm25-over-random"]["effect"] > 0.1
    ceiling = ranking["ceiling of baselines.first_stage"]["value"]
    assert ceiling >= ranking["baselines.first_stage"]["value"]
    assert {f"baselines.{a}" for a in card["arms"]["pointwise"]["variants"]} < set(ranking)
    assert ranking["baselines.rankgpt"]["n"] == 2
    assert ranking["baselines.rankgpt"]["cost"]["input_tokens"] > 500
    assert {c["verdict"] for c in data["papers"]["baselines"]["claims"]} <= {"smoke", "identity", "not run"}
    assert data["totals"]["compute_s"] > 1
    assert max(r["cost"]["peak_bytes"] for r in tables["retrieval"]) < 6e9

    # what the user sees
    page = (report / "baselines" / "index.html").read_text()
    assert "baselines.rankgpt" in page and "baselines/index.html" in (report / "index.html").read_text()
    assert "smoke" in (report / "summary.md").read_text()
    assert "core-minutes predicted" in done.stderr
    runs = project.results / "runs" / "vital-mini" / "fever"
    named = {f.name.split("-")[0] for f in runs.glob("*.trec")}
    assert named == {"baselines.bm25", "baselines.dense", "baselines.dense_decoy"}
