"""The losses against the paper's closed forms, finite differences and limits; training against training alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from methods.language_models import anyloss
from methods.language_models.anyloss import (
    METRICS,
    STEEP,
    Arm,
    Loss,
    Part,
    Sweep,
    Training,
    amplify,
    confusion,
    objective,
    train,
)
from methods.parts.training import columns
from methods.parts.training.folds import smote, standardise, stratified
from rankrepro.benchmarks.tabular import Fold, TabularBenchmark, Task
from rankrepro.cell import Cell, History

MakeCell = Callable[..., Cell]
DESCENT = Training("gradient_descent", steps=40, rates=(0.3, 0.03), validation=0.25, hidden=2)
ADAM = replace(DESCENT, optimiser="adam", rates=(0.05, 0.01))
SWEEP = Sweep(steep_metrics=("f1",), steeps=(30, 110), sol_metrics=("f1",))
ALL = [
    *(Loss("any", m) for m in METRICS),
    *(Loss(kind, m) for kind in ("sol_uniform", "sol_cosine") for m in METRICS),
    *(Loss(kind) for kind in anyloss.PLAIN),
]


def batch(folds: int = 2, n: int = 40, d: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(folds, n, d, generator=g, dtype=torch.float64)
    y = (x[..., 0] + torch.randn(folds, n, generator=g, dtype=torch.float64) > 0.8).double()
    return x, y, torch.ones(folds, n, dtype=torch.float64)


def parts(sizes: tuple[int, ...] = (60, 45, 52), d: int = 4, seed: int = 1) -> list[Part]:
    rng = np.random.default_rng(seed)
    out = []
    for n in sizes:
        x = rng.normal(size=(n + 7, d)) * 3 + 1
        y = (x[:, 0] + rng.normal(size=n + 7) > 3).astype(int)
        y[:2] = 0, 1
        out.append(Part(x[:n], y[:n], x[n:], (seed, n)))
    return out


# --- the amplifier and the matrix ---


@pytest.mark.parametrize("n", [1, 64])  # scalar and vectorised code
def test_73_is_the_last_integer_at_which_certainty_stays_below_one(n: int) -> None:
    one, half = torch.ones(n, dtype=torch.float64), torch.full((n,), 0.5, dtype=torch.float64)
    assert (amplify(one, 73) < 1).all() and (amplify(one, 74) == 1).all()
    assert STEEP == 73 and (amplify(half) == 0.5).all()


def test_infinite_steepness_gives_the_hard_matrix_and_any_steepness_sums_to_n() -> None:
    _, y, w = batch()
    p = torch.rand(2, 40, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    hard = confusion(y, (p > 0.5).double(), w)
    steep = confusion(y, amplify(p, 1e9), w)
    assert all(torch.equal(a, b) for a, b in zip(hard, steep, strict=True))
    assert not torch.allclose(confusion(y, amplify(p), w).tp, hard.tp)
    torch.testing.assert_close(sum(confusion(y, amplify(p), w)), torch.full((2, 5), 40.0, dtype=torch.float64))


def test_f1_by_hand() -> None:
    y = torch.tensor([[1.0, 1, 0, 0]], dtype=torch.float64)
    yh = torch.tensor([[[0.9], [0.2], [0.3], [0.0]]], dtype=torch.float64)
    c = confusion(y, yh, torch.ones_like(y))
    assert [round(float(v), 12) for v in c] == [1.7, 0.3, 0.9, 1.1]
    assert float(METRICS["f1"](c)) == pytest.approx(2 * 1.1 / (2 + 1.4))


def test_metrics_of_hard_decisions_are_scikit_learns() -> None:
    _, y, w = batch(1, 200)
    yh = (torch.rand(1, 200, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64) > 0.6).double()
    c = confusion(y, yh, w)
    a, b = y[0].numpy(), yh[0, :, 0].numpy()
    recalls = reference.recall_score(a, b, average=None)
    expected = {
        "acc": reference.accuracy_score(a, b),
        "f1": reference.f1_score(a, b),
        "f05": reference.fbeta_score(a, b, beta=0.5),
        "f2": reference.fbeta_score(a, b, beta=2),
        "gmean": math.sqrt(recalls[0] * recalls[1]),
        "bacc": reference.balanced_accuracy_score(a, b),
    }
    assert {m: float(f(c)) for m, f in METRICS.items()} == pytest.approx(expected, abs=1e-12)


# --- gradients ---


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: f"{loss.kind}-{loss.metric}")
def test_gradient_is_that_of_finite_differences(loss: Loss) -> None:
    x, y, w = batch(2, 12, 3)
    w[:, -2:] = 0
    start = torch.randn(2, 3, 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    theta = (0.05 * start).requires_grad_()
    of = objective([loss])
    assert torch.autograd.gradcheck(lambda t: of(torch.bmm(x, t), y, w), theta, eps=1e-7, atol=1e-5)
    assert torch.autograd.grad(of(torch.bmm(x, theta), y, w).sum(), theta)[0].abs().max() > 1e-3


@pytest.mark.parametrize(("name", "b2"), [("f1", 1.0), ("f05", 0.25), ("f2", 4.0)])
def test_gradient_of_f_beta_is_the_papers(name: str, b2: float) -> None:
    x, y, theta, a, s_y, s_h, s_yh = chain()
    loss = objective([Loss("any", name)])(torch.bmm(x, theta), y, torch.ones_like(y))
    (gradient,) = torch.autograd.grad(loss.sum(), theta)
    xt = x.transpose(1, 2)
    denominator = b2 * s_y + s_h
    top = denominator * torch.bmm(xt, y[..., None] * a) - s_yh * torch.bmm(xt, a)
    torch.testing.assert_close(gradient, -(1 + b2) * top / denominator**2)


def test_accuracy_g_mean_and_balanced_accuracy_are_the_papers_closed_forms() -> None:
    x, y, theta, a, s_y, s_h, s_yh = chain()
    n, w, xt = y.shape[1], torch.ones_like(y), x.transpose(1, 2)
    dh, dyh = torch.bmm(xt, a), torch.bmm(xt, y[..., None] * a)
    value = torch.sqrt(s_yh * (n - s_h - s_y + s_yh) / (s_y * (n - s_y)))
    forms = {
        "acc": ((n - s_y - s_h + 2 * s_yh) / n, (2 * dyh - dh) / n),
        "gmean": (
            value,
            # the factor is 1/2: the official notebook has 2
            0.5 * (dyh * (n - s_h - s_y + s_yh) + s_yh * (dyh - dh)) / (s_y * (n - s_y)) / value,
        ),
        "bacc": (
            (n * (s_yh + s_y) - s_y * (s_h + s_y)) / (2 * s_y * (n - s_y)),
            (n * dyh - s_y * dh) / (2 * s_y * (n - s_y)),
        ),
    }
    for name, (metric, slope) in forms.items():
        loss = objective([Loss("any", name)])(torch.bmm(x, theta), y, w)
        torch.testing.assert_close(loss[..., None], 1 - metric)
        torch.testing.assert_close(torch.autograd.grad(loss.sum(), theta)[0], -slope)


def chain() -> tuple[torch.Tensor, ...]:
    """x, y, theta, dA/dz = L yh (1 - yh) p (1 - p) and the sums S_y, S_h, S_yh, by the paper's formulas."""
    x, y, _ = batch()
    theta = torch.full((2, 3, 1), 0.05, dtype=torch.float64, requires_grad=True)
    p = 1 / (1 + torch.exp(-torch.bmm(x, theta).detach()))
    yh = 1 / (1 + torch.exp(-STEEP * (p - 0.5)))
    a = STEEP * yh * (1 - yh) * p * (1 - p)
    s_y, s_h, s_yh = y.sum(1)[:, None, None], yh.sum(1, keepdim=True), (y[..., None] * yh).sum(1, keepdim=True)
    return x, y, theta, a, s_y, s_h, s_yh


@pytest.mark.parametrize("steep", [73, 110])
def test_a_saturated_model_has_a_finite_gradient(steep: float) -> None:
    _, y, w = batch()
    z = torch.full((2, 40, 6), 60.0, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(objective([Loss("any", m, steep) for m in METRICS])(z, y, w).sum(), z)
    assert torch.isfinite(grad).all()


# --- the others ---


def test_raised_cosine_is_a_distribution_function_on_its_interval() -> None:
    p = torch.tensor([0.0, 0.4, 0.5, 0.6, 1.0], dtype=torch.float64)
    torch.testing.assert_close(anyloss.raised_cosine(p), torch.tensor([0, 0, 0.5, 1, 1], dtype=torch.float64))
    inside = anyloss.raised_cosine(torch.linspace(0.4, 0.6, 50, dtype=torch.float64))
    assert (inside.diff() >= 0).all() and inside[12] < 0.2
    t = 0.3  # at mu + t * delta: (1 + t + sin(pi t) / pi) / 2
    assert float(anyloss.raised_cosine(torch.tensor(0.53, dtype=torch.float64))) == pytest.approx(
        (1 + t + math.sin(math.pi * t) / math.pi) / 2
    )


def test_plain_losses_against_torch() -> None:
    _, y, w = batch(1, 30)
    z = torch.randn(1, 30, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    bce, weighted, mse = objective([Loss("bce"), Loss("weighted"), Loss("mse")])(z.expand(-1, -1, 3), y, w)[0]
    f, target = torch.nn.functional, y[0]
    torch.testing.assert_close(bce, f.binary_cross_entropy_with_logits(z[0, :, 0], target))
    share = target.mean()
    scale = torch.where(target == 1, 0.5 / share, 0.5 / (1 - share))
    torch.testing.assert_close(weighted, f.binary_cross_entropy_with_logits(z[0, :, 0], target, weight=scale))
    torch.testing.assert_close(mse, f.mse_loss(z[0, :, 0], 2 * target - 1))


def test_smote_balances_with_points_between_minority_neighbours() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate((rng.normal(size=(50, 2)), rng.uniform(10, 11, size=(8, 2))))
    y = np.repeat([0, 1], [50, 8])
    grown, labels = smote(x, y, rng)
    assert labels.sum() == 50 and (labels == 0).sum() == 50
    assert np.array_equal(grown[:58], x)
    new = grown[58:]
    assert new.min() >= 10 and new.max() <= 11
    assert len(np.unique(new, axis=0)) == 42


def test_stratified_holds_out_a_share_of_each_class() -> None:
    y = np.repeat([0, 1], [100, 9])
    held = stratified(y, 0.25, np.random.default_rng(0))
    assert held[y == 0].sum() == 25 and held[y == 1].sum() == 2
    assert not np.array_equal(held, stratified(y, 0.25, np.random.default_rng(1)))


# --- training ---


@pytest.mark.parametrize(("model", "training"), [("slp", DESCENT), ("mlp", ADAM)])
def test_training_side_by_side_is_training_alone(
    model: str, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padding of smaller folds, tensors shared by columns and cutting into chunks must change nothing."""
    folds = parts()
    rate = torch.linspace(0.01, 0.1, len(ALL), dtype=torch.float64).repeat(len(folds), 1)
    together = train(model, folds, ALL, rate, training)
    monkeypatch.setattr(anyloss, "CHUNK", 1)
    for a, b in zip(together, train(model, folds, ALL, rate, training), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)
    for b, k in [(0, 0), (1, 4), (2, len(ALL) - 1)]:
        (alone,) = train(model, folds[b : b + 1], ALL[k : k + 1], rate[b : b + 1, k : k + 1], training)
        torch.testing.assert_close(together[b][:, k], alone[:, 0], rtol=0, atol=1e-9)
    assert together[0].std(0).min() > 1e-3


def test_padding_has_no_influence() -> None:
    _, y, w = batch(1, 20)
    z = torch.randn(1, 20, len(ALL), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    of, more = objective(ALL), torch.randn(1, 5, len(ALL), dtype=torch.float64)
    padded = of(torch.cat((z, more), 1), torch.cat((y, torch.ones(1, 5)), 1), torch.cat((w, torch.zeros(1, 5)), 1))
    torch.testing.assert_close(padded, of(z, y, w))


def test_batch_norm_of_the_whole_fold_is_torchs() -> None:
    rng = np.random.default_rng(0)
    fit, other = standardise(rng.normal(size=(30, 4)) @ rng.normal(size=(4, 4)), rng.normal(size=(5, 4)))
    x = torch.tensor(fit)
    p = columns.mlp_start(4, rng, 2)
    p[1] = torch.tensor([1.5, 0.5]).double().view(1, 1, 2, 1)
    p[2] = torch.tensor([0.2, -0.1]).double().view(1, 1, 2, 1)
    z = columns.mlp(p, x[None], (x.T @ x / 30)[None])[0, :, 0]
    h = torch.nn.functional.batch_norm(
        x @ p[0][0, :, :, 0], None, None, p[1].flatten(), p[2].flatten(), training=True, eps=1e-3
    )
    torch.testing.assert_close(z, torch.sigmoid(h) @ p[3].flatten())
    assert other.shape == (5, 4)


def test_trained_long_cross_entropy_is_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    (part,) = parts((300,))
    long = replace(DESCENT, steps=5000)
    (z,) = train("slp", [part], [Loss("bce")], torch.tensor([[2.0]], dtype=torch.float64), long)
    fit, other = standardise(part.fit_x, part.eval_x)
    expected = LogisticRegression(C=math.inf, tol=1e-10, max_iter=10_000).fit(fit, part.fit_y).decision_function(other)
    np.testing.assert_allclose(z[:, 0].numpy(), expected, atol=1e-4)


def test_adam_is_torchs() -> None:
    torch.manual_seed(0)
    a = torch.randn(1, 3, 1, dtype=torch.float64)
    mine, theirs = a.clone().requires_grad_(), a.clone().requires_grad_()
    columns.adam([mine], lambda: torch.autograd.grad((mine**4).sum(), [mine]), torch.tensor([[0.05]]).double(), 20)
    optimiser = torch.optim.Adam([theirs], lr=0.05, eps=1e-7)
    for _ in range(20):
        optimiser.zero_grad()
        (theirs**4).sum().backward()
        optimiser.step()
    torch.testing.assert_close(mine, theirs)


def test_the_f1_loss_finds_positives_where_cross_entropy_does_not() -> None:
    """5 % positives that overlap: cross-entropy predicts almost none of them, the F1 loss does."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [950, 50])
    x = rng.normal(size=(1000, 2)) + y[:, None]
    rate = torch.full((1, 2), 0.1, dtype=torch.float64)
    (z,) = train("slp", [Part(x, y, x)], [Loss("any", "f1"), Loss("bce")], rate, replace(DESCENT, steps=300))
    any_f1, bce = (reference.f1_score(y, z[:, k].numpy() > 0) for k in range(2))
    assert any_f1 > bce + 0.1


# --- search and arms ---


def task_of(n: int = 90, k: int = 3, seed: int = 0) -> Task:
    """n rows whose first feature tells the label, divided into k folds."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    y = (x[:, 0] + 0.5 * rng.normal(size=n) > 0.6).astype(int)
    labels = np.tile(y, (k, 1))
    labels[rng.permutation(n) % k, np.arange(n)] = -1
    return Task("a", "drawn", x, labels)


def test_arms_with_one_loss_and_one_rate_are_trained_once() -> None:
    bce = Loss("bce")
    arms = [Arm("a", bce, "f1"), Arm("b", Loss("any", "f1"), "f1"), Arm("c", bce, "acc"), Arm("d", bce, "f2")]
    chosen = torch.tensor([[0.1, 0.2, 0.1, 0.3], [0.1, 0.2, 0.1, 0.1]], dtype=torch.float64)
    columns, rates, at = anyloss.share_columns(sorted({a.loss for a in arms}), arms, chosen, 2)
    assert len(columns) == 3 and rates.shape == (2, 3)
    for b in range(2):
        for j, arm in enumerate(arms):
            assert columns[at[b, j]] == arm.loss and rates[b, at[b, j]] == chosen[b, j]


@pytest.mark.parametrize(
    ("loss", "metric", "score"),
    [
        (Loss("any", "f1"), "f1", reference.f1_score),
        (Loss("bce"), "f1", reference.f1_score),
        (Loss("mse"), "acc", reference.accuracy_score),
    ],
)
def test_an_arm_takes_the_rate_that_its_metric_likes_best_on_held_out_rows(loss, metric, score) -> None:
    rates = (3.0, 0.003, 0.1)  # an arm's favourite differs from fold to fold
    training = replace(DESCENT, rates=rates)
    folds = task_of(150, 5, seed=5).folds
    decisions = anyloss.decide("slp", folds, [Arm("a", loss, metric)], training, 7)["a"]
    best_rates = []
    for i, f in enumerate(folds):
        held = stratified(f.train_y, 0.25, np.random.default_rng([7, i]))
        rate, every = torch.tensor([rates]).double(), [loss] * 3
        (inner,) = train("slp", [Part(f.train_x[~held], f.train_y[~held], f.train_x[held])], every, rate, training)
        best = int(np.argmax([score(f.train_y[held], inner[:, k].numpy() > 0) for k in range(3)]))
        (outer,) = train("slp", [Part(f.train_x, f.train_y, f.test_x)], every, rate, training)
        assert np.array_equal(decisions[i], outer[:, best].numpy() > 0)
        best_rates.append(best)
    assert len(set(best_rates)) > 1


def test_a_tuned_threshold_moves_with_the_metric() -> None:
    arms = [Arm(f"t_{m}", Loss("bce"), m, tuned=True) for m in ("f05", "f2")]
    decisions = anyloss.decide("slp", task_of(300).folds, arms, DESCENT, 0)
    positives = {name: sum(int(d.sum()) for d in parts) for name, parts in decisions.items()}
    assert positives["t_f2"] > positives["t_f05"]


def test_no_prediction_depends_on_another_row_of_the_test_fold_or_on_its_label() -> None:
    """Folds have no test labels; the features of other test rows must not matter either."""
    folds = task_of().folds
    arms = anyloss.arms_of(SWEEP)
    whole = anyloss.decide("slp", folds, arms, DESCENT, 0)
    cut = [Fold(f.train_x, f.train_y, f.test_x[:5], f.rows[:5]) for f in folds]
    for name, decided in anyloss.decide("slp", cut, arms, DESCENT, 0).items():
        assert all(np.array_equal(a[:5], b) for a, b in zip(whole[name], decided, strict=True))
    assert "test_y" not in {f for f in Fold.__dataclass_fields__}


@pytest.mark.parametrize(
    ("fn", "training", "model"), [(anyloss.slp_arms, DESCENT, "slp"), (anyloss.mlp_arms, ADAM, "mlp")]
)
def test_a_cell_returns_every_variant_in_row_order_and_resumes(
    make_cell: MakeCell, fn, training: Training, model: str, tmp_path
) -> None:
    tasks = {name: task_of(seed=seed) for seed, name in enumerate(("a", "b"))}

    def cell() -> Cell:
        return make_cell({t: t for t in tasks}, {}, benchmark=TabularBenchmark("t", tasks), shards=tmp_path)

    first, again = cell(), cell()
    outputs = fn(first, training=training, sweep=SWEEP)
    assert {f"{model}_{name}" for name in ("any_f1_l30", "smote_bacc", "any_f1_shuffled")} < set(outputs)
    assert all(name.startswith(f"{model}_") for name in outputs)
    decided = outputs[f"{model}_bce_acc"].values["b"]
    folds = tasks["b"].folds
    by_fold = anyloss.decide(model, folds, anyloss.arms_of(SWEEP), training, 0)["bce_acc"]
    for f, d in zip(folds, by_fold, strict=True):
        assert [decided[r] for r in f.rows] == d.tolist()
    resumed = fn(again, training=training, sweep=SWEEP)
    assert {name: p.values for name, p in resumed.items()} == {name: p.values for name, p in outputs.items()}
    curves = first.history.record()
    assert set(curves) == {f"{model}_{name}" for name in anyloss.CURVES}
    assert again.history.record() == curves
    constant = anyloss.constant(cell())
    assert constant["all_positive"].values["a"] == [1] * 90 and set(constant["all_negative"].values["b"]) == {0}


def test_every_optimiser_that_a_card_may_name_is_one() -> None:
    assert set(get_args(get_type_hints(Training)["optimiser"])) == set(columns.OPTIMISERS)


def test_curves_hold_the_mean_training_loss_over_folds() -> None:
    """At theta = 0 every A(p) is 1/2, so that the F1 loss of a fold is 1 - s / (s + n / 2) with s positives of n."""
    folds, history = task_of().folds, History()
    anyloss.decide("slp", folds, [Arm("any_f1", Loss("any", "f1"), "f1")], DESCENT, 0, log=history.log)
    curve = history.record()["slp_any_f1"]
    sizes = [(f.train_y.sum(), len(f.train_y)) for f in folds]
    assert curve[0] == [0, pytest.approx(np.mean([1 - s / (s + n / 2) for s, n in sizes]))]
    assert [step for step, _ in curve] == list(range(0, DESCENT.steps, DESCENT.steps // anyloss.POINTS))
    assert curve[-1][1] < curve[0][1] - 0.1


def test_shuffled_labels_leave_nothing_to_learn(make_cell: MakeCell) -> None:
    task = task_of(600)
    cell = make_cell({"a": "a"}, {}, benchmark=TabularBenchmark("t", {"a": task}))
    outputs = anyloss.slp_arms(cell, training=DESCENT, sweep=SWEEP)
    y = task.train_labels.max(0)
    plain, shuffled = (
        reference.balanced_accuracy_score(y, outputs[f"slp_{name}"].values["a"])
        for name in ("any_bacc", "any_bacc_shuffled")
    )
    assert plain > 0.8 and abs(shuffled - 0.5) < 0.12


# --- the paper's own recipe ---


@pytest.mark.parametrize(("name", "times"), [("any_f1", 1), ("any_f1", 10), ("bce_f1", 1), ("bce_f1", 10)])
def test_a_column_of_the_papers_recipe_is_what_torch_trains_alone(name: str, times: int) -> None:
    """One fold by torch's modules and Adam, with the batches of that fold, whatever is trained beside it."""
    rate, epochs, batches = 0.01, 4, 5
    every = parts((60, 43, 52))
    part = every[1]
    together = anyloss.train_published(every, rate, epochs, batches, 2)[1]

    x, test = (torch.tensor(a) for a in standardise(part.fit_x, part.eval_x))
    y = torch.tensor(part.fit_y).double()
    w, _, _, v, _ = columns.mlp_start(x.shape[1], np.random.default_rng(part.seed), 2)
    hidden = torch.nn.Linear(x.shape[1], 2, bias=False, dtype=torch.float64)
    norm = torch.nn.BatchNorm1d(2, eps=1e-3, momentum=None, dtype=torch.float64)
    out = torch.nn.Linear(2, 1, dtype=torch.float64)
    with torch.no_grad():
        hidden.weight.copy_(w[0, :, :, 0].T)
        out.weight.copy_(v[0, 0, :, 0][None])
        out.bias.zero_()
    network = torch.nn.Sequential(hidden, norm, torch.nn.Sigmoid(), out)
    adam = torch.optim.Adam(network.parameters(), lr=rate * times, eps=1e-7)
    rng, mean, variance = np.random.default_rng((*part.seed, 1)), torch.zeros(2), torch.ones(2)
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(len(y)), batches):
            p = network(x[rows])[:, 0].sigmoid()
            if name == "any_f1":
                yh = 1 / (1 + (-73 * (p - 0.5)).exp())
                loss = 1 - 2 * (y[rows] * yh).sum() / (y[rows].sum() + yh.sum())
            else:
                loss = torch.nn.functional.binary_cross_entropy(p, y[rows])
            with torch.no_grad():  # Keras's moving averages, of the variance that divides by n
                h = hidden(x[rows])
                mean, variance = 0.99 * mean + 0.01 * h.mean(0), 0.99 * variance + 0.01 * h.var(0, unbiased=False)
            adam.zero_grad()
            loss.backward()
            adam.step()
    with torch.no_grad():
        norm.running_mean, norm.running_var = mean, variance
        alone = network.eval()(test)[:, 0]
    column = anyloss.published_names().index(f"mlp_{name}_published" + ("" if times == 1 else "_x10"))
    torch.testing.assert_close(together[:, column], alone, rtol=1e-6, atol=1e-8)


def test_an_epoch_of_the_papers_recipe_deals_every_row_once() -> None:
    at, w = anyloss.padded([np.array([3, 1, 2]), np.array([5, 4])])
    assert at.tolist() == [[3, 1, 2], [5, 4, 0]] and w.tolist() == [[1, 1, 1], [1, 1, 0]]


def test_the_papers_recipe_answers_every_row_in_its_order_and_resumes(make_cell: MakeCell, tmp_path) -> None:
    tasks = {name: task_of(120, seed=seed) for seed, name in enumerate(("a", "b"))}

    def run() -> dict:
        cell = make_cell({t: t for t in tasks}, {}, benchmark=TabularBenchmark("t", tasks), shards=tmp_path)
        outputs = anyloss.mlp_published(cell, rate=0.01, epochs=60, batches=5, hidden=2)
        assert set(cell.history.record()) == set(outputs)
        return {name: p.values for name, p in outputs.items()}

    first = run()
    assert list(first) == [f"mlp_{n}" for n in ("any_f1_published", "any_f1_published_x10", "bce_f1_published",
                                                "bce_f1_published_x10")]  # fmt: skip
    for name, task in tasks.items():
        y = task.train_labels.max(0)
        assert len(first["mlp_bce_f1_published"][name]) == len(y)
        assert reference.f1_score(y, first["mlp_bce_f1_published_x10"][name]) > 0.6
    assert run() == first
