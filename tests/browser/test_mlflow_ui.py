"""What `make browse` shows: the experiments, a run's metrics, curves and files, in a real browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from judged_support import KEY, SCALE, write_judged
from tests_support import ROOT, end, free_port, wait_for

PATIENCE = 180_000  # milliseconds


@pytest.fixture(scope="module")
def ui(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address that `make browse` prints for an ingested paper."""
    root = tmp_path_factory.mktemp("browse") / "results"
    write_judged(root / SCALE)
    env = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"} | {"PYTHONPATH": str(ROOT)}
    track = ["internal", "track", KEY, "--scale", SCALE, "--results", str(root / SCALE)]
    subprocess.run([sys.executable, "-m", "rankrepro", *track], env=env, check=True, timeout=600)
    command = [sys.executable, "-m", "rankrepro.tracking.ui", str(root), str(free_port())]
    with (root / "ui.log").open("w") as log:
        server = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = server.stdout.readline()  # type: ignore[union-attr]
        address = re.search(r"http://127\.0\.0\.1:\d+/\S+", line)
        assert address, line
        wait_for(address[0].split("/#")[0], server)
        yield address[0]
    finally:
        end(server)


def test_experiments_runs_metrics_and_files_are_shown(browser: Any, ui: str, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(PATIENCE)
    foreign, broken = [], []
    site = ui.split("/#")[0]
    page.on("request", lambda r: r.url.startswith((site, "data:", "blob:")) or foreign.append(r.url))
    page.on("response", lambda r: r.status >= 500 and broken.append(r.url))

    page.goto(ui)
    page.get_by_text("Model training", exact=True).click()  # as make browse says
    page.get_by_role("link", name=KEY, exact=True).click()
    page.get_by_text("7 matching runs").wait_for()
    page.screenshot(path=tmp_path / "runs.png")
    runs = page.url

    page.get_by_text("anyloss verdicts").first.click()
    page.get_by_text("The claim f1-over-bce holds.").wait_for()
    assert page.get_by_text("verdict.f1-over-bce").first.is_visible()
    assert page.get_by_text("effect/f1-over-bce").first.is_visible()
    page.screenshot(path=tmp_path / "verdicts.png", full_page=True)
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("tables", exact=True).first.click()
    page.get_by_text("01-f1.csv").first.click()
    page.get_by_text("anyloss.slp_any_f1").first.wait_for()  # the table itself
    page.screenshot(path=tmp_path / "table.png")

    page.goto(runs)
    page.get_by_text("anyloss.mlp on tabular/real seed 1").first.click()
    page.get_by_text("F1", exact=True).first.wait_for()
    assert page.get_by_text("inner.depth").first.is_visible()
    page.screenshot(path=tmp_path / "run.png")
    page.get_by_role("tab", name="Model metrics").click()
    page.get_by_placeholder("Search metric charts").fill("F1_at_best")  # charts out of sight are not drawn
    page.get_by_text("validation F1_at_best").first.wait_for()
    page.locator(".js-plotly-plot .scatterlayer path").first.wait_for(state="attached")  # a curve is drawn
    page.wait_for_timeout(1000)
    page.screenshot(path=tmp_path / "curves.png")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("output.json").first.click()
    page.get_by_text("predictions").first.wait_for()
    page.screenshot(path=tmp_path / "artifacts.png")
    page.close()
    assert not foreign, "pages ask other machines"
    assert not broken
