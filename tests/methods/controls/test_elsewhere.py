"""A run file as a method's output: which part of it a cell takes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from methods.controls import elsewhere
from rankrepro import runs
from rankrepro.cell import Cell
from rankrepro.errors import RunFileError


def test_a_run_is_cut_at_k_and_answers_every_query(
    make_cell: Callable[..., Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(runs.FOLDER, str(tmp_path))
    text = "".join(f"{q} Q0 {d} 1 {s} x\n" for q in ("q1", "q2", "p") for d, s in (("d2", 0.5), ("d0", 2), ("d1", 1)))
    (tmp_path / "a.trec").write_text(text)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    cell = make_cell({"q1": "one", "q2": "two"}, {})
    ranked = elsewhere.run(cell, file="a.trec", sha256=sha256, k=2).checked(cell).values
    assert ranked == {q: {"d0": 2, "d1": 1} for q in ("q1", "q2")}
    with pytest.raises(RunFileError, match=r"a\.trec: 1 of 2 queries of test/few have no result \(e\.g\. 'q9'\)"):
        elsewhere.run(make_cell({"q1": "one", "q9": "nine"}, {}), file="a.trec", sha256=sha256, k=2)
