"""`vitaminc/evidence`: claims to the sentences of Wikipedia that prove or refute them.

VitaminC (Schuster et al. 2021). Most sentences come in pairs, before and after an edit that turns the verdict, so that
the page is easily found and the sentence is not. Claims of BEIR's FEVER, and all that hang together with one, test: who
trains here has seen no claim of vital/fever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rankrepro.benchmarks import splits, texts, vital
from rankrepro.benchmarks.base import Benchmark, Truth
from rankrepro.errors import BenchmarkError

TASK = "vitaminc_fact_verification/task.json"
SPELLINGS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-COLON-": ":"}


def build(benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]) -> tuple[Benchmark, Truth]:
    """The benchmark. `sources`: folders of the artifacts bigbench and anserini-topics.

    `params`: `shares` of training and validation among the claims that do not test, and `grades`, verdict -> grade of a
    sentence for a claim. Claims on one page stay together.
    """
    found = texts.Collection(benchmark_id)
    pages: dict[str, dict[str, int]] = {}  # claim -> the pages of its evidence
    for page, sentence, claim, verdict in evidence(sources["bigbench"]):
        query = found.query(claim)
        pages.setdefault(query, {})[page] = 1
        found.judge(query, found.document(sentence, page), params["grades"][verdict])
    judged = [q for q, judged in found.qrels.items() if splits.relevant(judged)]
    found.keep(judged, found.documents)
    groups = splits.components({q: pages[q] | {d: 1 for d in splits.relevant(found.qrels[q])} for q in judged})
    of_fever = {texts.spelled(claim) for claim in vital.read_queries(sources["anserini-topics"], "fever").values()}
    tested = {groups[q] for q, text in found.texts.items() if texts.spelled(text) in of_fever}
    shares = {s: share for s, share in params["shares"].items() if s != "test"}
    split = splits.assign(benchmark_id, {q: group for q, group in groups.items() if group not in tested}, shares)
    return found.built({q: split.get(q, "test") for q in judged}, groups)


def evidence(folder: Path) -> Iterator[tuple[str, str, str, str]]:
    """Page, sentence, claim, and what the sentence says of the claim: True, False or Neither."""
    for number, example in enumerate(texts.task(folder, TASK)["examples"]):
        source, _, claim = example["input"].partition("\nClaim: ")
        page, _, sentence = source.partition(": ")
        verdicts = [verdict for verdict, score in example["target_scores"].items() if score]
        if not (claim and sentence and len(verdicts) == 1):
            raise BenchmarkError(f"{folder}: {TASK}: example {number} is no sentence with a claim and one verdict")
        yield _spelled(page), _spelled(sentence), _spelled(claim), verdicts[0]


def _spelled(text: str) -> str:
    for spelling, character in SPELLINGS.items():
        text = text.replace(spelling, character)
    return text
