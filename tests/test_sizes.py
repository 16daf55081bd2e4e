"""The ladder: one card asked at several sizes of the language model, judged at the largest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rankrepro import sizes
from rankrepro.cards import load_cards
from rankrepro.claims import parse
from rankrepro.errors import ConfigError, UnknownName
from rankrepro.judge.claims import judge_claims
from rankrepro.plan import make_plan

SMALL, LARGE = "smollm2-135m-instruct", "llama-3.1-8b-instruct"


@pytest.fixture
def two_rungs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scale quick with two sizes."""
    scales = import_module("rankrepro.plan.scales")  # a function of the package has this name, too
    for file in scales.SCALES.glob("*.yaml"):
        (tmp_path / file.name).write_text(file.read_text())
    _set(tmp_path / "quick.yaml", ladder={"135M": SMALL, "8B": LARGE}, llm=LARGE)
    monkeypatch.setattr(scales, "SCALES", tmp_path)
    return tmp_path / "quick.yaml"


def _set(file: Path, ladder: Mapping[str, str], llm: str) -> None:
    scale = yaml.safe_load(file.read_text())
    scale |= {"ladder": ladder, "models": scale["models"] | {"llm": llm}}
    file.write_text(yaml.safe_dump(scale, sort_keys=False))


def cards(**sizes_at: Sequence[str]) -> Any:
    found = load_cards()
    found["icr"].data["sizes"] = sizes_at  # type: ignore[index]
    return found


def test_rows_and_timings_of_the_model_are_planned_at_every_size(two_rungs: Path) -> None:
    plan = make_plan(cards(quick=["135M", "8B"]), "quick", "icr")
    assert plan.sizes == {"icr": ["135M"]}
    models = {
        row: {plan.nodes[d].spec["models"]["llm"]["id"] for cells in at.values() for _, d, _ in cells}
        for row, at in plan.rows.items()
        if "full" in row or "rankgpt" in row
    }
    assert models["icr.full"] == models["baselines.rankgpt"] == {LARGE}
    assert models["icr.full@135M"] == models["baselines.rankgpt@135M"] == {SMALL}
    # what has no language model is one row
    assert {sizes.bare(row) for row in plan.rows if sizes.of(row)} & {"icr.minilm", "baselines.random"} == set()
    at = {row: plan.nodes[plan.rows[row]["vital-mini/fever"][0][1]].spec for row in ("icr.full", "icr.full@135M")}
    assert at["icr.full"]["candidates"] == at["icr.full@135M"]["candidates"]
    needed = {d for row in plan.rows if sizes.of(row) for cells in plan.rows[row].values() for _, d, _ in cells}
    assert needed <= set(plan.paper_nodes["icr"])


def test_a_card_that_names_no_sizes_is_asked_at_the_largest(two_rungs: Path) -> None:
    plan = make_plan(cards(), "quick", "icr")
    assert not any(sizes.of(row) for row in plan.rows) and plan.sizes == {"icr": []}


def test_a_smaller_size_is_the_result_of_a_scale_with_that_model(two_rungs: Path) -> None:
    """The rung is nothing else than the model: its digests are those of a scale where it is the only one."""
    small = make_plan(cards(quick=["135M", "8B"]), "quick", "icr").rows["icr.full@135M"]
    _set(two_rungs, {}, SMALL)
    assert make_plan(cards(), "quick", "icr").rows["icr.full"] == small


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [(["135M", "7B"], UnknownName, "size '7B'.*8B"), (["135M"], ConfigError, "8B is missing.*largest")],
)
def test_sizes_that_are_not_on_the_ladder_are_refused(
    two_rungs: Path, asked: list[str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        make_plan(cards(quick=asked), "quick", "icr")


def test_the_last_rung_is_the_model_of_the_scale(two_rungs: Path) -> None:
    _set(two_rungs, {"135M": SMALL, "8B": LARGE}, SMALL)
    with pytest.raises(ConfigError, match=r"last rung of the ladder.*make them the same"):
        make_plan(cards(), "quick", "icr")


def judged(small: float, large: float) -> list[dict[str, Any]]:
    """Two claims on 60 units; of the first, the effect is `small` at 135M and `large` at the largest size."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.02, 60)
    values = {"p.a": 0.4 + large + noise, "p.a@135M": 0.4 + small + noise, "p.b": np.full(60, 0.4)}

    def lookup(arm: str, benchmark: str, measure: str) -> tuple[dict[str, list[float]], dict[str, str]]:
        found = {f"u{i}": [float(v)] for i, v in enumerate(values[arm])}
        return found, {u: u for u in found}

    def naming(name: str) -> str:
        return f"{name}@135M" if f"{name}@135M" in values else name

    claims = [
        parse({"id": "gain", "sentence": "x", "expr": "m(a) - m(b)", "measure": "nDCG@10"}, "p"),
        parse({"id": "level", "sentence": "x", "expr": "m(b)", "measure": "nDCG@10"}, "p"),
    ]
    return judge_claims(claims, lookup, benchmarks=["b"], sizes={"135M": naming})


def test_the_verdict_is_the_largest_size_s_and_the_others_are_told_beside_it() -> None:
    gain, level = judged(small=-0.1, large=0.1)
    assert gain["verdict"] == "reproduced" and gain["effect"] == pytest.approx(0.1, abs=0.02)
    (at,) = gain["sizes"]
    assert at["size"] == "135M" and at["effect"] == pytest.approx(-0.1, abs=0.02) and at["n"] == 60
    assert at["ci"][0] < at["effect"] < at["ci"][1] < 0
    assert level["sizes"] == []  # the model has no part in it


def test_smaller_sizes_take_no_part_in_the_correction() -> None:
    (with_loss, _), (with_gain, _) = judged(small=-0.1, large=0.1), judged(small=0.1, large=0.1)
    assert with_loss["p_holm"] == with_gain["p_holm"] and with_loss["p_refuted"] == with_gain["p_refuted"]
