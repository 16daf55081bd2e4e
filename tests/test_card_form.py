"""The form in which cards are written: what it unrolls to, and what is answered where it is written wrongly."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from rankrepro.card_form import expanded
from rankrepro.cards import Card, load_cards
from rankrepro.errors import ConfigError, UnknownName


def unrolled(text: str) -> Any:
    return expanded(yaml.safe_load(text), "x.yaml")


def test_a_card_without_the_forms_is_unchanged_and_no_card_is_changed_in_place() -> None:
    plain = {"key": "x", "arms": {"a": {"fn": "m.f", "label": "{}"}}, "claims": [{"id": "c", "sentence": "{x}"}]}
    assert expanded(plain, "x.yaml") == plain
    card = {"each": {"l": ["a"]}, "arms": {"{}": {"each": "l", "fn": "m.f"}}}
    before = copy.deepcopy(card)
    assert expanded(card, "x.yaml") == {"arms": {"a": {"fn": "m.f"}}} and card == before
    assert expanded("no mapping", "x.yaml") == "no mapping"


def test_a_template_becomes_one_copy_per_item_whose_values_are_parameters() -> None:
    card = unrolled("""
        each: {losses: {cl: {loss: contrastive, tau: 0.01}, mw: {loss: mw, tau: 0.05}}, names: [cl, zero]}
        stages:
          rate_{}: {each: losses, fn: m.search, params: {tau: 0.1, keep: best}}
          embed_{}: {each: losses, own: false, fn: m.embed, inputs: {weights: "train_{}"}}
        arms:
          "{}": {each: names, fn: m.run, variants: {"{}": plain, "{}_x": x}}
          other: {fn: m.run}
    """)
    assert card["stages"] == {
        "rate_cl": {"fn": "m.search", "params": {"loss": "contrastive", "tau": 0.1, "keep": "best"}},
        "rate_mw": {"fn": "m.search", "params": {"loss": "mw", "tau": 0.1, "keep": "best"}},
        "embed_cl": {"fn": "m.embed", "inputs": {"weights": "train_cl"}},
        "embed_mw": {"fn": "m.embed", "inputs": {"weights": "train_mw"}},
    }
    assert card["arms"] == {
        "cl": {"fn": "m.run", "variants": {"cl": "plain", "cl_x": "x"}},
        "zero": {"fn": "m.run", "variants": {"zero": "plain", "zero_x": "x"}},
        "other": {"fn": "m.run"},
    }
    assert "each" not in card


def test_a_value_that_a_template_names_is_a_word_in_all_templates_of_its_list() -> None:
    card = unrolled("""
        each: {l: {a: {label: A, top: 50, loss: x, over: [p, q]}}}
        stages: {"s_{}": {each: l, fn: m.f}}
        arms: {"{}": {each: l, fn: m.g, label: "{label}, top {top}", params: {grid: {m: ["{top}"]}}}}
        claims: [{each: l, id: "c-{}", expr: "m({})", over: "{over}"}, {id: d, sentence: s}]
        tables: [{each: [a, b], name: "{}", arms: ["{}"]}]
    """)
    assert card["stages"] == {"s_a": {"fn": "m.f", "params": {"loss": "x"}}}
    assert card["arms"]["a"] == {"fn": "m.g", "label": "A, top 50", "params": {"loss": "x", "grid": {"m": [50]}}}
    assert card["claims"] == [{"id": "c-a", "expr": "m(a)", "over": ["p", "q"]}, {"id": "d", "sentence": "s"}]
    assert card["tables"] == [{"name": "a", "arms": ["a"]}, {"name": "b", "arms": ["b"]}]


def test_defaults_hold_for_what_does_not_say_otherwise() -> None:
    card = unrolled("""
        defaults:
          arms: {models: {llm: llm}, sample: few}
          claims: {measure: R@5, over: all}
        arms: {a: {fn: m.f}, b: {fn: m.f, sample: all, models: null}}
        claims: [{id: c, expr: m(a)}, {id: d, expr: m(b), measure: P@5, over: null}, {id: e, timing: t}, {id: f}]
    """)
    assert card["arms"] == {
        "a": {"fn": "m.f", "models": {"llm": "llm"}, "sample": "few"},
        "b": {"fn": "m.f", "sample": "all"},
    }
    c, d, timed, untested = card["claims"]
    assert c == {"id": "c", "expr": "m(a)", "measure": "R@5", "over": "all"}
    assert d == {"id": "d", "expr": "m(b)", "measure": "P@5"}
    assert timed == {"id": "e", "timing": "t"} and untested == {"id": "f"}, "nothing of theirs is measured on arms"


def test_all_under_seeds_and_benchmarks_of_a_scale_is_every_arm_not_named() -> None:
    card = unrolled("""
        arms: {a: {fn: m.f}, b: {fn: m.f}}
        scales:
          desk: {seeds: &s {all: [0, 1], b: [0]}, benchmarks: {all: [x]}, params: {all: {k: 1}}}
          paper: {seeds: *s}
    """)
    assert card["scales"]["desk"]["seeds"] == card["scales"]["paper"]["seeds"] == {"a": [0, 1], "b": [0]}
    assert card["scales"]["desk"]["benchmarks"] == {"a": ["x"], "b": ["x"]}
    assert card["scales"]["desk"]["params"] == {"all": {"k": 1}}, "which functions take it is not known here"


def test_reported_rows_and_columns_become_one_entry_per_number() -> None:
    single = {"table": "abstract", "row": "X", "column": "speed", "value": "fast", "source": "s", "verified": True}
    card = unrolled("""
        reported:
          - {table: abstract, row: X, column: speed, value: fast, source: s, verified: true}
          - table: main
            data: d
            source: t
            verified: false
            columns: [F1, AUC]
            rows: {MW: [0.5, 0.25], CL: [null, 0]}
            ours: {data: b, rows: {MW: "mw_{of}", CL: cl}, columns: {AUC: {measure: Pooled, of: auc}}}
    """)
    shared = {"table": "main", "data": "d", "source": "t", "verified": False}
    assert card["reported"] == [
        single,
        {**shared, "row": "MW", "column": "F1", "value": 0.5},
        {**shared, "row": "MW", "column": "AUC", "value": 0.25,
         "data": "b", "ours": {"arm": "mw_auc", "measure": "Pooled"}},
        {**shared, "row": "CL", "column": "AUC", "value": 0,
         "data": "b", "ours": {"arm": "cl", "measure": "Pooled"}},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("each: {losses: [a]}\narms: {'{}': {each: loses}}", UnknownName,
         "x.yaml: arms.{}.each: unknown list 'loses'; did you mean 'losses'"),
        ("each: {l: {a: {label: A}}}\narms: {'{}': {each: l, label: '{lable}'}}", UnknownName,
         "x.yaml: arms.{}: item 'a': unknown value 'lable'; did you mean 'label'"),
        ("claims: [{each: [a], id: 'c-{}', expr: 'm({b})'}]", UnknownName, "claims.c-{}: item 'a': unknown value 'b'"),
        ("defaults: {arm: {}}", UnknownName, "x.yaml: defaults: unknown key 'arm'; did you mean 'arms'"),
        ("each: {l: [a, b]}\narms: {one: {each: l}}", ConfigError, "arms.one: 'one' appears twice"),
        ("arms: {'{}': {each: [a]}, a: {}}", ConfigError, "arms.a: 'a' appears twice"),
        ("each: [a]", ConfigError, "x.yaml: each: needs a mapping"),
        ("each: {l: {a: 3}}", ConfigError, "x.yaml: each.l.a: needs a mapping"),
        ("reported: [{table: t, columns: [p, q], rows: {r: [1]}}]", ConfigError,
         "x.yaml: reported.0.rows.r: needs 2 values, one for each of p, q"),
        ("reported: [{columns: [p], rows: {row: [1]}, ours: {rows: {rwo: a}, columns: {}}}]", UnknownName,
         "x.yaml: reported.0.ours.rows: unknown row 'rwo'; did you mean 'row'"),
        ("reported: [{columns: [col], rows: {r: [1]}, ours: {rows: {}, columns: {cl: {}}}}]", UnknownName,
         "x.yaml: reported.0.ours.columns: unknown column 'cl'; did you mean 'col'"),
        ("defaults: {arms: [a]}\narms: {a: {}}", ConfigError, "x.yaml: defaults.arms: needs a mapping"),
        ("arms: {'{}': {each: {a: {k: 1}}, params: 3}}", ConfigError, "x.yaml: arms.{}.params: needs a mapping"),
        ("reported: [{columns: 3, rows: {}}]", ConfigError, "x.yaml: reported.0.columns: needs a list of names, not 3"),
        ("reported: [{columns: [c], rows: {r: [1]}, ours: {columns: 3}}]", ConfigError,
         "x.yaml: reported.0.ours.columns: needs a mapping"),
        ("reported: [{columns: [c], rows: {r: [1]}, ours: {rows: {r: a}, columns: {c: nDCG}}}]", ConfigError,
         "x.yaml: reported.0.ours.columns.c: needs a mapping"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_form_is_named(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=re.escape(words)):
        unrolled(text)


def test_what_is_no_card_at_all_is_left_to_the_schema() -> None:
    assert unrolled("scales: [quick]") == {"scales": ["quick"]}


# --- the seven cards of the first form -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cards() -> dict[str, Card]:
    return load_cards()


def test_all_that_runs_at_quick_has_measured_seconds(cards: Mapping[str, Card]) -> None:
    """At quick, or where it ran at desk, there: what is never measured is packed by a guess."""
    for card in (card for card in cards.values() if card.implemented):
        at_quick = card.at("quick").get("arms", card.arms)
        for arm in (arm for arm in card.arms if arm in at_quick):
            runs = card.at("quick").get("benchmarks", {}).get(arm, ["everywhere"])
            known = any(arm in of_scale for of_scale in card.seconds.values())
            assert known or not runs, f"{card.key}.{arm}"
