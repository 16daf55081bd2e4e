"""The shelf: the published results of scale desk, files that readers and other tools may rely on."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from rankrepro.report import rebuild
from tests_support import ROOT

JUDGED = ("results.json", "units.json.gz", "examples.json")
PAPERS = sorted(file.parent for file in (ROOT / "reports" / "desk").glob("*/results.json"))


def read(file: Path) -> Any:
    data = file.read_bytes()
    return json.loads(gzip.decompress(data) if file.suffix == ".gz" else data)


@pytest.mark.parametrize("folder", PAPERS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("name", JUDGED)
def test_it_is_what_its_schema_says(folder: Path, name: str) -> None:
    schema = read(ROOT / "workflow" / "schemas" / f"{name.partition('.')[0]}.schema.json")
    jsonschema.Draft202012Validator(schema).validate(read(folder / name))


@pytest.mark.parametrize("folder", PAPERS, ids=lambda folder: folder.name)
def test_rows_are_within_their_intervals_and_seeds_are_told(folder: Path) -> None:
    for table in read(folder / "results.json")["papers"][folder.name]["tables"]:
        for row in table["rows"]:
            assert len(row["by_seed"]) == row["seeds"], row
            if None not in row["ci"]:
                assert row["ci"][0] - 1e-9 <= row["value"] <= row["ci"][1] + 1e-9, row
            if table["where"] in ("train", "validation", "test"):
                assert row["split"] == table["where"], row


def test_the_tables_are_those_of_the_results(tmp_path: Path) -> None:
    for folder in PAPERS:
        (tmp_path / folder.name).mkdir()
        for name in JUDGED:
            shutil.copy(folder / name, tmp_path / folder.name)
    rebuild(tmp_path, "desk")
    other = [f.name for f in PAPERS if (f / "tables.md").read_text() != (tmp_path / f.name / "tables.md").read_text()]
    assert not other, "run `rankrepro report` and commit reports/desk"


def test_nothing_but_results_and_tables_is_committed() -> None:
    done = subprocess.run(["git", "ls-files", "reports"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode or not done.stdout:
        pytest.skip("not a checkout of git")
    published = {f"reports/desk/{folder.name}/{name}" for folder in PAPERS for name in (*JUDGED, "tables.md")}
    assert set(done.stdout.split()) <= published
