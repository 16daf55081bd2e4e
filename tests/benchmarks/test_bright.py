"""bright/*: a tiny folder in the upstream format, as parquet and as JSON lines."""

from __future__ import annotations

import json

import pyarrow
import pyarrow.parquet
import pytest

from rankrepro import benchmarks
from rankrepro.benchmarks import bright
from rankrepro.errors import BenchmarkError

EXAMPLES = [
    {
        "query": "Why are insects drawn to light?",
        "reasoning": "not used",
        "id": "0",
        "excluded_ids": ["N/A"],
        "gold_ids_long": ["insects/Phototaxis.txt"],
        "gold_ids": ["insects/Phototaxis_3.txt", "insects/Phototaxis_4.txt"],
        "gold_answer": "",
    },
    {
        "query": "Prove it.",
        "reasoning": "",
        "id": "1",
        "excluded_ids": ["problem_7.txt"],
        "gold_ids_long": ["N/A"],
        "gold_ids": ["problem_9.txt"],
        "gold_answer": "",
    },
]
DOCUMENTS = [
    {"id": i, "content": f"Text of {i}."}
    for i in ("insects/Phototaxis_3.txt", "insects/Phototaxis_4.txt", "problem_7.txt", "problem_9.txt")
]
LONG = [{"id": "insects/Phototaxis.txt", "content": "The page."}]
PARAMS = {"task": "biology", "revision": "main"}


def write(folder, part, rows, kind, task="biology"):
    (folder / part).mkdir(parents=True, exist_ok=True)
    if kind == "parquet":  # in two files, as the hub shards large ones
        for i, row in enumerate((rows[:1], rows[1:])):
            path = folder / part / f"{task}-0000{i}-of-00002.parquet"
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(row, pyarrow.Table.from_pylist(rows).schema), path)
    else:
        (folder / part / f"{task}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


@pytest.fixture(params=["parquet", "jsonl"])
def folder(tmp_path, request):
    write(tmp_path, "examples", EXAMPLES, request.param)
    write(tmp_path, "documents", DOCUMENTS, request.param)
    write(tmp_path, "documents", [{"id": "other", "content": "of a task with a longer name"}], "jsonl", "biology_two")
    return tmp_path


def test_a_task(folder):
    benchmark, truth = bright.build("bright/biology", {"bright": folder}, PARAMS)
    assert list(benchmark.corpus) == [d["id"] for d in DOCUMENTS]
    assert benchmark.corpus["problem_7.txt"].content == "Text of problem_7.txt."
    assert truth.qrels == {"0": dict.fromkeys(EXAMPLES[0]["gold_ids"], 1), "1": {"problem_9.txt": 1}}
    assert benchmark.queries["0"].text == "Why are insects drawn to light?" and benchmark.queries["0"].excluded == ()
    assert benchmark.queries["1"].excluded == ("problem_7.txt",)
    assert {q.split for q in benchmark.queries.values()} == {"test"} and not benchmark.judgments


def test_built_from_the_folder_the_variable_names(folder, tmp_path, monkeypatch):
    monkeypatch.setenv(bright.FOLDER, str(folder))
    benchmarks.digest.cache_clear()
    out = benchmarks.build("bright/biology", tmp_path / "cache", tmp_path / "built")
    assert benchmarks.load(out, "bright/biology").queries["1"].excluded == ("problem_7.txt",)
    before = benchmarks.digest("bright/biology")
    (folder / "examples" / "more.jsonl").write_text("{}\n")
    benchmarks.digest.cache_clear()
    assert benchmarks.digest("bright/biology") != before


def test_whole_pages(tmp_path):
    write(tmp_path, "examples", EXAMPLES[:1], "jsonl")
    write(tmp_path, "long_documents", LONG, "jsonl")
    benchmark, truth = bright.build("bright/biology", {"bright": tmp_path}, {**PARAMS, "long": True})
    assert list(benchmark.corpus) == ["insects/Phototaxis.txt"] and truth.qrels == {"0": {"insects/Phototaxis.txt": 1}}


def test_a_missing_part(tmp_path):
    write(tmp_path, "documents", DOCUMENTS, "jsonl")
    with pytest.raises(
        BenchmarkError, match=r"examples/biology\*\.parquet \(or \.jsonl\) is missing: point RANKREPRO_BRIGHT"
    ):
        bright.build("bright/biology", {"bright": tmp_path}, PARAMS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gold_ids": ["nowhere.txt"]}, "query 0: gold document 'nowhere.txt' is not in"),
        ({"excluded_ids": ["insects/Phototaxis_3.txt"]}, "both wants and excludes document 'insects/Phototaxis_3.txt'"),
        ({"gold_ids": []}, "no query with a relevant document"),
    ],
)
def test_broken_examples(tmp_path, change, message):
    write(tmp_path, "examples", [{**EXAMPLES[0], **change}], "jsonl")
    write(tmp_path, "documents", DOCUMENTS, "jsonl")
    with pytest.raises(BenchmarkError, match=message):
        bright.build("bright/biology", {"bright": tmp_path}, PARAMS)


def test_twelve_tasks():
    assert len(benchmarks.families()["bright"]) == 12
