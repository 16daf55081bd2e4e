"""Tables: laid out once, written as HTML, CSV, Markdown, LaTeX and JSON.

A sheet has lines of cells for the reader, and records with every number unrounded for other programs.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rankrepro.claims import ORIGINS
from rankrepro.errors import RankReproError
from rankrepro.judge import measures
from rankrepro.report import text
from rankrepro.report.text import NONE, count, interval, latex, markdown, number, seconds, short, size, slug

CEILING = "ceiling of "
UNRANKED = ("Judged", "Candidates", "LearningRate", "ResidualSpread", "ByResidual")  # they describe; none is better


@dataclass(frozen=True)
class Cell:
    """What a reader sees: a value, a smaller note under it, a letter beside it. `sort` is the value to order by."""

    value: str
    note: str = ""
    letter: str = ""
    sort: float | str | None = None
    best: bool = False
    words: bool = False  # prose: aligned left and wrapped


@dataclass
class Sheet:
    title: str
    head: list[str]
    lines: list[list[Cell]]
    records: list[dict[str, Any]]
    caption: str = ""
    slug: str = field(default="")

    @property
    def columns(self) -> list[str]:
        """What each column holds: `words` (prose, wrapped), `text` (names) or `number`."""
        kinds = []
        for i in range(len(self.head)):
            cells = [line[i] for line in self.lines]
            if any(c.words for c in cells):
                kinds.append("words")
            else:
                text_only = i == 0 or all(c.sort is None or isinstance(c.sort, str) for c in cells)
                kinds.append("text" if text_only else "number")
        return kinds


def number_slugs(sheets: Iterable[Sheet]) -> None:
    """Give every sheet of a page a unique name of a-z, 0-9 and hyphens, whatever its title."""
    slugs: set[str] = set()
    for sheet in sheets:
        name, i = slug(sheet.title), 1
        while (name if i == 1 else f"{name}-{i}") in slugs:
            i += 1
        sheet.slug = name if i == 1 else f"{name}-{i}"
        slugs.add(sheet.slug)


# --- tables of results -----------------------------------------------------------------------------------------------


def of_table(table: Mapping[str, Any], card: str) -> list[Sheet]:
    """The lead measure on every benchmark, and for each benchmark all measures with their costs."""
    names = list(dict.fromkeys(r["benchmark"] for r in table["rows"]))
    each = [_on_benchmark(table, card, b, alone=len(names) == 1) for b in names]
    return [_overview(table, card, names), *each] if len(names) > 1 else each


def _overview(table: Mapping[str, Any], card: str, names: Sequence[str]) -> Sheet:
    lead = table["measures"][0]
    rows = [r for r in table["rows"] if r["measure"] == lead]
    best = {b: _best([r for r in rows if r["benchmark"] == b], lead) for b in names}
    lines = []
    for arm in dict.fromkeys(r["arm"] for r in rows):
        by_benchmark = {r["benchmark"]: r for r in rows if r["arm"] == arm}
        cells = [_value(by_benchmark[b], best[b]) if b in by_benchmark else Cell(NONE) for b in names]
        units = sorted({r["n"] for r in by_benchmark.values()})
        n = Cell("/".join(map(str, units)), sort=units[-1])
        costs = _costs(list(by_benchmark.values()), ("seconds_per_unit", "input_tokens"))
        lines.append([_arm(arm, card), *cells, n, *costs])
    head = ["arm", *names, "n", "time / unit", "tokens in"]
    return Sheet(f"{table['name']}: {lead} on each benchmark", head, lines, _records(rows), _caption(table, lead, card))


def _on_benchmark(table: Mapping[str, Any], card: str, benchmark: str, alone: bool) -> Sheet:
    rows = [r for r in table["rows"] if r["benchmark"] == benchmark]
    measures = [m for m in table["measures"] if any(r["measure"] == m for r in rows)]
    best = {m: _best([r for r in rows if r["measure"] == m], m) for m in measures}
    lines = []
    for arm in dict.fromkeys(r["arm"] for r in rows):
        by_measure = {r["measure"]: r for r in rows if r["arm"] == arm}
        any_row = next(iter(by_measure.values()))
        cells = [_value(by_measure[m], best[m]) if m in by_measure else Cell(NONE) for m in measures]
        about = [Cell(str(any_row["n"]), sort=any_row["n"]), Cell(str(any_row["seeds"]), sort=any_row["seeds"])]
        lines.append([_arm(arm, card), *cells, *about, *_costs([any_row], tuple(_COSTS))])
    head = ["arm", *measures, "n", "seeds", *(label for label, _ in _COSTS.values())]
    caption = _caption(table, ", ".join(measures), card)
    return Sheet(table["name"] if alone else f"{table['name']} on {benchmark}", head, lines, _records(rows), caption)


def _arm(arm: str, card: str) -> Cell:
    return Cell(short(arm, card), sort=arm)


def _value(row: Mapping[str, Any], best: Collection[str]) -> Cell:
    letter = (row["against"] or {}).get("letter") or ""
    digits = text.decimals(row["value"])
    value, note = number(row["value"], digits), interval(row["ci"], digits)
    return Cell(value, note, letter, sort=row["value"], best=row["arm"] in best)


def _best(rows: Sequence[Mapping[str, Any]], measure: str) -> set[str]:
    """The arms with the best value of a column, ceilings apart; none in a column that ranks nothing."""
    if measure.startswith(UNRANKED):
        return set()
    ranked = comparable([r for r in rows if r["value"] is not None and not r["arm"].startswith(CEILING)])
    values = [r["value"] for r in ranked]
    if len(values) < 2:
        return set()
    best = max(values) if direction(measure) > 0 else min(values)
    return {r["arm"] for r in ranked if r["value"] == best}


def comparable(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows on as many units as most have (of equally many the larger number): a mean of others is another mean."""
    counts = Counter(r["n"] for r in rows)
    most = max(counts, key=lambda n: (counts[n], n), default=None)
    return [r for r in rows if r["n"] == most]


def direction(measure: str) -> int:
    """1 where higher is better, −1 where lower is."""
    try:
        return measures.get(measure).direction
    except RankReproError:
        return 1


_COSTS = {
    "seconds_per_unit": ("time / unit", seconds),
    "input_tokens": ("tokens in", count),
    "generated_tokens": ("tokens out", count),
    "forward_passes": ("passes", count),
    "peak_bytes": ("memory", size),
}


def _costs(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Cell]:
    """Costs of a row, averaged over its benchmarks (memory: the highest)."""
    cells = []
    for name in names:
        costs = [r["cost"][name] for r in rows if r["cost"].get(name) is not None]
        if not costs:
            cells.append(Cell(NONE))
            continue
        value = max(costs) if name == "peak_bytes" else sum(costs) / len(costs)
        cells.append(Cell(_COSTS[name][1](value), sort=value))
    return cells


def _caption(table: Mapping[str, Any], shown: str, card: str) -> str:
    parts = [f"{shown}. In brackets: 95 % intervals over clusters of units and seeds."]
    if table["baseline"]:
        baseline = short(table["baseline"], card)
        parts.append(f"a: better than {baseline} (paired Student test, Holm over the arms, p < 0.05).")
    if len({r["n"] for r in table["rows"] if not r["arm"].startswith(CEILING)}) > 1:
        parts.append("Bold: the best of the arms on as many units as most have; means over other units do not compare.")
    if any(r["arm"].startswith(CEILING) for r in table["rows"]):
        parts.append("Ceiling: the same documents in the best order.")
    if table["where"]:
        parts.append(f"Only units tagged {table['where']}.")
    if table["units_of"]:
        parts.append(f"Only units that {short(table['units_of'], card)} answered.")
    return " ".join(parts)


def _records(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of results.json, flat."""
    return [
        {k: r[k] for k in ("arm", "benchmark", "split", "measure", "value")}
        | {"ci_low": r["ci"][0], "ci_high": r["ci"][1]}
        | {k: r[k] for k in ("n", "clusters", "seeds", "seed_sd")}
        | {f"against_{k}": (r["against"] or {}).get(k) for k in ("n", "difference", "p", "p_holm", "letter")}
        | {k: r["cost"].get(k) for k in _COSTS}
        for r in rows
    ]


# --- other tables of a page ------------------------------------------------------------------------------------------


def of_claims(claims: Sequence[Mapping[str, Any]], sentences: Mapping[str, str]) -> Sheet:
    lines = [
        [
            Cell(c["id"]),
            Cell(c["sentence"], words=True),
            Cell(ORIGINS[c["origin"]]),
            Cell(c["verdict"]),
            Cell(number(c["effect"]), interval(c["ci"]), sort=c["effect"]),
            Cell(text.p_value(c["p_holm"]), sort=c["p_holm"]),
            Cell(count(c["n"]), sort=c["n"]),
        ]
        for c in claims
    ]
    keys = (
        "id",
        "kind",
        "role",
        "origin",
        "sentence",
        "restated",
        "verdict",
        "note",
        "measure",
        "expr",
        "combine",
        "benchmark",
    )
    rest = ("n", "clusters", "seeds", "p", "p_holm", "p_permutation", "seed_sd", "min_effect", "margin", "bound")
    records = [
        {k: c[k] for k in keys}
        | {"effect": c["effect"], "ci_low": c["ci"][0], "ci_high": c["ci"][1]}
        | {k: c[k] for k in (*rest, "needed_n", "n_effective", "detectable")}
        | {"in_words": sentences[c["id"]]}
        for c in claims
    ]
    return Sheet(
        "Claims",
        ["claim", "sentence", "whose", "verdict", "effect", "p (Holm)", "n"],
        lines,
        records,
        "In brackets: 95 % intervals. p by Holm over the claims of the card.",
    )


def of_timings(timings: Sequence[Mapping[str, Any]], card: str) -> Sheet:
    lines = [
        [
            Cell(short(t["a"], card)),
            Cell(short(t["b"], card)),
            Cell(t["benchmark"]),
            Cell(number(t["ratio"], 2), interval(t["ci"], 2), sort=t["ratio"]),
            Cell(interval(t["aa"], 2) or NONE, sort=t["aa"][0] or 0),
            Cell(seconds(t["seconds_a"]), sort=t["seconds_a"]),
            Cell(seconds(t["seconds_b"]), sort=t["seconds_b"]),
            *(
                Cell(f"{count(t['cost_a'][k])} / {count(t['cost_b'][k])}", sort=t["cost_a"][k])
                for k in ("input_tokens", "generated_tokens", "forward_passes")
            ),
            Cell(str(t["n"]), sort=t["n"]),
        ]
        for t in timings
    ]
    head = [
        "a",
        "b",
        "benchmark",
        "a / b",
        "a / a",
        "time a",
        "time b",
        "tokens in a / b",
        "tokens out a / b",
        "passes a / b",
        "n",
    ]
    return Sheet(
        "Paired timings",
        head,
        lines,
        [dict(t) for t in timings],
        "Both arms in one process, alone on the machine. Tokens and passes are means per query.",
    )


def of_reported(
    reported: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any] | None], card: str, verified: bool = True
) -> Sheet | None:
    """The paper's numbers that were verified, or those that were not; None if there are none.

    ours: for each number the row of ours on the same data, where the card names one; there are columns for it only if
    it was run.
    """
    told = [(r, row) for r, row in zip(reported, ours, strict=True) if r.get("verified", False) == verified]
    if not told:
        return None
    beside = any(row for _, row in told)
    lines, records = [], []
    for r, row in sorted(told, key=lambda pair: pair[1] is None):  # first what can be compared
        words = isinstance(r["value"], str)
        line = [Cell(r[key], words=True) for key in ("table", "row", "column")]
        line += [Cell(r.get("data", NONE), words=True)]
        line += [Cell(r["value"] if words else f"{r['value']:g}", sort=None if words else r["value"])]
        record = dict(r)
        if beside:
            about = f"{short(row['arm'], card)}, {row['measure']}" if row else NONE
            line += [_value({**row, "against": None}, ()) if row else Cell(NONE), Cell(about, words=True)]
            low, high = row["ci"] if row else (None, None)
            record |= {"ours": row and row["value"], "ours_ci_low": low, "ours_ci_high": high}
        lines.append([*line, Cell(r["source"], words=True)])
        records.append(record)
    head = ["where", "row", "column", "data", "reported", *(["ours", "our row"] if beside else []), "source"]
    return Sheet(
        "Reported by the paper" if verified else "Reported, and not verified",
        head,
        lines,
        records,
        "The paper's own numbers, from its data and models."
        if verified
        else "At second hand or from memory: nobody here has read these numbers in the paper.",
    )


def of_earlier(earlier: Sequence[Mapping[str, Any]], claims: Sequence[Mapping[str, Any]]) -> Sheet | None:
    """Each claim of each earlier run beside what the page says now; None if there is no earlier run."""
    now = {c["id"]: c["verdict"] for c in claims}
    records = [
        {
            "run": run["ended"],
            "claim": c["id"],
            "verdict": c["verdict"],
            "effect": c["effect"],
            "ci_low": c["ci"][0],
            "ci_high": c["ci"][1],
            "n": c["n"],
            "verdict_now": now.get(c["id"], "no longer a claim"),
            "sentence": c["sentence"],
        }
        for run in earlier
        for c in run["claims"]
    ]
    lines = [
        [
            Cell(r["run"], sort=r["run"]),
            Cell(r["claim"]),
            Cell(r["verdict"]),
            Cell(number(r["effect"]), note=interval((r["ci_low"], r["ci_high"])), sort=r["effect"]),
            Cell(count(r["n"]), sort=r["n"]),
            Cell(r["verdict_now"]),
            Cell(r["sentence"], words=True),
        ]
        for r in records
    ]
    head = ["run that ended", "claim", "verdict then", "effect then", "n", "verdict now", "sentence then"]
    return (
        Sheet("Earlier runs", head, lines, records, "As published then, with what was registered then.")
        if lines
        else None
    )


def of_seeds(tables: Sequence[Mapping[str, Any]], claims: Sequence[Mapping[str, Any]], card: str) -> Sheet:
    """What differs between seeds: rows of a lead measure with more than one seed, and effects."""
    rows = [r for t in tables for r in t["rows"] if r["seed_sd"] is not None and r["measure"] == t["measures"][0]]
    records = [
        {
            "of": short(r["arm"], card),
            "benchmark": r["benchmark"],
            "measure": r["measure"],
            "value": r["value"],
            "seeds": r["seeds"],
            "seed_sd": r["seed_sd"],
        }
        for r in rows
    ]
    records += [
        {
            "of": f"claim {c['id']}",
            "benchmark": c["benchmark"],
            "measure": c["measure"],
            "value": c["effect"],
            "seeds": c["seeds"],
            "seed_sd": c["seed_sd"],
        }
        for c in claims
        if c["seed_sd"] is not None
    ]
    unique = list({json.dumps(r, sort_keys=True): r for r in records}.values())
    lines = [
        [
            Cell(r["of"]),
            Cell(r["benchmark"] or NONE),
            Cell(r["measure"] or NONE),
            Cell(number(r["value"]), sort=r["value"]),
            Cell(str(r["seeds"] or NONE), sort=r["seeds"]),
            Cell(number(r["seed_sd"], 4), sort=r["seed_sd"]),
        ]
        for r in unique
    ]
    head = ["row or claim", "benchmark", "measure", "mean", "seeds", "sd between seeds"]
    return Sheet("Spread between seeds", head, lines, unique, "Standard deviation over seeds of the mean over units.")


def of_sizes(claims: Sequence[Mapping[str, Any]], sizes: Sequence[str]) -> Sheet | None:
    """The effect of each claim at every size of the language model; None where none was asked at several."""
    asked = [c for c in claims if c["sizes"]]
    if not asked:
        return None
    records, lines = [], []
    for c in asked:
        largest = {"size": sizes[-1], **{k: c[k] for k in ("effect", "ci", "n", "clusters", "seeds")}}
        at = {found["size"]: found for found in [*c["sizes"], largest]}
        for found in at.values():
            low, high = found["ci"]
            told = {k: v for k, v in found.items() if k != "ci"}
            records.append({"claim": c["id"], "measure": c["measure"], **told, "ci_low": low, "ci_high": high})
        effects = [at.get(s) for s in sizes]
        lines.append(
            [
                Cell(c["id"]),
                Cell(c["sentence"], words=True),
                *(Cell(number(e["effect"]), interval(e["ci"]), sort=e["effect"]) if e else Cell(NONE) for e in effects),
                Cell(c["verdict"]),
            ]
        )
    head = ["claim", "sentence", *(f"effect at {size}" for size in sizes), f"verdict at {sizes[-1]}"]
    caption = (
        "Parameters of the language model. The verdict is that of the largest; effects at smaller sizes stand beside "
        "it with their 95 % intervals and take no part in the correction."
    )
    return Sheet("At what size", head, lines, records, caption)


def of_cells(cells: Sequence[Mapping[str, Any]], card: str) -> Sheet:
    lines = [
        [
            Cell(short(c["name"], card)),
            Cell(c["kind"]),
            Cell(c["benchmark"]),
            Cell(str(c["seed"]), sort=c["seed"]),
            Cell(count(c["units"]), sort=c["units"]),
            Cell(", ".join(f"{k}: {v}" for k, v in c["models"].items()) or NONE),
            Cell(seconds(c["wall_s"]), sort=c["wall_s"]),
            Cell(seconds(c["cpu_s"]), sort=c["cpu_s"]),
            Cell(count(c["input_tokens"]), sort=c["input_tokens"]),
            Cell(count(c["generated_tokens"]), sort=c["generated_tokens"]),
            Cell(size(c["peak_bytes"]), sort=c["peak_bytes"]),
            Cell(c["digest"][:12]),
            Cell(", ".join(f"{k}={_compact(v)}" for k, v in c["params"].items()) or NONE, words=True),
        ]
        for c in cells
    ]
    head = [
        "name",
        "kind",
        "benchmark",
        "seed",
        "units",
        "models",
        "wall",
        "CPU",
        "tokens in",
        "tokens out",
        "memory",
        "digest",
        "parameters",
    ]
    return Sheet(
        "Stored results",
        head,
        lines,
        [dict(c) for c in cells],
        "Each result is kept under a digest of what determines it; here its first 12 digits.",
    )


def _compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# --- files -----------------------------------------------------------------------------------------------------------


def write_all(sheets: Iterable[Sheet], folder: Path) -> None:
    """`folder/<slug>.{csv,md,tex,json}` of each sheet, and nothing else: files of an earlier page are deleted."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        f"{sheet.slug}.{ending}": content
        for sheet in sheets
        for ending, content in (
            ("csv", to_csv(sheet)),
            ("md", to_markdown(sheet)),
            ("tex", to_latex(sheet)),
            ("json", json.dumps(sheet.records, indent=1, ensure_ascii=False) + "\n"),
        )
    }
    for file in folder.iterdir():
        if file.name not in files:
            file.unlink()
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")


def to_csv(sheet: Sheet) -> str:
    """The records. A text that a spreadsheet would run as a formula gets an apostrophe in front."""
    out = io.StringIO()
    names = list(dict.fromkeys(k for r in sheet.records for k in r))
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _plain(v) for k, v in r.items()} for r in sheet.records)
    return out.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | tuple) else value


def to_markdown(sheet: Sheet) -> str:
    """A table of GitHub's Markdown with its caption."""

    def cell(c: Cell) -> str:
        value = f"**{markdown(c.value)}**" if c.best else markdown(c.value)
        return (
            value
            + (f"<sup>{markdown(c.letter)}</sup>" if c.letter else "")
            + (f" {markdown(c.note)}" if c.note else "")
        )

    align = ["--:" if kind == "number" else ":--" for kind in sheet.columns]
    lines = [[markdown(h) for h in sheet.head], align, *([cell(c) for c in line] for line in sheet.lines)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{markdown(sheet.caption)}\n" if sheet.caption else f"{table}\n"


def to_latex(sheet: Sheet) -> str:
    """A table environment; the only package it needs is booktabs."""

    def cell(c: Cell) -> str:
        value = rf"\textbf{{{latex(c.value)}}}" if c.best else latex(c.value)
        letter = rf"\textsuperscript{{{latex(c.letter)}}}" if c.letter else ""
        return value + letter + (rf" {{\scriptsize {latex(c.note)}}}" if c.note else "")

    columns = "".join({"words": "p{4cm}", "text": "l", "number": "r"}[kind] for kind in sheet.columns)
    lines = [" & ".join(cell(c) for c in line) + r" \\" for line in sheet.lines]
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}[t]",
            r"\centering\small",
            rf"\caption{{{latex(sheet.title)}. {latex(sheet.caption)}}}",
            rf"\label{{tab:{sheet.slug}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(latex(h) for h in sheet.head) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
