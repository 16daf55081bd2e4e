"""TREC run files: round trip, and every malformed one refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankrepro.errors import RunFileError
from rankrepro.runs import read_run, write_run

RUN = {"q1": {"Barack Obama": 3.5, "100% (song)": 1.25}, "q2": {"Paris": 0.5}}


def test_round_trip_with_awkward_ids(tmp_path: Path) -> None:
    file = write_run(tmp_path, "baselines.bm25", "f" * 64, RUN)
    assert file.name == "baselines.bm25-ffffffffffff.trec"
    assert read_run(file, {"q1", "q2"}, {"Barack Obama", "100% (song)", "Paris"}) == RUN
    assert all(len(line.split()) == 6 for line in file.read_text().splitlines())


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    file = write_run(tmp_path, "x", "f" * 64, RUN)
    file.write_text(file.read_text().replace("3.5", "9.5"))
    with pytest.raises(RunFileError, match="write the run again"):
        read_run(file)


def test_a_run_whose_writing_was_cut_off_is_written_again(tmp_path: Path) -> None:
    file = write_run(tmp_path, "x", "f" * 64, RUN)
    whole = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    for part in tmp_path.iterdir():
        part.unlink()
        assert write_run(tmp_path, "x", "f" * 64, RUN) == file
        assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == whole


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("q1 Q0 d1 1 0.5 x", "truncated"),
        ("q1 Q0 d1 1 0.5\n", ":1: 5 fields"),
        ("q1 Q0 d1 1 high x\n", "not a finite number"),
        ("q1 Q0 d1 1 nan x\n", "not a finite number"),
        ("q9 Q0 d1 1 0.5 x\n", "query 'q9' is not in this benchmark"),
        ("q1 Q0 d9 1 0.5 x\n", "document 'd9' is not in this benchmark"),
        ("q1 Q0 d1 1 0.5 x\nq1 Q0 d1 2 0.4 x\n", ":2: document 'd1' appears twice"),
        ("\n", "0 fields"),
    ],
)
def test_malformed_runs(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "a.trec"
    file.write_text(text)
    with pytest.raises(RunFileError, match=words):
        read_run(file, {"q1"}, {"d1"})


def test_binary_empty_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "b.trec").write_bytes(b"\xff\xfe\x00\n")
    (tmp_path / "e.trec").write_text("")
    for name, words in (("b", "not a text file"), ("e", "truncated"), ("m", "cannot be read")):
        with pytest.raises(RunFileError, match=words):
            read_run(tmp_path / f"{name}.trec")
