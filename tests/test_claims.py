"""Claims parsed once: expressions, kinds, defaults, what is refused, and a kind of claim told from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankrepro import benchmarks, claims, measure_names
from rankrepro.cards import Card, load_cards, where_of
from rankrepro.claims import KINDS, Term, expression, parse, slope
from rankrepro.errors import ClaimError, ConfigError, UnknownName
from rankrepro.judge.claims import judge_claims
from rankrepro.judge.measures import MEASURES
from rankrepro.plan import make_plan
from rankrepro.report import sentences
from tests_support import ROOT

# --- expressions -----------------------------------------------------------------------------------------------------


def test_arithmetic_and_terms():
    e = expression('(m(full) - m(baselines.bm25, "AP")) / m(full) * 2 + -1', "icr", "nDCG@10")
    full, bm25 = Term("icr.full", "nDCG@10"), Term("baselines.bm25", "AP")
    assert e.terms == (full, bm25)
    assert e({full: np.array([0.5, 1]), bm25: np.array([0.25, 1])}) == pytest.approx([0, -1])


def test_functions():
    values = {Term("c.a", "AP"): np.array([1.0, -4]), Term("c.b", "AP"): np.array([3.0, 2])}
    for text, expected in (("min(m(a), m(b))", [1, -4]), ("max(m(a), m(b), 2.5)", [3, 2.5])):
        assert expression(text, "c", "AP")(values) == pytest.approx(expected)
    assert expression("mean(m(a), m(b), 2)", "c", "AP")(values) == pytest.approx([2, 0])
    assert expression("abs(m(a))", "c", "AP")(values) == pytest.approx([1, 4])


def test_plain_differences_are_recognised():
    assert expression("m(a) - m(b)", "c", "AP").difference == (Term("c.a", "AP"), Term("c.b", "AP"))
    for other in ("m(a) + m(b)", "2 * m(a) - m(b)", "m(a) - m(a)", "m(a)"):
        assert expression(other, "c", "AP").difference is None


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "m(a).real",
        "m(a) ** 9",
        "m(a) if m(a) else 0",
        "[m(a)]",
        "m(a) and m(b)",
        "True + m(a)",
        "1j * m(a)",
        "m(a, b)",
        "m()",
        "m('a')",
        "m(a, measure='AP')",
        "abs(m(a), m(b))",
        "open(m(a))",
        "lambda: m(a)",
        "m(a) -",
        "",
        "1 + 1",
        "(" * 5000 + "m(a)" + ")" * 5000,
    ],
)
def test_nothing_else_is_evaluated(text):
    with pytest.raises(ClaimError, match="claim 'c-1'"):
        expression(text, "c", "AP", "claim 'c-1'")


def test_the_slope_is_that_of_least_squares():
    levels = [expression(f"m({arm})", "c", "AP") for arm in "abcd"]
    means = [0.1, 0.4, 0.3, 0.9]
    values = {level.terms[0]: np.array([v]) for level, v in zip(levels, means, strict=True)}
    assert slope(levels)(values) == pytest.approx(np.polyfit(range(4), means, 1)[:1])


# --- one claim -------------------------------------------------------------------------------------------------------

CLAIM = {"id": "c-1", "sentence": "So.", "expr": "m(a) - m(b)"}


def test_defaults():
    claim = parse(CLAIM, "p")
    assert (claim.kind, claim.role, claim.origin, claim.combine) == (KINDS["superiority"], "claim", "paper", "all_of")
    assert (claim.measure, claim.over, claim.null, claim.target) == ("nDCG@10", None, 0, 0.01)
    assert parse(CLAIM | {"role": "placebo"}, "p").combine == "any_of"
    assert claim.terms == (Term("p.a", "nDCG@10"), Term("p.b", "nDCG@10"))
    assert parse(CLAIM | {"guard": 'm(b, "AP") - m(x.floor)'}, "p").terms[2:] == (
        Term("p.b", "AP"),
        Term("x.floor", "nDCG@10"),
    )
    assert parse(CLAIM | {"over": ["x"]}, "p").of(["y", "x"]) == ["x"] and claim.of(["y", "x"]) == ["y", "x"]


def test_a_floor_is_what_a_placebo_must_be_equal_to():
    placebo = parse(CLAIM | {"role": "placebo", "floor": "m(random)"}, "p")
    assert placebo.floor is not None and placebo.floor.terms == (Term("p.a", "nDCG@10"), Term("p.random", "nDCG@10"))
    assert Term("p.random", "nDCG@10") in placebo.terms and placebo.floor_margin == 0.05
    assert parse(CLAIM | {"role": "placebo", "floor": "m(random)", "margin": 0.1}, "p").floor_margin == 0.1


def test_a_floor_has_the_form_of_the_comparison():
    arm = Term("p.a", "nDCG@10")
    number = parse(CLAIM | {"role": "placebo", "floor": 0}, "p").floor
    assert number is not None and (number.text, number.terms, number.tree) == ("0", (arm,), ("-", arm, 0.0))
    relative = parse(CLAIM | {"role": "placebo", "expr": "m(a) / m(b) - 1", "floor": "m(c)"}, "p").floor
    assert relative is not None and relative.tree == ("-", ("/", arm, Term("p.c", "nDCG@10")), 1.0)
    several = parse(CLAIM | {"role": "placebo", "expr": "m(a) - max(m(b), m(c))", "floor": "m(d)"}, "p").floor
    assert several is not None and several.tree == ("-", arm, Term("p.d", "nDCG@10"))


def test_levels_of_all_cards():
    levels = claims.levels(load_cards())
    assert levels["baselines.bm25"]["nDCG@10"]["vital/fever"] == 0.61


def test_the_range_of_an_expression():
    def limits(text):
        return expression(text, "c", "AP").limits(lambda term: (0.0, 1.0))

    assert limits("m(a)") == (0, 1) and limits("m(a) - m(b)") == (-1, 1) and limits("-m(a)") == (-1, 0)
    assert limits("m(a) - max(m(b), m(c))") == (-1, 1) and limits("mean(m(a), m(b), 2)") == pytest.approx(
        (2 / 3, 4 / 3)
    )
    assert limits("2 * m(a) - 1") == (-1, 1) and limits("abs(m(a) - m(b))") == (0, 1)
    assert limits("m(a) / m(b)") == (0, np.inf) and limits("m(a) / m(b) - 1") == (-1, np.inf)
    assert slope([expression(f"m({arm})", "c", "AP") for arm in "abc"]).limits(lambda t: (0.0, 1.0)) == (-0.5, 0.5)


def test_a_sentence_alone_and_an_identity_are_not_counted():
    sentence, identity = parse({"id": "c", "sentence": "So."}, "p"), parse(CLAIM | {"role": "identity"}, "p")
    assert sentence.kind is None and identity.identity and not sentence.counted and not identity.counted
    family = [parse(CLAIM, "p"), parse(CLAIM, "p"), sentence, identity, parse(CLAIM | {"role": "placebo"}, "p")]
    assert claims.family_size(family) == 2 and claims.family_size([sentence]) == 1


@pytest.mark.parametrize(
    ("given", "null", "target"),
    [
        ({"min_effect": 0.5}, 0, 0.5),
        ({"kind": "noninferiority", "margin": 0.02}, -0.02, -0.02),
        ({"kind": "equivalence", "margin": 0.02}, 0.02, 0.02),
        ({"kind": "ratio"}, 1, 1),
        ({"kind": "ratio", "bound": 0.6}, 0.6, 0.6),
        ({"kind": "share"}, 0.5, 0.51),
        ({"kind": "share", "bound": 0.7, "min_effect": 0.1}, 0.7, 0.8),
        ({"kind": "trend", "levels": ["a", "b", "c"]}, 0, 0.01),
    ],
)
def test_null_and_target(given: dict, null: float, target: float):
    claim = parse(CLAIM | given, "p")
    assert (claim.null, claim.target) == (null, pytest.approx(target))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "superority"}, "did you mean 'superiority'"),
        ({"combine": "allof"}, "did you mean 'all_of'"),
        ({"role": "placbo"}, "did you mean 'placebo'"),
        ({"origin": "papr"}, "did you mean 'paper'"),
        ({"kind": "equivalence"}, "needs a 'margin' above 0"),
        ({"kind": "noninferiority", "margin": 0}, "needs a 'margin' above 0"),
        ({"kind": "trend", "levels": ["a", "b"]}, "three or more|3 or more 'levels'"),
        ({"kind": "trend"}, "needs 'levels'"),
        ({"kind": "growth", "levels": ["m(a) - m(b)", "c"]}, "is a difference like"),
        ({"kind": "superiority", "timing": "t"}, "of kind ratio, not superiority; write `kind: ratio`"),
        ({"guard": "m(b"}, "is not an expression"),
        ({"floor": "m(random)"}, "a 'floor' says what a placebo must be equal to"),
        ({"role": "placebo", "expr": "m(a) / m(b)", "floor": "m(random)"}, "m\\(placebo\\) - m\\(rival\\)"),
        ({"role": "placebo", "floor": "m(a)"}, "the placebo p.a is its own 'floor'"),
        ({"role": "placebo", "floor": "zero"}, "'zero' is not allowed"),
    ],
)
def test_what_cannot_be_judged_is_refused(given: dict, message: str):
    with pytest.raises(ClaimError, match=rf"p.yaml: claim 'c-1'.*({message})"):
        parse(CLAIM | given, "p", "p.yaml")


# --- what a plan refuses ---------------------------------------------------------------------------------------------


def changed(key: str, *path: Any, value: Any) -> dict[str, Card]:
    """The cards, one value of one of them replaced."""
    cards = load_cards()
    data = json.loads(json.dumps(cards[key].data))
    target = data
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    return cards | {key: Card(key, cards[key].file, data, data["arms"])}


def claim_of(key: str, name: str) -> int:
    return next(i for i, claim in enumerate(load_cards()[key].claims) if claim["id"] == name)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("claims", "icr-quality", "expr"),
            "m(full) - m(baselines.rankgtp)",
            "claims.icr-quality: unknown arm 'baselines.rankgtp'; did you mean 'baselines.rankgpt'",
        ),
        (
            ("claims", "icr-quality", "guard"),
            "m(ful) - m(baselines.random)",
            "claims.icr-quality: unknown arm 'icr.ful'; did you mean 'icr.full'",
        ),
        (("claims", "icr-multihop", "measure"), "Recal@5", "claims.icr-multihop: unknown measure 'Recal@5'"),
        (
            ("claims", "icr-multihop", "over"),
            ["qasc/fact", "beir/climate-fever"],
            "claims.icr-multihop.over: unknown benchmark 'qasc/fact'; did you mean 'qasc/facts'",
        ),
        (
            ("claims", "icr-multihop", "where"),
            "several_relevent",
            "claims.icr-multihop.where: unknown tag 'several_relevent'; did you mean 'several_relevant'",
        ),
        (("claims", "icr-quality", "where"), "night", "claims.icr-quality.where: unknown tag 'night'"),
        (("claims", "icr-latency", "kind"), "superiority", "claim 'icr-latency': a claim with a timing is of"),
        (("tables", 0, "measures"), ["nDGC@10"], "BM25 top 20': unknown measure 'nDGC@10'; did you mean 'nDCG@10'"),
        (("tables", 1, "over"), ["vital/fevr"], "unknown benchmark 'vital/fevr'; did you mean 'vital/fever'"),
        (("tables", 1, "where"), "several_relevent", "unknown tag 'several_relevent'"),
        (("tables", 0, "units_of"), "baselines.rankgtp", "unknown arm 'baselines.rankgtp'"),
        (("claims", "icr-placebo-bm25", "floor"), "m(baselines.radnom)", "did you mean 'baselines.random'"),
        (("levels",), {"ful": {"nDCG@10": {}}}, "levels.ful: unknown arm 'icr.ful'; did you mean 'icr.full'"),
        (("levels",), {"full": {"nDGC@10": {}}}, "levels.full: unknown measure 'nDGC@10'"),
        (("levels",), {"full": {"AP": {"vital/fevr": 1}}}, "unknown benchmark 'vital/fevr'; did you mean"),
    ],
)
def test_names_that_do_not_exist_are_answered_when_the_plan_is_made(path: tuple, value: Any, message: str):
    steps = [claim_of("icr", step) if isinstance(step, str) and step.startswith("icr-") else step for step in path]
    with pytest.raises(ConfigError) as error:
        make_plan(changed("icr", *steps, value=value), "desk", ["icr"])
    said = str(error.value)
    assert message in said and said.startswith(f"{where_of(load_cards()['icr'])}: ") and "\n" not in said


def test_claims_without_a_placebo_are_refused():
    kept = [claim for claim in load_cards()["icr"].claims if claim.get("role") != "placebo"]
    with pytest.raises(ConfigError, match=r"icr.yaml: claims: none has `role: placebo`; add the same comparison"):
        make_plan(changed("icr", "claims", value=kept), "desk", ["icr"])
    make_plan(
        changed("icr", "claims", value=[{"id": "x", "sentence": "So."}]), "desk", ["icr"]
    )  # nothing is tested yet


def test_a_placebo_without_a_floor_is_refused():
    icr = load_cards()["icr"].claims
    bare = [{k: v for k, v in claim.items() if k != "floor"} for claim in icr]
    with pytest.raises(
        ConfigError, match=r"icr.yaml: claims.icr-placebo-generation: a placebo without a `floor`.*`floor: m\("
    ):
        make_plan(changed("icr", "claims", value=bare), "desk", ["icr"])


def test_a_placebo_that_is_an_arm_of_a_claim_is_refused():
    """`queries: decoy` left out, or the wrong variant named: the plan has the same result for both."""
    same = changed("icr", "claims", claim_of("icr", "icr-placebo-bm25"), "expr", value="m(full) - m(baselines.rankgpt)")
    with pytest.raises(ConfigError, match=r"icr.yaml: claims.icr-placebo-bm25: icr.full is the very computation that"):
        make_plan(same, "desk", ["icr"])
    forgotten = changed("baselines", "arms", "dense_decoy", "queries", value="own")
    with pytest.raises(
        ConfigError, match=r"claims.bl-placebo-dense: baselines.dense_decoy is the very .* baselines.dense is"
    ):
        make_plan(forgotten, "desk", ["baselines"])


def test_the_names_of_measures_are_those_of_the_judge():
    assert set(MEASURES) == measure_names.NAMES
    measure_names.check("nDCG@3")
    with pytest.raises(UnknownName, match="here: unknown measure 'nDGC@10'; did you mean 'nDCG@10'"):
        measure_names.check("nDGC@10", "here")


def test_benchmarks_carry_the_tags_that_their_cards_name(quick_benchmarks):
    for name, benchmark in quick_benchmarks.items():
        carried = {tag for query in benchmark.queries.values() for tag in query.tags}
        assert carried <= set(benchmarks.get(name).tags), name


@pytest.fixture(scope="module")
def quick_benchmarks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from rankrepro import artifacts

    built = {}
    for name in ("lint/rules", "vital-mini/pairs", "vital-mini/fever"):
        folder = tmp_path_factory.mktemp("built") / name
        benchmarks.build(name, artifacts.cache_dir(), folder)
        built[name] = benchmarks.load(folder, name)
    return built


# --- published claims ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file", sorted((ROOT / "reports" / "desk").glob("*/results.json")), ids=lambda f: f.parent.name
)
def test_published_claims_mean_what_they_meant(file: Path):
    """Kind, terms, bounds and verdict of every published claim come out of the card as it is now."""
    card = load_cards()[file.parent.name]
    published = json.loads(file.read_text())["papers"][card.key]["claims"]
    parsed = {claim.id: claim for claim in claims.of(card)}
    for then in published:
        now, was = parsed[then["id"]], claims.of_result(then, card.key)
        assert (now.kind, now.role, now.combine, now.where) == (was.kind, was.role, was.combine, was.where)
        assert (now.null, now.target) == (was.null, was.target)
        assert [list(t) for t in (now.expression.terms if now.expression else ())] == then["terms"]
        assert now.guard == was.guard or not then["per_benchmark"]  # of what was not run, nothing is told
        assert sorted(now.of(card.benchmarks_at("desk"))) >= sorted(
            part["benchmark"] for part in then["per_benchmark"] if not part["benchmark"].startswith("timing")
        )


# --- a kind from end to end ------------------------------------------------------------------------------------------

GROWTH = {
    "id": "gain-grows", "sentence": "The gain grows with noise.", "kind": "growth", "measure": "R@1",
    "min_effect": 0.02, "quantity": "the gain over the baseline",
    "levels": ["m(a0) - m(b0)", "m(a20) - m(b20)", "m(a50) - m(b50)"],
}  # fmt: skip


def judge(claim: dict, gains: tuple[float, ...], n: int = 200) -> dict:
    """A claim judged where arm a is better than b by `gains` at three levels of noise."""
    rng = np.random.default_rng(0)
    base = rng.normal(0.5, 0.1, n)
    arms = {f"p.b{level}": base for level in (0, 20, 50)}
    arms |= {
        f"p.a{level}": base + gain + rng.normal(0, 0.05, n) for level, gain in zip((0, 20, 50), gains, strict=True)
    }

    def lookup(arm: str, benchmark: str, measure: str) -> tuple[dict, dict]:
        units = [f"u{i}" for i in range(n)]
        return {u: [v] for u, v in zip(units, arms[arm].tolist(), strict=True)}, dict(zip(units, units, strict=True))

    (result,) = judge_claims([parse(claim, "p")], lookup, benchmarks=["b1"])
    return result


def test_growth_is_judged():
    grown = judge(GROWTH, (0.0, 0.1, 0.2))
    assert grown["verdict"] == "reproduced" and grown["effect"] == pytest.approx(0.1, abs=0.01)
    assert (grown["kind"], grown["levels"], grown["min_effect"]) == ("growth", GROWTH["levels"], 0.02)
    assert judge(GROWTH, (0.1, 0.1, 0.1))["verdict"] == "not reproduced"  # a gain, but the same at every level
    assert judge(GROWTH, (0.0, 0.01, 0.02), n=20)["verdict"] == "inconclusive"
    assert judge(GROWTH | {"levels": GROWTH["levels"][::-1]}, (0.0, 0.1, 0.2))["effect"] == pytest.approx(
        -0.1, abs=0.01
    )


def test_growth_is_told():
    result = judge(GROWTH, (0.0, 0.1, 0.2))
    words = sentences.verdict(result, "p", {})
    assert words.startswith("The gain over the baseline grows by 0.1") and "per level (95 % CI 0.0" in words
    assert words.endswith("growth below 0.02 per level or an interval reaching 0 would change our mind.")
    words = sentences.verdict(judge({**GROWTH, "quantity": None}, (0.2, 0.1, 0.0)), "p", {})
    assert words.startswith("The difference in R@1 shrinks by ")


def test_growth_is_explained_and_planned(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    from rankrepro.cli import explain
    from rankrepro.outlook import stands

    levels = ["m(random) - m(first_stage)", "m(dense_decoy) - m(bm25)", "m(dense) - m(bm25)"]
    claim = GROWTH | {"levels": levels, "measure": "nDCG@10", "over": ["vital/fever"]}
    cards = changed("baselines", "claims", value=[claim, *load_cards()["baselines"].claims])
    monkeypatch.setattr(explain, "load_cards", lambda: cards)
    explain.explain("gain-grows", scale="desk", as_json=False, reports=ROOT / "no-reports")
    told = capsys.readouterr().out
    assert "growth: m(random) - m(first_stage) < m(dense_decoy)" in told and "baselines.dense = " in told
    assert "interval of the growth of the difference per level lies above 0, and the effect is at least 0.02" in told
    plan = make_plan(cards, "desk", ["baselines"])
    assert "baselines.dense_decoy" in plan.rows
    (stand,) = [s for s in stands(cards["baselines"], plan, None, 0.3) if s.claim == "gain-grows"]
    assert (stand.n, stand.wanted, stand.source) == (535 + 319, 0.02, "assumed") and stand.detectable > 0
