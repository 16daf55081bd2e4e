"""Cards: what is written in one is checked when it is read, and answered with file, key and the nearest valid name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rankrepro.cards import PAPERS, SECONDS, Card, file_of, load_cards, load_yaml, scale_names, seconds_per_unit
from rankrepro.errors import ConfigError, UnknownName
from rankrepro.plan import load_scale, make_plan

GOOD = """
key: x
title: X
year: 2026
link: https://example.org
family: ranker_training
summary: x
benchmarks: {quick: [vital-mini/fever], desk: [vital/fever, lint/rules]}
models: {desk: {llm: smollm2-135m-instruct}}
params:
  first_stages.bm25: {k1: 0.9, b: 0.4}
scales:
  quick: {sample: {all: 5, few: 2}, seeds: {second: [0, 1]}}
  desk: {params: {first: {k: 20}}, benchmarks: {second: [lint/rules]}}
stages:
  vectors:
    {fn: first_stages.encode_corpus, inputs: [corpus], benchmark: {quick: vital-mini/fever},
      models: {encoder: encoder}, params: {max_tokens: 8, batch: 2}}
arms:
  first: {fn: first_stages.bm25, params: {k: 10}, label: BM25, models: {llm: llm}}
  second: {fn: floors.random, candidates: {from: first, depth: 5}, inputs: {v: vectors}, sample: few,
    variants: [second], label: {second: Random}}
tables: [{name: t, arms: [first, second], measures: [nDCG@10], baseline: first}]
timings: [{name: faster, a: first, b: second, benchmark: lint/rules, n: {desk: 3}}]
reported:
  - {table: one, data: vital/fever, row: X, column: a, value: 1, source: it, verified: true,
      ours: {arm: second, measure: nDCG@10}}
claims:
  - {id: x-1, origin: paper, sentence: x, kind: superiority, measure: nDCG@10, expr: m(second) - m(first), over: all}
  - {id: x-2, sentence: x, kind: ratio, timing: faster}
  - {id: x-3, sentence: x, role: placebo, kind: superiority, measure: nDCG@10, expr: m(second) - m(first), over: all,
     floor: m(first)}
"""


def written(folder: Path, text: str) -> Path:
    """`folder`, with the text as the card of the key x."""
    (folder / "ranker_training").mkdir(exist_ok=True)
    (folder / "ranker_training" / "x.yaml").write_text(text)
    return folder


def test_every_card_of_the_project_is_read_whatever_cards_there_are() -> None:
    cards = load_cards()
    assert set(cards) == {f.stem for f in PAPERS.rglob("*.yaml") if f.name != SECONDS}
    assert all(c.claims for c in cards.values() if c.family != "controls")
    ids = [claim["id"] for c in cards.values() for claim in c.claims]
    assert len(ids) == len(set(ids))
    assert all((PAPERS / c.family / f"{key}.yaml") == c.file for key, c in cards.items())


def test_a_reader_finds_words_where_there_is_a_finding() -> None:
    """Arms have labels, claims an origin, and every expression but a plain difference is put in words."""
    plain = re.compile(r"m\([\w.]+\) - m\([\w.]+\)")
    for card in (c for c in load_cards().values() if c.finding):
        for arm, spec in card.arms.items():
            labels = [card.labels()[row] for row in card.rows(arm)]
            assert "label" in spec and len(set(labels)) == len(labels), f"{card.key}: {arm} has {labels}"
        for claim in card.claims:
            if claim.get("role", "claim") == "claim":
                assert "origin" in claim, f"{card.key}: {claim['id']} does not say whose claim it is"
            if "expr" in claim and not plain.fullmatch(claim["expr"].strip()):
                assert "quantity" in claim, f"{card.key}: {claim['id']} is not a plain difference: say what it is"


def test_a_good_card_is_accepted(tmp_path: Path) -> None:
    card = load_cards(written(tmp_path, GOOD))["x"]
    assert card.implemented and card.labels() == {"first": "BM25", "second": "Random"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("benchmarks:", "benchmark:", "did you mean 'benchmarks'"),
        ("family: ranker_training", "family: ranker_trainin", "did you mean 'ranker_training'"),
        ("depth: 5", "depht: 5", "arms.second.candidates: unknown key 'depht'; did you mean 'depth'"),
        ("origin: paper", "origin: papers", "did you mean 'paper'"),
        ("  quick: {sample", "  quik: {sample", "scales: unknown scale 'quik'; did you mean 'quick'"),
        ("desk: [vital", "desk2: [vital", "benchmarks: unknown scale 'desk2'; did you mean 'desk'"),
        ("{desk: {llm:", "{deks: {llm:", "models: unknown scale 'deks'; did you mean 'desk'"),
        ("n: {desk: 3}", "n: {dsk: 3}", "timings.faster.n: unknown scale 'dsk'; did you mean 'desk'"),
        ("benchmark: {quick:", "benchmark: {quikc:", "stages.vectors.benchmark: unknown scale 'quikc'"),
        ("[vital-mini/fever]", "[vital-mini/fevr]", "benchmarks.quick: unknown benchmark 'vital-mini/fevr'; did you"),
        ("{quick: vital-mini/fever}", "{quick: vital-mini/fev}", "stages.vectors.benchmark.quick: unknown benchmark"),
        ("benchmarks: {second: [lint/rules]", "benchmarks: {second: [lint/rule]", "did you mean 'lint/rules'"),
        ("benchmark: lint/rules, n", "benchmark: lint/ruls, n", "timings.faster.benchmark: unknown benchmark"),
        ("sample: few", "sample: fwe", "scales.quick.sample has none for arms.second.sample: unknown sample group"),
        ("few: 2", "fewer: 2", "unknown sample group 'few'; did you mean 'fewer'"),
        ("seeds: {second", "seeds: {secnd", "scales.quick.seeds: unknown arm 'secnd'; did you mean 'second'"),
        ("params: {first: {k: 20", "params: {frist: {k: 20", "scales.desk.params: unknown arm, stage or function"),
        ("first_stages.bm25: {k1", "first_stages.bm52: {k1", "params: unknown function 'first_stages.bm52'; did you"),
        ("from: first", "from: frist", "arms.second.candidates.from: unknown arm 'x.frist'; did you mean 'x.first'"),
        ("{v: vectors}", "{v: vectros}", "arms.second.inputs.v: unknown arm or stage 'x.vectros'; did you mean"),
        ("arms: [first, second]", "arms: [first, secnod]", "tables.0.arms: unknown arm 'x.secnod'; did you mean"),
        ("baseline: first", "baseline: frst", "tables.0.arms: unknown arm 'x.frst'; did you mean 'x.first'"),
        ("a: first, b", "a: fist, b", "timings.faster.a: unknown arm 'x.fist'; did you mean 'x.first'"),
        ("ours: {arm: second", "ours: {arm: secon", "reported.0.ours.arm: unknown arm 'x.secon'; did you mean"),
        ("timing: faster", "timing: fastr", "claims.x-2.timing: unknown timing 'fastr'; did you mean 'faster'"),
        ("encoder: encoder", "encoder: encodr", "vectors.models: unknown model role 'encodr'; did you mean 'encoder'"),
        ("{desk: {llm:", "{desk: {lm:", "models: unknown model role 'lm'; did you mean 'llm'"),
        ("label: {second:", "label: {secnd:", "arms.second.label: unknown row 'secnd'; did you mean 'second'"),
    ],
)
def test_a_misspelt_name_is_answered_with_file_key_and_the_nearest(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    assert GOOD.count(old) >= 1
    with pytest.raises(UnknownName, match=re.escape(words)) as caught:
        load_cards(written(tmp_path, GOOD.replace(old, new, 1)))
    assert "x.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("key: x", "key: y", "not the file's name"),
        ("year: 2026", "year: soon", "year"),
        ("title: X", "title: [", "not valid YAML"),
        ("summary: x\n", "", "summary"),
        ("family: ranker_training", "family: vision", "is not the folder's name; move the file to papers/vision/"),
        ("year: 2026", "year: 2026\nyear: 2027", "'year' in line 5 stands in line 4 already"),
        ("id: x-2", "id: x-1", "id 'x-1' appears twice"),
        ("variants: [second], label: {second: Random}", "variants: [a, b], label: Random", "has 2 rows"),
    ],
)
def test_a_malformed_card_names_file_key_and_remedy(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        load_cards(written(tmp_path, GOOD.replace(old, new, 1)))
    assert "x.yaml" in str(caught.value)


def test_a_key_belongs_to_one_card_in_the_folder_of_its_family(tmp_path: Path) -> None:
    written(tmp_path, GOOD)
    (tmp_path / "vision").mkdir()
    (tmp_path / "vision" / "x.yaml").write_text(GOOD.replace("ranker_training", "vision"))
    with pytest.raises(ConfigError, match="has this key already"):
        load_cards(tmp_path)
    (tmp_path / "vision" / "x.yaml").rename(tmp_path / "x.yaml")
    with pytest.raises(ConfigError, match=r"a card lies in the folder of its family: papers/<family>/x\.yaml"):
        load_cards(tmp_path)


def test_a_repeated_key_below_a_merge_is_seen_and_a_merge_is_none(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: &a {k: 1, l: 2}\nb: {<<: *a, k: 3}\nc: *a\n")
    assert load_yaml(file) == {"a": {"k": 1, "l": 2}, "b": {"k": 3, "l": 2}, "c": {"k": 1, "l": 2}}
    file.write_text("a: &a {k: 1}\nb: {<<: *a, k: 3, k: 4}\n")
    with pytest.raises(ConfigError, match="'k' in line 2"):
        load_yaml(file)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("fn: first_stages.bm25", "fn: first_stages.bm52", "did you mean 'bm25'"),
        ("fn: floors.random", "fn: floor.random", "did you mean 'floors'"),
        ("m(second)", "m(secnd)", "did you mean 'x.second'"),
        ("kind: superiority", "kind: superior", "did you mean 'superiority'"),
    ],
)
def test_functions_and_what_claims_name_must_exist_when_a_plan_is_made(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    text = GOOD.replace("params:\n  first_stages.bm25: {k1: 0.9, b: 0.4}\n", "").replace(
        "{k: 10}", "{k: 1, k1: 1, b: 0}"
    )
    with pytest.raises(ConfigError, match=re.escape(words)):
        make_plan(load_cards(written(tmp_path, text.replace(old, new, 1))), "quick")


def test_unknown_scale_and_paper() -> None:
    cards = load_cards()
    with pytest.raises(UnknownName, match="did you mean 'desk'"):
        load_scale("dsk")
    with pytest.raises(UnknownName, match="did you mean 'baselines'"):
        make_plan(cards, "quick", "baseline")
    without = Card("new", Path("new.yaml"), {"claims": []})
    with pytest.raises(ConfigError, match="no method yet"):
        make_plan({**cards, "new": without}, "quick", "new")


def test_the_number_in_the_sentence_of_a_ratio_is_its_bound() -> None:
    """A green badge on "at most 1% of the time" would be false by its own words if 1 were the bound."""
    said = {}
    for card in load_cards().values():
        for claim in card.claims:
            if claim.get("kind") == "ratio" and (words := re.search(r"(at most|within) (\d+) ?%", claim["sentence"])):
                share = int(words[2]) / 100
                said[claim["id"]] = (claim["bound"], share if words[1] == "at most" else 1 + share)
    assert len(said) >= 3
    assert all(bound == pytest.approx(number) for bound, number in said.values()), said


def test_no_row_of_ours_stands_beside_a_number_on_other_data(tmp_path: Path) -> None:
    load_cards(written(tmp_path, GOOD))
    with pytest.raises(ConfigError, match=r"x\.yaml: reported\.0: .*same data alone.*'FEVER' is no benchmark"):
        load_cards(written(tmp_path, GOOD.replace("data: vital/fever", "data: FEVER")))


def test_what_stands_beside_a_reported_number_is_a_row_of_a_table_on_the_same_data() -> None:
    beside = 0
    for card in load_cards().values():
        rows = {(arm, m) for t in card.data.get("tables", []) for arm in t["arms"] for m in t["measures"]}
        run = {b for scale in card.data.get("benchmarks", {}) for b in card.benchmarks_at(scale)}
        for told in (r for r in card.data.get("reported", []) if "ours" in r):
            beside += 1
            assert (told["ours"]["arm"], told["ours"]["measure"]) in rows, f"{card.key}: no table has {told}"
            assert told["data"] in run, f"{card.key}: nothing is run on {told['data']}"
    assert beside


def test_what_was_read_at_second_hand_is_not_called_verified() -> None:
    hints = ("memory", "third part", "secondary", "review", "copies", "independent")
    for card in load_cards().values():
        for told in card.data.get("reported", []):
            if any(hint in told["source"] for hint in hints):
                assert not told["verified"], f"{card.key}: {told['source']}"


def test_a_card_is_named_by_its_folder_and_file() -> None:
    assert file_of("baselines") == "papers/controls/baselines.yaml"


# --- predicted seconds -----------------------------------------------------------------------------------------------


def test_seconds_are_those_measured_nearest(tmp_path: Path) -> None:
    """At the scale, at another, of the same function in the card, in another card, and last the default."""
    written(tmp_path, GOOD)
    other = GOOD.replace("key: x", "key: y").replace("id: x-", "id: y-")
    (tmp_path / "ranker_training" / "y.yaml").write_text(other)

    def predicted(seconds: str, name: str = "first", scale: str = "quick") -> float:
        (tmp_path / SECONDS).write_text(seconds)
        cards = load_cards(tmp_path)
        card = cards["x"]
        return seconds_per_unit(cards, card, name, {**card.stages, **card.arms}[name]["fn"], scale, 0.5)

    assert predicted("quick: {x: {first: 1}}\ndesk: {x: {first: 2}}") == 1
    assert predicted("desk: {x: {first: 2}, y: {first: 3}}\nquick: {y: {first: 4}}") == 2
    assert predicted("desk: {y: {first: 3}}\nquick: {y: {first: 4}}") == 4
    assert predicted("desk: {y: {first: 3}}") == 3
    assert predicted("quick: {y: {second: 4}}") == 0.5
    assert predicted("{}", "vectors") == 0.5


def test_the_measured_seconds_of_the_project_are_those_of_arms_and_stages() -> None:
    cards = load_cards()
    for scale, of_scale in load_yaml(PAPERS / SECONDS).items():
        assert scale in scale_names()
        for key, of_card in of_scale.items():
            assert set(of_card) <= {*cards[key].arms, *cards[key].stages}, f"{scale}: {key}"


def test_a_malformed_file_of_seconds_is_named(tmp_path: Path) -> None:
    written(tmp_path, GOOD)
    (tmp_path / SECONDS).write_text("quick: {x: {first: soon}}")
    with pytest.raises(ConfigError, match=r"seconds\.yaml: quick\.x\.first"):
        load_cards(tmp_path)
