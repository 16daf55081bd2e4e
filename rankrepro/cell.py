"""The cell contract: what a method sees, and what it may return.

A method is a function `fn(cell, *, parameters...) -> Output | dict[str, Output]`; the keys of a dictionary are variants
that the card lists. Parameters are keyword-only, with annotations that the plan checks a card against. A stage may also
return arrays, name -> numpy array. Whatever a stage returns, its readers find in `cell.inputs`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

from rankrepro import runs
from rankrepro.benchmarks.base import Benchmark, Document
from rankrepro.errors import OutputError, RunFileError
from rankrepro.passes import out_of_memory

DECIMALS = 5  # scores are rounded before ranking so that float noise does not reorder; more where they are that close
NEAR = 0.1  # share of neighbouring scores so near that this is their scale, and no noise
DIGITS = 13  # significant digits of the largest score: beyond them even doubles are noise


# --- what a method's signature says ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Size:
    """Annotation of a parameter that sizes a function's work: `tokens: Annotated[int, Size(work=1, rehearsal=1000)]`.

    work       the power with which the work grows with the parameter: used to predict what scale paper costs
    rehearsal  the largest value (of a list: the greatest length) at scale rehearsal
    The plan reads both from the syntax tree: give them as literals.
    """

    work: float = 0
    rehearsal: int | None = None


def trains(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function that trains a model of its own: it gets a GPU if there is one, and is priced as training."""
    return function


# --- outputs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Output:
    """`values`: unit -> the result of that unit, ready for JSON."""

    values: Mapping[str, Any]
    type: ClassVar[str] = "output"

    def checked(self, cell: Cell, arm: bool = True) -> Self:
        """This output in canonical form. An OutputError names the cell and the unit that is missing or wrong.

        arm: it answers exactly the units of the cell; what a stage returns may have others, such as documents.
        """
        if arm:
            self._check_units(cell)
        units = [u for u in cell.queries if u in self.values] if arm else []
        return type(self)({u: self._value(cell, u, arm) for u in dict.fromkeys([*units, *self.values])})

    def _check_units(self, cell: Cell) -> None:
        if missing := [u for u in cell.queries if u not in self.values]:
            raise OutputError(
                f"{cell.name}: {len(missing)} of {len(cell.queries)} units have no result in an output of type "
                f"{self.type} (e.g. '{missing[0]}')"
            )
        if foreign := [u for u in self.values if u not in cell.queries]:
            raise OutputError(f"{cell.name}: '{foreign[0]}' is not a unit of this cell, but has a result")

    def _value(self, cell: Cell, unit: str, arm: bool) -> Any:
        """The value of a unit in canonical form."""
        return self.values[unit]


@dataclass(frozen=True)
class Ranking(Output):
    """query id -> document id -> score, for exactly the candidates given."""

    values: Mapping[str, Mapping[str, float]]
    type: ClassVar[str] = "ranking"

    def _value(self, cell: Cell, unit: str, arm: bool) -> dict[str, float]:
        scores = self.values[unit]
        if arm and set(scores) != set(cell.candidates[unit]):
            changed = sorted(set(scores) ^ set(cell.candidates[unit]))[:3]
            raise OutputError(f"{cell.name}: query {unit}: the candidate set changed (e.g. {', '.join(changed)})")
        return _ranked(cell, unit, scores)


@dataclass(frozen=True)
class Retrieval(Output):
    """query id -> document id -> score, the top k of the corpus; documents a query excludes are dropped."""

    values: Mapping[str, Mapping[str, float]]
    type: ClassVar[str] = "retrieval"

    def _value(self, cell: Cell, unit: str, arm: bool) -> dict[str, float]:
        scores = self.values[unit]
        if foreign := [d for d in scores if d not in cell.benchmark.corpus]:
            raise OutputError(f"{cell.name}: query {unit}: '{foreign[0]}' is not a document of {cell.benchmark.id}")
        query = cell.benchmark.queries.get(unit)
        excluded = set(query.excluded) if query else ()
        return _ranked(cell, unit, {d: s for d, s in scores.items() if d not in excluded})


@dataclass(frozen=True)
class Predictions(Output):
    """unit -> list of predictions: of a task as many as it has rows, in their order."""

    values: Mapping[str, Sequence[float]]
    type: ClassVar[str] = "predictions"

    def _value(self, cell: Cell, unit: str, arm: bool) -> list[float]:
        numbers = [_finite(v, f"{cell.name}: {unit}: a prediction") for v in self.values[unit]]
        _check_size(cell, unit, len(numbers), "predictions")
        return numbers


@dataclass(frozen=True)
class Likelihoods(Output):
    """block -> (negative log-likelihood in nats, number of tokens)."""

    values: Mapping[str, tuple[float, int]]
    type: ClassVar[str] = "likelihoods"

    def _value(self, cell: Cell, unit: str, arm: bool) -> tuple[float, int]:
        value = self.values[unit]
        if len(value) != 2:
            raise OutputError(
                f"{cell.name}: {unit} has {len(value)} numbers, not a log-likelihood and a count of tokens"
            )
        nll, tokens = (_finite(v, f"{cell.name}: {unit}: a log-likelihood or its count of tokens") for v in value)
        if tokens < 1 or tokens != int(tokens):
            raise OutputError(f"{cell.name}: {unit}: {tokens} is not a number of tokens")
        _check_size(cell, unit, int(tokens), "tokens")
        return nll, int(tokens)


@dataclass(frozen=True)
class Text(Output):
    """unit -> string."""

    values: Mapping[str, str]
    type: ClassVar[str] = "text"

    def _value(self, cell: Cell, unit: str, arm: bool) -> str:
        if not isinstance(text := self.values[unit], str):
            raise OutputError(f"{cell.name}: {unit} is a {type(text).__name__}, not a text")
        return text


@dataclass(frozen=True)
class Facts(Output):
    """unit -> name -> number, every unit with the same names: `fact:<name>` is a measure.

    What is true of a whole model (the bytes of its optimiser's state) is a fact of one unit, MODEL.
    """

    values: Mapping[str, Mapping[str, float]]
    type: ClassVar[str] = "facts"

    def _check_units(self, cell: Cell) -> None:
        if not self.values:
            raise OutputError(f"{cell.name}: an output of type facts has no unit")
        if set(self.values) & set(cell.queries):  # all units have facts, or none has
            super()._check_units(cell)

    def _value(self, cell: Cell, unit: str, arm: bool) -> dict[str, float]:
        facts, first = self.values[unit], next(iter(self.values))
        if not isinstance(facts, Mapping):
            raise OutputError(f"{cell.name}: {unit}: facts are name -> number, not {facts!r}")
        if changed := sorted(set(facts) ^ set(self.values[first])):
            raise OutputError(f"{cell.name}: {unit} and {first} do not both have the fact '{changed[0]}'")
        return {name: _finite(value, f"{cell.name}: {unit}: fact '{name}'") for name, value in facts.items()}


MODEL = "model"  # the unit of facts about a whole model

OUTPUTS: dict[str, type[Output]] = {c.type: c for c in (Ranking, Retrieval, Predictions, Likelihoods, Text, Facts)}


def ordered(scores: Mapping[str, float]) -> list[str]:
    """Document ids best first, ties broken by id, whatever order the mapping had."""
    return sorted(scores, key=lambda d: (-scores[d], d))


def given(ranked: Iterable[str], depth: int, order: str, query: str, seed: int) -> list[str]:
    """The candidates of a query as a re-ranker is given them: the first `depth` of a ranking, in the order asked."""
    docs = list(ranked)[:depth]
    if order == "reversed":
        return docs[::-1]
    if order == "scrambled":
        return sorted(docs, key=lambda d: hashlib.sha256(f"{seed}\t{query}\t{d}".encode()).hexdigest())
    return docs


def _ranked(cell: Cell, query: str, values: Mapping[str, float]) -> dict[str, float]:
    """Scores rounded, best first, ties broken by document id."""
    if not values:
        raise OutputError(f"{cell.name}: query {query} has no scored document")
    exact = {d: float(s) for d, s in values.items()}
    if not all(map(math.isfinite, exact.values())):
        raise OutputError(f"{cell.name}: query {query} has a score that is not a finite number")
    decimals = _decimals(exact.values())
    scores = {d: round(s, decimals) + 0.0 for d, s in exact.items()}
    return {d: scores[d] for d in ordered(scores)}


def _decimals(scores: Iterable[float]) -> int:
    """How many decimals tell the scores of a query apart and merge what is float noise.

    A few neighbours closer than the last of DECIMALS are noise. Where a tenth of them and more are, the scores are
    small, or lie close together: a tenth of that gap counts, down to the noise of doubles.
    """
    distinct = sorted(set(scores))
    gaps = sorted(b - a for a, b in pairwise(distinct))
    near = gaps[int(NEAR * len(gaps))] if gaps else math.inf
    if near > 0.9 * 10.0**-DECIMALS:  # scores that were rounded before are a whole unit apart
        return DECIMALS
    largest = max(abs(distinct[0]), abs(distinct[-1]))
    return max(DECIMALS, min(_place(near) + 1, _place(largest) + DIGITS - 1))


def _place(value: float) -> int:
    """The decimal place of the first digit of a number above 0: 2 for 0.05, 0 for 5, -1 for 50."""
    return -math.floor(math.log10(value))


def _check_size(cell: Cell, unit: str, size: int, what: str) -> None:
    """OutputError unless a unit has as many values as its benchmark says."""
    expected = getattr(cell.benchmark, "sizes", {}).get(unit, size)
    if size != expected or not size:
        raise OutputError(f"{cell.name}: {unit} has {size} {what}, {max(expected, 1)} are needed")


def _finite(value: Any, what: str) -> float:
    """A plain Python number; OutputError if it is not a number, or not finite."""
    number = value.item() if hasattr(value, "item") else value  # of numpy or torch
    if not isinstance(number, int | float) or not math.isfinite(number):
        raise OutputError(f"{what} is not a finite number: {number!r}")
    return number


# --- cost ------------------------------------------------------------------------------------------------------------


@dataclass
class Meter:
    """Cost per unit (seconds, input_tokens, generated_tokens, forward_passes) and per cell (wall, cpu, peak memory)."""

    units: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(float)))
    wall: float = 0.0
    cpu: float = 0.0
    _since: tuple[float, float] | None = None  # when the running `whole` block began

    def add(self, unit: str, **amounts: float) -> None:
        for name, amount in amounts.items():
            self.units[unit][name] += amount

    @contextmanager
    def timed(self, units: Sequence[str]) -> Iterator[None]:
        """Spread the wall seconds of the block evenly over `units`."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        for unit in units:
            self.add(unit, seconds=seconds / len(units))

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Wall and CPU seconds of the block, added to the cell's."""
        self._since = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall, self.cpu = self.spent()
            self._since = None

    def spent(self) -> tuple[float, float]:
        """Wall and CPU seconds so far, those of a running `whole` block included."""
        if self._since is None:
            return self.wall, self.cpu
        wall, cpu = self._since
        return self.wall + time.perf_counter() - wall, self.cpu + time.process_time() - cpu

    def record(self) -> dict[str, Any]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        units = {u: {k: round(v, 6) for k, v in sorted(c.items())} for u, c in sorted(self.units.items())}
        return {"wall_s": round(self.wall, 3), "cpu_s": round(self.cpu, 3), "peak_bytes": peak, "units": units}


# --- history ---------------------------------------------------------------------------------------------------------


@dataclass
class History:
    """What training logs as it goes: name -> step -> [sum, count] of the values logged there."""

    series: dict[str, dict[int, list[float]]] = field(default_factory=lambda: defaultdict(dict))

    def log(self, step: int, **values: float) -> None:
        """Values at a step; what several tasks or folds log under one name and step is averaged."""
        self.merge({name: {step: [value, 1]} for name, value in values.items()})

    def merge(self, series: Mapping[str, Mapping[Any, Sequence[float]]]) -> None:
        """Add sums and counts; keys of steps may come from JSON."""
        for name, steps in series.items():
            for step, (total, count) in steps.items():
                old = self.series[name].get(int(step), [0.0, 0])
                self.series[name][int(step)] = [old[0] + float(total), old[1] + count]

    def record(self) -> dict[str, list[list[float]]]:
        """name -> [step, mean], steps ascending."""
        return {
            name: [[step, total / count] for step, (total, count) in sorted(steps.items())]
            for name, steps in sorted(self.series.items())
        }


# --- batches that do not fit ---------------------------------------------------------------------------------------


class _Fitting:
    """`fn` on batches that a GPU's memory holds: halved when it runs out of memory, and no larger from then on."""

    def __init__(self, cell: Cell, fn: Callable[[list[str]], Mapping[str, Any]]) -> None:
        self.cell, self.fn = cell, fn
        self.most: int | None = None  # units at a time

    def __call__(self, units: list[str]) -> dict[str, Any]:
        results: dict[str, Any] = {}
        start = 0  # not len(results): a function that leaves out a unit would be called for ever
        while start < len(units):
            batch = units[start:][: self.most]
            metered = {u: dict(self.cell.meter.units[u]) for u in batch}
            logged, self.cell.history = self.cell.history, History()
            try:
                results |= self.fn(batch)
                start += len(batch)
                logged.merge(self.cell.history.series)
            except Exception as error:
                if len(batch) == 1 or not out_of_memory(error):
                    raise
                for u in batch:  # what the failed attempt counted
                    self.cell.meter.units[u] = defaultdict(float, metered[u])
                self.most = len(batch) // 2
                print(f"{self.cell.name}: out of memory with {len(batch)} units at a time: {self.most} from now on")
            finally:
                self.cell.history = logged
        return results


# --- the cell --------------------------------------------------------------------------------------------------------


@dataclass
class Cell:
    """One arm on one benchmark with one seed, as its method sees it.

    queries     query id -> text, the queries of this cell in a fixed order
    pictures    query id -> name of its picture in `benchmark.images`, for the queries that have one
    candidates  query id -> document ids in the order the re-ranker gets them (empty for retrieval arms)
    decoys      query id -> the text of another query of this cell (placebos)
    models      name -> loaded model (rankrepro.models)
    inputs      name -> what a stage or arm that this cell builds on returned: the values of its Output (unit -> value),
                of several by variant, or its arrays by name; where the card says `stage.variant`, that one alone
    history     what training logs: history.log(step, loss=...)
    """

    name: str
    benchmark: Benchmark
    queries: Mapping[str, str]
    candidates: Mapping[str, Sequence[str]]
    seed: int = 0
    models: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)
    decoys: Mapping[str, str] = field(default_factory=dict)
    meter: Meter = field(default_factory=Meter)
    history: History = field(default_factory=History)
    shards: Path | None = None  # where `map` and `save` keep finished work until the cell is stored
    progress: Callable[[int, int], None] = lambda done, total: None
    _restored: tuple[float, float] = (0.0, 0.0)  # wall and CPU seconds of earlier processes, by `saved`
    _parts: set[str] = field(default_factory=set)  # parts that `saved` was asked for so far

    def document(self, doc_id: str) -> Document:
        return self.benchmark.corpus[doc_id]

    def made_elsewhere(self, file: str, sha256: str) -> dict[str, dict[str, float]]:
        """Query -> document -> score, best first, of a TREC run file (see `runs.made_elsewhere`), for our queries.

        Raises RunFileError where it leaves out one of them.
        """
        run = runs.made_elsewhere(file, sha256)
        if missing := [q for q in self.queries if q not in run]:
            raise RunFileError(
                f"{file}: {len(missing)} of {len(self.queries)} queries of {self.benchmark.id} have no result (e.g. "
                f"'{missing[0]}'): complete the run; `rankrepro evaluate` judges the queries that it has"
            )
        return {q: run[q] for q in self.queries}

    def map(
        self, units: Sequence[str], fn: Callable[[list[str]], Mapping[str, Any]], batch: int = 1, part: str = "units"
    ) -> dict[str, Any]:
        """Apply `fn` to `units` in batches; `fn` returns unit -> JSON value. Returns all of them, unit -> value.

        Batches are cut from `units` as given (sort by length before), timed, reported as progress, and appended to a
        shard file as they finish, so that a killed cell resumes at the first unfinished batch with the same result.
        A cell that maps twice names each `part`. A batch that does not fit into the memory of a GPU is halved, and so
        are those after it; its row in the shard file stays one.
        """
        fitting = _Fitting(self, fn)
        done: dict[str, Any] = {}
        file = self.shards / f"{part}.jsonl" if self.shards else None
        if file and file.exists():
            done = self._resume(file)
        for start in range(0, len(units), batch):
            todo = list(units[start : start + batch])
            if all(u in done for u in todo):
                continue
            batch_meter, before, self.history = Meter(), self.history, History()
            with self.meter.timed(todo), batch_meter.whole():
                result = fitting(todo)
            logged, self.history = dict(self.history.series), before
            self.history.merge(logged)
            if set(result) != set(todo):
                raise OutputError(f"{self.name}: a batch of {len(todo)} units came back with {len(result)}")
            # through JSON, so that a resumed and an undisturbed run see the same values
            cost = {u: dict(self.meter.units[u]) for u in todo}
            row = {"values": result, "cost": cost, "wall": batch_meter.wall, "cpu": batch_meter.cpu, "history": logged}
            line = json.dumps(row)
            done.update(json.loads(line)["values"])
            if file:
                with file.open("a", encoding="utf-8") as f:
                    f.write(f"{_mark(line)} {line}\n")
                    f.flush()
                    os.fsync(f.fileno())
            self.progress(len(done), len(units))
        return done

    def _resume(self, file: Path) -> dict[str, Any]:
        """Values and cost of whole batches in `file`; it is cut off at the first torn or changed line."""
        done: dict[str, Any] = {}
        good = 0
        with file.open("rb") as f:
            for line in f:
                mark, _, text = line.decode(errors="replace").partition(" ")
                if not text.endswith("\n") or mark != _mark(text[:-1]):
                    break
                row = json.loads(text)
                good += len(line)
                done.update(row["values"])
                for unit, cost in row["cost"].items():
                    self.meter.add(unit, **cost)
                self.meter.wall += row["wall"]
                self.meter.cpu += row["cpu"]
                self.history.merge(row["history"])
        os.truncate(file, good)
        return done

    def save(self, part: str, tensors: Mapping[str, Any], state: Any) -> None:
        """Keep a checkpoint of `part` until the cell is stored: torch tensors by name, and a JSON value.

        What has been logged and metered so far is kept with it. An older checkpoint of the part is replaced whole.
        """
        if self.shards is None:
            return
        from safetensors.torch import save_file

        wall, cpu = self.meter.spent()
        units = {u: dict(c) for u, c in self.meter.units.items()}
        checkpoint = {"state": state, "units": units, "wall": wall, "cpu": cpu, "history": self.history.series}
        text = json.dumps(checkpoint)
        file = self.shards / f"{part}.safetensors"
        temporary = file.with_suffix(".tmp")
        save_file(dict(tensors), temporary, metadata={"rankrepro": text, "sha256": _sum(text, tensors)})
        with temporary.open("rb") as f:
            os.fsync(f.fileno())
        temporary.rename(file)

    def saved(self, part: str) -> tuple[dict[str, Any], Any] | None:
        """The last checkpoint of `part` as (tensors, state), None if there is none; its log and meter go on from it.

        A damaged one is deleted, and with it those of the parts that follow: they include its log and meter.
        """
        if self.shards is None:
            return None
        self._parts.add(part)
        file = self.shards / f"{part}.safetensors"
        if not file.exists():
            return None
        try:
            text, tensors = _read_checkpoint(file)
        except ValueError:
            for other in self.shards.glob("*.safetensors"):
                if other == file or other.stem not in self._parts:
                    other.unlink()
            return None
        checkpoint = json.loads(text)
        if checkpoint["wall"] >= self._restored[0]:  # the latest part includes what the earlier ones kept
            self.meter.wall += checkpoint["wall"] - self._restored[0]
            self.meter.cpu += checkpoint["cpu"] - self._restored[1]
            self._restored = checkpoint["wall"], checkpoint["cpu"]
            self.meter.units.clear()
            for unit, cost in checkpoint["units"].items():
                self.meter.add(unit, **cost)
            self.history = History()
            self.history.merge(checkpoint["history"])
        return tensors, checkpoint["state"]


def _mark(line: str) -> str:
    """What a line of a shard file begins with: JSON with a changed digit is still valid."""
    return hashlib.sha256(line.encode()).hexdigest()[:16]


def _read_checkpoint(file: Path) -> tuple[str, dict[str, Any]]:
    """What `save` wrote, as (JSON, tensors by name); ValueError if a byte of it is missing or changed."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as f:
            metadata = f.metadata() or {}
            tensors = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118  not a mapping
    except SafetensorError as error:
        raise ValueError(f"{file}: {error}") from error
    text = metadata.get("rankrepro", "")
    if metadata.get("sha256") != _sum(text, tensors):
        raise ValueError(f"{file}: its bytes have changed")
    return text, tensors


def _sum(text: str, tensors: Mapping[str, Any]) -> str:
    """sha256 over a JSON value and torch tensors: safetensors itself notices a cut file, not a changed one."""
    import torch

    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
