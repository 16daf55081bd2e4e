"""AnyLoss (arXiv 2405.14745): any metric of the confusion matrix as a differentiable loss.

A steep sigmoid, the amplifier A, pushes probabilities towards 0 and 1. The confusion matrix summed from amplified
probabilities is nearly the hard one, yet differentiable, so that `1 - metric` can be minimised.

Everything is trained side by side: B folds in the leading dimension and K columns in the last one, a column being one
loss with one learning rate. Columns and folds never touch each other, so that a column's result is what it would be
alone. Shapes: x [B, n, d] · y, w [B, n] (w = 1 for a row of the fold, 0 for padding) · z, p, yh [B, n, K].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from methods.parts.training.columns import MODELS, OPTIMISERS
from methods.parts.training.folds import smote, standardise, stratified
from rankrepro.cell import Cell, Predictions, Size

# The largest integer for which A(1) < 1 in float64: the gradient of a confident mistake is tiny, never exactly zero.
STEEP = 73
CHUNK = 500_000  # B * n * K trained at once; bounds memory and changes nothing else
POINTS = 20  # points of a training curve


# --- the loss --------------------------------------------------------------------------------------------------------


def amplify(p: Tensor, steep: float | Tensor = STEEP) -> Tensor:
    """A(p) = 1 / (1 + exp(-L (p - 1/2)))."""
    return (steep * (p - 0.5)).sigmoid()


class Confusion(NamedTuple):
    """Four sums [B, K], soft or hard."""

    tn: Tensor
    fp: Tensor
    fn: Tensor
    tp: Tensor


def confusion(y: Tensor, yh: Tensor, w: Tensor) -> Confusion:
    """TP = sum y yh, FP = sum (1 - y) yh, FN = sum y (1 - yh), TN = sum (1 - y)(1 - yh), over the rows with w = 1."""
    classes = torch.stack((w * y, w * (1 - y)), 1)  # [B, 2, n]
    tp, fp = torch.bmm(classes, yh).unbind(1)
    positives, negatives = classes.sum(2, keepdim=True).unbind(1)  # [B, 1]
    return Confusion(negatives - fp, fp, positives - tp, tp)


def accuracy(c: Confusion) -> Tensor:
    return (c.tp + c.tn) / (c.tn + c.fp + c.fn + c.tp)


def f_beta(beta: float) -> Callable[[Confusion], Tensor]:
    b2 = beta * beta
    return lambda c: (1 + b2) * c.tp / ((1 + b2) * c.tp + b2 * c.fn + c.fp)


def g_mean(c: Confusion) -> Tensor:
    """sqrt(sensitivity * specificity); the floor keeps the root's slope finite where one of them is zero."""
    return (c.tp / (c.tp + c.fn) * c.tn / (c.tn + c.fp)).clamp_min(1e-30).sqrt()


def balanced_accuracy(c: Confusion) -> Tensor:
    return (c.tp / (c.tp + c.fn) + c.tn / (c.tn + c.fp)) / 2


METRICS: Mapping[str, Callable[[Confusion], Tensor]] = {
    "acc": accuracy,
    "f1": f_beta(1),
    "f05": f_beta(0.5),
    "f2": f_beta(2),
    "gmean": g_mean,
    "bacc": balanced_accuracy,
}


# --- the losses it is compared with ----------------------------------------------------------------------------------


def raised_cosine(p: Tensor, mu: float = 0.5, delta: float = 0.1) -> Tensor:
    """Score-oriented loss: the distribution function of a random threshold in [mu - delta, mu + delta]."""
    t = ((p - mu) / delta).clamp(-1, 1)
    return (1 + t + (math.pi * t).sin() / math.pi) / 2


def row_mean(values: Tensor, w: Tensor) -> Tensor:
    """[B, n, K] -> [B, K], rows weighted by w."""
    return torch.bmm(w[:, None], values)[:, 0] / w.sum(1, keepdim=True)


def cross_entropy(z: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """-log p of the true class."""
    return row_mean(-logsigmoid(z * (2 * y - 1)[..., None]), w)


def weighted_cross_entropy(z: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """Cross-entropy in which both classes have the same total weight."""
    positives, negatives = (w * y).sum(1, keepdim=True), (w * (1 - y)).sum(1, keepdim=True)
    return cross_entropy(z, y, w * (y / positives + (1 - y) / negatives))


def squared_error(z: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """On a linear output with labels -1 and +1: the sign decides, as for every other loss here."""
    return row_mean((z - (2 * y - 1)[..., None]).square(), w)


# In the order of columns: first the losses made from a metric, then the plain ones.
SOFT = ("any", "sol_uniform", "sol_cosine")
PLAIN = {"bce": cross_entropy, "weighted": weighted_cross_entropy, "mse": squared_error}


@dataclass(frozen=True, order=True)
class Loss:
    """A `kind` of SOFT or PLAIN; a SOFT one has a `metric` of METRICS and a steepness."""

    kind: str
    metric: str = ""
    steep: float = STEEP

    @property
    def rank(self) -> int:
        return (*SOFT, *PLAIN).index(self.kind)


def objective(losses: Sequence[Loss]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """(z [B, n, K], y, w) -> the loss of each column [B, K]. `losses`: one per column, sorted by `rank`."""
    assert list(losses) == sorted(losses, key=lambda loss: loss.rank)
    sizes = [sum(loss.kind == kind for loss in losses) for kind in (*SOFT, *PLAIN)]
    soft = [loss for loss in losses if loss.kind in SOFT]
    steep = torch.tensor([loss.steep for loss in soft[: sizes[0]]], dtype=torch.float64)
    is_metric = torch.tensor([[float(loss.metric == m) for m in METRICS] for loss in soft], dtype=torch.float64)

    def values(z: Tensor, y: Tensor, w: Tensor) -> Tensor:
        amplified, uniform, cosine, *plain = z.split(sizes, 2)
        out = [f(part, y, w) for f, part in zip(PLAIN.values(), plain, strict=True)]
        if soft:
            parts = (amplify(amplified.sigmoid(), steep), uniform.sigmoid(), raised_cosine(cosine.sigmoid()))
            matrices = zip(*(confusion(y, yh, w) for yh in parts), strict=True)
            c = Confusion(*(torch.cat(cells, 1) for cells in matrices))
            metrics = torch.stack([m(c) for m in METRICS.values()], 2)  # [B, K, 6], of which each column has one
            out.insert(0, 1 - (metrics * is_metric).sum(2))
        return torch.cat(out, 1)

    return values


# --- training --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """How a model is trained: full batch, a fixed number of steps, the best rate of a grid.

    validation  share of each class of a training fold on which the rate is chosen
    hidden      number of the network's hidden units
    """

    optimiser: Literal["gradient_descent", "adam"]
    steps: Annotated[int, Size(work=1, rehearsal=20)]
    rates: Annotated[tuple[float, ...], Size(rehearsal=2)]
    validation: float
    hidden: int


@dataclass(frozen=True)
class Sweep:
    """Further arms: steepnesses L for some metrics, the rivals' soft losses for some."""

    steep_metrics: tuple[str, ...]
    steeps: tuple[int, ...]
    sol_metrics: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """Training and evaluation rows of one fold: fit_x [n, d], fit_y [n], eval_x [m, d]; and the seed of its start."""

    fit_x: np.ndarray
    fit_y: np.ndarray
    eval_x: np.ndarray
    seed: tuple[int, ...] = (0,)


Log = Callable[[int, int, Tensor], None]  # step, part, losses [K]


def train(
    model: str,
    parts: Sequence[Part],
    losses: Sequence[Loss],
    rate: Tensor,
    training: Training,
    log: Log = lambda step, part, values: None,
) -> list[Tensor]:
    """Train every loss on every part from the same start, full batch; `rate` is [B, K].

    Returns the scores z [m, K] of each part's evaluation rows; `log` gets the training losses at POINTS steps.
    """
    order = sorted(range(len(losses)), key=lambda i: losses[i].rank)
    back = np.argsort(order)
    rows = max(len(part.fit_y) for part in parts)
    size = max(1, CHUNK // (rows * len(losses)))
    out: list[Tensor] = []
    for i in range(0, len(parts), size):
        chunk, columns = parts[i : i + size], [losses[k] for k in order]

        def log_chunk(step: int, part: int, values: Tensor, first: int = i) -> None:
            log(step, first + part, values[back])

        scores = _train(model, chunk, columns, rate[i : i + size, order], training, log_chunk)
        out += [z[:, back] for z in scores]
    return out


def _train(
    model: str, parts: Sequence[Part], losses: Sequence[Loss], rate: Tensor, training: Training, log: Log
) -> list[Tensor]:
    standard = [standardise(part.fit_x, part.eval_x) for part in parts]
    rows, d = max(len(x) for x, _ in standard), standard[0][0].shape[1]
    x = torch.zeros(len(parts), rows, d, dtype=torch.float64)
    y, w = (torch.zeros(len(parts), rows, dtype=torch.float64) for _ in range(2))
    for b, part in enumerate(parts):
        n = len(part.fit_y)
        x[b, :n], y[b, :n], w[b, :n] = torch.tensor(standard[b][0]), torch.tensor(part.fit_y), 1
    cov = torch.bmm(x.transpose(1, 2), x) / w.sum(1)[:, None, None]

    start, score = MODELS[model]
    starts = zip(*(start(d, np.random.default_rng(part.seed), training.hidden) for part in parts), strict=True)
    p = [torch.cat(a).repeat(*[1] * (a[0].dim() - 1), len(losses)).requires_grad_() for a in starts]
    loss_of = objective(losses)
    step = 0

    def grads() -> Sequence[Tensor]:
        nonlocal step
        values = loss_of(score(p, x, cov), y, w)  # [B, K]
        if step % max(1, training.steps // POINTS) == 0:
            for b, row in enumerate(values.detach()):
                log(step, b, row)
        step += 1
        return torch.autograd.grad(values.sum(), p)

    OPTIMISERS[training.optimiser](p, grads, rate, training.steps)
    with torch.no_grad():
        return [
            score([a[b : b + 1] for a in p], torch.tensor(test)[None], cov[b : b + 1])[0]
            for b, (_, test) in enumerate(standard)
        ]


# --- the same search for every arm -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arm:
    """A loss, and the metric by which its learning rate (and, if `tuned`, its threshold) is chosen."""

    name: str
    loss: Loss
    metric: str
    tuned: bool = False


def hard_metrics(z: Tensor, y: np.ndarray, threshold: Tensor | float = 0.5) -> Tensor:
    """Scores z [m, K] or [m, K, T] -> the six metrics [K, 6] or [K, T, 6] of the decisions `p > threshold`."""
    decision = (z.sigmoid() > threshold).double()
    flat = decision.reshape(1, len(y), -1)
    truth = torch.tensor(y, dtype=torch.float64)[None]
    c = confusion(truth, flat, torch.ones_like(truth))
    return torch.stack([m(c)[0] for m in METRICS.values()], 1).reshape(*decision.shape[1:], len(METRICS))


CURVES = {f"{kind}_{m}" for kind in ("any", "bce") for m in METRICS}  # arms whose training losses are logged


def decide(
    model: str,
    folds: Sequence[Any],
    arms: Sequence[Arm],
    training: Training,
    seed: int,
    grow: bool = False,
    log: Callable[..., None] = lambda step, **values: None,
) -> dict[str, list[np.ndarray]]:
    """Arm -> the decisions on each fold's test rows. `log` gets the training losses of the arms in CURVES.

    For every arm alike: train at each rate of the grid on a stratified part of the training fold, score the remaining
    rows by the arm's metric, retrain on the whole training fold at the best rate (ties: the first of the grid).
    A tuned arm chooses rate and threshold together (ties: the median threshold). `grow`: over-sample training rows.
    """
    grid = list(training.rates)
    rngs = [np.random.default_rng((seed, i)) for i in range(len(folds))]
    held = [stratified(f.train_y, training.validation, rng) for f, rng in zip(folds, rngs, strict=True)]
    inner = [(f.train_x[~h], f.train_y[~h], f.train_x[h]) for f, h in zip(folds, held, strict=True)]
    outer = [(f.train_x, f.train_y, f.test_x) for f in folds]
    if grow:
        inner = [(*smote(x, y, rng), e) for (x, y, e), rng in zip(inner, rngs, strict=True)]
        outer = [(*smote(x, y, rng), e) for (x, y, e), rng in zip(outer, rngs, strict=True)]

    losses = sorted({arm.loss for arm in arms})
    columns = [loss for loss in losses for _ in grid]
    rates = torch.tensor([grid * len(losses)] * len(folds), dtype=torch.float64)
    seeds = [(seed, i) for i in range(len(folds))]
    validation = train(model, [Part(*p, s) for p, s in zip(inner, seeds, strict=True)], columns, rates, training)

    chosen = torch.zeros(len(folds), len(arms), dtype=torch.float64)
    threshold = torch.full_like(chosen, 0.5)
    candidates = torch.arange(1, 100, dtype=torch.float64) / 100
    for b, (f, h) in enumerate(zip(folds, held, strict=True)):
        plain = hard_metrics(validation[b], f.train_y[h])  # [losses * grid, 6]
        for j, arm in enumerate(arms):
            first, m = losses.index(arm.loss) * len(grid), list(METRICS).index(arm.metric)
            if not arm.tuned:
                chosen[b, j] = grid[int(plain[first : first + len(grid), m].argmax())]
                continue
            z = validation[b][:, first : first + len(grid), None]
            value = hard_metrics(z.expand(-1, -1, len(candidates)), f.train_y[h], candidates)[..., m]  # [grid, T]
            best = int(value.max(1).values.argmax())
            chosen[b, j] = grid[best]
            threshold[b, j] = candidates[value[best] == value[best].max()].median()

    columns, rates, at = share_columns(losses, arms, chosen, len(grid))
    curves = [(j, arm.name) for j, arm in enumerate(arms) if arm.name in CURVES]

    def log_curves(step: int, b: int, values: Tensor) -> None:
        log(step, **{f"{model}_{name}": float(values[at[b, j]]) for j, name in curves})

    test = train(model, [Part(*p, s) for p, s in zip(outer, seeds, strict=True)], columns, rates, training, log_curves)
    decisions = [(z[:, at[b]].sigmoid() > threshold[b]).to(torch.int64).numpy() for b, z in enumerate(test)]
    return {arm.name: [d[:, j] for d in decisions] for j, arm in enumerate(arms)}


def share_columns(
    losses: Sequence[Loss], arms: Sequence[Arm], chosen: Tensor, n_rates: int
) -> tuple[list[Loss], Tensor, Tensor]:
    """Arms with the same loss and, in a fold, the same rate share a training. Rates `chosen` are [B, arms].

    Returns the loss of each column, the rates [B, columns] and the column of each arm [B, arms]. A loss has as many
    columns as a fold may need; a fold that needs fewer repeats its first rate.
    """
    columns: list[Loss] = []
    rates: list[list[float]] = [[] for _ in chosen]
    at = torch.zeros(chosen.shape, dtype=torch.int64)
    for loss in losses:
        members = [j for j, arm in enumerate(arms) if arm.loss == loss]
        width = min(len(members), n_rates)
        for b, row in enumerate(chosen[:, members].tolist()):
            distinct = list(dict.fromkeys(row))
            at[b, members] = torch.tensor([len(columns) + distinct.index(r) for r in row])
            rates[b] += distinct + distinct[:1] * (width - len(distinct))
        columns += [loss] * width
    return columns, torch.tensor(rates, dtype=torch.float64), at


# --- the arms --------------------------------------------------------------------------------------------------------


def arms_of(sweep: Sweep) -> list[Arm]:
    """Every arm but the over-sampled and shuffled ones: `<loss>_<metric>`, and `_l<L>` in the sweep of steepness."""
    arms = [Arm(f"any_{m}", Loss("any", m), m) for m in METRICS]
    arms += [Arm(f"any_{m}_l{s}", Loss("any", m, s), m) for m in sweep.steep_metrics for s in sweep.steeps]
    arms += [Arm(f"{kind}_{m}", Loss(kind, m), m) for kind in SOFT[1:] for m in sweep.sol_metrics]
    arms += [Arm(f"{kind}_{m}", Loss(kind), m) for kind in PLAIN for m in METRICS]
    return arms + [Arm(f"tuned_{m}", Loss("bce"), m, tuned=True) for m in METRICS]


def _run(cell: Cell, model: str, training: Training, sweep: Sweep) -> dict[str, Predictions]:
    benchmark: Any = cell.benchmark

    def task(units: list[str]) -> dict[str, dict[str, list[int]]]:
        return {u: _task(benchmark.tasks[u], model, training, sweep, cell.seed, cell.history.log) for u in units}

    done = cell.map(list(cell.queries), task, batch=1)
    names = next(iter(done.values()))
    return {f"{model}_{name}": Predictions({u: done[u][name] for u in done}) for name in names}


def _task(
    task: Any, model: str, training: Training, sweep: Sweep, seed: int, log: Callable[..., None]
) -> dict[str, list[int]]:
    """Arm -> the decision on each row of the task, made in the fold that tests it."""
    folds = task.folds
    rng = np.random.default_rng(seed)
    shuffled = [SimpleNamespace(train_x=f.train_x, train_y=rng.permutation(f.train_y), test_x=f.test_x) for f in folds]
    placebo = [Arm(f"any_{m}_shuffled", Loss("any", m), m) for m in ("f1", "bacc")]
    decisions = {
        **decide(model, folds, arms_of(sweep), training, seed, log=log),
        **decide(model, folds, [Arm(f"smote_{m}", Loss("bce"), m) for m in METRICS], training, seed, grow=True),
        **decide(model, shuffled, placebo, training, seed),
    }
    rows = np.concatenate([f.rows for f in folds])
    order = np.argsort(rows)
    return {name: np.concatenate(parts)[order].tolist() for name, parts in decisions.items()}


def slp_arms(cell: Cell, *, training: Training, sweep: Sweep) -> dict[str, Predictions]:
    """Logistic regression (one linear layer) under every loss; variants `slp_<arm>`."""
    return _run(cell, "slp", training, sweep)


def mlp_arms(cell: Cell, *, training: Training, sweep: Sweep) -> dict[str, Predictions]:
    """The paper's two-unit network under every loss; variants `mlp_<arm>`."""
    return _run(cell, "mlp", training, sweep)


# --- the paper's own recipe ------------------------------------------------------------------------------------------

FASTER = 10  # times the paper's learning rate, for the arms that are trained further in as many steps
PUBLISHED: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {  # z [B, n, K], y, w -> [B, K]
    "any_f1": lambda z, y, w: 1 - f_beta(1)(confusion(y, amplify(z.sigmoid()), w)),
    "bce_f1": cross_entropy,
}
DECAY, EPSILON = 0.99, 1e-3  # of Keras's BatchNorm


def mlp_published(
    cell: Cell, *, rate: float, epochs: Annotated[int, Size(work=1, rehearsal=1)], batches: int, hidden: int
) -> dict[str, Predictions]:
    """The paper's network by its own recipe: Adam at one fixed rate, mini-batches, no search, no held-out rows.

    Variants `mlp_<loss>_published` and, at ten times the rate, `mlp_<loss>_published_x10`, for the F1 loss and
    cross-entropy. Every fold and arm starts from new weights, which the authors' notebook does not do.

    batches  of an epoch; the paper's are 5 % of a training fold each
    """
    benchmark: Any = cell.benchmark

    def task(units: list[str]) -> dict[str, dict[str, list[int]]]:
        return {u: decided_on(benchmark.tasks[u].folds) for u in units}

    def decided_on(folds: Sequence[Any]) -> dict[str, list[int]]:
        parts = [Part(f.train_x, f.train_y, f.test_x, (cell.seed, i)) for i, f in enumerate(folds)]
        scores = train_published(parts, rate, epochs, batches, hidden, cell.history.log)
        order = np.argsort(np.concatenate([f.rows for f in folds]))
        decided = (torch.cat(scores) > 0)[torch.as_tensor(order)].to(torch.int64)
        return {name: decided[:, k].tolist() for k, name in enumerate(published_names())}

    done = cell.map(list(cell.queries), task, batch=1)
    return {name: Predictions({u: done[u][name] for u in done}) for name in published_names()}


def published_names() -> list[str]:
    """The variants, in the order of columns."""
    return [f"mlp_{loss}_published{times}" for loss in PUBLISHED for times in ("", f"_x{FASTER}")]


def train_published(
    parts: Sequence[Part],
    rate: float,
    epochs: int,
    batches: int,
    hidden: int,
    log: Callable[..., None] = lambda step, **values: None,
) -> list[Tensor]:
    """Train the losses of PUBLISHED on every part, at the rate and at FASTER times the rate: four columns.

    Returns the scores z [m, K] of each part's evaluation rows.

    An epoch deals the rows of a fold, shuffled, into `batches` of equal size (to one row). BatchNorm takes mean and
    variance of the batch in training and their moving averages afterwards, as Keras does.
    """
    standard = [standardise(part.fit_x, part.eval_x) for part in parts]
    rows, d = max(len(x) for x, _ in standard), standard[0][0].shape[1]
    x = torch.zeros(len(parts), rows, d, dtype=torch.float64)
    y = torch.zeros(len(parts), rows, dtype=torch.float64)
    for b, part in enumerate(parts):
        n = len(part.fit_y)
        x[b, :n], y[b, :n] = torch.tensor(standard[b][0]), torch.tensor(part.fit_y)

    columns, rngs = len(published_names()), [np.random.default_rng((*part.seed, 1)) for part in parts]
    rates = torch.tensor([[rate, FASTER * rate] * len(PUBLISHED)] * len(parts), dtype=torch.float64)
    start, _ = MODELS["mlp"]
    starts = zip(*(start(d, np.random.default_rng(part.seed), hidden) for part in parts), strict=True)
    p = [torch.cat(a).repeat(*[1] * (a[0].dim() - 1), columns).requires_grad_() for a in starts]
    mean = torch.zeros(len(parts), 1, hidden * columns, dtype=torch.float64)
    variance = torch.ones_like(mean)
    folds, steps, step = torch.arange(len(parts))[:, None], epochs * batches, 0
    dealt: list[list[np.ndarray]] = []

    def grads() -> Sequence[Tensor]:
        nonlocal step, dealt, mean, variance
        if step % batches == 0:
            dealt = [
                np.array_split(rng.permutation(len(part.fit_y)), batches) for rng, part in zip(rngs, parts, strict=True)
            ]
        at, w = padded([fold[step % batches] for fold in dealt])
        h = torch.bmm(x[folds, at], p[0].flatten(2))  # [B, n, hidden * K]
        share = (w / w.sum(1, keepdim=True))[..., None]
        m = (share * h).sum(1, keepdim=True)
        v = (share * (h - m).square()).sum(1, keepdim=True)
        mean, variance = (DECAY * old + (1 - DECAY) * new.detach() for old, new in ((mean, m), (variance, v)))
        z = _network(p, (h - m) * (v + EPSILON).rsqrt()).split(2, 2)
        values = torch.cat([loss(c, y[folds, at], w) for loss, c in zip(PUBLISHED.values(), z, strict=True)], 1)
        if step % max(1, steps // POINTS) == 0:
            for row in values.detach().tolist():
                log(step, **dict(zip(published_names(), row, strict=True)))
        step += 1
        return torch.autograd.grad(values.sum(), p)

    OPTIMISERS["adam"](p, grads, rates, steps)
    with torch.no_grad():
        normalised = (
            (torch.tensor(test) @ p[0][b].flatten(1) - mean[b]) * (variance[b] + EPSILON).rsqrt()
            for b, (_, test) in enumerate(standard)
        )
        return [_network([a[b : b + 1] for a in p], h[None])[0] for b, h in enumerate(normalised)]


def padded(rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Rows of each fold [B, n], the first again where a fold has fewer, and their weights: 1, or 0 for padding."""
    at = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    w = torch.zeros(at.shape, dtype=torch.float64)
    for b, own in enumerate(rows):
        at[b, : len(own)], w[b, : len(own)] = torch.as_tensor(own), 1
    return at, w


def _network(p: Sequence[Tensor], normalised: Tensor) -> Tensor:
    """What follows the normalisation [B, n, hidden * K] -> z [B, n, K]."""
    _, gamma, beta, v, bias = p
    h = (gamma.flatten(2) * normalised + beta.flatten(2)).sigmoid().unflatten(2, gamma.shape[2:])
    return (h * v).sum(2) + bias


def constant(cell: Cell) -> dict[str, Predictions]:
    """The floors of all six metrics, without a model: one answer for every row."""
    benchmark: Any = cell.benchmark
    rows = {unit: sum(len(f.rows) for f in benchmark.tasks[unit].folds) for unit in cell.queries}
    return {
        "all_negative": Predictions({u: [0] * n for u, n in rows.items()}),
        "all_positive": Predictions({u: [1] * n for u, n in rows.items()}),
    }
