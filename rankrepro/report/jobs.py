"""The last run, job by job: what its processes did when, and how much of that was computing.

Read from the markers of `results/<scale>/jobs` (rankrepro/phases.py); kept as `jobs/jobs.json` of the reports folder,
so that the page can be made again from there.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rankrepro.judge.costs import union
from rankrepro.phases import COMPUTING, IMPORTS, LOADING, PHASES, START, WAITING, WRITING
from rankrepro.report.charts import WIDTH, Data, Figure, svg
from rankrepro.report.sheets import Cell, Sheet
from rankrepro.report.text import listed, number, plural, seconds
from rankrepro.store import Store

Job = Mapping[str, Any]
COLOURS = {
    WAITING: "--line", START: "--c4", IMPORTS: "--c2", LOADING: "--c5", COMPUTING: "--c1", WRITING: "--c3",
}  # fmt: skip
BARS = 60  # of a chart, at most: the longest jobs
LABEL = 46  # letters of a job's title beside its bar


def gather(results: Path) -> dict[str, Any] | None:
    """The last run in `results/<scale>` that computed anything; None where no job has recorded what it did.

    {"run": when it started, "cores": of this machine, "cpu_s": of its cells, "jobs": [{id, title, threads, predicted,
    nodes, spans: [{phase, node, start, end}]}]}; times are seconds since 1970.
    """
    jobs = list(_jobs(results / "jobs"))
    runs = [j["run"] for j in jobs if any(s["phase"] == COMPUTING for s in j["spans"])]
    if not runs:
        return None
    last = [j for j in jobs if j["run"] == max(runs)]
    store = Store(results / "store")
    costs = [store.cost(d) for j in last for d in j["digests"] if store.has(d)]
    cpu = sum(c["cpu_s"] for c in costs if c.get("started", 0.0) >= max(runs))
    records = [{k: v for k, v in j.items() if k not in ("run", "digests")} for j in last]
    return {"run": max(runs), "cores": os.cpu_count() or 1, "cpu_s": round(cpu, 3), "jobs": records}


def _jobs(folder: Path) -> Iterator[dict[str, Any]]:
    """Finished jobs that have spans, by when their process started."""
    jobs = []
    for marker in sorted(folder.glob("*.done")):
        try:
            mark, job = json.loads(marker.read_text()), json.loads(marker.with_suffix(".json").read_text())
        except (OSError, ValueError):  # a job of another plan, or one that is being run again
            continue
        if isinstance(mark, dict) and isinstance(job, dict) and mark.get("spans"):
            first, rest = job["nodes"][0], len(job["nodes"]) - 1
            title = f"{first['name']} on {first['spec']['benchmark']['id']}" + (f" and {rest} more" if rest else "")
            jobs.append(
                {
                    "id": job["id"],
                    "title": title,
                    "threads": job["threads"],
                    "predicted": job["seconds"],
                    "nodes": rest + 1,
                    "digests": [n["digest"] for n in job["nodes"]],
                    "run": mark["run"],
                    "spans": mark["spans"],
                }
            )
    yield from sorted(jobs, key=lambda j: (began(j), j["id"]))


def began(job: Job) -> float:
    """When the process of a job started."""
    return min(s["start"] for s in job["spans"] if s["phase"] != WAITING)


def processed(job: Job) -> float:
    """Seconds for which the process of a job ran."""
    return sum(s["end"] - s["start"] for s in job["spans"] if s["phase"] != WAITING)


def spent(job: Job) -> dict[str, float]:
    """Seconds of a job by phase."""
    seconds = dict.fromkeys(PHASES, 0.0)
    for s in job["spans"]:
        seconds[s["phase"]] += s["end"] - s["start"]
    return seconds


def shares(run: Mapping[str, Any]) -> dict[str, float]:
    """Of a run: seconds by phase over all jobs, and

    process           all phases but waiting
    computing_share   of the process seconds
    wall              from the run's start to its last job's end
    cell_wall         seconds in which anything computed
    busy              CPU seconds of its cells over `cell_wall` times cores
    """
    parts = [spent(j) for j in run["jobs"]]
    total = {p: sum(x[p] for x in parts) for p in PHASES}
    process = sum(map(processed, run["jobs"]))
    cell_wall = union((s["start"], s["end"]) for j in run["jobs"] for s in j["spans"] if s["phase"] == COMPUTING)
    return total | {
        "process": process,
        "computing_share": total[COMPUTING] / process if process else 0.0,
        "wall": max(s["end"] for j in run["jobs"] for s in j["spans"]) - run["run"],
        "cell_wall": cell_wall,
        "busy": run["cpu_s"] / (cell_wall * run["cores"]) if cell_wall else 0.0,
    }


def percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %"


def sentence(run: Mapping[str, Any]) -> str:
    """The share of computing, and where the rest went."""
    s = shares(run)
    rest = [f"{percent(s[p] / s['process'])} {p}" for p in (START, IMPORTS, LOADING, WRITING)] if s["process"] else []
    return (
        f"{percent(s['computing_share'])} of the {seconds(s['process'])} in which processes of "
        f"{plural(len(run['jobs']), 'job')} lived was computing; the rest: {listed(rest)}. While anything computed, "
        f"cells kept {percent(s['busy'])} of {plural(run['cores'], 'core')} busy."
    )


def page(run: Mapping[str, Any]) -> dict[str, Any]:
    """What the page of jobs shows."""
    figure = timeline(run)
    return {"run": run, "sentence": sentence(run), "figure": figure, "shares": shares(run), "sheets": [figure.sheet]}


def timeline(run: Mapping[str, Any]) -> Figure:
    """One bar per job, its phases in their colours, from the start of the run."""
    import altair as alt

    jobs = run["jobs"]
    longest = sorted(sorted(jobs, key=processed)[-BARS:], key=began)
    labels = _labels(longest)
    minutes = shares(run)["wall"] > 600
    unit = 60.0 if minutes else 1.0
    rows = [
        {
            "job": labels[j["id"]],
            "title": j["title"],
            "phase": s["phase"],
            "node": s["node"],
            "start": round((s["start"] - run["run"]) / unit, 3),
            "end": round((s["end"] - run["run"]) / unit, 3),
            "seconds": round(s["end"] - s["start"], 2),
        }
        for j in longest
        for s in _merged(j["spans"])
    ]
    data = Data()
    color = alt.Color(
        "phase:N",
        title=None,
        sort=list(PHASES),
        scale=alt.Scale(domain=list(PHASES), range=[f"var({COLOURS[p]})" for p in PHASES]),
    )
    words = f"{'minutes' if minutes else 'seconds'} since the run began"
    base = alt.Chart(data(rows)).encode(
        x=alt.X("start:Q", title=words),
        x2="end:Q",
        y=alt.Y(
            "job:N",
            title=None,
            sort=list(labels.values()),
            axis=alt.Axis(labelLimit=300, ticks=False, labelFlush=False),
        ),
        color=color,
        tooltip=["title:N", "phase:N", "node:N", alt.Tooltip("seconds:Q", format=".2f")],
    )
    waits = base.transform_filter(f"datum.phase == '{WAITING}'").mark_rule(strokeWidth=2)
    works = base.transform_filter(f"datum.phase != '{WAITING}'").mark_bar(height={"band": 0.75})
    chart = alt.layer(waits, works).properties(width=int(1.3 * WIDTH), height=alt.Step(15))
    takeaway = sentence(run)
    if len(longest) < len(jobs):
        takeaway += f" Shown are the {len(longest)} longest; the table has all."
    figure = Figure("jobs", "The last run, job by job", takeaway, data.compiled(chart), table(run), wide=True)
    figure.svg = svg(figure.spec, f"{figure.title}. {figure.takeaway}")
    return figure


def _labels(jobs: Sequence[Job]) -> dict[str, str]:
    """Job id -> a short title; later jobs of the same title are numbered."""
    labels: dict[str, str] = {}
    count: Counter[str] = Counter()
    for j in jobs:
        title = j["title"] if len(j["title"]) <= LABEL else j["title"][: LABEL - 1] + "…"
        count[title] += 1
        labels[j["id"]] = f"{title} ({count[title]})" if count[title] > 1 else title
    return labels


def _merged(spans: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Neighbouring spans of one phase merged, except for computing, where each node is shown."""
    joined: list[dict[str, Any]] = []
    for s in spans:
        if joined and joined[-1]["phase"] == s["phase"] != COMPUTING:
            joined[-1] |= {"end": s["end"], "node": ""}
        else:
            joined.append(dict(s))
    return joined


def table(run: Mapping[str, Any]) -> Sheet:
    """Seconds of every job by phase."""
    records = []
    for j in run["jobs"]:
        parts, process = spent(j), processed(j)
        records.append(
            {"job": j["title"], "id": j["id"], "results": j["nodes"], "threads": j["threads"]}
            | {"started_s": round(began(j) - run["run"], 3), "process_s": round(process, 3)}
            | {f"{p.replace('-', '_')}_s": round(v, 3) for p, v in parts.items()}
            | {"computing_share": round(parts[COMPUTING] / process, 4) if process else None}
            | {"predicted_s": j["predicted"]}
        )
    lines = [
        [
            Cell(r["job"]),
            Cell(str(r["results"]), sort=r["results"]),
            *(Cell(seconds(r[k]), sort=r[k]) for k in (f"{p.replace('-', '_')}_s" for p in PHASES)),
            Cell(number(r["computing_share"], 2), sort=r["computing_share"]),
        ]
        for r in records
    ]
    return Sheet(
        "Seconds of every job by phase",
        ["job", "results", *PHASES, "computing / process"],
        lines,
        records,
        "Waiting: from when all that a job needs was there (at the earliest the start of the run) until its process "
        "started. Start-up: Python and this project's own modules. Imports: torch, transformers and the method. "
        "Loading: benchmarks, models, results of other jobs. Computing: the method, its checkpoints included. Writing: "
        "checking and storing results. The end of a process is not seen, nor is a process that was killed.",
    )


def when(run: Mapping[str, Any]) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run["run"]))
