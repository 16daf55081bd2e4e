"""Documents that are copies of each other. Nobody judged them as one, so that the order of equals decides.

A relevant document has an unjudged copy: a ranking that puts the copy first has half the reciprocal rank of one that
does not, and no method can know better.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from rankrepro.benchmarks import splits
from rankrepro.benchmarks.base import Benchmark, Document, ReferredCorpus

Copies = Mapping[str, int]


def count(benchmark: Any, truth: Any) -> Copies:
    """What copies a benchmark has; nothing where it has no corpus of texts, or one too large to be copied.

    documents   documents with the text of another one, the first of each text left out
    unjudged    relevant pairs of a query and a document that has a copy without a judgment for this query
    """
    if not isinstance(benchmark, Benchmark) or isinstance(benchmark.corpus, ReferredCorpus):
        return {}
    same: dict[str, list[str]] = defaultdict(list)
    for document in benchmark.corpus.values():
        if not document.image:
            same[normalised(document)].append(document.id)
    groups = [ids for ids in same.values() if len(ids) > 1]
    others = {d: set(ids) - {d} for ids in groups for d in ids}
    unjudged = 0
    for query, judged in truth.qrels.items():
        asked = benchmark.queries.get(query)  # upstream judges queries that it does not ask
        known = {*judged, *(asked.excluded if asked else ())}
        unjudged += sum(bool(others[d] - known) for d in splits.relevant(judged) if d in others)
    return {"documents": sum(len(ids) - 1 for ids in groups), "unjudged": unjudged}


def normalised(document: Document) -> str:
    """Title and text without what the eye does not see: compatible forms, case and white space."""
    return " ".join(unicodedata.normalize("NFKC", document.content).casefold().split())


def words(copies: Copies) -> str:
    """What a reader of a benchmark must know of them."""
    if not copies["documents"]:
        return "no document is a copy of another"
    told = f"{copies['documents']} documents are copies of another, case and white space aside"
    if not copies["unjudged"]:
        return f"{told}; whatever is relevant has no copy that is not judged"
    return (
        f"{told}; warning: {copies['unjudged']} times a relevant document has a copy that nobody judged for its query. "
        "A ranking with the copy first has half the reciprocal rank; `Judged@10` shows how often"
    )
