"""A scaffold is valid and plannable, whatever it joins, and never overwrites."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rankrepro.cards import load_cards
from rankrepro.code import Code
from rankrepro.errors import ConfigError, UnknownName
from rankrepro.plan import make_plan
from rankrepro.scaffold import scaffold
from tests_support import ROOT, make_project


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_project(tmp_path, ["baselines", "icr", "fullrank", "anyloss"])
    return tmp_path


def contents(root: Path) -> dict[Path, bytes]:
    return {
        f: f.read_bytes() for part in ("papers", "methods", "tests") for f in (root / part).rglob("*") if f.is_file()
    }


@pytest.mark.parametrize(
    ("of", "benchmark", "rival"),
    [
        ("baselines", "vital-mini/fever", "baselines.first_stage"),
        ("baselines", "lint/rules", "baselines.first_stage"),
        ("icr", "vital-mini/climate-fever", "icr.full"),
    ],
)
def test_a_new_card_can_be_planned(root: Path, of: str, benchmark: str, rival: str) -> None:
    scaffolded = scaffold("my_own", of, benchmark, root=root)
    names = (
        "methods/llm_rerankers/my_own.py",
        "papers/llm_rerankers/my_own.yaml",
        "tests/methods/llm_rerankers/test_my_own.py",
    )
    assert [f.relative_to(root).as_posix() for f in scaffolded.written] == list(names) and not scaffolded.stanza
    cards = load_cards(root / "papers")
    plan = make_plan(cards, "quick", ["my_own"], code=Code(root=root))
    assert {"my_own.rerank", "my_own.decoy", rival, "baselines.random"} <= set(plan.rows)
    reranker = plan.nodes[plan.rows["my_own.rerank"][benchmark][0][1]].spec
    decoy = plan.nodes[plan.rows["my_own.decoy"][benchmark][0][1]].spec
    assert reranker["candidates"] == decoy["candidates"]
    assert {k for k in reranker if reranker[k] != decoy[k]} == {"queries"}, "the placebo destroys one ingredient"
    claim, placebo = cards["my_own"].claims
    assert scaffolded.claim == claim["id"] and claim["expr"] == f"m(rerank) - m({rival})"
    assert placebo["role"] == "placebo" and placebo["expr"] == f"m(decoy) - m({rival})"
    make_plan(cards, "desk", ["my_own"], code=Code(root=root))


def test_a_new_card_lies_in_the_family_asked_for(root: Path) -> None:
    scaffolded = scaffold("my_own", family="ranker_training", root=root)
    assert (root / "methods/ranker_training/my_own.py") in scaffolded.written
    cards = load_cards(root / "papers")
    assert cards["my_own"].family == "ranker_training"
    make_plan(cards, "quick", ["my_own"], code=Code(root=root))


def test_the_written_module_and_test_are_clean(root: Path) -> None:
    scaffolded = scaffold("mine", root=root)
    files = [str(f) for f in scaffolded.written if f.suffix == ".py"]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", str(ROOT / "pyproject.toml"), *files],
            capture_output=True, text=True, cwd=root,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


def test_a_card_without_a_method_keeps_every_byte(root: Path) -> None:
    card = root / "papers" / "llm_rerankers" / "fullrank.yaml"
    before = card.read_bytes()
    scaffolded = scaffold("fullrank", root=root)
    assert card.read_bytes() == before and card not in scaffolded.written
    assert scaffolded.claim == "fr-sft-quality"
    stanza, claims = scaffolded.stanza.split("# and under claims:\n")
    data = yaml.safe_load(before.decode() + stanza)
    data["claims"] += yaml.safe_load(claims)
    card.write_text(yaml.safe_dump(data))  # as a user would paste it
    plan = make_plan(load_cards(root / "papers"), "quick", ["fullrank"], code=Code(root=root))
    assert "fullrank.rerank" in plan.rows


def test_insert_appends_and_nothing_else(root: Path) -> None:
    card = root / "papers" / "llm_rerankers" / "fullrank.yaml"
    before = card.read_text()
    scaffolded = scaffold("fullrank", insert=True, root=root)
    assert card in scaffolded.written and card.read_text().startswith(before)
    assert scaffolded.stanza.startswith("# under claims:")
    assert "fullrank.decoy" in make_plan(load_cards(root / "papers"), "quick", ["fullrank"], code=Code(root=root)).rows


def test_what_a_card_has_is_not_written_again(root: Path) -> None:
    card = root / "papers" / "llm_rerankers" / "fullrank.yaml"
    card.write_text(card.read_text() + "benchmarks: {quick: [lint/rules]}\n")
    scaffold("fullrank", insert=True, root=root)
    assert load_cards(root / "papers")["fullrank"].benchmarks_at("quick") == ["lint/rules"]


@pytest.mark.parametrize(
    ("key", "options", "message"),
    [
        ("icr", {}, "has arms already: nothing is overwritten"),
        ("parts", {}, "exists: nothing is overwritten"),
        ("taken", {}, "test_taken.py exists"),
        ("My-Method", {}, "cannot name a module"),
        ("class", {}, "cannot name a module"),
        ("2fast", {}, "cannot name a module"),
        ("../up", {}, "cannot name a module"),
        ("mine", {"of": "anyloss"}, "no arm that re-ranks"),
        ("mine", {"of": "fullrank"}, "no arm that re-ranks"),
        ("mine", {"of": "icrr"}, "did you mean 'icr'"),
        ("mine", {"benchmark": "vital-mini/feve"}, "did you mean 'vital-mini/fever'"),
        ("mine", {"benchmark": "tabular/mini"}, "no documents to rank"),
        ("mine", {"family": "ranker_trainig"}, "did you mean 'ranker_training'"),
        ("fullrank", {"family": "vision", "insert": True}, "is of family llm_rerankers, not vision"),
    ],
)
def test_refusals_write_nothing(root: Path, key: str, options: dict, message: str) -> None:
    taken = root / "tests" / "methods" / "test_taken.py"
    taken.parent.mkdir(parents=True)
    taken.write_text("mine")
    before = contents(root)
    with pytest.raises((ConfigError, UnknownName), match=message):
        scaffold(key, root=root, **options)
    assert contents(root) == before
