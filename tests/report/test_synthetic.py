"""The made-up results follow the contract, so that what is tested with them holds for real ones."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator
from synthetic import KINDS, VERDICTS, judged

from rankrepro.cards import load_cards
from tests_support import ROOT

CARDS = load_cards()


@pytest.mark.parametrize("name", ["results", "units", "examples"])
@pytest.mark.parametrize("scale", ["quick", "desk"])
def test_the_files_are_valid(name: str, scale: str) -> None:
    schema = json.loads((ROOT / "workflow" / "schemas" / f"{name}.schema.json").read_text())
    validator = Draft202012Validator(schema)
    for key in CARDS:
        validator.validate(judged(CARDS, key, scale, units=6)[name])


def test_every_kind_and_verdict_is_there() -> None:
    claims = [c for key in CARDS for c in judged(CARDS, key, units=6)["results"]["papers"][key]["claims"]]
    assert {c["kind"] for c in claims} == set(KINDS)
    assert {c["verdict"] for c in claims} >= {*VERDICTS, "identity", "placebo failed as it must"}
