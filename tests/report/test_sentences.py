"""Verdicts in plain words, for every kind and verdict."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from synthetic import judged

from rankrepro.cards import load_cards
from rankrepro.report import sentences

CLAIM: dict[str, Any] = {
    "id": "x", "kind": "superiority", "role": "claim", "sentence": "s", "restated": None, "measure": "nDCG@10",
    "expr": "m(full) - m(baselines.bm25)", "combine": "macro", "verdict": "reproduced", "note": None,
    "benchmark": "macro",
    "effect": 0.056, "ci": [0.019, 0.093], "n": 320, "clusters": 230, "seeds": 1, "min_effect": 0.01, "margin": None,
    "bound": None, "needed_n": None, "detectable": 0.03, "guard": None, "where": None,
    "per_benchmark": [{"benchmark": b} for b in ("a", "b", "c", "d")],
}  # fmt: skip
GUARD = {
    "expr": "m(baselines.bm25) - m(baselines.random)", "benchmark": "macro", "effect": 0.003, "ci": [-0.02, 0.02],
    "n": 9, "clusters": 9, "seeds": 1, "p": 0.4, "passed": False,
}  # fmt: skip


def said(**changes: Any) -> str:
    return sentences.verdict({**CLAIM, **changes}, "icr", {})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {},
            "nDCG@10 is 0.056 [0.019, 0.093] higher with full than with baselines.bm25 on 320 queries, mean over "
            "4 benchmarks; an effect below 0.01 or an interval reaching 0 would change our mind.",
        ),
        (
            {"verdict": "not reproduced", "effect": -0.05, "ci": [-0.08, -0.02], "combine": "all_of", "benchmark": "b"},
            "nDCG@10 is 0.050 [0.020, 0.080] lower with full than with baselines.bm25 on 320 queries of b, its weakest "
            "of 4 benchmarks. The interval excludes the smallest effect that counts, 0.01; one that reaches it would "
            "change our mind.",
        ),
        (
            {"verdict": "inconclusive", "needed_n": 900},
            "would tell (these can show an effect of 0.030).",
        ),
        ({"verdict": "inconclusive", "note": "timing t: no"}, "The evidence is not sound: timing t: no."),
        ({"verdict": "not run", "note": "icr.full on vital/fever"}, "Missing: full on vital/fever."),
        (
            {"verdict": "baseline not competent", "guard": GUARD},
            "baselines.bm25 − baselines.random is 0.003 [−0.020, 0.020], p 0.400. Winning against it proves nothing",
        ),
        (
            {"kind": "share", "measure": "F1", "effect": 0.83, "ci": [0.6, 0.95], "bound": 0.7, "n": 40},
            "full beats baselines.bm25 in F1 on 83 % [60, 95] of 40 tasks, mean over 4 benchmarks; a share below 71 % "
            "or an interval reaching 70 % would change our mind.",
        ),
        ({"kind": "noninferiority", "margin": 0.02}, "an interval reaching −0.020 (worse by the margin)"),
        ({"kind": "equivalence", "margin": 0.02, "verdict": "not reproduced"}, "a difference within ±0.02"),
        ({"kind": "ratio", "bound": 1.0, "expr": "m(full) / m(none)"}, "The ratio in nDCG@10 is 0.056 [0.019, 0.093]"),
        ({"kind": "trend", "expr": None}, "nDCG@10 rises by 0.056 [0.019, 0.093] per level"),
        (
            {"expr": "m(full) - max(m(query_last), m(attention_sorting, 'RR'))"},
            "full − max(query_last, attention_sorting) is +0.056 [0.019, 0.093] in nDCG@10",
        ),
        ({"verdict": "smoke"}, "Too few units for a verdict."),
        ({"verdict": "placebo failed as it must", "role": "placebo"}, "not significant at 0.001, as it must be."),
        ({"verdict": "placebo passed", "role": "placebo"}, "the comparison is broken"),
        ({"verdict": "identity"}, "True by construction"),
        ({"effect": None, "ci": [None, None]}, "The effect cannot be computed"),
    ],
)  # fmt: skip
def test_a_verdict_in_words(changes: dict[str, Any], words: str) -> None:
    assert words in said(**changes)


def test_a_timing_names_both_arms() -> None:
    timing = {"name": "t", "a": "icr.full", "b": "baselines.rankgpt"}
    claim = {**CLAIM, "kind": "ratio", "bound": 1.0, "measure": None, "expr": None, "benchmark": "timing t", "n": 16,
             "effect": 0.41, "ci": [0.35, 0.48]}  # fmt: skip
    assert sentences.verdict(claim, "icr", {"t": timing}) == (
        "full takes 0.41 [0.35, 0.48] times the seconds of baselines.rankgpt on 16 queries; an interval reaching 1.00 "
        "would change our mind."
    )


def test_every_claim_of_every_card_gets_a_sentence() -> None:
    cards = load_cards()
    for key, scale in itertools.product(cards, ("quick", "desk")):
        page = judged(cards, key, scale, units=6)["results"]["papers"][key]
        timings = {t["name"]: t for t in page["timings"]}
        for claim in page["claims"]:
            words = sentences.verdict(claim, key, timings)
            assert words.endswith(".") and "None" not in words and "  " not in words, words
