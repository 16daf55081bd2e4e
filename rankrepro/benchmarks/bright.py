"""`bright/*`: the twelve tasks of BRIGHT (Su et al., ICLR 2025) in their upstream format.

A folder holds `examples/<task>*` and `documents/<task>*` (or `long_documents/`), as parquet or JSON lines. An example
has id, query, gold_ids (gold_ids_long) and excluded_ids; a document has id and content.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rankrepro.benchmarks import splits
from rankrepro.benchmarks.base import Benchmark, Document, Query, Truth
from rankrepro.errors import BenchmarkError

FOLDER = "RANKREPRO_BRIGHT"  # the variable that names a local copy
REPOSITORY = "xlangai/BRIGHT"


def build(benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]) -> tuple[Benchmark, Truth]:
    """One task. `sources` may name the folder `bright`; `params`: `task`, `long` (whole pages), `revision`."""
    task, long = params["task"], params.get("long", False)
    folder = sources.get("bright") or snapshot(task, long, params["revision"])
    documents = read_rows(folder, "long_documents" if long else "documents", task)
    corpus = {row["id"]: Document(row["id"], "", row["content"]) for row in documents}
    queries, qrels = {}, {}
    for row in read_rows(folder, "examples", task):
        gold = row["gold_ids_long" if long else "gold_ids"]
        if missing := sorted(set(gold) - set(corpus)):
            raise BenchmarkError(f"{benchmark_id}: query {row['id']}: gold document '{missing[0]}' is not in {folder}")
        excluded = tuple(sorted(set(row["excluded_ids"]) & set(corpus)))  # upstream writes ["N/A"] for none
        if both := sorted(set(excluded) & set(gold)):
            raise BenchmarkError(f"{benchmark_id}: query {row['id']} both wants and excludes document '{both[0]}'")
        if gold:
            queries[row["id"]] = Query(row["id"], row["query"], "test", excluded=excluded)
            qrels[row["id"]] = dict.fromkeys(gold, 1)
    if not queries:
        raise BenchmarkError(f"{benchmark_id}: no query with a relevant document in {folder}")
    return Benchmark(benchmark_id, queries, corpus), Truth(qrels, splits.clusters(qrels))


def read_rows(folder: Path, part: str, task: str) -> Iterator[dict[str, Any]]:
    """The rows of all files of one part and task, in the order of the files' names."""
    # one task's name may be the start of another's, so the name must end or continue as `-00000-of-00001`
    paths = [p for p in sorted((folder / part).glob(f"{task}*")) if p.name[len(task)] in ".-"]
    if not paths:
        raise BenchmarkError(
            f"{folder / part}/{task}*.parquet (or .jsonl) is missing: point {FOLDER} to a copy of the data set "
            f"{REPOSITORY} with the folders examples and documents"
        )
    for path in paths:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            yield from pyarrow.parquet.read_table(path).to_pylist()
        else:
            with path.open(encoding="utf-8") as f:
                yield from map(json.loads, f)


def snapshot(task: str, long: bool, revision: str) -> Path:
    """The folder named by $RANKREPRO_BRIGHT, else the files of a task from the data set's hub."""
    if local := os.environ.get(FOLDER):
        return Path(local)
    from huggingface_hub import snapshot_download

    parts = ("examples", "long_documents" if long else "documents")
    try:
        return Path(
            snapshot_download(
                REPOSITORY,
                repo_type="dataset",
                revision=revision,
                allow_patterns=[f"{part}/{task}-*.parquet" for part in parts],
            )
        )
    except Exception as error:  # the hub client raises its own, the HTTP library's and the system's errors
        raise BenchmarkError(
            f"{REPOSITORY} cannot be fetched ({type(error).__name__}): connect, or point {FOLDER} to a copy"
        ) from error


def fingerprint() -> str:
    """Names and sizes of a local copy; nothing when the hub's revision (a parameter) says it all."""
    if not (local := os.environ.get(FOLDER)):
        return ""
    files = sorted(p for p in Path(local).rglob("*") if p.is_file())
    return json.dumps([(str(p.relative_to(local)), p.stat().st_size) for p in files])
