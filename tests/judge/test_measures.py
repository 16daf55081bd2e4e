import ir_measures
import numpy as np
import pytest

from rankrepro import measure_names
from rankrepro.benchmarks.base import Truth
from rankrepro.cell import Facts, Likelihoods, Ranking, Retrieval
from rankrepro.errors import BenchmarkError, OutputError, UnknownName
from rankrepro.judge import measures

QRELS = {"q1": {"a": 2, "b": 0, "c": 1}, "q2": {"d": 1, "z": 1}, "q3": {"a": 1}}
TRUTH = Truth(QRELS, {"q1": "A", "q2": "D", "q3": "A"})
RUN = Ranking({"q1": {"b": 3.0, "a": 2.0, "c": 1.0}, "q2": {"x": 2.0, "d": 1.0}})


def test_hand_computed():
    ndcg = measures.per_unit("nDCG@10", RUN, TRUTH)
    ideal = 2 / np.log2(2) + 1 / np.log2(3)
    assert ndcg["q1"] == pytest.approx((2 / np.log2(3) + 1 / np.log2(4)) / ideal)
    assert measures.per_unit("RR", RUN, TRUTH) == {"q1": 0.5, "q2": 0.5}
    assert measures.per_unit("R@10", RUN, TRUTH) == {"q1": 1.0, "q2": 0.5}  # grades >= 1 are relevant
    assert measures.per_unit("Judged@10", RUN, TRUTH)["q2"] == pytest.approx(0.5)
    assert measures.per_unit("Candidates-R", RUN, TRUTH) == {"q1": 1.0, "q2": 0.5}


def test_covers_the_judged_queries_of_the_output_and_no_others():
    run = Retrieval({"q1": {"b": 1.0}, "q2": {"d": 1.0}, "unjudged": {"a": 1.0}})
    assert measures.per_unit("nDCG@10", run, TRUTH) == {"q1": 0.0, "q2": pytest.approx(1 / (1 + 1 / np.log2(3)))}


@pytest.mark.parametrize("name", ["nDCG@10", "AP", "RR", "R@2", "P(rel=2)@3", "Judged@10", "Success@1"])
def test_agrees_with_ir_measures_on_untied_runs(name):
    rng = np.random.default_rng(0)
    documents = [f"d{i}" for i in range(40)]
    qrels = {f"q{i}": {d: int(rng.integers(0, 3)) for d in rng.choice(documents, 8, replace=False)} for i in range(30)}
    run = {
        q: dict(zip(rng.choice(documents, 15, replace=False), rng.permutation(15) * 1.0, strict=True)) for q in qrels
    }
    ours = measures.per_unit(name, Ranking(run), Truth(qrels, {}))
    theirs = ir_measures.calc_aggregate([ir_measures.parse_measure(name)], qrels, run)
    assert set(ours) == set(qrels)
    assert np.mean(list(ours.values())) == pytest.approx(next(iter(theirs.values())), abs=1e-9)


def test_ties_are_broken_by_document_id_alone():
    truth = Truth({"q": {"a": 1}}, {})
    for order in ("ab", "ba"):
        tied = Ranking({"q": dict.fromkeys(order, 1.0)})
        assert measures.per_unit("RR", tied, truth) == {"q": 1.0}
    near = Ranking({"q": {"b": 1.0, "a": 1.0 - 1e-7}})  # what is float noise the cell has merged
    assert measures.per_unit("RR", near, truth) == {"q": 0.5}


def test_ids_that_a_provider_would_misread():
    """The provider of nDCG's exponential form takes numeric query ids only, and splits document ids at blanks."""
    truth = Truth({"a query": {"a document": 2, "b": 1}}, {})
    run = Ranking({"a query": {"b": 2.0, "a document": 1.0}})
    expected = (1 + 3 / np.log2(3)) / (3 + 1 / np.log2(3))
    got = measures.per_unit("nDCG(dcg='exp-log2')@10", run, truth)
    assert got["a query"] == pytest.approx(expected, abs=1e-4)


def test_oracle_is_the_ceiling_of_the_same_candidates():
    best = measures.oracle(RUN, TRUTH)
    assert {q: set(d) for q, d in best.values.items()} == {q: set(d) for q, d in RUN.values.items()}
    assert measures.per_unit("nDCG@10", best, TRUTH)["q1"] == 1.0
    assert measures.per_unit("R@1", best, TRUTH)["q2"] == 0.5  # z is no candidate: the ceiling is below 1
    for name in ("nDCG@10", "RR", "AP"):
        run, ceiling = measures.per_unit(name, RUN, TRUTH), measures.per_unit(name, best, TRUTH)
        assert all(run[q] <= ceiling[q] for q in run)


def test_facts_by_name():
    facts = Facts({"q1": {"malformed_rate": 0.0}, "q2": {"malformed_rate": 0.5}})
    for name in ("MalformedRate", "value", "fact:malformed_rate", "fact:malformed_rate:low"):
        assert measures.per_unit(name, facts, TRUTH) == {"q1": 0.0, "q2": 0.5}
    assert [measures.get(n).direction for n in ("MalformedRate", "fact:x", "fact:x:low")] == [-1, 1, -1]
    sizes = Facts({"model": {"target_parameters": 7, "steps_to_best": 3}})
    assert measures.per_unit("TargetParameters", sizes, TRUTH) == {"model": 7.0}
    assert measures.per_unit("StepsToBest", sizes, TRUTH) == {"model": 3.0}
    with pytest.raises(OutputError, match="one of fact:steps_to_best, fact:target_parameters"):
        measures.per_unit("value", sizes, TRUTH)
    with pytest.raises(UnknownName, match="did you mean 'steps_to_best'"):
        measures.per_unit("fact:steps_to_bets", sizes, TRUTH)


def test_pooled_material():
    blocks = measures.per_unit("Perplexity", Likelihoods({"b1": (2.0, 1), "b2": (4.0, 2)}), TRUTH)
    pool = measures.get("Perplexity").pool
    assert pool is not None and pool(list(blocks.values()))(np.ones(2)) == pytest.approx(np.exp(2))
    term = measures.as_term("Perplexity", [[m] for m in blocks.values()])
    assert term.values[0](np.array([[2.0, 0.0]]))[0] == pytest.approx(np.exp(2))


def test_clusters_come_from_truth_and_default_to_the_unit():
    assert measures.get("nDCG@10").clusters(["q1", "q3", "new"], TRUTH) == {"q1": "A", "q3": "A", "new": "new"}


@pytest.mark.parametrize(
    "name", ["nDGC@10", "nDCG@ten", "", "R@0", "R@-1", "nDCG(foo=3)@10", "INST", "RBP(p=0.8)", "fact:"]
)
def test_unknown_or_uncomputable_measures(name):
    with pytest.raises(UnknownName, match="measure"):
        measures.get(name)


def test_an_unknown_measure_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match=r"did you mean 'nDCG@10'"):
        measures.get("nDGC@10")


def test_wrong_output_type():
    assert measures.applies("AP", RUN) and not measures.applies("value", RUN)
    with pytest.raises(OutputError, match=r"'AP' reads ranking or retrieval, not an output of type facts"):
        measures.per_unit("AP", Facts({}), TRUTH)
    with pytest.raises(OutputError, match="no ranked documents"):
        measures.oracle(Facts({}), TRUTH)


def test_no_query_with_a_relevant_document():
    for name in ("nDCG@10", "Candidates-R"):
        with pytest.raises(BenchmarkError, match="none of the 1 queries has a relevant document"):
            measures.per_unit(name, Ranking({"q1": {"b": 1.0}}), Truth({"q1": {"b": 0}, "q2": {"d": 1}}, {}))


@pytest.mark.parametrize("measure", ["nDCG", "AP", "RR", "P", "R", "Success", "Judged"])
def test_a_cutoff_that_the_plan_takes_for_granted_can_be_computed(measure: str) -> None:
    assert measure_names.CUT_OFF.fullmatch(f"{measure}@3") and measure_names.parsed(f"{measure}@3")
    assert not measure_names.CUT_OFF.fullmatch(f"{measure}@0")
