"""What a chart draws, and what it leaves to its table."""

from __future__ import annotations

import json

from rankrepro.report import charts


def curve(cell: str, **series: list[list[float]]) -> dict:
    return {"cell": cell, "benchmark": "b", "seed": 0, "series": series}


def test_ends_alone_are_no_curve_and_stand_in_the_table() -> None:
    bent, ends = [[0, 3.0], [5, 2.0], [9, 1.0]], [[0, 3.0], [9, 2.5]]
    figure = charts.curves([curve("p.search", rate_loss=ends), curve("p.train", loss=bent)], "p")
    assert figure is not None and "rate_loss" not in json.dumps(figure.spec)
    assert figure.takeaway == "loss falls from 3.00 to 1.00 with train (1 line)."
    assert [line[0].value for line in figure.sheet.lines] == ["search", "train"]


def test_where_there_are_ends_alone_they_are_drawn() -> None:
    figure = charts.curves([curve("p.train", loss=[[0, 3.0], [9, 2.5]])], "p")
    assert figure is not None and "loss" in json.dumps(figure.spec)
