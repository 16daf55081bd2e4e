"""A job: compute the cells, stages and timings that the store lacks, in one process."""

from __future__ import annotations

import copy
import hashlib
import importlib
import json
import math
import os
import platform
import random
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from rankrepro import artifacts, benchmarks, lock, models, parameters, processes, rehearsal, wall
from rankrepro.benchmarks.base import Benchmark, Query
from rankrepro.benchmarks.base import sample as pick
from rankrepro.cell import Cell, History, Meter, Output, given
from rankrepro.code import METHODS
from rankrepro.errors import DISK_FULL, BenchmarkError, OutputError, RankReproError, StoreError, UnknownName
from rankrepro.phases import COMPUTING, IMPORTS, LOADING, WRITING, Phases
from rankrepro.plan import resources
from rankrepro.store import Store, no_room, room, write_whole

PACKAGES = ("torch", "transformers", "numpy", "bm25s", "scikit-learn", "safetensors")


def run_walled(file: Path, cores: int) -> None:
    """`run_job` in a process of its own, which from now on cannot read truth."""
    folder = file.parent.parent
    for part in ("store", "shards", "progress", "jobs", "tmp"):
        (folder / part).mkdir(exist_ok=True)  # what is made behind the wall lies in folders that are there before it
    os.environ["TMPDIR"] = str(folder / "tmp")
    run_job(file, cores, wall=wall.build(wall.denied(folder, artifacts.cache_dir())))


def run_job(file: Path, cores: int, cache: Path | None = None, wall: str = "none") -> None:
    """Compute the nodes of a job file (`results/<scale>/jobs/<id>.json`) and mark it done.

    wall: what keeps this process from reading truth, for the manifests of results.
    """
    rehearsal.enter(file)
    job = json.loads(file.read_text())
    threads = max(1, (job["threads"] or cores) // processes.count())
    _set_environment(threads, {n["spec"]["dtype"] for n in job["nodes"]})
    process = processes.joined()
    if process.count == 1 and any(resources.on_gpu(n["spec"]) for n in job["nodes"]):
        resources.take_gpus(file.parent.parent, 1)
    runner = Runner(file.parent.parent, threads, cache or artifacts.cache_dir(), wall, process)
    started = time.time()
    with room(runner.folder):
        for i, node in enumerate(job["nodes"]):
            runner.alone(node, _Progress(runner.folder, job, i) if process.main else _silent)
        if not process.main:
            return
        _Progress.clear(runner.folder, job["id"])
        marker = {"started": round(started, 3), "ended": round(time.time(), 3), "seconds": job["seconds"]}
        marker |= runner.phases.record(runner.folder, runner.needs(job["nodes"]))
        write_whole(file.with_suffix(".done"), json.dumps(marker))


def _silent(done: int, total: int) -> None:
    """The progress of a process that is not the main one."""


def _set_environment(threads: int, dtypes: Collection[str]) -> None:
    """What numpy, torch and JAX read when they are imported: pools of BLAS and OpenMP, and how GPUs are used."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ["JAX_PLATFORMS"] = "cpu"  # it would take most of a GPU's memory from torch
    if "float32" in dtypes:
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # products of float32 are exact, in models made from scratch too


class _Progress:
    """`progress/<job>.json`: what a job does now; the main process reads it for the status line."""

    def __init__(self, folder: Path, job: Mapping[str, Any], index: int) -> None:
        self.file = folder / "progress" / f"{job['id']}.json"
        node = job["nodes"][index]
        self.row = {
            "node": node["name"],
            "benchmark": node["spec"]["benchmark"]["id"],
            "index": index,
            "nodes": len(job["nodes"]),
            "started": time.time(),
        }
        self.last = 0.0
        self(0, 0)

    def __call__(self, done: int, total: int) -> None:
        if time.time() - self.last < 0.5 and done < total:
            return
        self.last = time.time()
        self.file.parent.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # deleted by a run that has just started
            write_whole(self.file, json.dumps({**self.row, "done": done, "total": total, "at": self.last}))

    @staticmethod
    def clear(folder: Path, job_id: str) -> None:
        (folder / "progress" / f"{job_id}.json").unlink(missing_ok=True)


class Runner:
    """Loads what nodes share (benchmarks, models) once per process and computes nodes one by one."""

    def __init__(
        self, folder: Path, threads: int, cache: Path, wall: str = "none", process: processes.Alone = processes.ALONE
    ) -> None:
        self.folder, self.threads, self.cache, self.wall, self.process = folder, threads, cache, wall, process
        self.store = Store(folder / "store")
        self._benchmarks: dict[str, Any] = {}
        self._models: dict[str, Any] = {}
        self.phases = Phases()

    def alone(self, node: Mapping[str, Any], progress: Any) -> None:
        """Compute a node that no other process computes: jobs outlive a main process that is killed on its own."""
        digest = node["digest"]
        with lock.alone(self.store.shards(digest), math.inf) if self.process.main else nullcontext():
            if not self.process.agreed(self.store.has(digest)):
                self.compute(node, progress)
            if self.process.main:
                self.store.forget_shards(digest)

    def compute(self, node: Mapping[str, Any], progress: Any) -> None:
        spec, digest = node["spec"], node["digest"]
        if spec["kind"] == "timing":
            output, cost = self._time(node, progress)
            self.phases.enter(WRITING, node["name"])
            self.store.put(digest, self._manifest(node), cost, output=output)
            return
        (function,) = self._methods(node["name"], spec)
        cell = self.cell(node["name"], spec)
        cell.shards, cell.progress = self.store.shards(digest), progress
        self.phases.enter(COMPUTING, node["name"])
        started = time.time()
        with cell.meter.whole():
            result = function(cell, **parameters.bind(function, spec["params"]))
        self.phases.enter(WRITING, node["name"])
        cost = cell.meter.record() | {"started": round(started, 3), "ended": round(time.time(), 3)}
        returned = _returned(cell, result, arm=spec["kind"] == "cell")
        if self.process.main:
            self.store.put(digest, self._manifest(node), cost, **returned, history=cell.history.record())

    def _methods(self, name: str, *specs: Mapping[str, Any]) -> list[Any]:
        """The functions of `specs`, imported with what their models need; then loading begins."""
        self.phases.enter(IMPORTS, name)
        model_ids = {m["id"] for spec in specs for m in spec["models"].values()}
        for artifact_id in sorted(model_ids - set(self._models)):
            models.imports(artifacts.load_catalogue()[artifact_id])
        functions = [method(spec["fn"]) for spec in specs]
        self.phases.enter(LOADING, name)
        return functions

    def needs(self, nodes: Sequence[Mapping[str, Any]]) -> Iterator[Path]:
        """Markers of what a job with these nodes is given: benchmarks, models, and results of other jobs."""
        specs = [n["spec"] for n in nodes]
        for spec in [*specs, *(s[side] for s in specs if s["kind"] == "timing" for side in ("a", "b"))]:
            yield self.folder / "benchmarks" / spec["benchmark"]["id"] / benchmarks.MARKER
            yield from (self.folder / "artifacts" / f"{m['id']}.json" for m in spec["models"].values())
            sources = [*spec["inputs"].values(), *filter(None, [spec["candidates"]])]
            yield from (self.store.path(g["digest"]) / "manifest.json" for g in sources)

    # --- what a cell is given ---

    def benchmark(self, benchmark_id: str) -> Any:
        if benchmark_id not in self._benchmarks:
            self._benchmarks[benchmark_id] = benchmarks.load(self.folder / "benchmarks" / benchmark_id, benchmark_id)
        return self._benchmarks[benchmark_id]

    def model(self, artifact_id: str, dtype: str, mixed: bool = False) -> Any:
        if artifact_id not in self._models:
            artifact = artifacts.load_catalogue()[artifact_id]
            self._models[artifact_id] = models.load(models.spec(artifact, self.cache), self.threads, dtype, mixed)
        return self._models[artifact_id]

    def cell(self, name: str, spec: Mapping[str, Any]) -> Cell:
        """The cell of a spec: its queries, candidates, decoys, models and inputs."""
        benchmark = self.benchmark(spec["benchmark"]["id"])
        queries = queries_of(benchmark, **spec["queries"])
        if not queries:
            raise BenchmarkError(f"{name}: {benchmark.id} has no query in split {spec['queries']['split']}")
        return self.process.cell(
            name=name,
            benchmark=benchmark,
            queries={q: query.text for q, query in queries.items()},
            candidates=self._candidates(name, spec, queries),
            seed=spec["seed"],
            models={n: self.model(m["id"], spec["dtype"], m.get("mixed", False)) for n, m in spec["models"].items()},
            inputs={n: self._input(i) for n, i in spec["inputs"].items()},
            pictures={q: query.image for q, query in queries.items() if query.image},
            decoys={q: query.text for q, query in decoys_of(queries).items()},
            meter=Meter(),
        )

    def _candidates(self, name: str, spec: Mapping[str, Any], queries: Iterable[str]) -> dict[str, list[str]]:
        source = spec["candidates"]
        if source is None:
            return {}
        ranked = self.store.output(source["digest"])[source["variant"]]["values"]
        candidates = {}
        for q in queries:
            candidates[q] = given(ranked.get(q, {}), source["depth"], source["order"], q, spec["seed"])
            if not candidates[q]:
                raise BenchmarkError(
                    f"{name}: query {q} has no candidates from its first stage; raise the first stage's depth or "
                    "check that both arms answer the same queries"
                )
        return candidates

    def _input(self, source: Mapping[str, str]) -> Any:
        """What a stage or arm returned, or of it the one variant that is asked for."""
        result, variant = self.store.result(source["digest"]), source["variant"]
        if not variant:
            return result["main"] if set(result) == {"main"} else result
        if variant not in result:
            name = self.store.manifest(source["digest"]).get("name", source["digest"])
            raise UnknownName("variant", variant, result, where=f"an input from {name}")
        return result[variant]

    # --- paired timing ---

    def _time(self, node: Mapping[str, Any], progress: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Both arms unit by unit in random order, and A once more against itself, after one warm-up unit.

        Returns {"a": unit -> seconds, "b": ..., "aa": unit -> seconds of A's other run, "order": unit -> the runs as
        they came}, and as cost the work of both sides by unit: {"work": {"a": unit -> {input_tokens, generated_tokens,
        forward_passes}, "b": ...}}.
        """
        spec = node["spec"]
        sides = ("a", "b")
        functions = dict(zip(sides, self._methods(node["name"], *(spec[s] for s in sides)), strict=True))
        arguments = {side: parameters.bind(functions[side], spec[side]["params"]) for side in sides}
        cells = {side: self.cell(node["name"], spec[side]) for side in sides}
        shared = [u for u in cells["a"].queries if u in cells["b"].queries]
        units = pick(node["name"], shared, spec["n"] + 1)
        rng = random.Random(0)
        seconds: dict[str, dict[str, float]] = {"a": {}, "b": {}, "aa": {}}
        order: dict[str, list[str]] = {}
        work: dict[str, dict[str, dict[str, float]]] = {"a": {}, "b": {}}
        meter = Meter()
        self.phases.enter(COMPUTING, node["name"])
        started = time.time()
        with meter.whole():
            for i, unit in enumerate(units):
                runs = ["a", "b", "aa"]
                rng.shuffle(runs)
                for run in runs:
                    side = run[0]
                    cell = _only(cells[side], unit)
                    start = time.perf_counter()
                    functions[side](cell, **arguments[side])
                    if i > 0:  # the first unit warms caches and pools
                        seconds[run][unit] = round(time.perf_counter() - start, 6)
                        work[side][unit] = {n: v for n, v in cell.meter.units[unit].items() if n != "seconds"}
                if i > 0:
                    order[unit] = runs
                progress(i + 1, len(units))
        times = {"started": round(started, 3), "ended": round(time.time(), 3)}
        return {**seconds, "order": order}, meter.record() | times | {"work": work}

    def _manifest(self, node: Mapping[str, Any]) -> dict[str, Any]:
        versions = {}
        for package in PACKAGES:
            try:
                versions[package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                continue
        return {
            "name": node["name"],
            "digest": node["digest"],
            "spec": node["spec"],
            "packages": versions,
            "python": platform.python_version(),
            "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": platform.system()},
            "threads": self.threads,
            "wall": self.wall,
            "products": {m["id"]: self._models[m["id"]].products for m in node["spec"]["models"].values()},
            "finished": round(time.time(), 3),
        }


def _returned(cell: Cell, result: Any, arm: bool) -> dict[str, Any]:
    """What a function returned, as `Store.put` takes it: Outputs, or, of a stage, arrays."""
    import numpy as np

    parts = result if isinstance(result, dict) else {"main": result}
    known = Output if arm else (Output, np.ndarray)
    for variant, part in parts.items():
        if not isinstance(part, known):
            expected = "an Output of rankrepro.cell" + ("" if arm else " or a numpy array")
            raise OutputError(f"{cell.name}: variant '{variant}' is a {type(part).__name__}, not {expected}")
    arrays = {name: part for name, part in parts.items() if isinstance(part, np.ndarray)}
    if 0 < len(arrays) < len(parts):
        raise OutputError(
            f"{cell.name}: '{next(iter(arrays))}' is an array, other variants are Outputs: return one or the other"
        )
    if arrays:
        return {"arrays": arrays}
    return {"output": {v: {"type": p.type, "values": p.checked(cell, arm).values} for v, p in parts.items()}}


def method(fn: str) -> Any:
    """`<module>.<function>` under methods/, imported."""
    module, name = METHODS.find(fn)
    return getattr(importlib.import_module(module), name)


def queries_of(benchmark: Any, split: Sequence[str], sample: int | None, mode: str) -> dict[str, Query]:
    """Unit id -> what a cell is asked: the splits asked for, a fixed sample of them, another's query in a placebo."""
    if not isinstance(benchmark, Benchmark):
        return {u: Query(u, u, "") for u in pick(benchmark.id, list(benchmark.units), sample)}
    chosen = benchmark.of_split(*split)
    queries = {q: chosen[q] for q in pick(benchmark.id, list(chosen), sample)}
    return decoys_of(queries) if mode == "decoy" else queries


def decoys_of(queries: Mapping[str, Query]) -> dict[str, Query]:
    """Each query's id with another query: a fixed cyclic shift over queries in hash order."""
    order = sorted(queries, key=lambda q: hashlib.sha256(f"decoy\t{q}".encode()).hexdigest())
    shift = max(1, len(order) // 2)
    moved = {q: queries[order[(i + shift) % len(order)]] for i, q in enumerate(order)}
    return {q: moved[q] for q in queries}


def _only(cell: Cell, unit: str) -> Cell:
    """The same cell with one unit, no shards and a fresh meter; what another run left in a mapping is not in it."""

    def only(by_unit: Mapping[str, Any]) -> dict[str, Any]:
        return {unit: copy.copy(by_unit[unit])} if unit in by_unit else {}

    return replace(
        cell,
        queries=only(cell.queries), pictures=only(cell.pictures), candidates=only(cell.candidates),
        decoys=only(cell.decoys), models=dict(cell.models), inputs=dict(cell.inputs), meter=Meter(), history=History(),
        shards=None,
    )  # fmt: skip


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def writable(folder: Path) -> None:
    """Raise a StoreError unless files can be made in `folder`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        try:
            probe.write_bytes(bytes(4096))  # an empty file fits on a full disk
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise StoreError(no_room(folder)) from error
        raise StoreError(
            f"the results folder {folder} is not writable ({error.strerror}); make it writable or choose another "
            "with --config results=FOLDER"
        ) from error


if __name__ == "__main__":  # an entry point for workflow/rules
    try:
        job, cores = Path(sys.argv[1]), int(sys.argv[2])
        if not processes.launched(job, cores):
            run_walled(job, cores)
    except RankReproError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # everything is written and marked; a normal exit takes a second to tear torch down
