"""The best documents of a corpus by score, with one rule for ties."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from rankrepro.cell import DECIMALS


def best(ids: Sequence[str], scores: np.ndarray, k: int, excluded: Collection[str] = ()) -> dict[str, float]:
    """The k documents of highest score, best first, without `excluded` ones: id -> score.

    ids, scores [documents]. Scores that are equal to 5 decimals are ordered by id, as in every ranking, so that the
    k-th place depends neither on float noise nor on the order of the corpus.
    """
    rounded = scores.astype(np.float64).round(DECIMALS)
    reach = min(k + len(excluded), len(ids))  # so many contain the k best, whichever are excluded
    if reach == 0:
        return {}
    least = np.partition(rounded, -reach)[-reach]
    near = [i for i in np.flatnonzero(rounded >= least).tolist() if ids[i] not in excluded]
    return {ids[i]: float(scores[i]) for i in sorted(near, key=lambda i: (-rounded[i], ids[i]))[:k]}
