"""Data sets in miniature: the files of BEIR, of MS MARCO with TREC DL, and of BRIGHT, where their readers look.

Each has a few documents and one query per topic; a query's topic decides what is relevant to it.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from rankrepro.errors import ConfigError
from rankrepro.rehearsal.text import Text, Writer

TOPICS, EACH = 12, 10  # documents per topic
SPLITS = {"fever": ("train", "dev", "test"), "climate-fever": ("test",), "dbpedia-entity": ("dev", "test")}


def make(ids: Iterable[str], home: Path) -> None:
    """The files of ir_datasets ids below its `home`. Raises ConfigError for an id of another collection."""
    passages = False
    for benchmark_id in ids:
        collection, _, rest = benchmark_id.partition("/")
        name = rest.removesuffix("/test")
        if collection == "beir" and name in SPLITS:
            _beir(name, home / "beir" / name)
        elif collection == "msmarco-passage" and rest in ("trec-dl-2019/judged", "trec-dl-2020/judged"):
            passages = True
        else:
            raise ConfigError(
                f"{benchmark_id}: a rehearsal has no stand-in for it; add one to rankrepro/rehearsal/data.py, in the "
                "format in which ir_datasets keeps the download"
            )
    if passages:
        _msmarco(home / "msmarco-passage")


# --- BEIR: a zip file ------------------------------------------------------------------------------------------------


def _beir(name: str, folder: Path) -> None:
    """`source.zip` as downloaded: corpus.jsonl, queries.jsonl and qrels/<split>.tsv below a folder with its name."""
    texts, queries = _written(name)
    ids = [_beir_id(name, i, text) for i, text in enumerate(texts)]
    documents = [
        {"_id": i, "title": text.title, "text": text.body, "metadata": {"url": f"<{i}>"}}
        for i, text in zip(ids, texts, strict=True)
    ]
    records = [{"_id": f"{name}-{t}", "text": query, "metadata": {}} for t, query in enumerate(queries)]
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "source.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(f"{name}/corpus.jsonl", _lines(documents))
        file.writestr(f"{name}/queries.jsonl", _lines(records))
        for n, split in enumerate(SPLITS[name]):
            topics = range(n, TOPICS, len(SPLITS[name]))
            graded = [(f"{name}-{t}", ids[i], 1) for t in topics for i in _relevant(texts, t)]
            rows = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in graded)]
            file.writestr(f"{name}/qrels/{split}.tsv", "\n".join(rows) + "\n")


def _beir_id(name: str, i: int, text: Text) -> str:
    title = text.title.replace(" ", "_")
    return f"<dbpedia:{title}_{i}>" if name == "dbpedia-entity" else f"{title}_-LRB-{i}-RRB-"


# --- MS MARCO and TREC DL --------------------------------------------------------------------------------------------


def _msmarco(folder: Path) -> None:
    """The archive of passages, and topics and graded judgments of 2019 and 2020, as ir_datasets keeps them."""
    texts, _ = _written("msmarco-passage")
    folder.mkdir(parents=True)
    passages = "".join(f"{i}\t{text.title}. {text.body}\n" for i, text in enumerate(texts)).encode()
    with tarfile.open(folder / "collectionandqueries.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("collection.tsv")
        entry.size = len(passages)
        archive.addfile(entry, io.BytesIO(passages))
    for n, year in enumerate((2019, 2020)):
        track = folder / f"trec-dl-{year}"
        track.mkdir()
        _, queries = _written("msmarco-passage")
        topics = {str(year * 100 + t): t for t in range(n, TOPICS, 2)}
        lines = "".join(f"{q}\t{queries[t]}\n" for q, t in topics.items()).encode()
        if year == 2019:  # kept unpacked, the other one as downloaded
            (track / "queries.tsv").write_bytes(lines)
        else:
            (track / "queries.tsv.gz").write_bytes(gzip.compress(lines, mtime=0))
        graded = [f"{q} 0 {i} {1 + i % 3}" for q, t in topics.items() for i in _relevant(texts, t)]
        graded += [f"{q} 0 {i} 0" for q, t in topics.items() for i in _relevant(texts, (t + 1) % TOPICS)]
        (track / "qrels").write_text("".join(f"{line}\n" for line in graded))


# --- BRIGHT ----------------------------------------------------------------------------------------------------------


def make_bright(tasks: Iterable[str], folder: Path) -> None:
    """`examples/<task>-00000-of-00001.parquet` and the same in `documents`, with upstream's columns."""
    import pyarrow
    import pyarrow.parquet

    for task in tasks:
        texts, queries = _written(f"bright/{task}")
        ids = [f"{text.title.replace(' ', '_')}/{i}.txt" for i, text in enumerate(texts)]
        examples = [
            {
                "query": query,
                "reasoning": "",
                "id": str(t),
                "excluded_ids": [ids[_relevant(texts, t)[-1]]] if t % 3 == 0 else ["N/A"],
                "gold_ids_long": [],
                "gold_ids": [ids[i] for i in _relevant(texts, t)[:-1]],
                "gold_answer": "",
            }
            for t, query in enumerate(queries)
        ]
        documents = [{"id": i, "content": text.body} for i, text in zip(ids, texts, strict=True)]
        for part, rows in (("examples", examples), ("documents", documents)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            table = pyarrow.Table.from_pylist(rows)
            pyarrow.parquet.write_table(table, folder / part / f"{task}-00000-of-00001.parquet")


# --- what they share -------------------------------------------------------------------------------------------------


def _written(name: str) -> tuple[list[Text], list[str]]:
    """(documents, a query for every topic)."""
    writer = Writer(name, TOPICS)
    return [writer.document(i % TOPICS) for i in range(TOPICS * EACH)], [writer.query(t) for t in range(TOPICS)]


def _relevant(texts: list[Text], topic: int) -> list[int]:
    """A third of the documents on a topic; the others are hard to tell apart from them."""
    return [i for i, text in enumerate(texts) if text.topic == topic][: EACH // 3]


def _lines(rows: Iterable[object]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
