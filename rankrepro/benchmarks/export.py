"""A benchmark as a BEIR folder, for tools that know nothing of this project."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from rankrepro.benchmarks.base import SPLITS, Benchmark, Document, Query, Truth
from rankrepro.benchmarks.images import ImageBenchmark, encoded
from rankrepro.errors import BenchmarkError


def export_beir(benchmark: Benchmark, truth: Truth, folder: Path) -> None:
    """Write corpus.jsonl, queries.jsonl and qrels/<split>.tsv to `folder`, which must be new or empty.

    BEIR has no place for `Query.excluded`: where a query has such documents, `excluded.jsonl` lists them. Nor for
    pictures: where there are some, `images/` holds them, and a query or document names its own as `image`.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BenchmarkError(f"{folder} is not empty: name a new folder, nothing is overwritten")
    (folder / "qrels").mkdir(parents=True)
    queries = benchmark.queries.values()
    documents = benchmark.corpus.values()
    _lines(folder / "corpus.jsonl", ({"_id": d.id, "title": d.title, "text": d.text, **_image(d)} for d in documents))
    _lines(folder / "queries.jsonl", ({"_id": q.id, "text": q.text, **_image(q)} for q in queries))
    if any(q.excluded for q in queries):
        _lines(folder / "excluded.jsonl", ({"_id": q.id, "excluded": q.excluded} for q in queries if q.excluded))
    if isinstance(benchmark, ImageBenchmark):
        (folder / "images").mkdir()
        for name, pixels in benchmark.images.items():
            (folder / "images" / f"{name}.png").write_bytes(encoded(pixels))
    for split in SPLITS:
        chosen = benchmark.of_split(split)
        if not chosen:
            continue
        rows = [f"{q}\t{d}\t{grade}" for q in chosen for d, grade in sorted(truth.qrels.get(q, {}).items())]
        text = "\n".join(["query-id\tcorpus-id\tscore", *rows]) + "\n"
        (folder / "qrels" / f"{split}.tsv").write_text(text, encoding="utf-8")


def _image(item: Query | Document) -> dict[str, str]:
    return {"image": item.image} if item.image else {}


def _lines(path: Path, rows: Iterable[object]) -> None:
    with path.open("w", encoding="utf-8") as f:
        f.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
