"""A user's run against independent implementations, and every way a run file can be odd."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import ir_measures
import numpy as np
import pytest
from scipy import stats

from rankrepro import artifacts, benchmarks
from rankrepro.benchmarks.base import Truth
from rankrepro.cards import load_cards
from rankrepro.errors import BenchmarkError, ConfigError, RunFileError, UnknownName
from rankrepro.evaluate import Ground, Row, evaluate, ground, our_rows, take
from rankrepro.judge import measures
from rankrepro.judge.statistics import holm

FEVER = "vital-mini/fever"


@pytest.fixture(scope="module")
def fever(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    built = tmp_path_factory.mktemp("built")
    benchmarks.build(FEVER, artifacts.cache_dir(), built / FEVER)
    return ground(FEVER, built, artifacts.cache_dir())


def noisy(on: Ground, seed: int, noise: float, n: int = 80) -> dict[str, dict[str, float]]:
    """Twenty documents for each of the first `n` queries of train and test: relevant ones tend to score higher."""
    rng = random.Random(seed)
    queries = sorted(q for q, split in on.splits.items() if split != "validation")[:n]
    corpus = sorted(on.documents or ())
    run = {}
    for q in queries:
        documents = {*on.truth.qrels[q], *rng.sample(corpus, 18)}
        run[q] = {d: on.truth.qrels[q].get(d, 0) + noise * rng.gauss(0, 1) for d in sorted(documents)}
    return run


def write(file: Path, run: dict[str, dict[str, float]]) -> Path:
    lines = [f"{q} Q0 {d} 1 {s!r} tag\n" for q, scores in run.items() for d, s in scores.items()]
    file.write_text("".join(lines))
    return file


def expected(measure: str, run: dict[str, dict[str, float]], on: Ground) -> dict[str, float]:
    """By ir_measures alone."""
    qrels = {q: dict(on.truth.qrels[q]) for q in run}
    parsed = ir_measures.parse_measure(measure)
    return {m.query_id: m.value for m in ir_measures.iter_calc([parsed], qrels, run)}


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", ["nDCG@10", "RR", "P@3"])
def test_values_are_those_of_ir_measures(fever: Ground, tmp_path: Path, measure: str) -> None:
    run = noisy(fever, 0, 0.5)
    table = evaluate(take(write(tmp_path / "a.trec", run), fever), fever, [], measure)
    (mine,) = table["rows"]
    assert mine["value"] == pytest.approx(np.mean(list(expected(measure, run, fever).values())))
    assert mine["ci"][0] < mine["value"] < mine["ci"][1]
    assert (mine["arm"], mine["n"], mine["yours"], mine["against"]) == ("a", 80, True, None)
    assert mine["judged"] == pytest.approx(np.mean(list(expected("Judged@10", run, fever).values())))
    assert mine["clusters"] == len({fever.truth.clusters[q] for q in run})


def test_scores_that_differ_in_the_ninth_digit_keep_their_order(fever: Ground, tmp_path: Path) -> None:
    run = noisy(fever, 0, 0.5)
    tiny = {q: {d: 1e-9 * s for d, s in scores.items()} for q, scores in run.items()}
    a, b = (take(write(tmp_path / name, r), fever) for name, r in (("a.trec", run), ("b.trec", tiny)))
    assert {q: list(s) for q, s in a.output.values.items()} == {q: list(s) for q, s in b.output.values.items()}
    assert measures.per_unit("nDCG@10", a.output, fever.truth) == measures.per_unit("nDCG@10", b.output, fever.truth)


def test_differences_and_their_tests(fever: Ground, tmp_path: Path) -> None:
    """Student's p by scipy, the mean by numpy, Holm over the rows compared; rows with other queries and seeds."""
    mine, good, half = noisy(fever, 1, 0.9), noisy(fever, 2, 0.5), noisy(fever, 3, 0.9, n=40)
    values = {name: expected("nDCG@10", run, fever) for name, run in (("mine", mine), ("good", good), ("half", half))}
    seeds = {q: [v, max(0.0, v - 0.2)] for q, v in values["half"].items()}
    rows = [
        Row("x.good", "x", {"nDCG@10": {q: [v] for q, v in values["good"].items()}}),
        Row("x.seeds", "x", {"nDCG@10": seeds}),
        Row("x.same", "x", {"nDCG@10": {q: [v] for q, v in values["mine"].items()}}),
        Row("ceiling of x.good", "x", {"nDCG@10": {q: [1.0] for q in mine}}),
        Row("x.other", "x", {"RR": {q: [1.0] for q in mine}}),
    ]
    table = evaluate(take(write(tmp_path / "mine.trec", mine), fever), fever, rows, "nDCG@10")
    by_arm = {r["arm"]: r for r in table["rows"]}
    assert [r["value"] for r in table["rows"]] == sorted((r["value"] for r in table["rows"]), reverse=True)
    assert set(by_arm) == {"mine", "x.good", "x.seeds", "x.same", "ceiling of x.good"}  # x.other has no nDCG@10
    assert by_arm["ceiling of x.good"]["against"] is None

    for arm, theirs in (("x.good", values["good"]), ("x.seeds", {q: float(np.mean(v)) for q, v in seeds.items()})):
        shared = sorted(set(theirs) & set(values["mine"]))
        a, b = (np.array([side[q] for q in shared]) for side in (values["mine"], theirs))
        c = by_arm[arm]["against"]
        assert (c["n"], c["yours"]) == (len(shared), pytest.approx(a.mean()))
        assert c["difference"] == pytest.approx((a - b).mean())
        assert c["student_p"] == pytest.approx(stats.ttest_rel(a, b).pvalue)
        assert c["ci"][0] < c["difference"] < c["ci"][1]
    assert by_arm["x.good"]["against"]["p_holm"] < 0.01  # a planted difference is found
    same = by_arm["x.same"]["against"]
    assert (same["difference"], same["p"], same["student_p"], same["student_p_holm"]) == (0.0, 1.0, None, None)
    compared = [by_arm[a]["against"] for a in ("x.good", "x.seeds", "x.same")]
    assert [c["p_holm"] for c in compared] == holm([c["p"] for c in compared])


def test_fewer_comparisons_are_corrected_less(fever: Ground, tmp_path: Path) -> None:
    mine = noisy(fever, 1, 0.9)
    rows = [
        Row(f"x.r{i}", "x", {"nDCG@10": {q: [v] for q, v in expected("nDCG@10", noisy(fever, i, 0.7), fever).items()}})
        for i in range(5)
    ]
    run = take(write(tmp_path / "mine.trec", mine), fever)
    every = {r["arm"]: r["against"] for r in evaluate(run, fever, rows, "nDCG@10")["rows"]}
    one = {r["arm"]: r["against"] for r in evaluate(run, fever, rows, "nDCG@10", ["x.r0"])["rows"]}
    assert one["x.r0"]["p_holm"] == one["x.r0"]["p"] == every["x.r0"]["p"] < every["x.r0"]["p_holm"]
    assert one["x.r1"] is None
    with pytest.raises(UnknownName, match=r"did you mean 'x.r1'|did you mean 'x.r0'|x.r"):
        evaluate(run, fever, rows, "nDCG@10", ["x.r9"])


def test_two_like_systems_seldom_differ(fever: Ground, tmp_path: Path) -> None:
    """False positives of the bootstrap p at 5 %, on clustered queries: twenty pairs of the same quality."""
    false = 0
    for i in range(20):
        row = Row("x.r", "x", {"RR": {q: [v] for q, v in expected("RR", noisy(fever, 100 + i, 0.7), fever).items()}})
        run = take(write(tmp_path / "mine.trec", noisy(fever, 200 + i, 0.7)), fever)
        (c,) = [r["against"] for r in evaluate(run, fever, [row], "RR")["rows"] if r["against"]]
        false += c["p"] < 0.05
    assert false <= 4  # binomial(20, 0.05) exceeds 4 in 0.3 % of seeds; these are fixed


# --- the run file ----------------------------------------------------------------------------------------------------


def test_what_is_left_out_is_counted_and_named(fever: Ground, tmp_path: Path) -> None:
    run = noisy(fever, 0, 0.5)
    validation = sorted(q for q, split in fever.splits.items() if split == "validation")[:2]
    odd = run | {v: {"Polar bear": 1.0} for v in validation} | {"zzz": {"Polar bear": 1.0}}
    odd[next(iter(run))]["No such article"] = 9.0
    taken = take(write(tmp_path / "a.run", odd), fever)
    assert set(taken.output.values) == set(run) and taken.queries == 854
    warnings = " | ".join(taken.warnings)
    assert "1 queries of the run are not in the benchmark and left out (zzz)" in warnings
    assert f"2 queries are of other splits, left out ({', '.join(validation)})" in warnings
    assert "774 queries have no result in the run and are left out" in warnings
    assert "1 documents of the run are not in the corpus and count as not relevant (No such article)" in warnings
    assert set(take(tmp_path / "a.run", fever, ["validation"]).output.values) == set(validation)


def test_complete_counts_missing_queries_as_zero(fever: Ground, tmp_path: Path) -> None:
    run = noisy(fever, 0, 0.5)
    file = write(tmp_path / "a.trec", run)
    (some,) = evaluate(take(file, fever), fever, [], "nDCG@10")["rows"]
    (every,) = evaluate(take(file, fever, complete=True), fever, [], "nDCG@10")["rows"]
    assert every["n"] == 854 and every["value"] == pytest.approx(some["value"] * 80 / 854)


def test_documents_that_are_no_candidates_are_dropped(tmp_path: Path) -> None:
    on = Ground("b", {"q": "test"}, {"q": ["self"]}, {"self", "d"}, Truth({"q": {"d": 1}}, {"q": "q"}))
    taken = take(write(tmp_path / "a.trec", {"q": {"self": 2.0, "d": 1.0}}), on)
    assert taken.output.values == {"q": {"d": 1.0}}
    (row,) = evaluate(taken, on, [], "RR")["rows"]
    assert row["value"] == 1.0 and row["ci"] == [None, None]  # one cluster cannot bound it


def test_runs_as_other_tools_write_them(fever: Ground, tmp_path: Path) -> None:
    """Zipped, tabs, no end of the last line, empty lines, blanks in ids written as they are or as %20."""
    run = {q: s for q, s in list(noisy(fever, 0, 0.5).items())[:5]}
    plain = write(tmp_path / "plain.trec", run)
    text = plain.read_text()
    assert any(len(line.split()) > 6 for line in text.splitlines()), "some titles have blanks"
    escaped = "".join(
        f"{q} Q0 {d.replace(' ', '%20')} 1 {s!r} tag\n" for q, scores in run.items() for d, s in scores.items()
    )
    variants = {
        "escaped.trec": escaped.encode(),
        "tabs.txt": escaped.replace(" ", "\t").encode(),
        "unended.run": ("\n" + text.replace("\n", "\n\n")).rstrip().encode(),
        "zipped.trec.gz": gzip.compress(text.encode()),
    }
    first = take(plain, fever)
    for name, raw in variants.items():
        (tmp_path / name).write_bytes(raw)
        taken = take(tmp_path / name, fever)
        assert taken.output.values == first.output.values, name
        assert taken.name == name.split(".")[0]
    assert take(plain, fever, name="my name").name == "my name"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "empty run"),
        (b"q Q0 d 1\n", ":1: 4 fields"),
        (b"q Q0 d 1 2 t\nq Q0 d 1 x t\n", ":2: score 'x' is not a finite number"),
        (b"q Q0 d 1 inf t\n", "not a finite number"),
        (b"q Q0 d 1 2 t\nq Q0 d 2 1 t\n", ":2: document 'd' appears twice"),
        (b"q Q0 d 1 2 t\n", "none of its 1 queries is in b"),
        (b"a Q0 x 1 2 t\n", "none of its 1 documents is in b"),
        (b"v Q0 d 1 2 t\n", "none of its queries is of split train or test"),
        (b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_runs_that_cannot_be_judged(tmp_path: Path, raw: bytes, message: str) -> None:
    on = Ground("b", {"a": "test", "v": "validation"}, {}, {"d"}, Truth({"a": {"d": 1}, "v": {"d": 1}}, {}))
    (tmp_path / "r.trec").write_bytes(raw)
    with pytest.raises(RunFileError, match=message):
        take(tmp_path / "r.trec", on)


def test_a_truncated_gzip_and_a_missing_file(fever: Ground, tmp_path: Path) -> None:
    whole = gzip.compress(b"q Q0 d 1 2 t\n" * 1000)
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "no.gz").write_bytes(b"q Q0 d 1 2 t\n")
    for name in ("cut.gz", "no.gz"):
        with pytest.raises(RunFileError, match="not a complete gzip file"):
            take(tmp_path / name, fever)
    with pytest.raises(RunFileError, match="cannot be read"):
        take(tmp_path / "none.trec", fever)
    with pytest.raises(UnknownName, match="did you mean 'test'"):
        take(write(tmp_path / "a.trec", noisy(fever, 0, 0.5)), fever, ["tets"])


# --- truth without a corpus ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("benchmark", "queries", "judged"),
    [
        ("msmarco-passage/trec-dl-2019/judged", 43, 9260),
        ("msmarco-passage/trec-dl-2020/judged", 54, 11386),
        ("beir/fever/test", 6666, 7937),
        ("beir/climate-fever", 1535, 4681),
        ("beir/dbpedia-entity/test", 400, None),
    ],
)
def test_truth_comes_without_the_corpus(tmp_path: Path, benchmark: str, queries: int, judged: int | None) -> None:
    """The numbers of queries and judgments are those that TREC and BEIR publish, and those of the benchmark's card."""
    on = ground(benchmark, tmp_path, artifacts.cache_dir())
    assert len(on.splits) == queries == benchmarks.get(benchmark).counts["queries"]
    assert judged is None or sum(map(len, on.truth.qrels.values())) == judged
    assert on.documents is None and not list(tmp_path.iterdir())
    query = next(iter(on.truth.qrels))
    perfect = {query: {d: float(g) for d, g in on.truth.qrels[query].items()}}
    taken = take(write(tmp_path / "p.trec", perfect), on)
    assert evaluate(taken, on, [], "nDCG@10")["rows"][0]["value"] == pytest.approx(1.0)
    assert any("documents were not checked" in w for w in taken.warnings)


def test_a_benchmark_without_queries_is_refused(tmp_path: Path) -> None:
    benchmarks.build("tabular/mini", artifacts.cache_dir(), tmp_path / "tabular/mini")
    with pytest.raises(BenchmarkError, match="has no queries and documents"):
        ground("tabular/mini", tmp_path, artifacts.cache_dir())


# --- our rows --------------------------------------------------------------------------------------------------------


def units(folder: Path, paper: str, rows: dict[str, float], zipped: bool) -> None:
    """A units file of rows with one unit each."""
    listed = [{"arm": a, "benchmark": "vital/fever", "measure": "RR", "values": {"q": [v]}} for a, v in rows.items()]
    text = json.dumps({"schema": 3, "paper": paper, "rows": listed, "timings": {}}).encode()
    folder.mkdir(parents=True)
    (folder / ("units.json.gz" if zipped else "units.json")).write_bytes(gzip.compress(text) if zipped else text)


def test_rows_are_read_from_their_own_card_and_the_newest_run(tmp_path: Path) -> None:
    results, reports = tmp_path / "results", tmp_path / "reports"
    assert our_rows(load_cards(), "desk", "vital/fever", results, reports) == []
    units(
        reports / "desk" / "icr",
        "icr",
        {"icr.full": 0.1, "baselines.bm25": 0.2, "ceiling of baselines.bm25": 0.9},
        True,
    )
    rows = {
        r.arm: (r.paper, r.values["RR"]["q"]) for r in our_rows(load_cards(), "desk", "vital/fever", results, reports)
    }
    assert rows["baselines.bm25"] == ("icr", [0.2])
    units(reports / "desk" / "baselines", "baselines", {"baselines.bm25": 0.3, "ceiling of baselines.bm25": 0.8}, True)
    units(results / "desk" / "judged" / "icr", "icr", {"icr.full": 0.5, "baselines.bm25": 0.6}, False)
    rows = {
        r.arm: (r.paper, r.values["RR"]["q"]) for r in our_rows(load_cards(), "desk", "vital/fever", results, reports)
    }
    assert rows == {
        "icr.full": ("icr", [0.5]),
        "baselines.bm25": ("baselines", [0.3]),
        "ceiling of baselines.bm25": ("baselines", [0.8]),
    }
    (reports / "desk" / "baselines" / "units.json.gz").write_bytes(b"no gzip")
    with pytest.raises(ConfigError, match=r"units.json.gz cannot be read"):
        our_rows(load_cards(), "desk", "vital/fever", results, reports)
