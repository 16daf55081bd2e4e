"""What was learnt from judgments is not judged on them: every chain by which it could be."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankrepro import signatures
from rankrepro.cards import load_cards
from rankrepro.code import Code
from rankrepro.errors import ConfigError
from rankrepro.plan import make_plan
from tests_support import TOY_CARD, TOY_METHOD, TOY_WORDS

LEARNS = """

def learn(cell):
    trained = cell.benchmark.of_split("train")
    return {"best": [list(cell.benchmark.judgments[q]) for q in trained]}


def hand_on(cell):
    return dict(cell.inputs["weights"])


def recall(cell, *, batch: int):
    return noise(cell)


def peek(cell, *, batch: int):
    return helper(cell)


def helper(cell):
    cell.benchmark.judgments
    return noise(cell)
"""
STAGES = """
stages:
  learn: {fn: toy.learn, inputs: [benchmark]}
  elsewhere: {fn: toy.learn, inputs: [benchmark], benchmark: {quick: vital-mini/pairs, desk: vital-mini/pairs}}
  tables: {fn: toy.learn, inputs: [benchmark], benchmark: {quick: lint/rules, desk: lint/rules}}
  second: {fn: toy.hand_on, inputs: {weights: learn}}
"""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    (tmp_path / "papers" / "llm_rerankers").mkdir(parents=True)
    (tmp_path / "methods" / "parts").mkdir(parents=True)
    (tmp_path / "methods" / "parts" / "toy_words.py").write_text(TOY_WORDS)
    (tmp_path / "methods" / "toy.py").write_text(TOY_METHOD + LEARNS)
    return tmp_path


def plan(house: Path, arm: str, split: str = "[train, test]", where: str = "") -> None:
    """The toy paper with its arm `overlap` replaced."""
    text = TOY_CARD.replace("split: [train, test]", f"split: {split}")
    old = next(line for line in text.splitlines() if line.startswith("  overlap:"))
    text = text.replace(old, f"  overlap: {arm}").replace("arms:\n", f"{STAGES.lstrip()}arms:\n", 1)
    if where:
        text = text.replace("    over: all", f"    over: all\n    where: {where}")
        text = text.replace("measures: [nDCG@10]", f"measures: [nDCG@10], where: {where}")
        text = text.replace("where: several_relevant", f"where: {where}")
    (house / "papers" / "llm_rerankers" / "toy.yaml").write_text(text)
    make_plan(load_cards(house / "papers"), "quick", ["toy"], code=Code(root=house))


CANDIDATES = "candidates: {from: lexical, depth: 5}, params: {batch: 2}"
CHAINS = {
    "a stage": f"{{fn: toy.recall, {CANDIDATES}, inputs: {{w: learn}}}}",
    "a stage that reads a stage": f"{{fn: toy.recall, {CANDIDATES}, inputs: {{w: second}}}}",
    "a benchmark of the same articles": f"{{fn: toy.recall, {CANDIDATES}, inputs: {{w: elsewhere}}}}",
    "the arm itself, by a helper": f"{{fn: toy.peek, {CANDIDATES}}}",
}


@pytest.mark.parametrize("arm", CHAINS.values(), ids=CHAINS.keys())
def test_what_learnt_from_a_split_is_not_judged_on_it(house: Path, arm: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(house, arm)
    message = str(caught.value)
    assert "toy.overlap would be judged on train queries of vital-mini/fever" in message
    assert "has learnt from judgments of the train split of" in message and "where: test" in message
    plan(house, arm, split="[test]")
    plan(house, arm, where="test")


def test_a_benchmark_with_nothing_in_common_is_no_leak(house: Path) -> None:
    plan(house, f"{{fn: toy.recall, {CANDIDATES}, inputs: {{w: tables}}}}")


def test_splits_are_those_that_the_code_names_or_all_that_can_be_read(house: Path) -> None:
    code = Code(root=house)
    assert signatures.of("toy.learn", code).judgments == {"train"}
    assert signatures.of("toy.peek", code).judgments == {"train", "validation"}
    assert signatures.of("toy.noise", code).judgments == frozenset()
