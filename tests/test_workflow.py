"""The workflow as a user meets it: a toy paper of two files, run by Snakemake on a tiny slice of real data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest
from jsonschema import Draft202012Validator

from tests_support import ROOT, Project


def results(project: Project, paper: str = "toy") -> dict:
    return json.loads((project.folder / "reports" / "quick" / paper / "results.json").read_text())


def judged(project: Project, name: str) -> dict:
    return json.loads((project.results / "judged" / "toy" / f"{name}.json").read_text())


def test_a_paper_is_two_files(first_run: tuple[Project, subprocess.CompletedProcess[str]], finished: Project) -> None:
    done, toy = first_run[1], finished
    data = results(toy)
    for name in ("results", "units", "examples"):
        schema = json.loads((ROOT / "workflow" / "schemas" / f"{name}.schema.json").read_text())
        Draft202012Validator(schema).validate(judged(toy, name))
    rows = {r["arm"]: r for r in data["papers"]["toy"]["tables"][0]["rows"]}
    assert set(rows) == {"toy.lexical", "toy.overlap", "toy.noise", "ceiling of toy.lexical"}
    assert rows["toy.noise"]["against"] is None and rows["toy.overlap"]["against"]["n"] == 12
    difference = rows["toy.overlap"]["value"] - rows["toy.noise"]["value"]
    assert rows["toy.overlap"]["against"]["difference"] == pytest.approx(difference)
    assert rows["toy.noise"]["seeds"] == 2
    assert rows["toy.overlap"]["n"] == 12
    assert rows["toy.overlap"]["value"] > rows["toy.noise"]["value"]  # words tell more than noise on FEVER
    assert data["papers"]["toy"]["claims"][0]["verdict"] == "smoke"
    several, elsewhere = data["papers"]["toy"]["tables"][1:]
    assert several["where"] == "several_relevant" and all(r["n"] < 12 for r in several["rows"])
    assert elsewhere["rows"] == []
    cells = data["papers"]["toy"]["cells"]
    assert {c["digest"] for c in cells} == set(data["digests"])
    assert {(c["kind"], c["seed"]) for c in cells if c["name"] == "toy.noise"} == {("cell", 0), ("cell", 1)}
    shown = judged(toy, "examples")["claims"]["toy-over-noise"][0]
    assert sum(shown["differences"]) / 12 == pytest.approx(difference, abs=1e-3)
    timing = data["papers"]["toy"]["timings"][0]
    assert (timing["a"], timing["b"]) == ("toy.overlap", "toy.noise")
    assert timing["n"] == 5
    assert timing["ci"][0] <= timing["ratio"] <= timing["ci"][1]
    assert timing["ratio"] == pytest.approx(timing["seconds_a"] / timing["seconds_b"])
    claims = {c["id"]: c for c in data["papers"]["toy"]["claims"]}
    assert claims["toy-faster"]["effect"] == pytest.approx(timing["ratio"])
    assert data["totals"]["compute_s"] > 0
    assert "NaN" not in json.dumps(data)
    assert "<table>" in (toy.folder / "reports" / "quick" / "toy" / "index.html").read_text()
    runs = list((toy.results / "runs" / "vital-mini" / "fever").glob("toy.lexical-*.trec"))
    assert len(runs) == 1
    assert "jobs" in done.stderr  # the status line
    timeline = json.loads((toy.folder / "reports" / "quick" / "jobs" / "jobs.json").read_text())
    assert {j["id"] for j in timeline["jobs"]} == {m.stem for m in toy.results.glob("jobs/*.done")}
    for job in timeline["jobs"]:
        assert {"start-up", "computing", "writing"} <= {s["phase"] for s in job["spans"]}

    # once more: no rule is run, so that no process is started and no model opened
    before = {p: p.stat().st_mtime_ns for p in toy.results.rglob("*") if p.is_file() and "jobs" not in p.parts}
    again = toy.run()
    after = {p: p.stat().st_mtime_ns for p in toy.results.rglob("*") if p.is_file() and "jobs" not in p.parts}
    assert before == after
    assert "Execute" in done.stderr and "Execute" not in again.stderr and "Nothing to be done" in again.stderr

    # garbage truth: cells cannot tell
    first = toy.store()
    for file in toy.results.rglob("truth/*.json"):
        file.write_text("garbage")
    jobs = sorted(toy.results.glob("jobs/*.json"), key=lambda f: f.with_suffix(".done").stat().st_mtime_ns)
    (toy.results / "store").rename(toy.results / "old")
    for job in jobs:
        toy.python("-m", "rankrepro.runner", str(job), "1")
    assert toy.store() == first


def test_a_killed_run_continues_with_the_same_command_and_ends_where_an_undisturbed_one_does(
    toy: Project, first_run: tuple[Project, subprocess.CompletedProcess[str]]
) -> None:
    run = subprocess.Popen(
        toy.command("papers=toy"), cwd=toy.folder, env={**toy.env(), "TOY_PAUSE": "4"}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    shard = None
    while not shard or len(shard.read_bytes().splitlines()) < 3:
        assert run.poll() is None, "the run ended before it could be killed"
        time.sleep(0.1)
        shard = next(iter(toy.results.glob("shards/*/units.jsonl")), None)

    # a second run in the same folder is refused while the first lives
    refused = toy.run("papers=toy", check=False)
    assert refused.returncode != 0
    assert f"process {run.pid}" in refused.stdout + refused.stderr

    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    lines = len(shard.read_bytes().splitlines())
    with shard.open("ab") as f:
        f.write(b'{"values": {"torn')  # a line the kill tore
    toy.run()
    assert toy.store() == first_run[0].store()
    assert not list(toy.results.glob("shards/*/units.jsonl"))
    assert lines >= 3


def test_results_that_left_the_store_are_computed_again_and_no_other(finished: Project) -> None:
    toy = finished
    before = toy.store()
    victim = next(d for d in (toy.results / "store").iterdir() if "overlap" in (d / "manifest.json").read_text())
    stamps = {d.name: d.stat().st_mtime_ns for d in (toy.results / "store").iterdir() if d != victim}
    for file in victim.iterdir():
        file.unlink()
    victim.rmdir()
    toy.run()
    assert toy.store() == before
    assert {d.name: d.stat().st_mtime_ns for d in (toy.results / "store").iterdir() if d != victim} == stamps


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("scale=quik", "unknown scale 'quik'; did you mean 'quick'"),
        ("papers=toi", "unknown paper 'toi'; did you mean 'toy'"),
        ("paper=toy", "paper"),
    ],
)
def test_bad_configuration_fails_before_anything_runs(toy: Project, config: str, words: str) -> None:
    done = toy.run(config, check=False)
    assert done.returncode != 0
    assert words in done.stdout + done.stderr
    assert not (toy.results / "store").exists()


def test_a_results_folder_that_cannot_be_written(toy: Project) -> None:
    (toy.folder / "taken").write_text("a file where the folder should be")
    done = toy.run("papers=toy", "results=taken", check=False)
    assert done.returncode != 0
    assert "StoreError" in done.stdout + done.stderr
    assert "not writable" in done.stdout + done.stderr


def test_a_failing_method_shows_its_error(toy: Project) -> None:
    module = toy.folder / "methods" / "toy.py"
    module.write_text(module.read_text().replace("for d in docs}", "for d in docs[1:]}"))
    done = toy.run(check=False)
    assert done.returncode != 0
    assert "OutputError: toy.noise: query" in done.stdout + done.stderr
    assert "the candidate set changed" in done.stdout + done.stderr
