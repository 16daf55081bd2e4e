"""The best documents of a corpus by score, with one rule for ties."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from rankrepro.cell import DECIMALS


def best(ids: Sequence[str], scores: np.ndarray, k: int, excluded: Collection[str] = ()) -> dict[str, float]:
    """The k documents of highest score, best first, without `excluded` ones: id -> score.

    ids, scores [documents]. Scores are rounded to 5 decimals, below which products of float32 vectors are noise, and
    equal ones go by id: what stands at the k-th place depends neither on that noise nor on the order of the corpus.
    """
    reach = min(k + len(excluded), len(ids))  # so many hold the k best, whichever of them are excluded
    if reach == 0:
        return {}
    least = np.partition(scores, -reach)[-reach] - 10.0**-DECIMALS
    near = [(-round(float(scores[i]), DECIMALS), ids[i]) for i in np.flatnonzero(scores >= least).tolist()]
    return {document: 0.0 - score for score, document in sorted(n for n in near if n[1] not in excluded)[:k]}
