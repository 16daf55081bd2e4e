"""A published toy paper: judged by the judge's own code from made-up outputs on real, small benchmarks."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from rankrepro import artifacts, benchmarks
from rankrepro.card_form import expanded
from rankrepro.cards import Card, load_cards
from rankrepro.files import parse_yaml
from rankrepro.judge import results as judge
from rankrepro.judge.registration import git
from rankrepro.judge.values import Values
from rankrepro.plan import Node, make_plan
from rankrepro.report import pages, shelf

KEY = "toy"
CARD = """
key: toy
title: A toy paper
year: 2026
link: https://example.org/toy
family: llm_rerankers
summary: Numbers with everything that a paper may have.
benchmarks: {desk: [vital-mini/fever, vital-mini/climate-fever]}
split: [train, test]
scales: {desk: {sample: {all: 60}}}
arms:
  words: {fn: first_stages.bm25, params: {k: 10, k1: 1.2, b: 0.75}}
  other: {fn: first_stages.bm25, params: {k: 10, k1: 0.4, b: 0.75}}
  good: {fn: floors.random, candidates: {from: words, depth: 5}, seeds: [0, 1, 2]}
  noise: {fn: floors.constant, candidates: {from: words, depth: 5}}
tables:
  - {name: main, arms: [words, good, noise], measures: [nDCG@10, RR], baseline: noise, oracle: words}
  - {name: several, arms: [good], measures: [RR], where: several_relevant, units_of: noise}
  - {name: areas, arms: [words, other], measures: [PooledAUC, TPR@0.1]}
claims:
  - {id: toy-quality, sentence: It ranks better., kind: superiority, measure: nDCG@10, expr: m(good) - m(noise),
     guard: m(words) - m(noise), min_effect: 0.02}
  - {id: toy-several, sentence: Also with several., kind: noninferiority, margin: 0.05, measure: RR,
     expr: m(good) - m(noise), where: several_relevant, combine: macro}
  - {id: toy-wins, sentence: It wins., kind: share, measure: RR, expr: m(good) - m(noise), over: [vital-mini/fever]}
  - {id: toy-area, sentence: Its area is larger., kind: superiority, measure: PooledAUC, expr: m(words) - m(other),
     over: [vital-mini/fever]}
  - {id: toy-faster, sentence: It is faster., kind: ratio, timing: good_over_noise}
  - {id: toy-placebo, role: placebo, sentence: Noise ranks better., kind: superiority, measure: nDCG@10,
     expr: m(noise) - m(good), floor: m(words)}
timings:
  - {name: good_over_noise, a: good, b: noise, n: {desk: 8}}
reported:
  - {table: Table 1, data: Toys, source: Table 1, verified: true, columns: [nDCG@10],
     rows: {good: [0.7], noise: [null]}}
"""


def toy_cards(text: str = CARD) -> dict[str, Card]:
    """The project's cards and the toy's, as the loader would have it."""
    data = expanded(parse_yaml(text), "toy.yaml")
    return _others() | {KEY: Card(KEY, Path("toy.yaml"), data, data["arms"])}


@cache
def _others() -> dict[str, Card]:
    return load_cards()


def publish(folder: Path) -> Path:
    """`folder`/reports/desk/toy, made from a store and benchmarks in `folder`/results/desk."""
    cards, results = toy_cards(), folder / "results" / "desk"
    plan = make_plan(cards, "desk", [KEY])
    for benchmark in plan.benchmarks[KEY]:
        benchmarks.build(benchmark, artifacts.cache_dir(), results / "benchmarks" / benchmark)
    values = Values(plan, results)
    for node in plan.nodes.values():
        _store(node, values)
    found = judge.judge(cards[KEY], values, cards) | {"claims_commit": git("rev-parse", "HEAD")}
    files: dict[str, Mapping[str, Any]] = {
        "results": found,
        "units": judge.units(cards[KEY], values),
        "examples": judge.shown(cards[KEY], values, found["papers"][KEY]["claims"]),
    }
    judge.write_files(results / "judged" / KEY, files)
    published = folder / "reports" / "desk" / KEY
    shelf.collect(results / "judged" / KEY, published, cards)
    now = shelf.read(published)
    paper = pages.Paper(cards[KEY], now.results, now.units, now.examples)
    shelf.write_tables(paper, published, "desk", pages.labels(cards.values()))
    return published


def _store(node: Node, values: Values) -> None:
    """Outputs in the place of a cell's: `good` knows the truth by half, all others do not."""
    draw = random.Random(node.name + node.benchmark + str(node.spec["seed"]))
    truth, queries = values.truth(node.benchmark).qrels, values.benchmark(node.benchmark).queries
    asked = sorted(q for q in truth if queries[q].split in ("train", "test"))[:40]
    cost: dict[str, Any] = {"wall_s": 9.0, "cpu_s": 8.5, "peak_bytes": 1, "started": 1.76e9, "ended": 1.76e9 + 9}
    if node.spec["kind"] == "timing":
        sides = {"a": 1.0, "b": 3.0, "aa": 1.0}
        seconds = {side: {q: mean * draw.uniform(0.9, 1.1) for q in asked[:8]} for side, mean in sides.items()}
        work = {side: {q: {"input_tokens": 7.0} for q in asked[:8]} for side in ("a", "b")}
        values.store.put(node.digest, {"spec": node.spec}, cost | {"units": {}, "work": work}, output=seconds)
        return
    name = node.name.partition(".")[2]
    knows = {"good": 0.5, "words": 0.3}.get(name, 0.0)
    corpus = list(values.benchmark(node.benchmark).corpus)
    ranked = {}
    for q in asked:
        relevant = [d for d, grade in truth[q].items() if grade > 0]
        documents = list(dict.fromkeys([*relevant, *draw.sample(corpus, 8)]))
        scores = {d: round(draw.random() + knows * (d in relevant), 3) for d in documents}
        ranked[q] = dict(sorted(scores.items(), key=lambda s: (-s[1], s[0])))
    kind = "ranking" if node.spec["candidates"] else "retrieval"
    metered = {q: {"seconds": draw.uniform(0.1, 2), "input_tokens": float(draw.randrange(900))} for q in asked}
    output = {"main": {"type": kind, "values": ranked}}
    values.store.put(node.digest, {"spec": node.spec}, cost | {"units": metered}, output=output)
