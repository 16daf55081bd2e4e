"""The toy paper's method, copied to methods/toy.py. Each batch pauses, and notes its start where the chaos counts."""

import hashlib
import json
import os
import time

import numpy as np

from rankrepro.cell import Ranking, Retrieval

PROCESS = f"{os.getpid()}-{time.time_ns()}"


def _note(cell, units):
    """One line as a batch begins, in a file outside the project; a timing, which keeps no shards, is not counted."""
    if "TOY_NOTES" in os.environ and cell.shards:
        line = {"process": PROCESS, "batch": f"{cell.name} {cell.seed} {units[0]}"}
        with open(os.environ["TOY_NOTES"], "a") as file:
            file.write(json.dumps(line) + "\n")
    time.sleep(float(os.environ.get("TOY_PAUSE", "0")))


def _words(text):
    return {w for w in text.lower().split() if len(w) > 3}


def _overlap(query, document):
    wanted = _words(query)
    return len(wanted & _words(document.content)) / (1 + len(wanted))


def _rank(cell, batch, score):
    def rank(units):
        _note(cell, units)
        return {q: {d: score(q, d) for d in cell.candidates[q]} for q in units}

    return Ranking(cell.map(list(cell.queries), rank, batch))


def lengths(cell, *, batch: int):
    def measure(units):
        _note(cell, units)
        return {d: len(cell.document(d).content) for d in units}

    words = cell.map(sorted(cell.benchmark.corpus), measure, batch)
    return {"lengths": np.array([words[d] for d in sorted(words)])}


def lexical(cell, *, k: int):
    _note(cell, ["all"])
    rankings = {}
    contents = {d.id: _words(d.content) for d in cell.benchmark.corpus.values()}
    for q, text in cell.queries.items():
        scores = {d: len(_words(text) & content) for d, content in contents.items()}
        rankings[q] = dict(sorted(scores.items(), key=lambda s: (-s[1], s[0]))[:k])
    return Retrieval(rankings)


def overlap(cell, *, batch: int):
    return _rank(cell, batch, lambda q, d: _overlap(cell.queries[q], cell.document(d)))


def scaled(cell, *, batch: int):
    length = dict(zip(sorted(cell.benchmark.corpus), cell.inputs["lengths"]["lengths"], strict=True))
    return _rank(cell, batch, lambda q, d: _overlap(cell.queries[q], cell.document(d)) / float(np.log(2 + length[d])))


def noise(cell, *, batch: int):
    def value(q, d):
        return int(hashlib.sha256(f"{cell.seed}{q}{d}".encode()).hexdigest()[:8], 16) / 2**32

    return _rank(cell, batch, value)
