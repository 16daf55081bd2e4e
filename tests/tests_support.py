"""Whole small copies of the project to run Snakemake in, and a toy paper to put there."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("rankrepro", "methods", "workflow", "config", "profiles", "Snakefile", "environment.yml", "pyproject.toml")
OTHERS = shutil.ignore_patterns("__pycache__", "mine.py")  # a method of the reader's own is no part of the project

TOY_CARD = """
key: toy
title: A toy paper
year: 2026
link: https://example.org/toy
family: llm_rerankers
summary: Scores a document by how many words it shares with the query.
benchmarks: {quick: [vital-mini/fever], desk: [vital-mini/fever], paper: [lint/rules]}
split: [train, test]
scales: {quick: {sample: {all: 12}}, desk: {sample: {all: 60}}}
arms:
  lexical: {fn: toy.lexical, params: {k: 10}}
  overlap: {fn: toy.overlap, candidates: {from: lexical, depth: 5}, params: {batch: 2}}
  noise: {fn: toy.noise, candidates: {from: lexical, depth: 5}, seeds: [0, 1]}
tables:
  - {name: main, arms: [lexical, overlap, noise], measures: [nDCG@10], baseline: noise, oracle: lexical}
  - {name: several, arms: [overlap], measures: [R@5], where: several_relevant, units_of: noise}
  - {name: elsewhere, arms: [overlap], measures: [R@5], over: [lint/rules]}
claims:
  - id: toy-over-noise
    sentence: Word overlap ranks better than noise.
    kind: superiority
    measure: nDCG@10
    expr: m(overlap) - m(noise)
    over: all
    min_effect: 0.01
  - id: toy-placebo
    role: placebo
    sentence: Noise ranks better than word overlap.
    kind: superiority
    measure: nDCG@10
    expr: m(noise) - m(overlap)
    floor: m(lexical)
    margin: 0.1
    over: all
"""

TOY_TIMING = """  - id: toy-faster
    sentence: Word overlap is faster than noise.
    kind: ratio
    timing: overlap_over_noise
timings:
  - {name: overlap_over_noise, a: overlap, b: noise, n: {quick: 5}}
"""

TOY_METHOD = '''
"""A toy method: word overlap."""
import os
import time

from rankrepro.cell import Ranking, Retrieval
from methods.parts.toy_words import words


def _score(query, document):
    q = words(query)
    return len(q & words(document.content)) / (1 + len(q))


def lexical(cell, *, k: int):
    found = {}
    for q, text in cell.queries.items():
        scores = {d.id: _score(text, d) for d in cell.benchmark.corpus.values()}
        best = sorted(scores, key=lambda d: (-scores[d], d))[:k]
        order = [*sorted(best[:5]), *best[5:]]  # the five best in no order, so that there is one to find
        found[q] = {d: 1 - i / k for i, d in enumerate(order)}
    return Retrieval(found)


def overlap(cell, *, batch: int):
    def score(units):
        time.sleep(float(os.environ.get("TOY_PAUSE", "0")))
        return {q: {d: _score(cell.queries[q], cell.document(d)) for d in cell.candidates[q]} for q in units}

    return Ranking(cell.map(list(cell.queries), score, batch))


def noise(cell):
    import hashlib

    def value(q, d):
        return int(hashlib.sha256(f"{cell.seed}{q}{d}".encode()).hexdigest()[:8], 16) / 2**32

    return Ranking({q: {d: value(q, d) for d in docs} for q, docs in cell.candidates.items()})
'''

TOY_WORDS = """
def words(text):
    return {w for w in text.lower().split() if len(w) > 3}
"""


@dataclass
class Project:
    """A copy of the project in a folder of its own, with only the cards a test asks for."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results" / "quick"

    def command(self, *config: str, cores: int = 2) -> list[str]:
        return [sys.executable, "-m", "snakemake", "--cores", str(cores), "--config", *config]

    def env(self) -> dict[str, str]:
        # the copy, not the checkout or an installed package, and this interpreter's tools
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, *config: str, check: bool = True, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*(config or ("papers=toy",))),
            cwd=self.folder, env=self.env(), capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def python(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *args], cwd=self.folder, env=self.env(), capture_output=True, text=True, timeout=300
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def store(self) -> dict[str, dict[str, bytes]]:
        """digest -> the bytes of its output (not of cost, manifest or timings, which hold seconds)."""
        manifests = (self.results / "store").glob("*/manifest.json")
        folders = (m.parent for m in manifests if json.loads(m.read_text())["spec"]["kind"] != "timing")
        return {
            d.name: {f.name: f.read_bytes() for f in d.iterdir() if f.name.startswith(("output", "arrays"))}
            for d in folders
        }


def make_project(folder: Path, papers: list[str]) -> Project:
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=OTHERS)
        else:
            shutil.copy(source, folder / part)
    for key in papers:
        shutil.copy(card_file(ROOT, key), new_card(folder, key, card_file(ROOT, key).parent.name))
    (folder / "papers").mkdir(exist_ok=True)
    shutil.copy(ROOT / "papers" / "seconds.yaml", folder / "papers")
    return Project(folder)


def card_file(root: Path, key: str) -> Path:
    """The card of a project, in the folder of its family."""
    (file,) = (root / "papers").glob(f"*/{key}.yaml")
    return file


def new_card(root: Path, key: str, family: str = "llm_rerankers") -> Path:
    """Where a card is to be written; its folder is there afterwards."""
    file = root / "papers" / family / f"{key}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def add_toy(project: Project) -> Project:
    new_card(project.folder, "toy").write_text(TOY_CARD + TOY_TIMING)
    (project.folder / "methods" / "toy.py").write_text(TOY_METHOD)
    (project.folder / "methods" / "parts" / "toy_words.py").write_text(TOY_WORDS)
    return project


_watches: list[tuple[str, list[tuple[Any, ...]]]] = []


@cache
def _watch() -> None:
    """Install the hook, once: Python has no way to take one away."""
    sys.addaudithook(lambda event, args: [seen.append(args) for name, seen in _watches if name == event] and None)


@contextmanager
def watched(event: str) -> Iterator[list[tuple[Any, ...]]]:
    """The arguments of each audit event of this name ("open", "socket.connect") while the block runs.

    Counts hold speed where seconds cannot: they are the same on a busy machine.
    """
    _watch()
    watch = (event, [])
    _watches.append(watch)
    try:
        yield watch[1]
    finally:
        _watches.remove(watch)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(address: str, process: subprocess.Popen) -> None:
    """Until MLflow's server at `address` answers: seconds, or minutes on a busy machine."""
    for _ in range(1800):
        assert process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
                assert answer.status == 200
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server does not answer")


def end(process: subprocess.Popen) -> None:
    """Ask a server to end, and make it where it does not."""
    process.terminate()
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
