"""The report: no judged file is read again and again, and no page is too large. On made-up results of full size."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from synthetic import write

from rankrepro.cards import load_cards
from rankrepro.report import render
from tests_support import watched

BYTES = 3_000_000
UNITS = 200  # queries of a benchmark; four benchmarks a paper


def test_the_report_reads_no_file_again_and_again_and_no_page_is_too_large(tmp_path: Path) -> None:
    cards = load_cards()
    keys = [key for key, card in cards.items() if card.arms]  # theirs are the largest pages
    write(tmp_path / "results", cards, keys, units=UNITS)
    with watched("open") as opened:
        render(keys, "desk", tmp_path / "results", tmp_path / "reports")
    read = Counter(str(file) for file, mode, _ in opened if str(file).startswith(str(tmp_path)) and mode in ("r", "rb"))
    assert len(read) >= 5 * len(keys)  # what was judged, and the copies that pages are made from
    assert [file for file, times in read.items() if times > 2] == []  # to be shown, and to be hashed for the manifest
    sizes = {f.parent.name: f.stat().st_size for f in (tmp_path / "reports").rglob("index.html")}
    largest = max(sizes, key=lambda k: sizes[k])
    assert len(sizes) == len(cards) + 1
    assert sizes[largest] < BYTES, largest
