"""Charts: Altair specifications, compiled once to SVG; the page can upgrade them to the interactive view.

Colours are CSS variables and `currentColor`, so that one picture serves light, dark and paper. Shapes and positions
repeat what colours say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from rankrepro.claims import KINDS
from rankrepro.report import sheets
from rankrepro.report.sentences import no_effect, side
from rankrepro.report.sheets import CEILING, Cell, Sheet
from rankrepro.report.text import interval, listed, number, plural, seconds, short

Row = Mapping[str, Any]

VERDICTS = {  # verdict -> CSS variable, shape
    "reproduced": ("--yes", "circle"),
    "not reproduced": ("--no", "cross"),
    "inconclusive": ("--open", "diamond"),
    "baseline not competent": ("--void", "square"),
    "smoke": ("--smoke", "circle"),
    "placebo failed as it must": ("--soft", "triangle-up"),
    "placebo passed": ("--alarm", "triangle-down"),
    "within tolerance": ("--yes", "circle"),
    "higher": ("--open", "triangle-up"),
    "lower": ("--no", "triangle-down"),
}
SERIES = ("--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7", "--soft")
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"  # a font of one width: what is measured here fits everywhere
WIDTH = 380  # of a plot area; with its labels it fits a column and, scrolled, a phone
FASTEST = 1e-4  # seconds: cheaper arms stand at the left edge of a logarithmic axis
POINTS = 150  # of a curve, at most
BENDS = 3  # points that a curve has at least; ends alone stand in the table

CONFIG = {
    "aria": False,  # the picture has one text alternative
    "background": None,
    "font": FONT,
    "view": {"stroke": None},
    "axisY": {"labelFlush": True},  # so that panels side by side stand on one line
    "axis": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "gridColor": "var(--line)",
        "gridOpacity": 0.6,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelLimit": 210,
        "tickCount": 5,
    },
    "legend": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "orient": "bottom",
        "labelLimit": 260,
        "symbolStrokeWidth": 2,
        "columns": 3,
    },
    "header": {"labelColor": "currentColor", "titleColor": "currentColor", "labelFontSize": 12, "labelFontWeight": 600},
    "title": {"color": "currentColor", "fontSize": 12, "anchor": "start", "fontWeight": 600},
}


@dataclass
class Figure:
    """A chart with its sentence and the table of the numbers it shows."""

    name: str
    title: str
    takeaway: str
    spec: dict[str, Any]
    sheet: Sheet
    svg: str = ""
    wide: bool = False


class Data:
    """The rows of a chart's layers, kept out of Altair, which would copy and validate them at every step."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {}

    def __call__(self, rows: Sequence[Row]) -> Any:
        import altair as alt

        name = f"rows{len(self.rows)}"
        self.rows[name] = list(rows)
        return alt.NamedData(name)

    def compiled(self, chart: Any) -> dict[str, Any]:
        """The Vega-Lite specification of an Altair chart over these rows."""
        return chart.to_dict() | {"config": CONFIG, "datasets": self.rows}


def svg(spec: Mapping[str, Any], alternative: str) -> str:
    """The chart as SVG, one image with a text alternative. The text comes from the specification, which vl-convert
    escapes; the alternative is escaped here."""
    import vl_convert
    from markupsafe import escape

    drawn = vl_convert.vegalite_to_svg(dict(spec), show_warnings=False)
    head, rest = drawn.split(">", 1)
    width, height = (head.split(f'{side}="', 1)[1].split('"', 1)[0] for side in ("width", "height"))
    opened = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'{opened} role="img" aria-label="{escape(alternative)}">{rest}'


def write_bundle(folder: Path) -> None:
    """`folder/vega.js`: what the interactive view needs, one file for all pages."""
    import vl_convert

    file = folder / "vega.js"
    mark = f"/* vega-embed of vl-convert {version('vl-convert-python')} */\n"
    if file.exists() and file.open(encoding="utf-8").readline() == mark:
        return
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(mark + vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"), encoding="utf-8")


def _var(name: str) -> str:
    return f"var({name})"


# --- effects of claims -----------------------------------------------------------------------------------------------


def forest(claims: Sequence[Row], card: str) -> Figure | None:
    """Effects with their intervals, one panel for effects of one kind: differences, ratios, shares."""
    import altair as alt

    effects = [c for c in claims if c["effect"] is not None and c["kind"] != "identity"]
    if not effects:
        return None
    panels: dict[str, list[Row]] = {}
    for c in effects:
        words = KINDS[c["kind"]].words
        panels.setdefault(words.axis.format(measure=c["measure"] or "seconds"), []).append(c)
    data = Data()
    charts = [_panel(data, title, group, card) for title, group in panels.items()]
    chart = alt.vconcat(*charts, spacing=26).resolve_scale(x="independent", color="shared", shape="shared")
    sides = [side(c) for c in effects]
    takeaway = (
        f"{plural(len(effects), 'effect')}: {sides.count(1)} with the whole interval on the claimed side of no effect "
        f"(upright line; faint: the smallest effect that counts), {sides.count(-1)} on the other side, "
        f"{sides.count(0)} with one that holds it."
    )
    lines = [
        [
            Cell(c["id"]),
            Cell(c["kind"]),
            Cell(c["verdict"]),
            Cell(number(c["effect"]), sort=c["effect"]),
            Cell(interval(c["ci"])),
            Cell(number(no_effect(c), 2), sort=no_effect(c)),
        ]
        for c in effects
    ]
    records = [
        {
            "claim": c["id"],
            "kind": c["kind"],
            "verdict": c["verdict"],
            "effect": c["effect"],
            "ci_low": c["ci"][0],
            "ci_high": c["ci"][1],
            "no_effect": no_effect(c),
        }
        for c in effects
    ]
    sheet = Sheet(
        "Effects of the claims", ["claim", "kind", "verdict", "effect", "95 % interval", "no effect"], lines, records
    )
    return Figure("forest", "Effects of the claims", takeaway, data.compiled(chart), sheet)


def _panel(data: Data, title: str, claims: Sequence[Row], card: str) -> Any:
    import altair as alt

    prefix = f"{card.replace('_', '-')}-"
    rows = [
        {
            "claim": c["id"].removeprefix(prefix),
            "sentence": c["sentence"],
            "verdict": c["verdict"],
            "effect": c["effect"],
            "low": c["ci"][0] if c["ci"][0] is not None else c["effect"],
            "high": c["ci"][1] if c["ci"][1] is not None else c["effect"],
            "null": no_effect(c),
        }
        for c in claims
    ]
    log = all(KINDS[c["kind"]].log for c in claims) and all(r["low"] > 0 for r in rows)
    scale = alt.Scale(type="log") if log else alt.Scale(zero=False)
    y = alt.Y("claim:N", sort=None, title=None, axis=alt.Axis(ticks=False, domain=False, labelPadding=8))
    base = alt.Chart(data(rows)).encode(y=y)
    everything = list(VERDICTS)
    color = alt.Color(
        "verdict:N",
        title=None,
        legend=None,
        scale=alt.Scale(domain=everything, range=[_var(v[0]) for v in VERDICTS.values()]),
    )
    shape = alt.Shape(
        "verdict:N",
        title=None,
        legend=None,
        scale=alt.Scale(domain=everything, range=[v[1] for v in VERDICTS.values()]),
    )
    tooltip = [
        "claim:N",
        "sentence:N",
        "verdict:N",
        alt.Tooltip("effect:Q", format=".4f"),
        alt.Tooltip("low:Q", format=".4f"),
        alt.Tooltip("high:Q", format=".4f"),
    ]
    null = base.mark_tick(color="currentColor", thickness=1.5, opacity=0.55, height=20).encode(
        x=alt.X("null:Q", title=title, scale=scale)
    )
    rule = base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q", color=color)
    point = base.mark_point(filled=True, size=85, opacity=1).encode(
        x="effect:Q", color=color, shape=shape, tooltip=tooltip
    )
    layers = [null, rule, point]
    counts = [{"claim": r["claim"], "at": at} for r, c in zip(rows, claims, strict=True) for at in _targets(c)]
    if counts:
        target = alt.Chart(data(counts)).mark_tick(color="currentColor", thickness=1, opacity=0.35, height=10)
        layers.insert(1, target.encode(y=y, x=alt.X("at:Q", scale=scale)))
    return alt.layer(*layers).properties(width=WIDTH, height=alt.Step(24))


def _targets(c: Row) -> list[float]:
    """What an effect has to reach: the smallest that counts; for an equivalence both margins."""
    kind = KINDS[c["kind"]]
    if kind.direction == 0:
        return [-kind.target(kind.bounds(c)), kind.target(kind.bounds(c))]
    return [no_effect(c) + float(c["min_effect"])] if c["min_effect"] is not None else []


# --- quality against cost --------------------------------------------------------------------------------------------


def cost(table: Row, card: str) -> Figure | None:
    """The lead measure against seconds a unit, one panel per benchmark; arms that none beats in both are joined."""
    import altair as alt

    lead = table["measures"][0]
    rows = [
        {
            "arm": short(r["arm"], card),
            "benchmark": r["benchmark"],
            "value": r["value"],
            "n": r["n"],
            "seconds": max(r["cost"]["seconds_per_unit"], FASTEST),
            "tokens": r["cost"]["input_tokens"],
            "owner": "this card" if r["arm"].startswith(f"{card}.") else "shared control",
        }
        for r in table["rows"]
        if r["measure"] == lead
        and not r["arm"].startswith(CEILING)
        and r["value"] is not None
        and r["cost"]["seconds_per_unit"] is not None
    ]
    if len({r["seconds"] for r in rows}) < 2:
        return None
    better = sheets.direction(lead)
    names = [b for b in dict.fromkeys(r["benchmark"] for r in table["rows"]) if b in {r["benchmark"] for r in rows}]
    ranked = {b: sheets.comparable([r for r in rows if r["benchmark"] == b]) for b in names}
    for r in rows:
        rivals = ranked[r["benchmark"]]
        r["front"] = r in rivals and not any(
            o["seconds"] <= r["seconds"]
            and better * o["value"] >= better * r["value"]
            and (o["seconds"], o["value"]) != (r["seconds"], r["value"])
            for o in rivals
        )
    _place_labels(rows)
    data = Data()
    base = alt.Chart().encode(
        x=alt.X(
            "seconds:Q",
            title="seconds a unit (log)",
            scale=alt.Scale(type="log"),
            axis=alt.Axis(tickCount=4, format="~g"),
        ),
        y=alt.Y("value:Q", title=lead, scale=alt.Scale(zero=False, nice=False, padding=24)),
    )
    front = base.transform_filter("datum.front").mark_line(
        interpolate="step-after", strokeDash=[3, 3], opacity=0.6, color="currentColor", strokeWidth=1
    )
    points = base.mark_point(size=60, filled=True, opacity=0.9).encode(
        color=alt.Color(
            "owner:N",
            title=None,
            scale=alt.Scale(domain=["this card", "shared control"], range=[_var("--c1"), _var("--c2")]),
        ),
        shape=alt.Shape(
            "owner:N", title=None, scale=alt.Scale(domain=["this card", "shared control"], range=["circle", "square"])
        ),
        tooltip=[
            "arm:N",
            alt.Tooltip("value:Q", format=".3f", title=lead),
            alt.Tooltip("seconds:Q", format=".3~g"),
            alt.Tooltip("tokens:Q", format=",.0f", title="tokens in"),
        ],
    )
    sides: list[tuple[str, Literal["left", "right"], int]] = [("left", "right", -8), ("right", "left", 8)]
    words = [
        base.mark_text(align=align, dx=dx, dy=-7, fontSize=10.5, color="currentColor", limit=140).encode(
            text=f"{side}:N"
        )
        for side, align, dx in sides
    ]
    chart = alt.layer(front, points, *words, data=data(rows)).properties(
        width=270 if len(names) > 1 else 440, height=190
    )
    chart = chart.facet(
        facet=alt.Facet("benchmark:N", title=None, sort=names, header=alt.Header(labelAnchor="start")),
        columns=2,
        align="all",
        bounds="flush",
        spacing={"row": 48, "column": 56},
    ).resolve_scale(y="independent")
    lines = [
        [
            Cell(r["arm"]),
            Cell(r["benchmark"]),
            Cell(number(r["value"]), sort=r["value"]),
            Cell(seconds(r["seconds"]), sort=r["seconds"]),
            Cell("yes" if r["front"] else ""),
        ]
        for r in rows
    ]
    records = [{k: r[k] for k in ("arm", "benchmark", "value", "seconds", "tokens", "front")} for r in rows]
    sheet = Sheet(
        f"Quality and cost, {table['name']}",
        ["arm", "benchmark", lead, "time / unit", "front"],
        lines,
        records,
        "Front: no other arm is at least as good and as fast, of those on as many units as most have.",
    )
    return Figure(
        f"cost-{table['name']}",
        f"Quality against cost: {table['name']}",
        _cheapest([r for b in names for r in ranked[b]], lead, better),
        data.compiled(chart),
        sheet,
        wide=True,
    )


def _place_labels(rows: list[dict[str, Any]]) -> None:
    """Name the arms of the front left or right of their point, inwards first, where no other name stands yet."""
    for name in {r["benchmark"] for r in rows}:
        of_benchmark = [r for r in rows if r["benchmark"] == name]
        xs, ys = _unit([math.log(r["seconds"]) for r in of_benchmark]), _unit([r["value"] for r in of_benchmark])
        labels: list[tuple[float, float, float]] = []  # from, to, height: in shares of the panel
        for r, x, y in sorted(zip(of_benchmark, xs, ys, strict=True), key=lambda point: -point[2]):
            r |= {"left": "", "right": ""}
            label = r["arm"].removeprefix("baselines.")
            width = 0.02 * len(label) + 0.05
            for place in ("left", "right") if x > 0.5 else ("right", "left"):
                low, high = (x - width, x) if place == "left" else (x, x + width)
                free = all(high < a or b < low or abs(y - h) > 0.08 for a, b, h in labels)
                if r["front"] and free:
                    labels.append((low, high, y))
                    r[place] = label
                    break


def _unit(values: Sequence[float]) -> list[float]:
    """Values as shares of their range."""
    low, high = min(values), max(values)
    return [(v - low) / (high - low or 1.0) for v in values]


def _cheapest(rows: Sequence[Row], lead: str, better: int) -> str:
    """The best arm on the mean of the benchmarks, and the fastest that comes within 0.01 of it."""
    names = list(dict.fromkeys(r["benchmark"] for r in rows))
    means = []
    for arm in dict.fromkeys(r["arm"] for r in rows):
        of_arm = [r for r in rows if r["arm"] == arm]
        if len(of_arm) == len(names):
            means.append((arm, *(sum(r[k] for r in of_arm) / len(of_arm) for k in ("value", "seconds"))))
    if not means:
        return f"No arm was run on all of {listed(names)}."
    best = max(means, key=lambda m: (better * m[1], -m[2]))
    near = min((m for m in means if better * (best[1] - m[1]) <= 0.01), key=lambda m: m[2])
    where = f"On {names[0]}" if len(names) == 1 else f"Over {plural(len(names), 'benchmark')}"
    sentence = f"{where} {best[0]} has the best {lead}: {number(best[1])} at {seconds(best[2])} a unit"
    fast = f"; {near[0]} comes within 0.01 of it at {seconds(near[2])}" if near is not best else ""
    return f"{sentence}{fast}. The dashed line joins arms that none beats in both."


# --- timings ---------------------------------------------------------------------------------------------------------


def timings(summaries: Sequence[Row], units: Mapping[str, Any], card: str) -> Figure | None:
    """Each unit's seconds with a against those with b; under the line a is faster."""
    import altair as alt

    data = Data()
    charts, records = [], []
    for t in (t for t in summaries if t["name"] in units):
        sides = units[t["name"]]
        rows = [{"unit": u, "b": sides["b"][u], "a": s} for u, s in sides["a"].items() if u in sides["b"]]
        rows = [r for r in rows if r["a"] > 0 and r["b"] > 0]
        if not rows:
            continue
        records += [{"timing": t["name"], **r, "aa": sides["aa"].get(r["unit"])} for r in rows]
        ends = [min(min(r["a"], r["b"]) for r in rows) * 0.9, max(max(r["a"], r["b"]) for r in rows) * 1.1]
        scale = alt.Scale(type="log", domain=ends, nice=False)
        a, b = short(t["a"], card), short(t["b"], card)
        axis: dict[str, Any] = {"axis": alt.Axis(tickCount=4, format="~g"), "scale": scale}
        diagonal = (
            alt.Chart(data([{"a": e, "b": e} for e in ends]))
            .mark_line(color="currentColor", opacity=0.5, strokeDash=[4, 3], strokeWidth=1)
            .encode(
                x=alt.X("b:Q", title=f"seconds with {b}", **axis), y=alt.Y("a:Q", title=f"seconds with {a}", **axis)
            )
        )
        dots = (
            alt.Chart(data(rows))
            .mark_point(filled=True, size=45, color=_var("--c1"), opacity=0.85)
            .encode(
                x=alt.X("b:Q", **axis),
                y=alt.Y("a:Q", **axis),
                tooltip=[
                    "unit:N",
                    alt.Tooltip("a:Q", format=".3f", title=a),
                    alt.Tooltip("b:Q", format=".3f", title=b),
                ],
            )
        )
        charts.append(alt.layer(diagonal, dots).properties(width=230, height=230, title=t["name"].replace("_", " ")))
    if not charts:
        return None
    faster = sum(r["a"] < r["b"] for r in records)
    takeaway = f"Under the line the first arm is faster: {faster} of {len(records)} pairs."
    lines = [
        [Cell(r["timing"]), Cell(r["unit"]), *(Cell(seconds(r[k]), sort=r[k]) for k in ("a", "b", "aa"))]
        for r in records
    ]
    sheet = Sheet("Seconds of every unit", ["timing", "unit", "a", "b", "a once more"], lines, records)
    return Figure(
        "timings",
        "Paired timings, query by query",
        takeaway,
        data.compiled(alt.concat(*charts, columns=2)),
        sheet,
        wide=len(charts) > 1,
    )


# --- training curves -------------------------------------------------------------------------------------------------


def curves(series: Sequence[Row], card: str) -> Figure | None:
    """What arms logged while they trained: one panel per series, one line per seed, one colour per arm."""
    import altair as alt

    lines = list(_lines(series, card))
    if not lines:
        return None
    drawn = [line for line in lines if len(line["points"]) >= BENDS] or lines
    names = list(dict.fromkeys(line["series"] for line in drawn))
    arms = list(dict.fromkeys(line["arm"] for line in drawn))
    color = alt.Color(
        "arm:N",
        title=None,
        sort=arms,
        scale=alt.Scale(domain=arms, range=[_var(SERIES[min(i, len(SERIES) - 1)]) for i in range(len(arms))]),
    )
    dash = alt.StrokeDash(
        "arm:N",
        title=None,
        sort=arms,
        scale=alt.Scale(domain=arms, range=[[[1, 0], [6, 3], [2, 2], [8, 3, 2, 3]][i % 4] for i in range(len(arms))]),
    )
    data = Data()
    charts = []
    for name in names:
        rows = [
            {"arm": line["arm"], "line": f"{line['benchmark']} seed {line['seed']}", "step": s, "value": v}
            for line in drawn
            if line["series"] == name
            for s, v in line["points"]
        ]
        charts.append(
            alt.Chart(data(rows))
            .mark_line(strokeWidth=1.4, opacity=0.85)
            .encode(
                x=alt.X("step:Q", title="step"),
                y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
                color=color,
                strokeDash=dash,
                detail="line:N",
                tooltip=["arm:N", "line:N", "step:Q", alt.Tooltip("value:Q", format=".4f")],
            )
            .properties(width=250 if len(names) > 1 else 420, height=180, title=name)
        )
    records = [
        {
            "arm": line["arm"],
            "benchmark": line["benchmark"],
            "seed": line["seed"],
            "series": line["series"],
            "first": line["all"][0][1],
            "last": line["all"][-1][1],
            "lowest": min(v for _, v in line["all"]),
            "highest": max(v for _, v in line["all"]),
            "steps": line["all"][-1][0],
        }
        for line in lines
    ]
    sheet = Sheet(
        "Training curves, ends",
        ["arm", "benchmark", "seed", "series", "first", "last", "lowest", "highest", "last step"],
        [
            [
                Cell(r["arm"]),
                Cell(r["benchmark"]),
                Cell(str(r["seed"]), sort=r["seed"]),
                Cell(r["series"]),
                *(Cell(number(r[k], 4), sort=r[k]) for k in ("first", "last", "lowest", "highest")),
                Cell(str(r["steps"]), sort=r["steps"]),
            ]
            for r in records
        ],
        records,
        "Every point is in results.json under curves.",
    )
    return Figure(
        "curves",
        "Training curves",
        _ends([r for r in records if r["series"] in names and r["arm"] in arms]),
        data.compiled(alt.concat(*charts, columns=2)),
        sheet,
        wide=len(names) > 1,
    )


def _lines(curves: Sequence[Row], card: str) -> Iterator[dict[str, Any]]:
    for curve in curves:
        for name, points in curve["series"].items():
            known = [(s, v) for s, v in points if v is not None]
            if known:
                yield {
                    "arm": short(curve["cell"], card),
                    "benchmark": curve["benchmark"],
                    "seed": curve["seed"],
                    "series": name,
                    "points": known[:: max(1, len(known) // POINTS)],
                    "all": known,
                }


def _ends(records: Sequence[Row]) -> str:
    """How the first series of each arm moves, averaged over its lines."""
    series = records[0]["series"]
    words = []
    for arm in list(dict.fromkeys(r["arm"] for r in records))[:4]:
        of_line = [r for r in records if r["arm"] == arm and r["series"] == series]
        if of_line:
            first, last = (sum(r[k] for r in of_line) / len(of_line) for k in ("first", "last"))
            verb = "falls" if last < first else "rises"
            words.append(
                f"{verb} from {number(first, 2)} to {number(last, 2)} with {arm} ({plural(len(of_line), 'line')})"
            )
    return f"{series} {listed(words)}."


# --- differences query by query --------------------------------------------------------------------------------------


def differences(values: Sequence[float], width: int = 600, height: int = 70) -> dict[str, Any]:
    """A falling curve of differences as two SVG paths (gains, losses), and their counts. Small: every claim has one."""
    top = max((abs(v) for v in values), default=0.0) or 1.0
    step = width / max(1, len(values))
    middle = height / 2
    keep = max(1, len(values) // 240)

    def path(part: list[tuple[int, float]]) -> str:
        """Steps, each as wide as a unit; for many units only every `keep`th."""
        if not part:
            return ""
        first, last = part[0][0], part[-1][0] + 1
        steps = (f"V{middle - v / top * (middle - 2):.1f}H{min(i + keep, last) * step:.1f}" for i, v in part[::keep])
        return f"M{first * step:.1f} {middle:.1f}{''.join(steps)}V{middle:.1f}Z"

    gains = [(i, v) for i, v in enumerate(values) if v > 0]
    losses = [(i, v) for i, v in enumerate(values) if v < 0]
    return {
        "gains": path(gains),
        "losses": path(losses),
        "better": len(gains),
        "worse": len(losses),
        "equal": len(values) - len(gains) - len(losses),
        "top": top,
        "width": width,
        "height": height,
    }
