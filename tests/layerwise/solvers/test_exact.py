from collections.abc import Callable
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import optimize, special
from sklearn.linear_model import Ridge

from hierlit.data import ArrayHierarchy, CellularAutomaton, Supervision
from hierlit.layerwise.adaptive_draw import AdaptiveDraw
from hierlit.layerwise.losses import HingeLoss, HybridMarginLoss, LogisticLoss, MarginLoss, SquaredHingeLoss
from hierlit.layerwise.solvers import ExactSolver
from hierlit.models import Window1d
from hierlit.training import LayerwiseTask

WIDE = [3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0]  # all above the least λ that is resolved

Array = NDArray[np.float64]


def automaton() -> Supervision:
    clean = CellularAutomaton(n_levels=3, n_cells=16, n_train=40, n_val=5, n_test=5, batch_size=12)
    return Supervision(clean, flip_probability=0.05)


def automaton_task(n_labels: int = 3, **arguments: object) -> LayerwiseTask:
    sizes = {"proximity": Window1d(3), "n_blocks": 2, "n_features": 40, "solver": ExactSolver()}
    return LayerwiseTask(1, n_labels, 16, **{**sizes, **arguments})


def ridge(rows: tuple[Array, ...], penalty: Array) -> Array:
    """The minimiser [n, q+1] of F_k: ridge on the residuals, label by label, over the rows where it is observed."""
    features, scores, labels = rows
    solution = []
    for label in range(labels.shape[1]):
        seen = labels[:, label] != 0
        design, residual = features[seen], (labels - scores)[seen, label]
        gram = design.T @ design / len(labels) + penalty[label] * np.eye(design.shape[1])
        solution.append(np.linalg.solve(gram, design.T @ residual / len(labels)))
    return np.stack(solution)


def hinge(z: Array, margin: float, smoothing: float) -> tuple[Array, Array]:
    gap = 1 - z / margin
    value = np.where(gap < smoothing, np.maximum(gap, 0) ** 2 / (2 * smoothing), gap - smoothing / 2)
    return value, -np.clip(gap / smoothing, 0, 1) / margin


def squared_hinge(z: Array, margin: float = 1.0) -> tuple[Array, Array]:
    gap = np.maximum(1 - z / margin, 0)
    return gap**2 / 2, -gap / margin


def practical(z: Array) -> tuple[Array, Array]:
    parts = hinge(z, 0.5, 1.0), hinge(z, 1.0, 1.0), (np.maximum(z - 1, 0) ** 2 / 2, np.maximum(z - 1, 0))
    return sum(value for value, _ in parts), sum(slope for _, slope in parts)


LOSSES: dict[str, tuple[MarginLoss, Callable[[Array], tuple[Array, Array]]]] = {
    "hinge": (HingeLoss(), lambda z: hinge(z, 1.0, 0.5)),
    "wide squared hinge": (SquaredHingeLoss(2.0), lambda z: squared_hinge(z, 2.0)),
    "squared hinge": (SquaredHingeLoss(), squared_hinge),
    "logistic": (LogisticLoss(), lambda z: (np.logaddexp(0, -z), -special.expit(-z))),
    "hybrid": (HybridMarginLoss(), practical),
}


def minimiser(
    rows: tuple[Array, ...], label: int, penalty: float, loss: Callable[[Array], tuple[Array, Array]]
) -> tuple[Array, float]:
    """SciPy's minimum of one label's F_k: the weights [q+1] and the norm of the gradient that is left."""
    features, scores, labels = rows[0], rows[1][:, label], rows[2][:, label]

    def objective(weight: Array) -> tuple[float, Array]:
        value, slope = loss(labels * (scores + features @ weight))
        gradient = (slope * labels) @ features / len(labels) + penalty * weight
        return float((value * (labels != 0)).mean() + penalty / 2 * weight @ weight), gradient

    options = {"ftol": 0, "gtol": 1e-12, "maxiter": 5000, "maxfun": 10_000}
    found = optimize.minimize(objective, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B", options=options)
    return found.x, float(np.linalg.norm(objective(found.x)[1]))


class Epochs(L.Callback):
    """Counts the epochs of each block and notes why it ended."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.reasons: list[str] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:
        if pl_module.report is not None:
            self.counts.append(pl_module.report.epochs)
            self.reasons.append(pl_module.report.stop_reason)


@pytest.mark.parametrize("alphas", [None, [], [1e-3, 0.3]])
def test_every_block_is_the_closed_form_under_its_own_regularization(
    alphas: list[float] | None, fit, fitted_rows
) -> None:
    for n_blocks in (1, 2):
        data, task = automaton(), automaton_task(n_blocks=n_blocks, solver=ExactSolver(alphas))
        fit(task, data, precision="64-true", acceptance="none")
        rows, penalty = fitted_rows(task, data, n_blocks - 1), task.certificate.regularization.numpy()
        np.testing.assert_allclose(task.net.block(n_blocks - 1).weight, ridge(rows, penalty), rtol=0, atol=1e-8)
        assert task.report.stop_reason == "gradient norm"
        assert task.report.epochs == 1


def test_without_alphas_the_solution_is_scikit_learns_ridge(fit, xors, fitted_rows) -> None:
    data, task = xors(), LayerwiseTask(6, 3, n_blocks=1, n_features=20, regularization=0.01, solver=ExactSolver([]))
    fit(task, data, precision="64-true", acceptance="none")
    features, _, labels = fitted_rows(task, data, 0)
    model = Ridge(alpha=len(labels) * float(np.float32(0.01)), fit_intercept=False).fit(features, labels)
    np.testing.assert_allclose(task.net.block(0).weight, model.coef_, rtol=0, atol=1e-9)


def test_regularization_minimises_the_gcv_score_of_the_hat_matrix_label_by_label(fit, fitted_rows) -> None:
    data, task = automaton(), automaton_task(solver=ExactSolver(WIDE, "gcv"))
    fit(task, data, precision="64-true", acceptance="none")
    features, scores, labels = fitted_rows(task, data, 1)
    n, residual = len(labels), labels - scores
    candidates = np.array(WIDE) * (features[:, :-1] ** 2).sum() / n / (features.shape[1] - 1)
    gcv = []
    for candidate in candidates:
        gram = features.T @ features / n + candidate * np.eye(features.shape[1])
        hat = features @ np.linalg.solve(gram, features.T) / n
        gcv.append(((residual - hat @ residual) ** 2).mean(0) / (1 - np.trace(hat) / n) ** 2)
    best = candidates[np.argmin(gcv, axis=0)]
    np.testing.assert_allclose(task.certificate.regularization, best, rtol=1e-6)


def test_labels_of_different_difficulty_get_different_regularization(fit) -> None:
    draw = np.random.default_rng(0)
    x = draw.choice([-1.0, 1.0], (300, 6))
    y = np.stack([x[:, 0], draw.choice([-1.0, 1.0], 300)], 1)
    task = LayerwiseTask(6, 2, n_blocks=1, n_features=60, solver=ExactSolver())
    fit(task, ArrayHierarchy(x, y))
    learnable, noise = task.certificate.regularization.tolist()
    assert learnable < noise


@pytest.mark.parametrize("missing", [0.1, 0.6])
def test_with_missing_labels_it_iterates_to_the_weighted_closed_form(missing: float, fit, xors, fitted_rows) -> None:
    data, task = xors(missing=missing), LayerwiseTask(6, 3, n_blocks=2, n_features=20, solver=ExactSolver())
    fit(task, data, precision="64-true", acceptance="none", gradient_tolerance=1e-8)
    assert task.report.stop_reason == "gradient norm"
    assert task.report.epochs > 1
    penalty = task.certificate.regularization.numpy()
    expected = ridge(fitted_rows(task, data, 1), penalty)
    np.testing.assert_allclose(task.net.block(1).weight, expected, rtol=0, atol=1e-8 / penalty.min())


def test_missing_labels_reach_the_default_tolerance(fit, xors) -> None:
    task = LayerwiseTask(6, 3, n_blocks=2, n_features=20, solver=ExactSolver())
    fit(task, xors(missing=0.3), acceptance="none")
    assert task.report.stop_reason == "gradient norm"
    assert task.report.suboptimality <= 0.01 * task.report.initial_objective * (1 + 1e-5)


def test_more_features_than_rows_still_reach_the_certificate(fit, xors) -> None:
    task = LayerwiseTask(6, 3, n_blocks=2, n_features=200, solver=ExactSolver())
    fit(task, xors(100), acceptance="none")
    assert task.report.stop_reason == "gradient norm"
    assert torch.isfinite(task.net.block(1).weight).all()


@pytest.mark.parametrize("alphas", [[0.0], [0.1, -1.0], [float("nan")]])
def test_alphas_that_are_not_positive_are_refused(alphas: list[float]) -> None:
    with pytest.raises(ValueError, match="alphas must all be positive, got"):
        ExactSolver(alphas)


def test_blocks_after_everything_has_been_learned_reach_their_certificate_too(fit, xors) -> None:
    task, epochs = LayerwiseTask(6, 3, n_blocks=3, n_features=100, solver=ExactSolver()), Epochs()
    fit(task, xors(), epochs, acceptance="none", max_epochs_per_block=50)
    assert epochs.reasons == ["gradient norm"] * 3


@pytest.mark.parametrize(("n_features", "seed"), [(60, 1), (60, 9), (80, 5)])
def test_features_that_float32_hardly_tells_apart_are_solved_in_one_epoch_a_block(
    n_features: int, seed: int, fit
) -> None:
    # deep blocks of adapted features, where a penalty of one rounding error let the steps diverge
    data = CellularAutomaton(n_levels=6, n_cells=16, n_train=200, n_val=50, n_test=10, data_seed=seed)
    adaptation, epochs = AdaptiveDraw(threshold=0.5), Epochs()
    task = automaton_task(6, n_blocks=5, n_features=n_features, adaptation=adaptation)
    fit(task, data, epochs, acceptance="strict")
    assert epochs.counts == [1] * 5


def test_a_single_row_to_fit_gives_finite_weights(fit, xors) -> None:
    task, data = LayerwiseTask(6, 3, n_blocks=2, n_features=20, solver=ExactSolver()), xors(3)
    fit(task, data, acceptance="none")
    assert len(data.fit_rows) == 1
    assert torch.isfinite(task.net.block(1).weight).all()


@pytest.mark.parametrize(("loss", "missing"), [*((name, 0.0) for name in LOSSES), ("hinge", 0.4), ("hybrid", 0.4)])
def test_other_losses_are_minimised_as_by_scipy(loss: str, missing: float, fit, xors, fitted_rows) -> None:
    ours, theirs = LOSSES[loss]
    data, epochs = xors(missing=missing, batch_size=300), Epochs()
    task = LayerwiseTask(6, 3, n_blocks=2, n_features=20, loss=ours, solver=ExactSolver([0.1]))
    fit(task, data, epochs, precision="64-true", acceptance="none", gradient_tolerance=1e-8)
    assert epochs.reasons == ["gradient norm"] * 2
    # measured: 24 to 56
    assert max(epochs.counts) < 100
    rows, penalty = fitted_rows(task, data, 1), task.certificate.regularization.double().numpy()
    curvature, mean_diagonal = ours.curvature, (rows[0][:, :-1] ** 2).mean()
    np.testing.assert_allclose(penalty, 0.1 * curvature * mean_diagonal, rtol=1e-6)
    for label in range(3):
        expected, left = minimiser(rows, label, penalty[label], theirs)
        assert left < 1e-7
        # F_k is strongly convex: two points with such gradients are no further apart
        apart = np.linalg.norm(task.net.block(1).weight[label].numpy() - expected)
        assert apart <= (1.1e-8 + left) / penalty[label]
        assert np.linalg.norm(expected) > 100 * apart


@pytest.mark.parametrize("loss", ["wide squared hinge", "logistic"])
def test_without_alphas_other_losses_have_the_regularization_of_the_task(loss: str, fit, xors, fitted_rows) -> None:
    ours, theirs = LOSSES[loss]
    data = xors(batch_size=300)
    task = LayerwiseTask(6, 3, n_blocks=1, n_features=20, loss=ours, solver=ExactSolver([]), regularization=0.05)
    fit(task, data, precision="64-true", acceptance="none", gradient_tolerance=1e-7, max_epochs_per_block=100)
    assert task.report.stop_reason == "gradient norm"
    np.testing.assert_allclose(task.certificate.regularization, 0.05, rtol=1e-6)
    expected, left = minimiser(fitted_rows(task, data, 0), 0, 0.05, theirs)
    np.testing.assert_allclose(task.net.block(0).weight[0], expected, rtol=0, atol=(1.1e-7 + left) / 0.05)


# measured with alpha 0.01: 21, 24 and 28 epochs, 64 and 125
@pytest.mark.parametrize(("missing", "most"), [(0.3, 30), (0.5, 40), (0.9, 190)])
def test_missing_labels_cost_a_moderate_number_of_epochs(missing: float, most: int, fit, xors, fitted_rows) -> None:
    data, epochs = xors(missing=missing, batch_size=300), Epochs()
    task = LayerwiseTask(6, 3, n_blocks=1, n_features=20, solver=ExactSolver([0.01]))
    fit(task, data, epochs, precision="64-true", acceptance="none", gradient_tolerance=1e-8)
    assert epochs.reasons == ["gradient norm"]
    assert 1 < epochs.counts[0] <= most
    penalty = task.certificate.regularization.numpy()
    expected = ridge(fitted_rows(task, data, 0), penalty)
    np.testing.assert_allclose(task.net.block(0).weight, expected, rtol=0, atol=1e-8 / penalty.min())


@pytest.mark.parametrize("missing", [0.0, 0.5])
@pytest.mark.parametrize("n_features", [20, 150])
def test_each_label_takes_the_candidate_of_least_error_on_the_set_aside_rows(
    n_features: int, missing: float, fit, xors, fitted_rows
) -> None:
    solver = ExactSolver(WIDE)
    data, task = xors(missing=missing), LayerwiseTask(6, 3, n_blocks=1, n_features=n_features, solver=solver)
    fit(task, data, precision="64-true", acceptance="none", max_epochs_per_block=1000)
    features, scores, labels = fitted_rows(task, data, 0)
    rows = SimpleNamespace(tables=data.tables, fit_rows=data.held_rows)
    held_features, held_scores, held_labels = fitted_rows(task, rows, 0)
    residual = (labels - scores) * (labels != 0)
    candidates = np.array(WIDE) * (features[:, :-1] ** 2).mean()
    errors = []
    for candidate in candidates:
        gram = features.T @ features / len(labels) + candidate * np.eye(features.shape[1])
        weights = np.linalg.solve(gram, features.T @ residual / len(labels))
        left = (held_labels - held_scores - held_features @ weights) * (held_labels != 0)
        errors.append((left**2).sum(0))
    best = candidates[np.argmin(errors, axis=0)]
    np.testing.assert_allclose(task.certificate.regularization, best, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:acceptance none leaves the set-aside rows unused")
@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("without", ["rows set aside", "labels on them"])
def test_without_set_aside_rows_the_choice_is_that_of_gcv(without: str, missing: float, fit, xors) -> None:
    states = []
    for choice in ("set_aside", "gcv"):
        data = xors(missing=missing, acceptance_fraction=0 if without == "rows set aside" else 0.2)
        data.setup()
        data.tables["train"].labels[data.held_rows] = 0
        task = LayerwiseTask(6, 3, n_blocks=2, n_features=20, solver=ExactSolver(choice=choice))
        fit(task, data, acceptance="none")
        states.append(task.state_dict() | {"regularization": task.certificate.regularization})
    assert states[0]["net.blocks.1.weight"].any()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_the_two_choices_differ(fit, xors) -> None:
    chosen = []
    for choice in ("set_aside", "gcv"):
        task = LayerwiseTask(6, 3, n_blocks=1, n_features=60, solver=ExactSolver(choice=choice))
        fit(task, xors(60), max_epochs_per_block=500)
        chosen.append(task.certificate.regularization)
    assert not torch.equal(*chosen)


def test_another_choice_is_refused_by_name() -> None:
    with pytest.raises(ValueError) as error:
        ExactSolver(choice="loo")
    assert str(error.value) == "choice must be one of set_aside, gcv, got 'loo'"
