"""Runs made elsewhere as arms of a card, on the judgments of TREC Deep Learning, without its corpus."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import ir_measures
import pytest

from rankrepro import artifacts, benchmarks, runs
from rankrepro.benchmarks import pinned
from rankrepro.benchmarks.base import Benchmark, Truth
from rankrepro.errors import BenchmarkError, RunFileError
from tests_support import make_project, new_card

CARD = """
key: theirs
title: Two runs of another tool
year: 2026
link: https://example.org/theirs
family: llm_rerankers
summary: Run files, judged beside each other.
benchmarks: {{quick: [trec-dl/2019], desk: [trec-dl/2019, trec-dl/2020]}}
split: [test]
scales: {{quick: {{sample: {{all: null}}}}, desk: {{}}}}
arms:
  good: {{fn: elsewhere.run, params: {{file: good.trec, sha256: {good}, k: 100}}}}
  poor: {{fn: elsewhere.run, params: {{file: deep/poor.trec, sha256: {poor}, k: 100}}}}
tables:
  - {{name: main, arms: [good, poor], measures: [nDCG@10], baseline: poor}}
claims:
  - id: theirs-good-over-poor
    sentence: The good run is better.
    kind: superiority
    measure: nDCG@10
    expr: m(good) - m(poor)
    over: all
    min_effect: 0.01
  - id: theirs-placebo
    role: placebo
    sentence: The poor run is better.
    kind: superiority
    measure: nDCG@10
    expr: m(poor) - m(good)
    floor: m(good)
    over: all
"""


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> tuple[Benchmark, Truth]:
    folder = tmp_path_factory.mktemp("built") / "trec-dl/2019"
    benchmarks.build("trec-dl/2019", artifacts.cache_dir(), folder)
    return benchmarks.load(folder, "trec-dl/2019"), benchmarks.load_truth(folder)


def write(file: Path, truth: Truth, noise: float) -> str:
    """A run that sorts judged passages by grade and chance, best first; returns the file's sha256."""
    draw = random.Random(f"{noise}")
    lines = []
    for q, judged in truth.qrels.items():
        scores = {d: grade + noise * draw.gauss() for d, grade in judged.items()}
        best = sorted(scores, key=lambda d: -scores[d])[:100]
        lines += [f"{q} Q0 {d} {rank} {scores[d]:.4f} made-up\n" for rank, d in enumerate(best, 1)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(lines))
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_run_files_are_arms_of_a_card(tmp_path: Path, year: tuple[Benchmark, Truth]) -> None:
    truth = year[1]
    project = make_project(tmp_path, [])
    digests = {
        name: write(project.folder / "runs" / file, truth, noise)
        for name, file, noise in (("good", "good.trec", 1.0), ("poor", "deep/poor.trec", 3.0))
    }
    new_card(project.folder, "theirs").write_text(CARD.format(**digests))
    project.run("papers=theirs")

    results = json.loads((project.results / "judged" / "theirs" / "results.json").read_text())
    (table,) = results["papers"]["theirs"]["tables"]
    shown = {row["arm"]: row["value"] for row in table["rows"]}
    read = list(ir_measures.read_trec_run(str(project.folder / "runs" / "good.trec")))
    expected = ir_measures.calc_aggregate([ir_measures.parse_measure("nDCG@10")], truth.qrels, read)
    assert shown["theirs.good"] == pytest.approx(next(iter(expected.values())), abs=1e-4)
    assert shown["theirs.good"] > shown["theirs.poor"] > 0.1
    page = (project.folder / "reports/quick/theirs/index.html").read_text()
    assert "passage " in page  # what an example can tell of a document

    changed = project.folder / "runs" / "good.trec"
    changed.write_text(changed.read_text().replace("made-up", "made-new"))
    new_card(project.folder, "theirs").write_text(CARD.format(**digests).replace("k: 100", "k: 50"))
    done = project.run("papers=theirs", check=False)
    assert done.returncode != 0 and "params.sha256" in done.stdout + done.stderr


def test_queries_and_judgments_have_no_texts_of_passages(year: tuple[Benchmark, Truth]) -> None:
    benchmark, truth = year
    assert benchmark.queries["156493"].text == "do goldfish grow" and len(benchmark.queries) == 43
    assert sum(map(len, truth.qrels.values())) == 9260 and not benchmark.judgments
    corpus = benchmark.corpus
    assert isinstance(corpus, pinned.Numbered) and len(corpus) == 8841823
    assert "0" in corpus and "8841822" in corpus
    assert not any(d in corpus for d in ("8841823", "-1", "x", "", "²", 3))
    for ask in (lambda: corpus["1"], lambda: list(corpus), lambda: list(corpus.values())):
        with pytest.raises(BenchmarkError, match=r"no texts.*elsewhere\.run"):
            ask()


def test_a_run_is_the_file_that_the_card_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runs.FOLDER, str(tmp_path / "runs"))
    (tmp_path / "runs").mkdir()
    text = "q1 Q0 d1 1 2.5 x\nq1 Q0 d2 2 1.5 x\n"
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    with pytest.raises(RunFileError, match=r"a\.trec: cannot be read .* RANKREPRO_RUNS"):
        runs.made_elsewhere("a.trec", sha256)
    for place in ("runs/a.trec", "b.trec"):
        (tmp_path / place).write_text(text)
    assert runs.made_elsewhere("a.trec", sha256) == {"q1": {"d1": 2.5, "d2": 1.5}}
    with pytest.raises(RunFileError, match=r"params\.sha256"):
        runs.made_elsewhere("a.trec", "0" * 64)
    for outside in ("../b.trec", str(tmp_path / "b.trec")):
        with pytest.raises(RunFileError, match="outside of"):
            runs.made_elsewhere(outside, sha256)
