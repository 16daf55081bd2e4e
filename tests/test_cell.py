"""The cell contract: what comes back is checked, rounded, ordered; long cells resume."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cells import make_cell

from rankrepro.benchmarks.base import Benchmark, Document, Query, sample
from rankrepro.cell import Cell, Facts, Likelihoods, Output, Predictions, Ranking, Retrieval, Text, given
from rankrepro.errors import OutputError
from rankrepro.runner import decoys_of, queries_of

DOCS = {d: Document(d, d, "text") for d in "abcd"}


def cell(**changes: object) -> Cell:
    benchmark = Benchmark("x", {q: Query(q, f"text {q}", "test") for q in ("q1", "q2")}, DOCS)
    defaults: dict = {"benchmark": benchmark, "candidates": {"q1": ["a", "b"], "q2": ["c", "d"]}}
    return make_cell(name="t.arm", **{**defaults, **changes})


GOOD = {"q1": {"a": 1.0, "b": 2.0}, "q2": {"c": 0.0, "d": 0.0}}


def ranking_of(scores: dict[str, float]) -> dict[str, float]:
    """What a cell makes of the scores of one query."""
    one = cell(candidates={"q1": list(scores), "q2": ["c"]})
    return dict(Ranking({"q1": scores, "q2": {"c": 0.0}}).checked(one).values["q1"])


def test_scores_are_rounded_and_ties_broken_by_document() -> None:
    noisy = {"b": 1.000002, "a": 1.000001, "d": -0.0000001, "c": 0.0} | {f"x{i:02}": 2.0 + i for i in range(30)}
    ranked = ranking_of(noisy)
    assert list(ranked.items())[-4:] == [("a", 1.0), ("b", 1.0), ("c", 0.0), ("d", 0.0)]
    assert json.dumps(ranked).endswith('"c": 0.0, "d": 0.0}')  # no minus zero
    assert ranking_of(ranked) == ranked


@pytest.mark.parametrize(
    ("scale", "offset"), [(1e-7, 0.0), (1e-7, 0.5), (1e-7, -3.0), (1e-9, 0.5), (1e-30, 0.0), (1.0, 0.0)]
)
def test_scores_that_lie_close_together_keep_their_order(scale: float, offset: float) -> None:
    """Small numbers, and numbers of a narrow range: rounded to five decimals they would all be ties, ranked by id."""
    best_first = [f"d{(7 * i) % 100:02}" for i in range(100)]
    scores = {d: offset + scale * (100 - i) for i, d in enumerate(best_first)}
    assert list(ranking_of(scores)) == best_first
    assert list(ranking_of(scores | {"first": 1e6 * scale + offset})) == ["first", *best_first]


def test_probabilities_crowded_at_both_ends_keep_their_order() -> None:
    logits = {f"d{(7 * i) % 40:02}": 20.5 - i for i in range(40)}
    ranked = ranking_of({d: 1 / (1 + math.exp(-x)) for d, x in logits.items()})
    assert list(ranked) == list(logits)


def test_the_noise_of_doubles_is_a_tie() -> None:
    assert list(ranking_of({"b": 0.1 + 0.2, "a": 0.3})) == ["a", "b"]
    assert list(ranking_of({"b": 1e6 * (0.1 + 0.2), "a": 1e6 * 0.3})) == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"q1": GOOD["q1"]}, r"t\.arm: 1 of 2 units have no result .*'q2'"),
        ({**GOOD, "q3": {"a": 1.0}}, "'q3' is not a unit of this cell"),
        ({**GOOD, "q1": {"a": 1.0}}, "query q1: the candidate set changed"),
        ({**GOOD, "q1": {"a": 1.0, "b": 1.0, "c": 1.0}}, "the candidate set changed"),
        ({**GOOD, "q2": {"c": float("nan"), "d": 1.0}}, "not a finite number"),
        ({**GOOD, "q2": {"c": float("inf"), "d": 1.0}}, "not a finite number"),
    ],
)
def test_a_bad_ranking_is_refused(values: dict, words: str) -> None:
    with pytest.raises(OutputError, match=words):
        Ranking(values).checked(cell())


def test_a_bad_retrieval_or_fact_is_refused() -> None:
    with pytest.raises(OutputError, match="not a document"):
        Retrieval({**GOOD, "q1": {"zzz": 1.0}}).checked(cell())
    with pytest.raises(OutputError, match="no scored document"):
        Retrieval({**GOOD, "q1": {}}).checked(cell())


NAN = float("nan")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (Facts({}), "has no unit"),
        (Facts({"model": {"bytes": NAN}}), r"t\.arm: model: fact 'bytes' is not a finite number"),
        (Facts({"q1": {"tau": 1.0}}), "1 of 2 units have no result .*facts.*'q2'"),
        (Facts({"q1": {"tau": 1.0}, "q2": {}}), "q2 and q1 do not both have the fact 'tau'"),
        (Facts({"model": 3.0}), "facts are name -> number"),  # type: ignore[dict-item]
        (Predictions({"q1": [0, 1], "q2": [0, NAN]}), "q2: a prediction is not a finite number"),
        (Predictions({"q1": [0, 1], "q2": []}), "q2 has 0 predictions"),
        (Predictions({"q1": [0, 1]}), "'q2'"),
        (Likelihoods({"q1": (1.0, 2), "q2": (NAN, 2)}), "q2: a log-likelihood"),
        (Likelihoods({"q1": (1.0, 2), "q2": (1.0, 0)}), "q2: 0 is not a number of tokens"),
        (Likelihoods({"q1": (1.0, 2), "q2": (1.0,)}), "q2 has 1 numbers"),  # type: ignore[dict-item]
        (Text({"q1": "a", "q2": None}), "q2 is a NoneType, not a text"),  # type: ignore[dict-item]
        (Text({"q1": "a"}), "'q2'"),
    ],
)
def test_a_bad_output_is_refused_with_cell_and_unit(output: Output, words: str) -> None:
    with pytest.raises(OutputError, match=words):
        output.checked(cell())


def test_a_benchmark_that_counts_rows_is_answered_with_as_many() -> None:
    benchmark = SimpleNamespace(id="tasks", units=["t"], sizes={"t": 3})
    tasks = make_cell(benchmark=benchmark, name="t.arm")
    assert Predictions({"t": [0, 1, np.int64(1)]}).checked(tasks).values == {"t": [0, 1, 1]}
    with pytest.raises(OutputError, match=r"t\.arm: t has 2 predictions, 3 are needed"):
        Predictions({"t": [0, 1]}).checked(tasks)
    with pytest.raises(OutputError, match=r"t\.arm: t has 4 tokens, 3 are needed"):
        Likelihoods({"t": (1.0, 4)}).checked(tasks)


def test_what_an_arm_answers_is_in_the_order_of_its_units_and_a_stage_may_answer_others() -> None:
    assert list(Text({"q2": "b", "q1": "a"}).checked(cell()).values) == ["q1", "q2"]
    documents = Text({"d": "a summary", "a": "another"})
    assert documents.checked(cell(), arm=False) == documents
    with pytest.raises(OutputError, match="'q1'"):
        documents.checked(cell())
    with pytest.raises(OutputError, match="a is a int, not a text"):
        Text({"a": 1}).checked(cell(), arm=False)  # type: ignore[dict-item]


def test_map_resumes_at_the_first_unfinished_batch(tmp_path: Path) -> None:
    calls: list[list[str]] = []

    def work(units: list[str], fail_at: str | None = None) -> dict[str, float]:
        calls.append(units)
        if fail_at in units:
            raise KeyboardInterrupt
        return {u: float(ord(u[-1])) for u in units}

    units = ["u1", "u2", "u3", "u4", "u5"]
    first = cell(shards=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        first.map(units, lambda u: work(u, "u5"), batch=2)
    with (tmp_path / "units.jsonl").open("ab") as f:
        f.write(b'{"values": {"u5": 1')
    again = cell(shards=tmp_path)
    assert again.map(units, work, batch=2) == {u: float(ord(u[-1])) for u in units}
    assert calls == [["u1", "u2"], ["u3", "u4"], ["u5"], ["u5"]]
    assert set(again.meter.units) == set(units)  # the cost of resumed batches is kept
    assert again.meter.wall > 0


@pytest.mark.parametrize("harm", [b"null\n", b"{}\n", b"\xff\xfe\n", b"\n", b"digit", b"end"])
def test_a_damaged_line_of_a_shard_and_what_follows_it_is_computed_again(tmp_path: Path, harm: bytes) -> None:
    units = [f"u{i}" for i in range(5)]
    calls: list[str] = []

    def work(batch: list[str]) -> dict[str, float]:
        calls.extend(batch)
        return dict.fromkeys(batch, 0.125)

    expected = cell(shards=tmp_path).map(units, work)
    file = tmp_path / "units.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    changed = {b"digit": lines[2].replace(b"0.125", b"0.625", 1), b"end": lines[2].rstrip(b"\n")}
    lines[2] = changed.get(harm, harm)
    file.write_bytes(b"".join(lines))
    calls.clear()
    assert cell(shards=tmp_path).map(units, work) == expected
    assert calls == ["u2", "u3", "u4"]
    assert cell(shards=tmp_path).map(units, work) == expected
    assert calls == ["u2", "u3", "u4"]


def test_history_is_a_mean_by_step_and_survives_a_kill(tmp_path: Path) -> None:
    def run(some: Cell, fail: bool) -> None:
        def work(units: list[str]) -> dict[str, int]:
            some.history.log(0, loss=1.0 if units == ["u1"] else 3.0)
            some.history.log(10, loss=float(len(units)), accuracy=0.5)
            if fail and units == ["u2"]:
                raise KeyboardInterrupt
            return dict.fromkeys(units, 0)

        some.map(["u1", "u2"], work)

    killed, again = cell(shards=tmp_path), cell(shards=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(killed, fail=True)
    run(again, fail=False)
    assert again.history.record() == {"accuracy": [[10, 0.5]], "loss": [[0, 2.0], [10, 1.0]]}


def test_map_returns_what_json_holds_with_or_without_shards(tmp_path: Path) -> None:
    work = {"u": {"x": (1, 2), "y": 0.1 + 0.2}}
    assert cell().map(["u"], lambda units: work) == cell(shards=tmp_path).map(["u"], lambda units: work)


def test_map_wants_every_unit_back() -> None:
    with pytest.raises(OutputError, match="a batch of 2 units came back with 1"):
        cell().map(["u1", "u2"], lambda units: {"u1": 1}, batch=2)


def test_samples_are_fixed_and_nested() -> None:
    ids = [f"q{i}" for i in range(50)]
    assert sample("b", ids, 10) == sample("b", ids[::-1], 10)
    assert set(sample("b", ids, 10)) < set(sample("b", ids, 20))
    assert sample("b", ids, 10) != sample("other", ids, 10)
    assert sample("b", ids, None) == sorted(ids)


def test_decoys_are_other_queries() -> None:
    queries = {f"q{i}": Query(f"q{i}", f"text {i}", "test", image=f"picture {i}") for i in range(7)}
    decoys = decoys_of(queries)
    assert sorted(d.id for d in decoys.values()) == sorted(queries)
    assert all(decoys[q] != queries[q] for q in queries)


def test_queries_of_a_cell_never_come_from_another_split() -> None:
    queries = {f"q{i}": Query(f"q{i}", "t", ("train", "validation", "test")[i % 3]) for i in range(30)}
    benchmark = Benchmark("x", queries, DOCS)
    chosen = queries_of(benchmark, ["train", "test"], 12, "own")
    assert len(chosen) == 12
    assert all(queries[q].split != "validation" for q in chosen)


def test_orders() -> None:
    docs = [f"d{i}" for i in range(20)]
    assert given(docs, 20, "first_stage", "q", 0) == docs
    assert given(docs, 20, "reversed", "q", 0) == docs[::-1] and given(docs, 3, "reversed", "q", 0) == docs[2::-1]
    scrambled = given(docs, 20, "scrambled", "q", 0)
    assert sorted(scrambled) == sorted(docs)
    assert scrambled not in (docs, docs[::-1])
    assert scrambled == given(docs, 20, "scrambled", "q", 0) != given(docs, 20, "scrambled", "q2", 0)


@pytest.mark.parametrize("harm", ["cut", "emptied", "tensor", "state"])
def test_a_damaged_checkpoint_and_those_that_follow_it_are_thrown_away(tmp_path: Path, harm: str) -> None:
    torch = pytest.importorskip("torch")
    first = cell(shards=tmp_path)
    for i, part in enumerate(("one", "two", "three")):
        first.saved(part)
        first.history.log(i, loss=float(i))
        first.save(part, {"w": torch.arange(3.0) + i, "n": torch.tensor(7)}, {"step": 555})
    again = cell(shards=tmp_path)
    tensors, state = again.saved("one") or pytest.fail("a whole checkpoint is found")
    assert tensors["w"].tolist() == [0.0, 1.0, 2.0] and state == {"step": 555}

    file = tmp_path / "two.safetensors"
    data = file.read_bytes()
    changed = {
        "cut": data[:-5],
        "emptied": b"",
        "tensor": data[:-1] + bytes([data[-1] ^ 1]),
        "state": data.replace(b"555", b"554", 1),
    }
    file.write_bytes(changed[harm])
    assert again.saved("two") is None
    assert again.saved("three") is None  # its log has that of the part before
    assert [f.name for f in tmp_path.iterdir()] == ["one.safetensors"]
    assert again.history.series == {"loss": {0: [0.0, 1]}}


# --- memory ----------------------------------------------------------------------------------------------------------


def test_a_batch_that_does_not_fit_is_halved_and_so_are_those_after_it(tmp_path: Path) -> None:
    import torch

    batches: list[list[str]] = []
    c = cell(shards=tmp_path)

    def fn(units: list[str]) -> dict[str, int]:
        batches.append(units)
        for u in units:
            c.meter.add(u, input_tokens=1)
        c.history.log(0, units=len(units))
        if len(units) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return dict.fromkeys(units, 1)

    units = [f"u{i}" for i in range(10)]
    assert c.map(units, fn, batch=5) == dict.fromkeys(units, 1)
    assert [len(a) for a in batches] == [5, 2, 2, 1, 2, 2, 1]
    assert all(c.meter.units[u]["input_tokens"] == 1 for u in units)  # a failed attempt counts nothing
    assert c.history.record() == {"units": [[0, 10 / 6]]}
    assert len((tmp_path / "units.jsonl").read_text().splitlines()) == 2  # as without it


def test_a_single_unit_that_does_not_fit_and_any_other_error_are_errors() -> None:
    import torch

    def fails(error: Exception) -> None:
        def fn(units: list[str]) -> dict[str, int]:
            raise error

        with pytest.raises(type(error)):
            cell().map(["u"] if isinstance(error, torch.OutOfMemoryError) else ["u", "v"], fn, batch=2)

    fails(torch.OutOfMemoryError("CUDA out of memory"))
    fails(RuntimeError("other"))
