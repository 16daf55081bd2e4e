"""MLflow holds what the judged files say: once, currently, and again after any accident."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judged_support import KEY, SCALE, STEPS, digest, edit, write_judged
from rankrepro.cards import validate
from rankrepro.errors import LockedError, StoreError, TrackingError
from rankrepro.tracking import client, ingest, ui, unmark
from rankrepro.tracking.names import LONGEST_PARAM, cut_tag, metric_name, params
from tests_support import Project, end, free_port, wait_for, watched

RUNS = 7  # six stored results and the verdicts


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store: making one takes seconds."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    client.quiet()
    os.environ["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"  # as in every ingest into a file of ours
    client._migrate(file)
    return file


@pytest.fixture
def results(tmp_path: Path, empty: Path) -> Path:
    folder = tmp_path / "results" / SCALE
    write_judged(folder)
    shutil.copy(empty, tmp_path / "results")
    return folder


def track(results: Path) -> Counter[str]:
    return ingest([KEY], SCALE, results)


def mlflow_client(root: Path) -> Any:
    client.quiet()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=client.address(root))


def runs_of(root: Path) -> dict[str, Any]:
    """Name -> run, all that are not deleted; names must be distinct."""
    mlflow = mlflow_client(root)
    runs = mlflow.search_runs([mlflow.get_experiment_by_name(KEY).experiment_id])
    assert len({r.info.run_name for r in runs}) == len(runs)
    return {r.info.run_name: r for r in runs}


def content(root: Path) -> dict[str, Any]:
    """All a store tells, without ids and places."""
    mlflow, contents = mlflow_client(root), {}
    for name, run in runs_of(root).items():
        files = {}
        for folder in ("", "tables"):
            for f in mlflow.list_artifacts(run.info.run_id, folder):
                if not f.is_dir:
                    files[f.path] = Path(mlflow.download_artifacts(run.info.run_id, f.path)).read_bytes()
        history = {
            k: sorted((m.step, m.value, m.timestamp) for m in mlflow.get_metric_history(run.info.run_id, k))
            for k in run.data.metrics
        }
        info = (run.info.status, run.info.start_time, run.info.end_time)
        contents[name] = (info, run.data.params, run.data.tags, run.data.metrics, history, files)
    return contents


# --- names and values ---


def test_a_pooled_measure_without_published_material_is_told_by_its_table() -> None:
    from rankrepro.tracking.records import Judged

    row = {"arm": "p.a", "benchmark": "b", "measure": "PooledAUC", "by_seed": [0.7, 0.8]}
    judged = Judged.__new__(Judged)
    judged.__dict__["units"] = {}
    cells = [{"rows": ["p.a"], "benchmark": "b", "seed": seed} for seed in (5, 3)]
    tables = [{"where": where, "units_of": None, "rows": [row]} for where in (None, "day")]
    judged.paper = {"cells": cells, "tables": tables}
    assert list(judged._measures(cells[0])) == [("PooledAUC", 0.8, 0), ("PooledAUC/where.day", 0.8, 0)]
    assert list(judged._measures(cells[1])) == [("PooledAUC", 0.7, 0), ("PooledAUC/where.day", 0.7, 0)]


def test_names_of_measures() -> None:
    assert metric_name("nDCG@10") == "nDCG_at_10"
    assert metric_name("F0.5") == "F0.5"
    assert metric_name("Candidates-R") == "Candidates-R"
    assert metric_name("seconds_per_unit") == "seconds_per_unit"
    assert metric_name("cost/wall_s") == "cost/wall_s"
    assert metric_name("P(rel=2)@10") == "P_x28_rel_x3d_2_x29__at_10"
    assert metric_name("nDCG_at_10") == "nDCG_x5f_at_10"


tricky = st.text(alphabet="@_atx5f0/. é:\\", min_size=1, max_size=12)


@settings(deadline=None, max_examples=500)
@given(st.one_of(tricky, st.text(min_size=1, max_size=12)))
def test_every_name_is_legal_and_can_be_read_back(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    legal = metric_name(name)
    _validate_metric_name(legal)
    back = re.sub(r"_(at|x([0-9a-f]+))_", lambda m: "@" if m[1] == "at" else chr(int(m[2], 16)), legal)
    assert back == name  # so no two names share one


def test_parameters_are_flat_and_none_is_cut_in_silence() -> None:
    flat = params({"a": {"b": [1, 2], "c": {}}, "on": True, "none": None, "s": "text", "long": "x" * 7000})
    long = flat.pop("long")
    assert flat == {"a.b": "[1, 2]", "a.c": "{}", "on": "true", "none": "null", "s": "text"}
    assert len(long) == LONGEST_PARAM
    assert long.endswith("xx [cut: 7000 characters, all of them in manifest.json]")
    assert len(cut_tag("y" * 9000)) == 8000


# --- one ingest ---


def test_the_judged_paper_of_these_tests_is_one(results: Path) -> None:
    for name in ("results", "units"):
        validate(json.loads((results / "judged" / KEY / f"{name}.json").read_text()), name, name)


def test_what_is_written(results: Path) -> None:
    assert track(results) == {"written": RUNS}
    root, runs = results.parent, runs_of(results.parent)
    mlflow = mlflow_client(root)
    experiment = mlflow.get_experiment_by_name(KEY)
    assert experiment.tags["title"].startswith("AnyLoss")
    assert experiment.tags["link"].startswith("https://")
    assert experiment.tags["family"] == "language_models"
    assert set(runs) == {
        "anyloss.slp on tabular/real seed 0", "anyloss.scaler on tabular/real seed 0",
        "anyloss.slp_over_mlp on tabular/real seed 0", "anyloss verdicts",
        *(f"anyloss.mlp on tabular/real seed {s}" for s in range(3)),
    }  # fmt: skip

    units = json.loads((results / "judged" / KEY / "units.json").read_text())["rows"]
    values = {r["arm"]: r["values"] for r in units}
    mlp = values["anyloss.mlp_any_f1"]
    for seed in range(3):
        run = runs[f"anyloss.mlp on tabular/real seed {seed}"]
        assert run.data.metrics["F1"] == pytest.approx(sum(v[seed] for v in mlp.values()) / len(mlp))
        hard = [v[seed] for v in list(mlp.values())[:3]]
        assert run.data.metrics["nDCG_at_10/where.hard"] == pytest.approx(sum(hard) / 3)  # its own, no mean of seeds
        loss = mlflow.get_metric_history(run.info.run_id, "training/loss")
        assert sorted((m.step, m.value) for m in loss) == [(s, 1 / (1 + s + seed)) for s in range(STEPS)]
        assert len(mlflow.get_metric_history(run.info.run_id, "training/validation F1_at_best")) == STEPS - 1
        assert run.data.params["model.llm"] == "smollm2"
        assert run.data.tags["digest"] == digest("mlp", seed)

    slp = runs["anyloss.slp on tabular/real seed 0"]
    tables = json.loads((results / "judged" / KEY / "results.json").read_text())["papers"][KEY]["tables"]
    assert slp.data.metrics["F1/slp_any_f1"] == pytest.approx(tables[0]["rows"][0]["value"])
    hard, every = tables[1]["rows"][1]["value"], values["anyloss.slp_bce_f1"].values()
    assert slp.data.metrics["nDCG_at_10/slp_bce_f1/where.hard"] == pytest.approx(hard)
    assert slp.data.metrics["nDCG_at_10/slp_bce_f1"] == pytest.approx(sum(v[0] for v in every) / len(every))
    assert slp.data.metrics["nDCG_at_10/slp_bce_f1"] != hard
    assert slp.data.metrics["cost/wall_s"] == 60.5
    assert (slp.info.status, slp.info.start_time, slp.info.end_time) == ("FINISHED", 1760000000000, 1760000060500)
    assert slp.data.params["rates"] == "[0.03, 0.01]"
    assert slp.data.params["inner.depth"] == "2"
    assert "[cut: 10000 characters" in slp.data.params["inner.prompt"]
    assert slp.data.params["spec.queries.split"] == '["test"]'
    expected = {
        "paper": KEY, "arm": "anyloss.slp", "benchmark": "tabular/real", "scale": SCALE, "commit": "a" * 40,
        "claims_commit": "b" * 40, "digest": digest("slp"), "seed": "0", "kind": "cell",
        "rows": "anyloss.slp_any_f1, anyloss.slp_bce_f1", "verdict.f1-over-bce": "reproduced",
    }  # fmt: skip
    assert expected.items() <= slp.data.tags.items()
    assert not {"verdict.mlp-too", "verdict.faster"} & set(slp.data.tags)
    files = {f.path for f in mlflow.list_artifacts(slp.info.run_id)}
    assert files == {"output.json", "manifest.json", "cost.json"}

    scaler = runs["anyloss.scaler on tabular/real seed 0"]
    assert {f.path for f in mlflow.list_artifacts(scaler.info.run_id)} == {"manifest.json", "cost.json"}
    assert scaler.data.tags["not_copied"] == f"results/desk/store/{digest('scaler')}/arrays.safetensors (8 MB)"
    timing = runs["anyloss.slp_over_mlp on tabular/real seed 0"]
    assert timing.data.metrics["timing/ratio"] == 0.4
    assert timing.data.tags["verdict.faster"] == "reproduced"

    verdicts = runs["anyloss verdicts"]
    assert verdicts.data.metrics["effect/f1-over-bce"] == 0.12
    assert verdicts.data.tags["verdicts"] == "2 reproduced, 1 inconclusive"
    assert {k: v for k, v in verdicts.data.tags.items() if k.startswith("verdict.")} == {
        "verdict.f1-over-bce": "reproduced", "verdict.mlp-too": "inconclusive", "verdict.faster": "reproduced",
    }  # fmt: skip
    assert {f.path for f in mlflow.list_artifacts(verdicts.info.run_id, "tables")} == {
        "tables/01-f1.csv", "tables/02-ranked-hard-ones.csv",
    }  # fmt: skip
    file = Path(mlflow.download_artifacts(verdicts.info.run_id, "tables/01-f1.csv"))
    first = file.read_text().splitlines()[1].split(",")
    assert first[0] == "anyloss.slp_any_f1"
    assert float(first[4]) == tables[0]["rows"][0]["value"]
    marker = json.loads((results / "tracked.json").read_text())
    assert marker["digests"] == sorted(
        {digest("slp"), digest("scaler"), digest("slp_over_mlp")} | {digest("mlp", s) for s in range(3)}
    )


def test_again_and_nothing_is_new(results: Path) -> None:
    track(results)
    before, ids = content(results.parent), {n: r.info.run_id for n, r in runs_of(results.parent).items()}
    assert track(results) == {"unchanged": RUNS}
    assert content(results.parent) == before
    assert {n: r.info.run_id for n, r in runs_of(results.parent).items()} == ids


def test_a_deleted_store_is_rebuilt_equal(results: Path) -> None:
    track(results)
    before = content(results.parent)
    (results.parent / "quick").mkdir()
    (results.parent / "quick" / "tracked.json").write_text("{}")
    (results.parent / "mlflow.db").unlink()
    unmark(results)
    assert not (results / "tracked.json").exists()  # so that the workflow's rule runs
    assert track(results) == {"written": RUNS}
    assert content(results.parent) == before
    assert (results / "tracked.json").exists()
    assert not (results.parent / "quick" / "tracked.json").exists()  # what it had is gone with the store
    assert len(list((results.parent / "mlartifacts" / KEY).iterdir())) == RUNS  # nothing of the old store is left


def test_a_new_verdict_is_a_new_tag_on_the_same_runs(results: Path) -> None:
    track(results)
    ids = {n: r.info.run_id for n, r in runs_of(results.parent).items()}
    write_judged(results, "not reproduced")
    edit(results / "judged" / KEY, lambda paper: paper["claims"].pop(1))
    assert track(results) == {"updated": 4, "unchanged": 2, "written": 1}
    runs = runs_of(results.parent)
    assert runs["anyloss.slp on tabular/real seed 0"].data.tags["verdict.f1-over-bce"] == "not reproduced"
    assert "verdict.mlp-too" not in runs["anyloss.mlp on tabular/real seed 1"].data.tags
    assert runs["anyloss verdicts"].data.tags["verdicts"] == "1 not reproduced, 1 reproduced"
    changed = {n for n, r in runs.items() if r.info.run_id != ids[n]}
    assert changed == {"anyloss verdicts"}  # a claim fewer: an effect that cannot be taken back
    assert track(results) == {"unchanged": RUNS}


def test_another_verdict_alone_replaces_no_run(results: Path) -> None:
    track(results)
    ids = {n: r.info.run_id for n, r in runs_of(results.parent).items()}
    write_judged(results, "inconclusive")
    assert track(results) == {"updated": 2, "unchanged": RUNS - 2}
    runs = runs_of(results.parent)
    assert {n: r.info.run_id for n, r in runs.items()} == ids
    file = mlflow_client(results.parent).download_artifacts(ids["anyloss verdicts"], "results.json")
    assert "inconclusive" in Path(file).read_text()


def test_other_values_replace_the_run_and_old_results_are_marked(results: Path) -> None:
    track(results)
    folder = results / "judged" / KEY
    edit(folder, lambda paper: paper["tables"][0]["rows"][0].update(value=0.75, by_seed=[0.75]))
    edit(folder, lambda paper: paper["cells"].pop(1))  # mlp seed 2 belongs to code that is no more
    edit(folder, lambda paper: paper["curves"].pop(2))
    edit(folder, lambda paper: paper["tables"][0]["rows"].pop(2))
    edit(folder, lambda paper: paper["tables"][1]["rows"].pop(2))
    track(results)
    runs = runs_of(results.parent)
    assert len(runs) == RUNS
    assert runs["anyloss.slp on tabular/real seed 0"].data.metrics["F1/slp_any_f1"] == 0.75
    assert {n for n, r in runs.items() if "superseded" in r.data.tags} == {"anyloss.mlp on tabular/real seed 2"}
    assert track(results) == {"unchanged": RUNS - 1}


def test_a_user_keeps_tags_and_may_delete(results: Path) -> None:
    track(results)
    mlflow, runs = mlflow_client(results.parent), runs_of(results.parent)
    slp = runs["anyloss.slp on tabular/real seed 0"].info
    mlflow.set_tag(slp.run_id, "favourite", "yes")
    mlflow.delete_run(runs["anyloss verdicts"].info.run_id)
    assert track(results) == {"unchanged": RUNS - 1, "written": 1}
    assert runs_of(results.parent)["anyloss.slp on tabular/real seed 0"].data.tags["favourite"] == "yes"
    mlflow.delete_experiment(slp.experiment_id)
    track(results)
    assert len(runs_of(results.parent)) == RUNS


# --- accidents ---

KILLED = """
import os, signal, sys
from pathlib import Path
from mlflow import MlflowClient
from rankrepro.tracking import ingest

left = int(sys.argv[2])
for name in ("create_run", "log_batch", "log_artifact", "log_text", "set_terminated"):
    def counted(*args, original=getattr(MlflowClient, name), **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    setattr(MlflowClient, name, counted)
ingest(["anyloss"], "desk", Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an undisturbed ingest writes."""
    folder = tmp_path_factory.mktemp("whole") / "results" / SCALE
    write_judged(folder)
    track(folder)
    return content(folder.parent)


@pytest.mark.parametrize("calls", [0, 1, 4, 9, 47])
def test_killed_in_the_middle(results: Path, whole: dict[str, Any], calls: int) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(results), str(calls)], env=_env(), timeout=600)
    assert done.returncode == -signal.SIGKILL
    assert not (results / "tracked.json").exists()
    assert len(runs_of(results.parent)) < RUNS or calls > 40
    track(results)
    assert content(results.parent) == whole  # runs_of() has seen that no name is there twice
    assert track(results) == {"unchanged": RUNS}


def test_killed_while_the_store_is_made(results: Path, whole: dict[str, Any]) -> None:
    (results.parent / "mlflow.db").unlink()
    (results.parent / ".mlflow.db.new").write_bytes(b"half a file")
    (results.parent / ".mlflow.db.new-journal").write_bytes(b"half a journal")
    track(results)
    assert content(results.parent) == whole
    assert not list(results.parent.glob(".mlflow.db.new*"))


def test_two_at_once_write_each_run_once(results: Path, whole: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "rankrepro", "internal", "track", KEY, "--scale", SCALE, "--results", str(results)]
    both = [subprocess.Popen(command, env=_env(), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    logs = [p.communicate(timeout=600)[1] for p in both]
    assert [p.returncode for p in both] == [0, 0], logs
    assert sum("7 written" in t for t in logs) == 1
    assert sum("7 unchanged" in t for t in logs) == 1
    assert content(results.parent) == whole


def test_runs_written_twice_by_two_machines_become_one(results: Path) -> None:
    track(results)
    mlflow, run = mlflow_client(results.parent), runs_of(results.parent)["anyloss verdicts"]
    mlflow.create_run(run.info.experiment_id, tags=run.data.tags | {"mlflow.runName": "a twin"})
    track(results)
    assert len(runs_of(results.parent)) == RUNS


@pytest.mark.parametrize("harm", ["garbage", "half a migration", "another version", "empty"])
def test_a_damaged_store_is_put_aside_and_written_again(results: Path, whole: dict[str, Any], harm: str) -> None:
    file = results.parent / "mlflow.db"
    track(results)
    if harm == "garbage":
        file.write_bytes(b"not a database" * 1000)
    elif harm == "empty":
        file.write_bytes(b"")
    else:
        with sqlite3.connect(file) as db:
            db.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
            if harm == "half a migration":
                db.execute("DROP TABLE latest_metrics")
    track(results)
    assert content(results.parent) == whole
    assert (results.parent / "mlflow.db.old").exists()


def test_a_moved_folder_is_written_again(results: Path, whole: dict[str, Any]) -> None:
    track(results)
    moved = results.parent.with_name("elsewhere")
    results.parent.rename(moved)
    assert track(moved / SCALE) == {"written": RUNS}
    assert content(moved) == whole


def test_a_locked_database(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    track(results)
    marker = (results / "tracked.json").read_bytes()
    monkeypatch.setattr(client, "LOCK_SECONDS", 0.2)
    with sqlite3.connect(results.parent / "mlflow.db") as db:
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TrackingError, match=r"another process keeps .*mlflow.db locked; stop it"):
            track(results)
        db.execute("ROLLBACK")
    assert (results / "tracked.json").read_bytes() == marker
    assert track(results) == {"unchanged": RUNS}


def test_another_ingest_that_does_not_end(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rankrepro import lock, tracking

    monkeypatch.setattr(tracking, "WAIT", 0.1)
    with lock.alone(results.parent, 0), pytest.raises(LockedError, match=f"process {os.getpid()}"):
        track(results)


def test_a_store_that_cannot_be_written(results: Path) -> None:
    (results.parent / "mlflow.db").unlink()
    (results.parent / "mlflow.db").mkdir()
    with pytest.raises(TrackingError, match="Results are not affected"):
        track(results)


@pytest.mark.parametrize("damage", ["missing", "torn", "version 1", "another scale", "no manifest"])
def test_files_that_cannot_be_read_are_named(results: Path, damage: str) -> None:
    file = results / "judged" / KEY / "results.json"
    text = file.read_text()
    if damage == "missing":
        file.unlink()
    elif damage == "torn":
        file.write_text(text[: len(text) // 2])
    elif damage == "version 1":
        file.write_text(text.replace('"schema": 3', '"schema": 1'))
    elif damage == "another scale":
        file.write_text(text.replace('"scale": "desk"', '"scale": "paper"'))
    else:
        file = results / "store" / digest("mlp", 1) / "manifest.json"
        file.unlink()
    with pytest.raises(StoreError, match=str(file)):
        track(results)


# --- servers ---


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of an MLflow server of its own on loopback, which keeps artifacts for its clients."""
    folder = tmp_path / "server"
    folder.mkdir()
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/files",
    ]  # fmt: skip
    env = {**_env(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(command, env=env, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process)


def _env() -> dict[str, str]:
    root = Path(__file__).resolve().parent.parent
    return {**os.environ, "PYTHONPATH": str(root)}


def test_a_server(
    results: Path,
    whole: dict[str, Any],
    server: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (results.parent / "mlflow.db").unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.replace("//", "//user:secret@"))
    assert track(results) == {"written": RUNS}
    assert content(results.parent) == whole
    assert not (results.parent / "mlflow.db").exists()
    assert not (results.parent / "mlartifacts").exists()  # the server has them
    assert json.loads((results / "tracked.json").read_text())["uri"] == server
    write_judged(results, "inconclusive")
    assert track(results) == {"updated": 2, "unchanged": RUNS - 2}
    assert "secret" not in "".join(capfd.readouterr())


def test_no_server(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://user:secret@127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    raises = pytest.raises(TrackingError, match=r"no server answers at http://127.0.0.1:.*; start it")
    with watched("socket.connect") as attempts, raises as error:
        track(results)
    assert 0 < len(attempts) <= 6  # MLflow's own patience is seven retries of every call, with minutes between them
    assert "secret" not in str(error.value)
    assert not (results / "tracked.json").exists()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("mlruns", "is a folder, which MLflow no longer writes"),
        ("nosuch://user:secret@place", "MLFLOW_TRACKING_URI=nosuch://place is not an address MLflow knows"),
    ],
)
def test_bad_addresses(results: Path, monkeypatch: pytest.MonkeyPatch, address: str, words: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(TrackingError, match=words):
        track(results)


def test_another_database(results: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{results.parent}/mine.db")
    track(results)
    assert content(results.parent) == whole
    assert (results.parent / "mlartifacts.other" / KEY).exists()


def test_browse_says_where_the_runs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TrackingError, match="does not exist yet; run `make reproduce` first"):
        ui.main(tmp_path, 5000)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:secret@mlflow.example.org/team")
    ui.main(tmp_path, 5000)
    assert capsys.readouterr().out == "MLFLOW_TRACKING_URI is set: the runs are at https://mlflow.example.org/team\n"


# --- the workflow ---


def test_the_workflow_tracks(finished: Project) -> None:
    toy = finished
    root = toy.folder / "results"
    tracked = json.loads((toy.results / "tracked.json").read_text())
    assert tracked["uri"] == "results/mlflow.db"
    assert set(tracked["digests"]) == {d.name for d in (toy.results / "store").iterdir()}
    mlflow = mlflow_client(root)
    runs = mlflow.search_runs([mlflow.get_experiment_by_name("toy").experiment_id])
    names = {r.info.run_name for r in runs}
    benchmark = "vital-mini/fever"
    assert {f"toy.noise on {benchmark} seed {s}" for s in (0, 1)} | {"toy verdicts"} < names
    reported = json.loads((toy.results / "judged" / "toy" / "results.json").read_text())["papers"]["toy"]["tables"][0]
    noise = [r.data.metrics["nDCG_at_10"] for r in runs if r.data.tags.get("arm") == "toy.noise"]
    value = next(r["value"] for r in reported["rows"] if r["arm"] == "toy.noise")
    assert len(noise) == 2
    assert noise[0] != noise[1]
    assert sum(noise) / 2 == pytest.approx(value)

    # the store is deleted, and the same command writes it again; a dead server loses no result
    shutil.rmtree(root / "mlartifacts")
    (root / "mlflow.db").unlink()
    toy.run()
    assert {r.info.run_name for r in _all_runs(root)} == names
    summary = toy.folder / "reports" / "quick" / "summary.md"
    summary.unlink()
    failed = subprocess.run(
        toy.command("papers=toy"), cwd=toy.folder, capture_output=True, text=True, timeout=300,
        env={**toy.env(), "MLFLOW_TRACKING_URI": f"http://u:secret@127.0.0.1:{free_port()}"},
    )  # fmt: skip
    output = failed.stdout + failed.stderr
    assert failed.returncode != 0
    assert "TrackingError: no server answers" in output
    assert "secret" not in output
    assert summary.exists()
    assert not [f for f in (toy.folder / ".snakemake").rglob("*") if f.is_file() and "secret" in f.read_text("latin1")]


def _all_runs(root: Path) -> list[Any]:
    mlflow = mlflow_client(root)
    return mlflow.search_runs([mlflow.get_experiment_by_name("toy").experiment_id])
