"""Both directions with ir_datasets: ours registered there, an id of theirs as a benchmark. And BEIR folders."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import ir_datasets
import pytest

from rankrepro import artifacts, benchmarks
from rankrepro.benchmarks import base, irds
from rankrepro.benchmarks.export import export_beir
from rankrepro.errors import BenchmarkError, UnknownName

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """ir_datasets with ours in it."""
    folder = tmp_path_factory.mktemp("registered")
    new = benchmarks.register(folder)
    assert "rankrepro/vital/fever/test" in new and "rankrepro/lint/rules/validation" in new
    assert benchmarks.register(folder) == []
    assert not list(folder.iterdir())  # nothing is built before something is read
    return ir_datasets


def test_a_registered_split_is_the_benchmark(built, registered):
    benchmark, truth, _ = built("vital-mini/fever")
    data = registered.load("rankrepro/vital-mini/fever/test")
    assert data.has_docs() and data.has_queries() and data.has_qrels()
    assert [(d.doc_id, d.default_text()) for d in data.docs_iter()] == [
        (d.id, d.content) for d in benchmark.corpus.values()
    ]
    assert {q.query_id: q.text for q in data.queries_iter()} == {
        q.id: q.text for q in benchmark.of_split("test").values()
    }
    assert data.qrels_dict() == {q: dict(truth.qrels[q]) for q in benchmark.of_split("test")}
    assert data.docs_count() == 2000 and data.queries_count() == len(benchmark.of_split("test"))


def test_the_store_is_in_memory(registered):
    store = registered.load("rankrepro/vital-mini/fever").docs_store()
    assert store.get("Polar bear").title == "Polar bear"
    assert list(store.get_many(["Polar bear", "nowhere"])) == ["Polar bear"]
    assert store.get("Polar bear", "title") == "Polar bear"
    with pytest.raises(KeyError):
        store.get("nowhere")


def test_the_whole_has_all_splits(registered):
    whole = registered.load("rankrepro/vital-mini/fever")
    parts = [registered.load(f"rankrepro/vital-mini/fever/{s}") for s in base.SPLITS]
    assert whole.queries_count() == sum(p.queries_count() for p in parts) == 1069
    assert registered.docs_parent_id("rankrepro/vital-mini/fever/test") == "rankrepro/vital-mini/fever"


def test_an_id_of_ir_datasets_as_a_benchmark(built, registered, tmp_path):
    ours, truth, _ = built("vital-mini/fever")
    benchmark, read = irds.build("beir/toy", {}, {"dataset": "rankrepro/vital-mini/fever/test"})
    assert {q.id: q.text for q in benchmark.queries.values()} == {q.id: q.text for q in ours.of_split("test").values()}
    assert read.qrels == {q: truth.qrels[q] for q in ours.of_split("test")}
    assert len(benchmark.corpus) == 2000 and benchmark.corpus["Polar bear"] == ours.corpus["Polar bear"]
    assert list(benchmark.corpus.values()) == list(ours.corpus.values()) and len(benchmark.corpus.values()) == 2000
    # on disk the corpus is a reference, and comes back as one
    base.write(tmp_path, benchmark, read)
    assert not (tmp_path / "corpus.jsonl").exists()
    again = irds.read(tmp_path, "beir/toy")
    assert again.queries == benchmark.queries and list(again.corpus) == list(ours.corpus)
    with pytest.raises(KeyError):
        again.corpus["nowhere"]


def test_what_ir_datasets_does_not_have(registered):
    with pytest.raises(UnknownName, match="did you mean 'beir/nfcorpus"):
        irds.build("beir/nfcorpus/tst", {}, {})
    with pytest.raises(BenchmarkError, match="beir/nfcorpus of ir_datasets has no qrels: choose a subset"):
        irds.build("beir/nfcorpus", {}, {})


def test_the_cards_know_the_sizes_ir_datasets_knows():
    for entry in benchmarks.entries():
        if entry.builder == "irds":
            data = ir_datasets.load(entry.id)
            assert data.docs_metadata()["count"] == entry.documents
            assert data.queries_metadata()["count"] == entry.units


def test_import_does_not_register():
    script = "import rankrepro.benchmarks, ir_datasets; print('rankrepro/vital/fever' in set(ir_datasets.registry))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("benchmark_id", ["vital-mini/dbpedia-entity", "vital-mini/fever", "lint/rules"])
def test_a_beir_folder_read_by_someone_else(built, tmp_path, benchmark_id):
    benchmark, truth, _ = built(benchmark_id)
    export_beir(benchmark, truth, tmp_path / "beir")
    rows = {f: [json.loads(x) for x in (tmp_path / "beir" / f"{f}.jsonl").open()] for f in ("corpus", "queries")}
    assert {r["_id"]: (r["title"], r["text"]) for r in rows["corpus"]} == {
        d.id: (d.title, d.text) for d in benchmark.corpus.values()
    }
    assert {r["_id"]: r["text"] for r in rows["queries"]} == {q.id: q.text for q in benchmark.queries.values()}
    qrels: dict[str, dict[str, int]] = {}
    for split in base.SPLITS:
        path = tmp_path / "beir" / "qrels" / f"{split}.tsv"
        assert path.exists() == bool(benchmark.of_split(split))
        if path.exists():
            with path.open(newline="") as f:
                reader = csv.reader(f, delimiter="\t")
                assert next(reader) == ["query-id", "corpus-id", "score"]
                for query, doc, score in reader:
                    assert benchmark.queries[query].split == split
                    qrels.setdefault(query, {})[doc] = int(score)
    assert qrels == truth.qrels


def test_an_export_overwrites_nothing(built, tmp_path):
    benchmark, truth, _ = built("lint/rules")
    (tmp_path / "mine").touch()
    with pytest.raises(BenchmarkError, match="is not empty"):
        export_beir(benchmark, truth, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_excluded_documents_are_exported(tmp_path):
    query = base.Query("q", "text", "test", (), ("d2",))
    corpus = {i: base.Document(i, "", i) for i in ("d1", "d2")}
    export_beir(
        base.Benchmark("toy/one", {"q": query}, corpus), base.Truth({"q": {"d1": 1}}, {"q": "d1"}), tmp_path / "o"
    )
    assert json.loads((tmp_path / "o" / "excluded.jsonl").read_text()) == {"_id": "q", "excluded": ["d2"]}


def test_default_folder_is_the_cache(monkeypatch, tmp_path, built):
    from rankrepro.benchmarks import registered as ours

    monkeypatch.setenv("RANKREPRO_CACHE", str(tmp_path))
    benchmark, truth = ours.default_loader(None)("lint/rules")
    assert (artifacts.cache_dir() / "benchmarks" / "lint" / "rules" / "benchmark.json").exists()
    assert (benchmark, truth) == built("lint/rules")[:2]
