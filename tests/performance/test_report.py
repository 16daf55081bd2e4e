"""The report of 38 papers: built in time, no page too large. Measured on made-up results of full size."""

from __future__ import annotations

import time
from pathlib import Path

from synthetic import write

from rankrepro.cards import load_cards
from rankrepro.report import render

SECONDS = 30
BYTES = 3_000_000
UNITS = 200  # queries of a benchmark; four benchmarks a paper


def test_38_papers(tmp_path: Path) -> None:
    cards = load_cards()
    write(tmp_path / "results", cards, list(cards), units=UNITS)
    start, cpu_start = time.perf_counter(), time.process_time()
    render(list(cards), "desk", tmp_path / "results", tmp_path / "reports")
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    sizes = {f.parent.name: f.stat().st_size for f in (tmp_path / "reports").rglob("index.html")}
    largest = max(sizes, key=lambda k: sizes[k])
    print(f"{len(sizes)} pages in {wall:.1f} s ({cpu:.1f} s CPU); largest {largest}: {sizes[largest] / 1e6:.2f} MB")
    assert len(sizes) == len(cards) + 1
    assert sizes[largest] < BYTES
    assert cpu < SECONDS  # one process: on a machine of its own this is the wall time; tests may share one
