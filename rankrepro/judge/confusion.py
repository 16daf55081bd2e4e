"""Measures of binary decisions from the confusion matrix, per task: the mean over its folds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from rankrepro.benchmarks.tabular import TabularTruth
from rankrepro.cell import Predictions
from rankrepro.errors import OutputError, UnknownName

ConfusionMeasure = Callable[[Predictions, TabularTruth], dict[str, float]]
BY_MINORITY = "_x_minority"


def f_beta(beta: float) -> Callable[[int, int, int, int], float]:
    """0 where nothing is predicted positive and nothing is."""
    b2 = beta * beta
    return lambda tn, fp, fn, tp: (1 + b2) * tp / max((1 + b2) * tp + b2 * fn + fp, 1)


METRICS: dict[str, Callable[[int, int, int, int], float]] = {
    "accuracy": lambda tn, fp, fn, tp: (tp + tn) / (tn + fp + fn + tp),
    "F1": f_beta(1),
    "F0.5": f_beta(0.5),
    "F2": f_beta(2),
    "G-mean": lambda tn, fp, fn, tp: math.sqrt(tp / (tp + fn) * tn / (tn + fp)),
    "balanced_accuracy": lambda tn, fp, fn, tp: (tp / (tp + fn) + tn / (tn + fp)) / 2,
}
MEASURES = (*METRICS, *(f"{name}{BY_MINORITY}" for name in METRICS))


def confusion_measure(name: str) -> ConfusionMeasure:
    """The function of a measure: Predictions and truth -> task -> value in 0..1.

    `<metric>_x_minority` is the metric times the task's minority share. With it an expression can form the slope of a
    difference over the minority share: the mean of a product less the product of means is a covariance.
    """
    if name not in MEASURES:
        raise UnknownName("measure", name, MEASURES)
    plain = name.removesuffix(BY_MINORITY)
    fold_value = METRICS[plain]

    def measure(predictions: Predictions, truth: TabularTruth) -> dict[str, float]:
        out = {}
        for task, decisions in predictions.values.items():
            y, fold, decided = (np.asarray(v) for v in (truth.labels[task], truth.folds[task], decisions))
            if decided.shape != y.shape or not np.isin(decided, (0, 1)).all():
                raise OutputError(f"task {task}: {len(y)} decisions of 0 or 1 are needed, one a row, in row order")
            values = [fold_value(*_confusion(y[fold == f], decided[fold == f])) for f in np.unique(fold)]
            out[task] = float(np.mean(values)) * (1.0 if name == plain else float(y.mean()))
        return out

    return measure


def _confusion(y: np.ndarray, decided: np.ndarray) -> tuple[int, int, int, int]:
    tn, fp, fn, tp = np.bincount(2 * y + decided, minlength=4).tolist()
    return tn, fp, fn, tp
