"""What the machinery around the computing costs, measured on this machine; writes docs/performance.md.

    python tests/performance --write docs/performance.md

Runs scale quick of every paper in a folder of its own, plans every card at scale paper, asks the command line, makes
the report of all papers, loads the language model, encodes documents with our encoder and with sentence-transformers in
turns, counts the prompt tokens that shared beginnings save, and on a GPU reads and writes at the papers' size. The test
suite asserts no seconds: this measures them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

RIVAL = "sentence-transformers==6.2.0"
PAPERS = "all"
LIMIT = 256  # tokens of a text
BARS = {
    "share": 0.85, "dry_seconds": 5.0, "dry_bytes": 500e6, "noop_seconds": 3.0, "papers_seconds": 1.0,
    "report_seconds": 30.0, "load_seconds": 5.0, "ratio": 1.5, "cosine": 0.999,
    "large_seconds": 3.0, "large_share": 0.4, "large_ratio": 0.6,
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="performance-") as scratch:
        folder = Path(options.folder or scratch)
        measured = {
            "share": quick_run(folder),
            "dry": dry_run(Path(scratch)),
            "noop": no_op(folder),
            "listing": command_line(),
            "report": report(Path(scratch)),
            "second_load": second_load(),
            "encoding": encoding(folder, options.documents, options.rounds),
            "prefixes": prefixes(folder, options.queries),
            "language_model": language_model(options.rounds),
            "large": large(),
        }
    text = document(measured, load, max(load, os.getloadavg()[0]), options)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    print(text)
    return 0


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(prog="python tests/performance", description=__doc__)
    arguments.add_argument("--write", type=Path, help="the document to write")
    arguments.add_argument("--folder", help="where to keep the quick run; one that is there already is not run again")
    arguments.add_argument("--documents", type=int, default=320, help="documents to encode (320)")
    arguments.add_argument("--rounds", type=int, default=3, help="turns of each encoder (3)")
    arguments.add_argument("--queries", type=int, default=2, help="queries whose prompts are counted, a benchmark (2)")
    return arguments


# --- the workflow ----------------------------------------------------------------------------------------------------


def python(*arguments: str) -> dict[str, float]:
    """Run Python; its wall and CPU seconds and peak memory in bytes, its children apart."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise SystemExit(log.read().decode(errors="replace")[-3000:])
    return {
        "seconds": time.perf_counter() - start,
        "cpu": usage.ru_utime + usage.ru_stime,
        "bytes": usage.ru_maxrss * 1024,
    }


def snakemake(*arguments: str) -> dict[str, float]:
    """`python` of Snakemake on all cores."""
    return python("-m", "snakemake", "--cores", "all", *arguments)


def configured(folder: Path, scale: str, papers: str) -> list[str]:
    return ["--config", f"scale={scale}", f"papers={papers}", f"results={folder}/results", f"reports={folder}/reports"]


def quick_run(folder: Path) -> dict[str, Any]:
    """Scale quick of PAPERS; the shares of its last run that computed."""
    from rankrepro.report import jobs

    whole = snakemake(*configured(folder, "quick", PAPERS))
    run = jobs.gather(folder / "results" / "quick")
    assert run is not None
    return jobs.shares(run) | {"jobs": len(run["jobs"]), "cores": run["cores"], "seconds": whole["seconds"]}


def dry_run(folder: Path) -> dict[str, Any]:
    """The dry run of every card that has a method at scale paper, in an empty folder: the best of three."""
    from rankrepro.cards import load_cards
    from rankrepro.plan import make_plan

    runs = [snakemake("--dry-run", *configured(folder / f"dry{i}", "paper", "all")) for i in range(3)]
    plan = make_plan(load_cards(), "paper")
    best = min(runs, key=lambda r: r["seconds"])
    about = {"papers": len(plan.papers), "cards": len(load_cards()), "nodes": len(plan.nodes), "jobs": len(plan.jobs)}
    return best | {"bytes": max(r["bytes"] for r in runs)} | about


def no_op(folder: Path) -> dict[str, float]:
    """The same command once more after a run that finished: the best of three."""
    return best("-m", "snakemake", "--cores", "all", *configured(folder, "quick", PAPERS))


def best(*arguments: str) -> dict[str, float]:
    """`python` three times: the quickest."""
    return min((python(*arguments) for _ in range(3)), key=lambda r: r["seconds"])


def command_line() -> dict[str, float]:
    """`rankrepro papers`, interpreter included."""
    return best("-m", "rankrepro", "papers")


def report(folder: Path) -> dict[str, float]:
    """The pages of all papers, each with made-up results of 200 units a benchmark."""
    from synthetic import write

    from rankrepro.cards import load_cards
    from rankrepro.report.shelf import collect

    cards = load_cards()
    write(folder / "made-up", cards, list(cards), units=200)
    for key in cards:
        collect(folder / "made-up" / "judged" / key, folder / "reports" / "desk" / key, cards)
    return best("-m", "rankrepro", "report", "--reports", str(folder / "reports"))


def second_load() -> dict[str, float]:
    """The language model in a process of its own, when it has been converted: imports included."""
    return best("-c", LOAD)


LOAD = """
from rankrepro import artifacts, models
models.load(models.spec(artifacts.load_catalogue()["smollm2-135m-instruct"]), threads=2)
"""


# --- encoding --------------------------------------------------------------------------------------------------------


def encoding(folder: Path, documents: int, rounds: int) -> dict[str, Any]:
    """Documents a second with our encoder and with sentence-transformers, in turns; how far embeddings lie apart.

    `plain` is ours without products in bfloat16.
    """
    import numpy as np
    import torch

    from methods.parts.retrieval.encoder import encode
    from rankrepro import artifacts, benchmarks, models
    from rankrepro.benchmarks.base import sample

    benchmark = benchmarks.load(folder / "results" / "quick" / "benchmarks" / "vital-mini/fever", "vital-mini/fever")
    texts = [benchmark.corpus[d].content for d in sample("performance", list(benchmark.corpus), documents)]
    spec = models.spec(artifacts.load_catalogue()["all-minilm-l6-v2"])
    threads = os.cpu_count() or 1
    ours, plain = models.load(spec, threads, mixed=True), models.load(spec, threads)  # as scale quick and desk do
    with rival() as (package, version):
        theirs = package.SentenceTransformer(str(spec.folder), device=ours.device, local_files_only=True)
        theirs.max_seq_length = LIMIT  # the model's own; an artifact without modules.json does not say so
        torch.set_num_threads(threads)
        sides: dict[str, Callable[[], Any]] = {
            "ours": lambda: encode(ours, texts, LIMIT, 32),
            "plain": lambda: encode(plain, texts, LIMIT, 32),
            "theirs": lambda: theirs.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False),
        }
        vectors = {name: np.asarray(run()) for name, run in sides.items()}  # these warm up, too
        times = in_turns(sides, rounds)
    ratios = [b / a for a, b in zip(times["ours"], times["theirs"], strict=True)]
    plain_ratios = [b / a for a, b in zip(times["plain"], times["theirs"], strict=True)]
    return {
        "documents": len(texts),
        "rounds": rounds,
        "version": version,
        "limit": LIMIT,
        "products": ours.products,
        "rate": {name: len(texts) / median(t) for name, t in times.items()},
        "ratio": median(ratios),
        "ratios": sorted(ratios),
        "plain_ratio": median(plain_ratios),
        "cosine": float((vectors["ours"] * vectors["theirs"]).sum(1).min()),
    }


def language_model(rounds: int) -> dict[str, Any]:
    """Tokens a second that the language model reads (10 rows of 100) and writes (one row), float32 and `mixed`."""
    from methods.parts.language.llm import Context, greedy
    from rankrepro import artifacts, models

    spec = models.spec(artifacts.load_catalogue()["smollm2-135m-instruct"])
    both = {name: models.load(spec, os.cpu_count() or 1, mixed=name == "mixed") for name in ("float32", "mixed")}
    rows = [[1000 + 100 * i + k for k in range(100)] for i in range(10)]

    def write(lm: Any) -> None:
        context = Context(lm)
        greedy(context, context.read_to_last(rows[:1]), 32, lambda row, tokens: False)

    sides: dict[str, Callable[[], Any]] = {}
    for name, lm in both.items():
        sides[f"{name} reads"] = lambda lm=lm: Context(lm, len(rows)).read(rows)
        sides[f"{name} writes"] = lambda lm=lm: write(lm)
    for run in sides.values():
        run()  # warms up
    times = in_turns(sides, rounds)
    tokens = {"reads": 1000, "writes": 32}
    rate = {name: {way: n / median(times[f"{name} {way}"]) for way, n in tokens.items()} for name in both}
    return {"rate": rate, "products": both["mixed"].products}


def in_turns(sides: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each side, AB and BA in turns, so that other work on the machine meets both."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(rounds):
        for name in list(sides) if i % 2 == 0 else list(sides)[::-1]:
            start = time.perf_counter()
            sides[name]()
            times[name].append(time.perf_counter() - start)
    return times


@contextmanager
def rival() -> Iterator[tuple[Any, str]]:
    """sentence-transformers as a module, from a throwaway folder unless it is installed."""
    with tempfile.TemporaryDirectory(prefix="rival-") as folder:
        try:
            import sentence_transformers
        except ImportError:
            pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, RIVAL]
            subprocess.run(pip, check=True)
            sys.path.append(folder)  # after the project's packages: torch and transformers stay ours
            import sentence_transformers
        yield sentence_transformers, sentence_transformers.__version__


# --- common beginnings of prompts ------------------------------------------------------------------------------------


def prefixes(folder: Path, queries: int) -> list[dict[str, Any]]:
    """Of ICR and listwise generation: tokens of the whole prompts and tokens read, over `queries` a benchmark."""
    from rankrepro.cards import load_cards
    from rankrepro.plan import make_plan

    plan = make_plan(load_cards(), "quick", PAPERS)
    rows: dict[str, dict[str, Any]] = {}
    for node in plan.nodes.values():
        if node.spec["fn"] in COUNTERS and node.spec["queries"]["mode"] == "own":
            full, read, n = COUNTERS[node.spec["fn"]](folder / "results" / "quick", node, queries)
            row = rows.setdefault(node.name, {"arm": node.name, "queries": 0, "full": 0, "read": 0})
            row |= {"queries": row["queries"] + n, "full": row["full"] + full, "read": row["read"] + read}
    return [r | {"saved": 1 - r["read"] / r["full"]} for r in sorted(rows.values(), key=lambda r: r["arm"])]


def _cell(results: Path, node: Any, queries: int) -> Any:
    """The cell of a node with its first few queries."""
    import dataclasses

    from rankrepro import artifacts
    from rankrepro.runner import Runner

    cell = Runner(results, os.cpu_count() or 1, artifacts.cache_dir()).cell(node.name, node.spec)
    return dataclasses.replace(cell, queries=dict(list(cell.queries.items())[:queries]))


def _icr(results: Path, node: Any, queries: int) -> tuple[int, int, int]:
    """The documents once for each tail, against what the meter of the stored cell says was read."""
    from methods.llm_rerankers.icr import CONTENT_FREE, document_part, query_part
    from rankrepro.store import Store

    cell, units = _cell(results, node, queries), Store(results / "store").cost(node.digest)["units"]
    full = read = 0
    for q, text in cell.queries.items():
        prompt, _ = document_part(
            cell.models["llm"], [cell.document(d) for d in cell.candidates[q]], cell.params.passage_tokens
        )
        tails = [CONTENT_FREE, text, *([cell.decoys[q]] if cell.params.placebo else [])]
        full += sum(len(prompt) + len(query_part(cell.models["llm"], t, cell.params.instruction)) for t in tails)
        read += int(units[q]["input_tokens"])
    return full, read, len(cell.queries)


def _listwise(results: Path, node: Any, queries: int) -> tuple[int, int, int]:
    """Run the arm on a few queries and set what `read` feeds beside the prompts it is given."""
    from methods.parts.language import llm
    from methods.parts.language.listwise import Listwise
    from rankrepro.runner import method

    cell, counts, original = _cell(results, node, queries), {"full": 0, "read": 0}, Listwise.read

    def counted(self: Any, windows: Sequence[Any]) -> Any:
        def fed() -> int:
            return int(sum(u["input_tokens"] for u in self.meter.units.values()))

        before = fed()
        found = original(self, windows)
        counts["read"] += fed() - before
        counts["full"] += sum(len(llm.turn(self.lm)[0]) + len(self.prompt(w)) for w in windows)
        return found

    Listwise.read = counted  # type: ignore[method-assign]
    try:
        method(node.spec["fn"])(cell)
    finally:
        Listwise.read = original  # type: ignore[method-assign]
    return counts["full"], counts["read"], len(cell.queries)


COUNTERS = {"icr.icr": _icr, "baselines.rankgpt": _listwise}


def large() -> dict[str, Any] | None:
    """ICR and generation at the papers' size; None without a GPU."""
    from performance.large import on_a_gpu

    return on_a_gpu()


# --- the document ----------------------------------------------------------------------------------------------------


def document(measured: Mapping[str, Any], idle: float, load: float, options: argparse.Namespace) -> str:
    """docs/performance.md from what was measured."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from rankrepro.report import text
    from rankrepro.report.jobs import percent
    from rankrepro.runner import _processor

    env = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters |= {"percent": percent, "size": text.size, "seconds": text.seconds, "count": text.count}
    cores = os.cpu_count() or 1
    return env.get_template("performance.md.j2").render(
        **measured,
        bars=BARS,
        papers=PAPERS,
        busy=idle > 0.5 * cores,
        load=load,
        cores=cores,
        processor=_processor(),
        date=datetime.now(UTC).date().isoformat(),
        commit=_commit(),
        options=options,
    )


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
