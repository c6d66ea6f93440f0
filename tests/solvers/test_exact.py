import lightning as L
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from hierlit.data import ArrayHierarchy, CellularAutomaton
from hierlit.models import Window1d
from hierlit.solvers import ExactSolver
from hierlit.solvers.exact import ALPHAS
from hierlit.task import LayerwiseTask


def automaton() -> CellularAutomaton:
    return CellularAutomaton(
        n_levels=3, n_cells=16, n_train=40, n_val=5, n_test=5, flip_probability=0.05, batch_size=12
    )


def automaton_task(**arguments: object) -> LayerwiseTask:
    sizes = {"proximity": Window1d(3), "n_blocks": 2, "n_features": 40, "solver": ExactSolver()}
    return LayerwiseTask(1, 3, 16, **{**sizes, **arguments})


def ridge(rows: tuple[NDArray[np.float64], ...], penalty: NDArray[np.float64]) -> NDArray[np.float64]:
    """The minimiser [n, q+1] of F_k: ridge on the residuals, label by label, over the rows where it is observed."""
    features, scores, labels = rows
    solution = []
    for label in range(labels.shape[1]):
        seen = labels[:, label] != 0
        design, residual = features[seen], (labels - scores)[seen, label]
        gram = design.T @ design / len(labels) + penalty[label] * np.eye(design.shape[1])
        solution.append(np.linalg.solve(gram, design.T @ residual / len(labels)))
    return np.stack(solution)


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
    data, task = automaton(), automaton_task(solver=ExactSolver(choice="gcv"))
    fit(task, data, precision="64-true", acceptance="none")
    features, scores, labels = fitted_rows(task, data, 1)
    n, residual = len(labels), labels - scores
    candidates = np.array(ALPHAS) * (features[:, :-1] ** 2).sum() / n / (features.shape[1] - 1)
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
    task, reasons = LayerwiseTask(6, 3, n_blocks=3, n_features=100, solver=ExactSolver()), []

    class Reasons(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:
            reasons.extend([task.stop_reason] if task.stop_reason else [])

    fit(task, xors(), Reasons(), acceptance="none", max_epochs_per_block=50)
    assert reasons == ["gradient norm"] * 3


def test_a_single_row_to_fit_gives_finite_weights(fit, xors) -> None:
    task, data = LayerwiseTask(6, 3, n_blocks=2, n_features=20, solver=ExactSolver()), xors(3)
    fit(task, data, acceptance="none")
    assert len(data.fit_rows) == 1
    assert torch.isfinite(task.net.block(1).weight).all()
