"""One name misspelt, or one thing left out, in a real card: reading the cards or planning answers in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rankrepro.cards import PAPERS, file_of, load_cards, load_yaml
from rankrepro.cli import main
from rankrepro.errors import ConfigError
from rankrepro.plan import make_plan

# key of the card, where in it, the name there, its misspelling; the place that the answer names
MISSPELLINGS = {
    "a training parameter of a stage": (
        "mw_loss", "stages/train_{}/params", "patience", "patiance", "stages.train_cl.params"),
    "a parameter of a scale": (
        "mw_loss", "scales/desk/params/all", "search_share", "serach_share", "scales.desk.params.all"),
    "a parameter of the items of a list": (
        "lost", "each/forms/svd_silu", "silu", "slu", "stages.rate_svd_silu.params"),
    "a sample group": (
        "first", "each/asides/scrambled/sample", "written", "writen", "arms.joint_shuffled.sample"),
    "a benchmark that a claim is about": (
        "icr", "claims/icr-multihop/over", "qasc/facts", "qasc/fact", "claims.icr-multihop.over"),
    "the one benchmark of scale desk that a claim is about": (
        "anyloss", "claims/own-metric-wins.{}/over", "tabular/real", "tabular/reel", "claims.own-metric-wins."),
    "a measure of a table": (
        "icr", "tables/malformed windows of free generation/measures", "MalformedRate", "MalformedRat",
        "table 'malformed windows of free generation'"),
    "a measure of a claim": ("icr", "claims/icr-multihop/measure", "R@5", "Recal@5", "claims.icr-multihop"),
    "a tag": (
        "icr", "claims/icr-multihop/where", "several_relevant", "several_relevent", "claims.icr-multihop.where"),
    "a timing": (
        "first", "claims/first-latency/timing", "one_token_over_forced", "one_token_over_force",
        "claims.first-latency.timing"),
    "an arm in the expression of a claim": (
        "icr", "claims/icr-quality/expr", "baselines.rankgpt", "baselines.rankgtp", "claims.icr-quality"),
    "a scale": ("icr", "scales", "quick", "quik", "scales"),
}  # fmt: skip
NEARER = {"Recal@5": "PlaceRecall@5"}  # by its letters


def edited(folder: Path, key: str, path: str, edit: Callable[[Any], Any]) -> Path:
    """A copy of papers/ where `edit` gave a new value to what lies at `path` in a card; items of lists go by name."""
    shutil.copytree(PAPERS, folder / "papers")
    card = json.loads(json.dumps(load_yaml(PAPERS.parent / file_of(key))))  # YAML's anchors would change together
    *above, last = path.split("/")
    parent = card
    for step in above:
        parent = parent[_position(parent, step)]
    position = _position(parent, last)
    parent[position] = edit(parent[position])
    next((folder / "papers").glob(f"*/{key}.yaml")).write_text(json.dumps(card))
    return folder / "papers"


def _position(parent: Any, step: str) -> Any:
    if isinstance(parent, dict):
        return step
    return next(i for i, item in enumerate(parent) if step in (item.get("id"), item.get("name")))


def renamed(value: Any, old: str, new: str) -> Any:
    """A key of a mapping, an item of a list or a part of a string under another name."""
    if isinstance(value, dict):
        return {new if key == old else key: item for key, item in value.items()}
    if isinstance(value, list):
        return [new if item == old else item for item in value]
    return value.replace(old, new)


def answer(papers: Path, key: str) -> str:
    """The message of the error that reading the cards, or planning one of them, ends with."""
    with pytest.raises(ConfigError) as caught:
        make_plan(load_cards(papers), "quick", [key])
    message = str(caught.value)
    assert f"{key}.yaml: " in message and "\n" not in message
    return message


@pytest.mark.parametrize("what", MISSPELLINGS)
def test_a_misspelling_is_answered_with_file_key_and_the_nearest_name(tmp_path: Path, what: str) -> None:
    key, path, name, misspelt, where = MISSPELLINGS[what]

    def misspell(value: Any) -> Any:
        changed = renamed(value, name, misspelt)
        assert changed != value, f"{key}: {path} no longer has {name}"
        return changed

    message = answer(edited(tmp_path, key, path, misspell), key)
    assert where in message and f"{misspelt}'" in message and f"did you mean '{NEARER.get(misspelt, name)}'" in message


def without(*names: str) -> Callable[[Any], Any]:
    return lambda mapping: {key: value for key, value in mapping.items() if key not in names}


@pytest.mark.parametrize(
    ("key", "path", "edit", "words"),
    [
        (
            "icr",
            "claims/icr-latency/kind",
            lambda _: "superiority",
            ["icr-latency", "kind ratio", "not superiority; write `kind: ratio`"],
        ),
        (
            "icr",
            "claims",
            lambda claims: [claim for claim in claims if claim.get("role") != "placebo"],
            ["claims: none has `role: placebo`; add"],
        ),
        (
            "icr",
            "arms/minilm/models",
            without("encoder"),
            ["arms.minilm: pointwise.bi_encoder", "'encoder'; add `models: {encoder: <role>}`"],
        ),
        (
            "icr",
            "arms/minilm/params",
            without("batch"),
            ["arms.minilm: pointwise.bi_encoder needs the parameter 'batch'; give it under `params`"],
        ),
    ],
    ids=["a timing of another kind than ratio", "no placebo", "a missing model", "a missing parameter"],
)
def test_what_cannot_be_right_is_answered_with_card_arm_and_remedy(
    tmp_path: Path, key: str, path: str, edit: Callable[[Any], Any], words: list[str]
) -> None:
    message = answer(edited(tmp_path, key, path, edit), key)
    assert all(word in message for word in words), message


def test_a_command_prints_the_answer_as_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    papers = edited(tmp_path, "icr", "claims/icr-multihop/where", lambda _: "several_relevent")
    monkeypatch.setattr("rankrepro.cli.plan.load_cards", lambda: load_cards(papers))
    monkeypatch.setattr("sys.argv", ["rankrepro", "plan", "--papers", "icr"])
    with pytest.raises(SystemExit) as left:
        main()
    printed = capsys.readouterr()
    assert left.value.code == 1 and printed.out == ""
    assert printed.err.startswith("UnknownName: ") and printed.err.count("\n") == 1


def test_a_copy_of_the_cards_without_an_edit_is_planned(tmp_path: Path) -> None:
    """JSON in the place of a card's YAML is the same card: what is answered above is the edit."""
    papers = edited(tmp_path, "icr", "claims", lambda claims: claims)
    nodes = make_plan(load_cards(papers), "quick", ["icr"]).nodes
    assert nodes and set(nodes) == set(make_plan(load_cards(), "quick", ["icr"]).nodes)
