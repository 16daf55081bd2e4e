"""Pictures that captions ask for: from the builder over a cell to the judge's examples and thumbnails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pytest

from rankrepro import benchmarks, cards
from rankrepro import runner as runners
from rankrepro.benchmarks import images
from rankrepro.benchmarks.base import Document, Query
from rankrepro.benchmarks.export import export_beir
from rankrepro.benchmarks.images import ImageBenchmark, ImageTruth
from rankrepro.cell import Cell, Ranking
from rankrepro.judge import results
from rankrepro.judge.values import Values
from rankrepro.runner import Runner
from tests_support import ROOT

ID = "colours/captions"
CARD = f"""
builder: images
what: Squares of one colour, and captions that name it.
{ID}: {{counts: {{queries: 3, documents: 3}}}}
"""
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def build(benchmark_id: str, sources: Any, params: Any) -> tuple[ImageBenchmark, ImageTruth]:
    """Three squares, and for each a caption: `red` asks for the red one."""
    pixels = {f"p{i}": np.full((30, 40, 3), rgb, np.uint8) for i, rgb in enumerate(COLOURS.values())}
    corpus = {f"d{i}": Document(f"d{i}", "", "a square" if i == 0 else "", image=f"p{i}") for i in range(3)}
    queries = {f"q{i}": Query(f"q{i}", name, "test") for i, name in enumerate(COLOURS)}
    inputs = ImageBenchmark(benchmark_id, queries, corpus, {}, pixels)
    return inputs, ImageTruth({f"q{i}": {f"d{i}": 1} for i in range(3)}, {f"q{i}": f"q{i}" for i in range(3)})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Results with the benchmark built."""
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "colours.yaml").write_text(CARD)
    monkeypatch.setattr(benchmarks.cards, "FOLDER", tmp_path / "cards")
    monkeypatch.setattr(images, "build", build, raising=False)
    benchmarks.digest.cache_clear()
    benchmarks.build(ID, tmp_path, tmp_path / "benchmarks" / ID)
    yield tmp_path
    benchmarks.digest.cache_clear()


def test_what_is_written_is_read(folder: Path) -> None:
    built = folder / "benchmarks" / ID
    rows = [json.loads(line) for line in (built / "corpus.jsonl").read_text().splitlines()]
    assert rows[0] == {"id": "d0", "title": "", "text": "a square", "image": "p0"}
    loaded, (inputs, truth) = benchmarks.load(built, ID), build(ID, None, None)
    assert isinstance(loaded, ImageBenchmark) and (loaded.queries, loaded.corpus) == (inputs.queries, inputs.corpus)
    assert {n: p.tolist() for n, p in loaded.images.items()} == {n: p.tolist() for n, p in inputs.images.items()}
    assert benchmarks.load_truth(built) == truth
    export_beir(loaded, truth, folder / "beir")
    assert json.loads((folder / "beir/corpus.jsonl").read_text().splitlines()[1])["image"] == "p1"
    assert sorted(f.name for f in (folder / "beir/images").iterdir()) == ["p0.png", "p1.png", "p2.png"]
    assert "image" not in json.loads((folder / "beir/queries.jsonl").read_text().splitlines()[0])


def colour_of(cell: Cell) -> dict[str, Ranking]:
    """Rank pictures by how much of the captioned colour they have; and by how little."""

    def score(query: str) -> dict[str, float]:
        rgb = np.array(COLOURS[cell.queries[query]])
        pictures = {d: cell.benchmark.images[cell.document(d).image] for d in cell.candidates[query]}  # type: ignore[attr-defined]
        return {d: float(pixels.mean((0, 1)) @ rgb) for d, pixels in pictures.items()}

    right = cell.map(list(cell.queries), lambda queries: {q: score(q) for q in queries})
    wrong = {q: {d: -s for d, s in scores.items()} for q, scores in right.items()}
    return {"seen": Ranking(right), "unseen": Ranking(wrong)}


def test_captions_ask_for_pictures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(folder, 1, folder)
    everything = {
        "main": {"type": "retrieval", "values": {f"q{i}": {f"d{j}": 0.0 for j in range(3)} for i in range(3)}}
    }
    runner.store.put("f" * 64, {}, {}, output=everything)
    monkeypatch.setattr(runners, "method", lambda fn: colour_of)
    spec = {
        "kind": "cell", "fn": "colours.colour_of", "params": {}, "models": {}, "seed": 0, "threads": 1,
        "dtype": "float32", "benchmark": {"id": ID, "digest": ""}, "inputs": {},
        "queries": {"split": ["test"], "sample": None, "mode": "own"},
        "candidates": {"digest": "f" * 64, "variant": "main", "depth": 3, "order": "first_stage"},
    }  # fmt: skip
    runner.compute({"name": "colours.seen", "digest": "a" * 64, "spec": spec}, lambda done, total: None)

    rows = {f"colours.{v}": {ID: [(0, "a" * 64, v)]} for v in ("seen", "unseen")}
    plan = SimpleNamespace(rows=rows, benchmarks={"colours": [ID]})
    values = Values(plan, folder)  # type: ignore[arg-type]
    assert values.per_unit("colours.seen", ID, "RR") == {f"q{i}": [1.0] for i in range(3)}
    card = cards.Card("colours", folder, {})
    claim: dict[str, Any] = {"id": "c", "expr": "m(seen) - m(unseen)", "measure": "RR"}
    claim |= {"per_benchmark": [{"benchmark": ID}]} | dict.fromkeys(("where", "guard", "benchmark"))
    shown = results.shown(card, values, [claim])
    jsonschema.validate(shown, json.loads((ROOT / "workflow/schemas/examples.schema.json").read_text()))
    detail = shown["claims"]["c"][0]["details"][0]
    assert detail["query"] == "red" and "picture" not in detail
    assert detail["a"][0] == {"id": "d0", "title": "", "quote": "a square", "grade": 1, "picture": "p0"}
    assert set(shown["pictures"][ID]) == {"p0", "p1", "p2"} and shown["sheets"][ID]["rows"] == []
