"""Tables: the same numbers in every format, and LaTeX that compiles."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from synthetic import HOSTILE, judged

from rankrepro.cards import load_cards
from rankrepro.report import charts, sentences, sheets
from rankrepro.report.sheets import Cell, Sheet

CARDS = load_cards()


def all_sheets(key: str) -> list[Sheet]:
    page = judged(CARDS, key, units=12)["results"]["papers"][key]
    timings = {t["name"]: t for t in page["timings"]}
    words = {c["id"]: sentences.verdict(c, key, timings) for c in page["claims"]}
    nothing = [None] * len(page["reported"])
    every = [s for t in page["tables"] for s in sheets.of_table(t, key)]
    every += [
        sheets.of_claims(page["claims"], words),
        sheets.of_timings(page["timings"], key),
        *filter(None, (sheets.of_reported(page["reported"], nothing, key, verified) for verified in (True, False))),
        sheets.of_seeds(page["tables"], page["claims"], key),
        sheets.of_cells(page["cells"], key),
    ]
    sheets.number_slugs(every)
    return every


def hostile() -> Sheet:
    line = [Cell(HOSTILE[2], words=True), Cell(HOSTILE[0], note="[1, 2]", letter="a", best=True)]
    return Sheet("../../etc/passwd | $x$", ["name_1 & co", "50 %"], [line], [{"a": "=1+1", "b": None}], "100 % of a_b")


def test_the_records_hold_every_number_of_the_results() -> None:
    table = judged(CARDS, "icr", units=12)["results"]["papers"]["icr"]["tables"][0]
    sheet = sheets.of_table(table, "icr")[0]
    lead = [r for r in table["rows"] if r["measure"] == table["measures"][0]]
    read = list(csv.DictReader(io.StringIO(sheets.to_csv(sheet))))
    assert len(read) == len(lead)
    for row, record in zip(lead, read, strict=True):
        assert (record["arm"], record["benchmark"]) == (row["arm"], row["benchmark"])
        assert float(record["value"]) == row["value"]
        assert [float(record["ci_low"]), float(record["ci_high"])] == row["ci"]
        assert record["against_letter"] == ((row["against"] or {}).get("letter") or "")


def test_unverified_numbers_stand_apart_and_ours_only_beside_the_same_data() -> None:
    def number(row: str, **more: Any) -> dict[str, Any]:
        return {"table": "t", "data": "Oxford", "row": row, "column": "mAP", "value": 80.2, "source": "s", **more}

    told = [number("read", verified=True), number("remembered", verified=False), number("not said")]
    row = {"arm": "x.a", "benchmark": "b", "measure": "mAP-H", "value": 0.59, "ci": [0.5, 0.7], "n": 3, "seeds": 1,
           "seed_sd": None, "cost": {}}  # fmt: skip
    read, rest = (sheets.of_reported(told, [None] * 3, "x", verified) for verified in (True, False))
    assert read and rest
    assert [r["row"] for r in read.records] == ["read"] and "not verified" not in read.title
    assert [r["row"] for r in rest.records] == ["remembered", "not said"] and "not verified" in rest.title
    assert all("Oxford" in [cell.value for cell in line] for line in [*read.lines, *rest.lines])
    assert "ours" not in read.head, "no row of ours is on the paper's data"
    beside = sheets.of_reported(told, [row, None, None], "x")
    assert beside and beside.head.index("ours") == beside.head.index("reported") + 1
    assert sheets.of_reported(told[:1], [None], "x", verified=False) is None


def test_the_best_of_a_column_is_no_ceiling() -> None:
    rows = [
        {"arm": a, "benchmark": "b", "measure": m, "value": v, "ci": [0, 1], "n": 3, "clusters": 3, "seeds": 1,
         "split": "test", "seed_sd": None, "against": None, "cost": {}}
        for a, m, v in (("x.one", "RR", 0.4), ("x.two", "RR", 0.5), ("ceiling of x.one", "RR", 0.9),
                        ("x.one", "Perplexity", 20.0), ("x.two", "Perplexity", 25.0))
    ]  # fmt: skip
    table = {
        "name": "t",
        "measures": ["RR", "Perplexity"],
        "baseline": None,
        "where": None,
        "units_of": None,
        "rows": rows,
    }
    lines = {line[0].value: line for line in sheets.of_table(table, "x")[0].lines}
    assert [lines[a][1].best for a in ("one", "two", "ceiling of one")] == [False, True, False]
    assert [lines[a][2].best for a in ("one", "two")] == [True, False]  # a perplexity is better low


def row(arm: str, measure: str, value: float, n: int = 300) -> dict[str, Any]:
    return {
        "arm": f"x.{arm}", "benchmark": "b", "measure": measure, "value": value, "ci": [None, None], "n": n,
        "clusters": 3, "seeds": 1, "split": "test", "seed_sd": None, "against": None, "cost": {"seconds_per_unit": n},
    }  # fmt: skip


def sheet_of(rows: list[dict[str, Any]]) -> Sheet:
    measures = list(dict.fromkeys(r["measure"] for r in rows))
    table = {"name": "t", "measures": measures, "baseline": None, "where": None, "units_of": None, "rows": rows}
    return sheets.of_table(table, "x")[0]


def test_the_best_is_told_among_arms_on_the_same_number_of_units() -> None:
    sheet = sheet_of([row("easy", "RR", 0.9, 16), row("one", "RR", 0.4), row("two", "RR", 0.5)])
    assert [line[1].best for line in sheet.lines] == [False, False, True]
    assert "Bold: the best of the arms on as many units as most have" in sheet.caption
    assert "Bold" not in sheet_of([row("one", "RR", 0.4), row("two", "RR", 0.5)]).caption


def test_an_arm_on_other_units_is_on_no_front() -> None:
    rows = [row("easy", "RR", 0.9, 16), row("one", "RR", 0.4), row("two", "RR", 0.5, 300)]
    rows[2]["cost"] = {"seconds_per_unit": 400}
    for r in rows:
        r["cost"]["input_tokens"] = None
    table = {"name": "t", "measures": ["RR"], "rows": rows}
    figure = charts.cost(table, "x")
    assert figure
    assert {r["arm"]: r["front"] for r in figure.sheet.records} == {"easy": False, "one": True, "two": True}
    assert "two has the best RR" in figure.takeaway


def test_what_describes_has_no_best_and_large_numbers_no_fractions() -> None:
    sheet = sheet_of([
        *(row(arm, "LearningRate", rate) for arm, rate in (("one", 0.0003), ("two", 0.003))),
        *(row(arm, "TargetParameters", n) for arm, n in (("one", 790528.0), ("two", 1048576.0))),
    ])  # fmt: skip
    assert [[(c.value, c.best) for c in line[1:3]] for line in sheet.lines] == [
        [("0.00030", False), ("790,528", True)],
        [("0.003", False), ("1,048,576", False)],
    ]


def test_whose_claim_it_is_stands_beside_it() -> None:
    sheet = next(s for s in all_sheets("icr") if s.title == "Claims")
    words = {line[sheet.head.index("whose")].value for line in sheet.lines}
    assert words >= {"a sentence of the paper", "our stricter control"}


def test_names_of_files_are_unique_and_safe() -> None:
    copies = [hostile(), hostile(), hostile()]
    sheets.number_slugs(copies)
    assert [s.slug for s in copies] == ["etc-passwd-x", "etc-passwd-x-2", "etc-passwd-x-3"]


def test_a_spreadsheet_runs_no_formula() -> None:
    assert "'=1+1" in sheets.to_csv(hostile())


def test_markdown_tables_have_as_many_cells_in_every_line() -> None:
    for sheet in (*all_sheets("icr"), hostile()):
        table = sheets.to_markdown(sheet).split("\n\n")[0].splitlines()
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {len(sheet.head) + 1}


@pytest.mark.parametrize("key", ["icr", "anyloss", "baselines", "fullrank"])
def test_latex_is_well_formed(key: str) -> None:
    for sheet in (*all_sheets(key), hostile()):
        source = sheets.to_latex(sheet)
        bare = re.sub(r"\\[\\{}$&%#_]", "", source)
        assert bare.count("{") == bare.count("}")
        assert bare.count("$") % 2 == 0
        body = source.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
        assert len(body) == len(sheet.lines)
        for line in body:
            assert len(re.findall(r"(?<!\\)&", line)) == len(sheet.head) - 1
        assert source.isascii() or not re.search("[^\u0000-\u017e]", source)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex: exported tables were not compiled")
def test_latex_compiles(tmp_path: Path) -> None:
    every = [s for key in ("icr", "anyloss", "baselines", "fullrank") for s in all_sheets(key)] + [hostile()]
    body = "\n\\clearpage\n".join(sheets.to_latex(s) for s in every)
    preamble = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "all.tex").write_text(f"{preamble}\n{body}\n\\end{{document}}\n", encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, errors="replace",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
