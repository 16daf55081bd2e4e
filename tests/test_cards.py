"""Cards: all 38 are there, and a malformed one fails with file, key and the nearest valid name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rankrepro.cards import PAPERS, load_cards
from rankrepro.errors import ConfigError, UnknownName
from rankrepro.plan import load_scale, make_plan

KEYS = [
    "first",
    "early_first",
    "icr",
    "fullrank",
    "rank_r1",
    "prorank",
    "erank",
    "grouprank",
    "e2rank",
    "mvp",
    "llm_rerankers_study",
    "rankify",
    "curricula",
    "lol",
    "dynamicretriever",
    "pg_rank",
    "cet",
    "robust_nrm",
    "deep_look",
    "mw_loss",
    "kalm_v2",
    "cornstack",
    "admiral",
    "selavpr",
    "fol",
    "superglobal",
    "unifygeo",
    "rde",
    "unime_v2",
    "sft_vs_cl",
    "mm_r5",
    "soli_reward",
    "dynamic_reweight",
    "lost",
    "edu_pga",
    "meta_rescale",
    "pref_rank",
    "anyloss",
]

GOOD = """
key: x
title: X
year: 2026
link: https://example.org
family: ranker_training
summary: x
benchmarks: {quick: [vital-mini/fever]}
arms:
  first: {fn: baselines.bm25, params: {k1: 0.9, b: 0.4, k: 10}}
  second: {fn: baselines.random, candidates: {from: first, depth: 5}}
claims: [{id: x-1, sentence: x, kind: superiority, expr: m(second) - m(first), over: all}]
"""


def card_at(folder: Path) -> Path:
    (folder / "ranker_training").mkdir(exist_ok=True)
    return folder / "ranker_training" / "x.yaml"


def test_every_paper_has_a_card() -> None:
    cards = load_cards()
    assert set(cards) == {*KEYS, "baselines"}
    assert all(c.claims for k, c in cards.items() if k != "baselines")
    ids = [claim["id"] for c in cards.values() for claim in c.claims]
    assert len(ids) == len(set(ids))


def test_a_good_card_is_accepted(tmp_path: Path) -> None:
    card_at(tmp_path).write_text(GOOD)
    assert load_cards(tmp_path)["x"].implemented


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ("benchmarks:", "benchmark:", UnknownName, "did you mean 'benchmarks'"),
        ("family: ranker_training", "family: ranker_trainin", UnknownName, "did you mean 'ranker_training'"),
        ("depth: 5", "depht: 5", UnknownName, "did you mean 'depth'"),
        ("from: first", "from: frist", UnknownName, "did you mean 'x.first'"),
        ("key: x", "key: y", ConfigError, "not the file's name"),
        ("year: 2026", "year: soon", ConfigError, "year"),
        ("title: X", "title: [", ConfigError, "not valid YAML"),
        ("summary: x\n", "", ConfigError, "summary"),
        ("kind: superiority", "kind: superior", UnknownName, "did you mean 'superiority'"),
    ],
)
def test_a_malformed_card_names_file_key_and_remedy(
    tmp_path: Path, old: str, new: str, error: type[Exception], words: str
) -> None:
    assert old in GOOD
    card_at(tmp_path).write_text(GOOD.replace(old, new, 1))
    with pytest.raises(error, match=re.escape(words)) as caught:
        load_cards(tmp_path)
    assert "x.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("fn: baselines.bm25", "fn: baselines.bm52", "did you mean 'bm25'"),
        ("fn: baselines.bm25", "fn: baseline.bm25", "did you mean 'baselines'"),
        ("vital-mini/fever", "vital-mini/fevr", "did you mean 'vital-mini/fever'"),
        ("m(second)", "m(secnd)", "did you mean 'x.second'"),
    ],
)
def test_names_a_card_uses_must_exist(tmp_path: Path, old: str, new: str, words: str) -> None:
    card_at(tmp_path).write_text(GOOD.replace(old, new, 1))
    with pytest.raises(UnknownName, match=re.escape(words)):
        make_plan(load_cards(tmp_path), "quick")


def test_unknown_scale_and_paper() -> None:
    with pytest.raises(UnknownName, match="did you mean 'desk'"):
        load_scale("dsk")
    with pytest.raises(UnknownName, match="did you mean 'baselines'"):
        make_plan(load_cards(), "quick", "baseline")
    without = next(k for k, c in load_cards().items() if not c.implemented)
    with pytest.raises(ConfigError, match="no method yet"):
        make_plan(load_cards(), "quick", without)


def test_no_card_holds_a_path_out_of_its_folder() -> None:
    assert all(f.parent == PAPERS for f in PAPERS.glob("*.yaml"))


def test_what_stands_beside_a_reported_number_is_a_row_of_a_table() -> None:
    beside = 0
    for card in load_cards().values():
        rows = {(arm, m) for t in card.data.get("tables", []) for arm in t["arms"] for m in t["measures"]}
        for ours in (r["ours"] for r in card.data.get("reported", []) if "ours" in r):
            beside += 1
            assert (ours["arm"], ours["measure"]) in rows, f"{card.key}: no table has {ours}"
            assert ours["benchmark"] in card.benchmarks_at("desk"), f"{card.key}: {ours} is not run at desk"
    assert beside > 0
