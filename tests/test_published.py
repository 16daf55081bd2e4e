"""The published results of scale desk: files that readers and other tools may rely on."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests_support import ROOT

PAPERS = sorted(file.parent for file in (ROOT / "reports" / "desk").glob("*/results.json"))


def read(file: Path) -> Any:
    data = file.read_bytes()
    return json.loads(gzip.decompress(data) if file.suffix == ".gz" else data)


@pytest.mark.parametrize("folder", PAPERS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("name", ["results.json", "units.json.gz", "examples.json"])
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
