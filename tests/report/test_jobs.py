"""The page of the last run's jobs: the right run, seconds that add up, and nothing where no job tells."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from synthetic import write_jobs

from rankrepro.report import jobs


@pytest.fixture
def run(tmp_path: Path) -> dict:
    write_jobs(tmp_path, ["icr", "anyloss"])
    gathered = jobs.gather(tmp_path)
    assert gathered is not None
    return gathered


def test_only_jobs_of_the_last_run_are_shown(run: dict) -> None:
    assert [j["title"].split()[0] for j in run["jobs"]] == ["icr.arm0", "icr.arm1", "anyloss.arm0", "anyloss.arm1"]


def test_shares_add_up(run: dict) -> None:
    run["cpu_s"] = 55.0
    shares = jobs.shares(run)
    assert shares["process"] == pytest.approx(4 * 46.5)  # waiting is no work
    assert shares["computing_share"] == pytest.approx(40 / 46.5)
    # computing begins at 6, 11, 16 and 21 s and lasts 40 s: together 55 s
    assert shares["cell_wall"] == pytest.approx(55)
    assert shares["busy"] == pytest.approx(1 / run["cores"])
    assert shares["wall"] == pytest.approx(15 + 46.5)
    assert "86 % of the 3 min" in jobs.sentence(run) and "4 jobs" in jobs.sentence(run)


def test_a_run_that_computed_nothing_hides_no_other(tmp_path: Path) -> None:
    write_jobs(tmp_path, ["icr"])
    file = tmp_path / "jobs" / f"{0:016x}.done"
    mark = json.loads(file.read_text())
    later = {"run": mark["run"] + 1e6, "spans": [s for s in mark["spans"] if s["phase"] != "computing"]}
    file.write_text(json.dumps(mark | later))
    gathered = jobs.gather(tmp_path)
    assert gathered is not None
    assert [j["title"].split()[0] for j in gathered["jobs"]] == ["icr.arm1"]


def test_results_that_do_not_tell_make_no_page(tmp_path: Path) -> None:
    assert jobs.gather(tmp_path) is None
    write_jobs(tmp_path, [], each=0)
    for file in (tmp_path / "jobs").glob("*.done"):
        file.write_text("{}")
    assert jobs.gather(tmp_path) is None


@pytest.mark.parametrize("torn", ["", '{"started": 17', "null", "[]"])
def test_torn_markers_cost_no_report(tmp_path: Path, torn: str) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "a.done").write_text(torn)
    (tmp_path / "jobs" / "a.json").write_text(torn)
    assert jobs.gather(tmp_path) is None


def test_the_page_the_front_page_and_the_exports_agree(site: Path) -> None:
    run = json.loads((site / "jobs" / "jobs.json").read_text())
    sentence = jobs.sentence(run)
    assert sentence in (site / "index.html").read_text() and sentence in (site / "jobs" / "index.html").read_text()
    with (site / "jobs" / "tables" / "seconds-of-every-job-by-phase.csv").open() as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == len(run["jobs"]) == 6
    assert sum(float(r["process_s"]) for r in rows) == pytest.approx(jobs.shares(run)["process"], abs=0.01)
    assert {float(r["computing_share"]) for r in rows} == {0.8602}


def test_of_many_jobs_the_chart_shows_the_longest(run: dict) -> None:
    many = [run["jobs"][i % 4] | {"id": f"{i:016x}"} for i in range(jobs.BARS + 5)]
    figure = jobs.timeline(run | {"jobs": many})
    assert f"the {jobs.BARS} longest" in figure.takeaway
    assert len(figure.sheet.records) == jobs.BARS + 5
    assert len({r["job"] for r in figure.spec["datasets"]["rows0"]}) == jobs.BARS
