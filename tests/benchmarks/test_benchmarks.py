"""What holds for every benchmark: cards, digests, folders, splits, clusters."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from rankrepro import artifacts, benchmarks
from rankrepro.benchmarks import base, cards, splits
from rankrepro.benchmarks.base import SPLITS, Benchmark, Document, Query, Truth
from rankrepro.errors import BenchmarkError, ConfigError, StoreError, UnknownName

ROOT = Path(__file__).resolve().parents[2]


# --- every benchmark -------------------------------------------------------------------------------------------------


def test_counts_are_the_cards(text):
    benchmark, truth, folder = text
    marker = json.loads((folder / "benchmark.json").read_text())
    assert marker["id"] == benchmark.id and marker["digest"] == benchmarks.digest(benchmark.id)
    assert marker["counts"] == benchmarks.count(benchmark, truth)
    entry = benchmarks.get(benchmark.id)
    assert entry.counts and entry.units and entry.documents
    for name, expected in entry.counts.items():
        assert marker["counts"][name] == pytest.approx(expected, rel=entry.tolerance), name


def test_no_document_is_relevant_on_both_sides_of_a_split(text):
    benchmark, truth, _ = text
    seen: dict[str, str] = {}
    for query in benchmark.queries.values():
        for doc in splits.relevant(truth.qrels[query.id]):
            assert seen.setdefault(doc, query.split) == query.split, doc


def test_queries_that_share_a_document_share_a_cluster_unless_the_card_says_hub(text):
    benchmark, truth, _ = text
    cluster_of: dict[str, set[str]] = {}
    for query, judged in truth.qrels.items():
        for doc in splits.relevant(judged):
            cluster_of.setdefault(doc, set()).add(truth.clusters[query])
    torn = [doc for doc, clusters in cluster_of.items() if len(clusters) > 1]
    assert bool(torn) == ("hub" in benchmarks.get(benchmark.id).split)


def test_inputs_hold_no_judgment_of_a_test_query(text):
    benchmark, truth, _ = text
    assert set(benchmark.judgments) == set(benchmark.of_split("train", "validation"))
    assert all(benchmark.judgments[q] == truth.qrels[q] for q in benchmark.judgments)


def test_every_query_has_a_relevant_document_of_the_corpus(text):
    benchmark, truth, _ = text
    assert set(truth.qrels) == set(truth.clusters) == set(benchmark.queries)
    for judged in truth.qrels.values():
        assert splits.relevant(judged) and set(judged) <= set(benchmark.corpus)


def test_ids_and_texts_are_clean(text):
    benchmark, _, _ = text
    for doc in benchmark.corpus.values():
        assert doc.id == doc.id.strip() and doc.text.strip()
    for query in benchmark.queries.values():
        assert query.text.strip() and query.split in SPLITS
    if benchmark.id not in ("lint/rules", "stdlib/code"):  # code stays as it was written
        for text_ in [*benchmark.corpus, *(q.text for q in benchmark.queries.values())]:
            assert unicodedata.is_normalized("NFC", text_)


def test_no_query_bears_the_id_of_a_document_relevant_to_it(text):
    _, truth, _ = text
    assert not [q for q, judged in truth.qrels.items() if q in judged]


@pytest.mark.parametrize("benchmark_id", ["vital-mini/fever", "lint/rules", "stdlib/code"])
def test_a_rebuild_is_byte_identical(built, tmp_path, benchmark_id):
    _, _, folder = built(benchmark_id)
    again = benchmarks.build(benchmark_id, artifacts.cache_dir(), tmp_path / "again")
    files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert len(files) == 6
    assert [(again / f).read_bytes() for f in files] == [(folder / f).read_bytes() for f in files]


# --- folders ---------------------------------------------------------------------------------------------------------


def test_a_built_folder_is_left_alone_and_a_stale_one_replaced(built, tmp_path):
    _, _, source = built("lint/rules")
    folder = tmp_path / "rules"
    shutil.copytree(source, folder)
    before = (folder / "corpus.jsonl").stat().st_ino
    benchmarks.build("lint/rules", tmp_path, folder)
    assert (folder / "corpus.jsonl").stat().st_ino == before
    marker = folder / "benchmark.json"
    marker.write_text(marker.read_text().replace(benchmarks.digest("lint/rules"), "an older digest"))
    (folder / "left-over").touch()
    benchmarks.build("lint/rules", tmp_path, folder)
    assert not (folder / "left-over").exists() and [p.name for p in tmp_path.iterdir()] == ["rules"]


def test_changed_missing_and_foreign_files_are_named(built, tmp_path):
    _, _, source = built("lint/rules")
    folder = tmp_path / "rules"
    shutil.copytree(source, folder)
    with pytest.raises(BenchmarkError, match="holds lint/rules, not vital/fever"):
        benchmarks.load(folder, "vital/fever")
    corpus = folder / "corpus.jsonl"
    corpus.write_bytes(corpus.read_bytes()[:-10])
    benchmarks.load_truth(folder)
    with pytest.raises(BenchmarkError, match=r"corpus\.jsonl .*changed.*run again"):
        benchmarks.load(folder, "lint/rules")
    with pytest.raises(BenchmarkError, match=r"benchmark\.json is missing"):  # so that the workflow builds it again
        benchmarks.load(folder, "lint/rules")
    benchmarks.build("lint/rules", tmp_path, folder)
    (folder / "truth" / "qrels.json").write_text("{}")
    benchmarks.load(folder, "lint/rules")
    with pytest.raises(BenchmarkError, match=r"qrels\.json"):
        benchmarks.load_truth(folder)


def test_reading_inputs_needs_no_truth(built, tmp_path):
    benchmark, _, source = built("vital-mini/fever")
    folder = tmp_path / "fever"
    shutil.copytree(source, folder)
    for file in (folder / "truth").iterdir():
        file.write_bytes(b"\x00garbage")
    assert benchmarks.load(folder, "vital-mini/fever") == benchmark


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        benchmarks.build("lint/rules", tmp_path, tmp_path / "file" / "rules")


def test_a_failed_build_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("RANKREPRO_BRIGHT", str(tmp_path / "empty"))
    with pytest.raises(BenchmarkError, match="point RANKREPRO_BRIGHT to a copy"):
        benchmarks.build("bright/pony", tmp_path, tmp_path / "built" / "bright" / "pony")
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_counts_that_are_not_the_cards():
    entry = benchmarks.get("lint/rules")
    with pytest.raises(BenchmarkError, match=r"queries is 865, its card says 864.*config/benchmarks/lint\.yaml"):
        benchmarks.check_counts(entry, {**entry.counts, "queries": 865})
    near = cards.replace(entry, tolerance=0.1)
    benchmarks.check_counts(near, {**entry.counts, "queries": 865})


def test_excluded_documents_survive_the_disk(tmp_path):
    query = Query("q", "text", "test", ("tag",), ("d2",))
    corpus = {i: Document(i, "", i) for i in ("d1", "d2")}
    benchmark = Benchmark("toy/one", {"q": query}, corpus)
    base.write(tmp_path, benchmark, Truth({"q": {"d1": 1}}, {"q": "d1"}))
    assert base.read(tmp_path, "toy/one") == benchmark


# --- digests ---------------------------------------------------------------------------------------------------------


def test_digests_tell_benchmarks_apart_and_shared_corpora_together():
    ids = [e.id for e in benchmarks.entries() if e.family != "tabular"]
    assert len({benchmarks.digest(i) for i in ids}) == len(ids)
    texts = [e.id for e in benchmarks.entries() if e.builder == "vital"]
    vital, mini = ({benchmarks.corpus_digest(i) for i in texts if i.startswith(p)} for p in ("vital/", "vital-mini/"))
    assert len(vital) == len(mini) == 1 and vital != mini


SCRIPT = "from rankrepro import benchmarks as b; print(*(b.digest(i) for i in ('vital/fever', 'lint/rules')))"


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("rankrepro/benchmarks/vital.py", '"_": " "', '"_":  " "', (False, False)),  # white space
        ("rankrepro/benchmarks/vital.py", '"_": " "', '"_": "-"', (True, False)),
        ("rankrepro/benchmarks/lint.py", "LEAK = 12", "LEAK = 13", (False, True)),
        ("rankrepro/benchmarks/splits.py", "GIANT = 0.25", "GIANT = 0.26", (True, True)),
        ("config/benchmarks/lint.yaml", "validation: 0.2", "validation: 0.3", (False, True)),
        ("config/artifacts.yaml", "185348a4", "285348a4", (True, False)),
        ("config/benchmarks/vital.yaml", "Claims (FEVER)", "Claims of FEVER", (False, False)),
        ("rankrepro/benchmarks/export.py", "BEIR folder", "BEIR directory", (False, False)),
    ],
)
def test_a_digest_changes_with_what_makes_the_benchmark(tmp_path, file, old, new, changes):
    for part in ("rankrepro", "config"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))

    def digests() -> list[str]:
        command = [sys.executable, "-B", "-c", SCRIPT]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()

    before = digests()
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new))
    assert tuple(a != b for a, b in zip(before, digests(), strict=True)) == changes


def test_import_is_light():
    heavy = "{'ir_datasets', 'numpy', 'torch', 'scipy', 'bm25s', 'pyarrow', 'huggingface_hub'}"
    script = f"import sys, rankrepro.benchmarks as b; b.digest('stdlib/code'); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- cards -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", cards.load(cards.FOLDER).values(), ids=lambda e: e.id)
def test_every_card_answers_every_question(entry):
    for key in ("what", "built", "licence", "citation", "split", "cannot_show"):
        assert getattr(entry, key).strip(), f"{entry.id}: {key}"


def test_names():
    assert benchmarks.get("beir/nfcorpus/test").id == "beir/nfcorpus/test"
    assert "vital/fever" in benchmarks.families()["vital"] and "beir/*" in benchmarks.families()["irds"]
    with pytest.raises(UnknownName, match="did you mean 'vital/fever'"):
        benchmarks.get("vital/fevr")


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("toy/one: {wat: x}", "unknown key 'wat'; did you mean 'what'"),
        ("licence: MIT\nclaims: x\ntoy/one: {}", "unknown key 'claims'"),
        ("toy/one: {builder: vitl}", "unknown builder 'vitl'; did you mean 'vital'"),
        ("toy/one: {builder: vital, counts: {querys: 1}}", "did you mean 'queries'"),
        ("toy/one: {builder: vital, family: vital}", "has its own file"),
        ("what: nothing", "needs a mapping with benchmark ids"),
    ],
)
def test_a_malformed_card_is_answered_with_file_and_key(tmp_path, card, message):
    (tmp_path / "toy.yaml").write_text(card)
    with pytest.raises(ConfigError, match=rf"toy\.yaml.*{message}"):
        cards.load(tmp_path)


def test_one_id_in_two_files(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text("toy/one: {builder: vital}")
    with pytest.raises(ConfigError, match=r"'toy/one' is in one\.yaml too"):
        cards.load(tmp_path)
