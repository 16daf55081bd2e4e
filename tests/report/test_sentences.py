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
    "effect": 0.056, "ci": [0.019, 0.093], "n": 320, "clusters": 230, "seeds": 1, "p_holm": 0.01, "min_effect": 0.01,
    "margin": None, "bound": None, "needed_n": None, "detectable": 0.03, "guard": None, "where": None,
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
            "full scores 0.056 nDCG@10 above baselines.bm25 (95 % CI 0.019 to 0.093; 320 queries, mean of 4 benchmarks)"
            "; an effect below 0.01 or an interval reaching 0 would change our mind.",
        ),
        (
            {"verdict": "not reproduced", "effect": -0.05, "ci": [-0.08, -0.02], "combine": "all_of", "benchmark": "b"},
            "full scores 0.050 nDCG@10 below baselines.bm25 (95 % CI 0.020 to 0.080; 320 queries of b, its weakest of "
            "4 benchmarks). Even the optimistic end of the interval is below 0.01, the smallest gain we would count.",
        ),
        (
            {"verdict": "inconclusive", "needed_n": 18108, "effect": -0.02, "ci": [-0.07, 0.03]},
            "(95 % CI −0.030 to 0.070; 320 queries, mean of 4 benchmarks). Too few data: 320 queries can show "
            "differences of 0.030 or more; 0.01 needs about 18,000.",
        ),
        ({"verdict": "inconclusive", "effect": -0.02, "ci": [-0.07, 0.03]}, "Too close to call: 320 queries can show"),
        (
            {"verdict": "inconclusive", "p_holm": 0.08, "effect": 0.043, "ci": [0.004, 0.088]},
            "Significant alone, but not after correcting for all claims of this paper (p = 0.080)",
        ),
        (
            {"verdict": "inconclusive", "effect": 0.004, "ci": [0.001, 0.012]},
            "excludes no effect, but the effect is smaller than 0.01",
        ),
        (
            {"verdict": "inconclusive", "p_refuted": 0.08, "effect": -0.02, "ci": [-0.05, 0.008]},
            "Against the claim alone, but not after correcting for all claims of this paper (p = 0.080)",
        ),
        (
            {"kind": "equivalence", "margin": 0.02, "verdict": "inconclusive", "ci": [0.03, 0.07], "needed_n": 900},
            "Against the claim alone, but not after correcting",
        ),
        ({"verdict": "inconclusive", "effect": 0.1, "ci": [None, 0.3]}, "The data cannot bound the effect on"),
        ({"effect": 0.1, "ci": [None, 0.3]}, "(95 % CI up to 0.300; 320 queries"),
        (
            {"expr": "m(baselines.rankgpt_malformed)", "measure": "MalformedRate", "effect": 0.883, "ci": [0.8, 0.9]},
            "MalformedRate of baselines.rankgpt_malformed is 0.883 (95 % CI 0.800 to 0.900; 320 queries",
        ),
        (
            {"expr": "m(mw_steps) - m(cl_steps)", "measure": "StepsToBest", "effect": -13.0, "ci": [None, None]},
            "mw_steps has 13.000 less StepsToBest than cl_steps (320 models, mean of 4 benchmarks)",
        ),
        ({"verdict": "inconclusive", "note": "timing t: no"}, "The evidence is not sound: timing t: no."),
        ({"verdict": "not run", "note": "icr.full on vital/fever"}, "Missing: full on vital/fever."),
        (
            {"verdict": "baseline not competent", "guard": GUARD},
            "But here baselines.bm25 is not shown to be better than baselines.random (+0.003, 95 % CI −0.020 to 0.020, "
            "p 0.400), so beating it would prove nothing.",
        ),
        (
            {"verdict": "baseline not competent", "guard": GUARD | {"expr": "m(baselines.bm25) - 0.5"}},
            "But here baselines.bm25 − 0.5 is not shown to be above 0",
        ),
        (
            {"kind": "share", "measure": "F1", "effect": 0.83, "ci": [0.6, 0.95], "bound": 0.7, "n": 40},
            "full beats baselines.bm25 in F1 on 83 % of 40 tasks, mean of 4 benchmarks (95 % CI 60 to 95 %); a share "
            "below 71 % or an interval reaching 70 % would change our mind.",
        ),
        (
            {"kind": "noninferiority", "margin": 0.02},
            ": no loss beyond the margin of 0.02; an interval reaching −0.02 (worse by the margin) would change",
        ),
        (
            {"kind": "noninferiority", "margin": 0.02, "verdict": "inconclusive", "ci": [-0.03, 0.04], "needed_n": 900},
            "The interval reaches beyond −0.02, so a loss larger than the margin is not ruled out",
        ),
        (
            {"kind": "equivalence", "margin": 0.02, "verdict": "not reproduced"},
            "The whole interval lies outside ±0.02: the difference is larger than the margin.",
        ),
        (
            {"kind": "equivalence", "margin": 0.02, "effect": 0.002, "ci": [-0.01, 0.014]},
            ": equal within ±0.02; an interval reaching ±0.02 would change our mind.",
        ),
        (
            {"kind": "equivalence", "margin": 0.02, "verdict": "inconclusive", "ci": [-0.01, 0.03], "needed_n": 900},
            "The interval reaches beyond ±0.02, so a difference that counts is not ruled out: 320 queries can show "
            "equality within ±0.030; ±0.02 needs about 900.",
        ),
        (
            {"kind": "equivalence", "margin": 0.02, "verdict": "inconclusive", "ci": [-0.01, 0.014], "p_holm": 0.2},
            "Significant alone, but not after correcting for all claims of this paper (p = 0.200)",
        ),
        (
            {"kind": "ratio", "bound": 1.0, "expr": "m(full) / m(none)", "effect": 0.87, "ci": [0.8, 0.94]},
            "nDCG@10 of full is 0.87 times that of none (95 % CI 0.80 to 0.94; 320 queries",
        ),
        ({"kind": "ratio", "bound": 1.0, "expr": "m(full) / (m(none) + 1)"}, "full / (none + 1) is 0.06 in nDCG@10 ("),
        ({"kind": "trend", "expr": None}, "nDCG@10 rises by 0.056 per level (95 % CI 0.019 to 0.093; 320 queries"),
        (
            {"expr": "m(full) - max(m(query_last), m(attention_sorting, 'RR'))"},
            "full − max(query_last, attention_sorting) is +0.056 in nDCG@10 (95 % CI",
        ),
        (
            {"expr": "m(a) / m(b) - 1", "quantity": "relative gain over the better rival"},
            "Relative gain over the better rival is +0.056 (95 % CI 0.019 to 0.093; 320 queries",
        ),
        ({"verdict": "smoke"}, "Too few units for a verdict."),
        ({"verdict": "placebo failed as it must", "role": "placebo"}, "the effect disappears, as it should."),
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
        "full takes 0.41 times the seconds of baselines.rankgpt (95 % CI 0.35 to 0.48; 16 queries); an interval "
        "reaching 1 would change our mind."
    )


def test_arms_go_by_their_labels() -> None:
    labels = {"icr.full": "ICR", "baselines.bm25": "BM25"}
    words = sentences.verdict({**CLAIM, "verdict": "baseline not competent", "guard": GUARD}, "icr", {}, labels)
    assert words.startswith("ICR scores 0.056 nDCG@10 above BM25 (") and "BM25 is not shown to be better than" in words
    words = sentences.verdict({**CLAIM, "expr": "m(full) - max(m(none), m(baselines.bm25))"}, "icr", {}, labels)
    assert words.startswith("ICR − max(none, BM25) is ")


def test_a_timing_in_words() -> None:
    timing = {
        "a": "icr.full", "b": "baselines.rankgpt", "benchmark": "vital/fever", "ratio": 0.28, "ci": [0.25, 0.32],
        "aa": [0.99, 1.01], "sound": True, "fault": None, "n": 15, "seconds_a": 1.6, "seconds_b": 5.7,
    }  # fmt: skip
    assert sentences.timing(timing, "icr", {"icr.full": "ICR"}) == (
        "ICR takes 0.28 times the seconds of baselines.rankgpt (95 % CI 0.25 to 0.32; 1.6 s against 5.7 s a query; 15 "
        "queries of vital/fever). Control: an arm timed against itself gives 0.99 to 1.01, so the clock can be trusted."
    )
    unsound = sentences.timing({**timing, "sound": False, "fault": "it is warm"}, "icr")
    assert unsound.endswith("0.99 to 1.01, but the clock cannot be trusted: it is warm.")


def test_every_claim_of_every_card_gets_a_sentence() -> None:
    cards = load_cards()
    for key, scale in itertools.product(cards, ("quick", "desk")):
        page = judged(cards, key, scale, units=6)["results"]["papers"][key]
        timings = {t["name"]: t for t in page["timings"]}
        for claim in page["claims"]:
            words = sentences.verdict(claim, key, timings)
            assert words.endswith(".") and "None" not in words and "  " not in words, words
