"""BM25 (Robertson et al. 1994) over a corpus held in memory: bm25s, English stopwords, Snowball stems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Index:
    """Scores of every document for a query."""

    def __init__(self, texts: Sequence[str], k1: float, b: float) -> None:
        import bm25s

        self.documents = len(texts)
        self.index = bm25s.BM25(k1=k1, b=b)
        self.index.index(_terms(texts), show_progress=False)

    def scores(self, queries: Sequence[str]) -> list[np.ndarray]:
        """One array [documents] per query; all 0 for a query of nothing but stopwords."""
        words = _terms(queries, return_ids=False)
        return [self.index.get_scores(w) if w else np.zeros(self.documents) for w in words]


def _terms(texts: Sequence[str], **form: Any) -> Any:
    import bm25s
    import Stemmer

    return bm25s.tokenize(texts, stopwords="en", stemmer=Stemmer.Stemmer("english"), show_progress=False, **form)
