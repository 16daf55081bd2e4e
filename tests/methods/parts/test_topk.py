"""The best documents against sorting all of them, with ties to five decimals and excluded documents."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from methods.parts.retrieval.topk import best

SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=30)


@given(SCORES, st.integers(1, 12), st.sets(st.integers(0, 29)), st.randoms(use_true_random=False))
def test_it_is_sorting_by_score_then_id(levels, k, out, random):
    ids = [f"d{i:02}" for i in range(len(levels))]
    random.shuffle(ids)
    noise = np.array([random.uniform(-4e-6, 4e-6) for _ in ids])  # below the fifth decimal
    excluded = {f"d{i:02}" for i in out}
    expected = sorted((-level, d) for level, d in zip(levels, ids, strict=True) if d not in excluded)[:k]
    top = best(ids, np.array(levels) + noise, k, excluded)
    assert [(d, round(score)) for d, score in top.items()] == [(d, -level) for level, d in expected]


def test_scores_keep_five_decimals_and_single_precision_is_no_trap():
    found = best(["b", "a", "c"], np.array([0.3000001, 0.3, -0.1234567], dtype=np.float32), 3)
    assert found == {"a": 0.3, "b": 0.3, "c": -0.12346} and list(found) == ["a", "b", "c"]
    assert best(["a"], np.array([-0.0]), 1)["a"].hex() == (0.0).hex()  # no negative zero
    assert best(["a", "b"], np.array([1.0, 2.0]), 5, {"a", "b", "z"}) == {}
