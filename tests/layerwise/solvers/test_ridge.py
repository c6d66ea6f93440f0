from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import hadamard
from sklearn.linear_model import RidgeCV

from hierlit.layerwise.solvers.ridge import ALPHAS, RidgePath, largest_eigenvalue

Rows = tuple[NDArray[np.float64], NDArray[np.float64]]
seeds = st.integers(0, 10_000)


def rows(seed: int, n_rows: int, width: int, n_labels: int = 3) -> Rows:
    """A design [n_rows, width] of unequal columns, the last of them constant, and targets of unequal difficulty."""
    draw = np.random.default_rng(seed)
    design = draw.standard_normal((n_rows, width)) * np.geomspace(0.1, 2, width)
    design[:, -1] = 1
    noise = draw.standard_normal((n_rows, n_labels)) * np.geomspace(1e-3, 10, n_labels)
    return design, design @ draw.standard_normal((width, n_labels)) + noise


def path_of(design: NDArray[np.float64], targets: NDArray[np.float64], alphas: Sequence[float] = ALPHAS) -> RidgePath:
    gram, cross = design.T @ design / len(design), targets.T @ design / len(design)
    return RidgePath.of_alphas(torch.from_numpy(gram), torch.from_numpy(cross), alphas, 0.0)


def penalties_of(design: NDArray[np.float64], alphas: Sequence[float]) -> NDArray[np.float64]:
    """Multiples of the mean square of all columns but the constant one."""
    return np.array(alphas) * (design[:, :-1] ** 2).mean()


@settings(deadline=None, max_examples=30)
@given(seeds, st.integers(5, 40), st.integers(2, 12))
def test_weights_minimise_the_penalised_squares_at_each_penalty(seed: int, n_rows: int, width: int) -> None:
    design, targets = rows(seed, n_rows, width)
    path, penalties = path_of(design, targets, [0.3, 1e-2, 7.0, 1e-2]), penalties_of(design, [7.0, 0.3, 1e-2])
    np.testing.assert_allclose(path.penalties, penalties, rtol=1e-7)
    assert path.weights.shape == (3, 3, width)
    for penalty, weights in zip(penalties, path.weights, strict=True):
        augmented = np.vstack([design / np.sqrt(n_rows), np.sqrt(penalty) * np.eye(width)])
        right = np.vstack([targets / np.sqrt(n_rows), np.zeros((width, 3))])
        expected = np.linalg.lstsq(augmented, right, rcond=None)[0].T
        np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
        gram, cross = design.T @ design / n_rows, targets.T @ design / n_rows
        solved = np.linalg.solve(gram + penalty * np.eye(width), cross.T).T
        np.testing.assert_allclose(weights, solved, rtol=0, atol=1e-10 * np.abs(solved).max())


@settings(deadline=None, max_examples=30)
@given(seeds, st.integers(15, 40), st.integers(2, 12))
def test_gcv_scores_are_those_of_the_hat_matrix(seed: int, n_rows: int, width: int) -> None:
    design, targets = rows(seed, n_rows, width)
    alphas = [1.0, 0.1, 1e-3]
    found = path_of(design, targets, alphas).gcv(torch.from_numpy((targets**2).mean(0)), n_rows)
    for penalty, scores in zip(penalties_of(design, alphas), found, strict=True):
        hat = design @ np.linalg.solve(design.T @ design + n_rows * penalty * np.eye(width), design.T)
        expected = ((targets - hat @ targets) ** 2).mean(0) / (1 - np.trace(hat) / n_rows) ** 2
        np.testing.assert_allclose(scores, expected, rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_where_all_leverages_are_equal_gcv_is_the_leave_one_out_error_of_scikit_learn(seed: int) -> None:
    draw = np.random.default_rng(seed)
    design = hadamard(32)[:, [*range(1, 12), 0]] * np.append(np.geomspace(0.1, 3, 11), 1.0)
    targets = design @ draw.standard_normal((12, 4)) + draw.standard_normal((32, 4)) * [0.01, 1, 10, 100]
    path, candidates = path_of(design, targets), 32 * penalties_of(design, ALPHAS[::-1])
    scores = path.gcv(torch.from_numpy((targets**2).mean(0)), 32)
    theirs = RidgeCV(candidates, fit_intercept=False, alpha_per_target=True).fit(design, targets)
    assert len(set(theirs.alpha_)) > 1
    np.testing.assert_array_equal(candidates[scores.argmin(0)], theirs.alpha_)
    np.testing.assert_allclose(scores.amin(0), -theirs.best_score_, rtol=1e-6)
    chosen = path.weights[scores.argmin(0), torch.arange(4)]
    np.testing.assert_allclose(chosen, theirs.coef_, rtol=0, atol=1e-9 * np.abs(theirs.coef_).max())


def test_an_interpolating_fit_has_a_gcv_score_that_is_finite() -> None:
    design, targets = rows(0, 6, 20)
    scores = path_of(design, targets, [1e-12]).gcv(torch.from_numpy((targets**2).mean(0)), 6)
    assert torch.isfinite(scores).all()
    assert (scores >= 0).all()


@settings(deadline=None, max_examples=20)
@given(seeds, st.lists(st.integers(0, 2), min_size=1, max_size=6), st.sampled_from([torch.float32, torch.float64]))
def test_each_label_is_solved_under_its_own_penalty(seed: int, index: list[int], dtype: torch.dtype) -> None:
    design, targets = rows(seed, 30, 7)
    alphas = [1.0, 0.1, 1e-2]
    path, penalties = path_of(design, targets, alphas), penalties_of(design, alphas)
    gradient = torch.randn(len(index), 7, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    found = path.solve(gradient, torch.tensor(index))
    assert found.dtype == torch.float64
    for row, number in enumerate(index):
        matrix = design.T @ design / 30 + penalties[number] * np.eye(7)
        np.testing.assert_allclose(found[row], np.linalg.solve(matrix, gradient[row].double()), rtol=1e-9, atol=1e-11)


def test_a_penalty_too_small_for_a_factorisation_is_raised_tenfold_and_said() -> None:
    # indefinite, as rounding may leave a singular matrix, only more so
    gram, cross = torch.diag(torch.tensor([1.0, -0.05, 1.0])).double(), torch.tensor([[1.0, 2.0, 3.0]]).double()
    path = RidgePath(gram, cross, [1.0, 0.01])
    np.testing.assert_allclose(path.penalties, [1.0, 0.1], rtol=1e-6)
    np.testing.assert_allclose(path.weights[1], [[1 / 1.1, 2 / 0.05, 3 / 1.1]], rtol=1e-6)
    np.testing.assert_allclose(path.solve(cross, torch.tensor([1])), path.weights[1], rtol=1e-12)


def test_a_singular_matrix_is_solved_without_a_resolution_too() -> None:
    gram, cross = torch.ones(5, 5).double(), torch.ones(1, 5).double()
    path = RidgePath(gram, cross, [1e-20])
    tenfolds = np.log10(float(path.penalties)) + 20
    assert tenfolds == pytest.approx(round(tenfolds), abs=1e-6)
    assert 1 <= round(tenfolds) <= 6
    np.testing.assert_allclose(path.weights[0] @ gram, cross, rtol=1e-6)


@pytest.mark.parametrize("resolution", [1e-7, 1e-3])
def test_penalties_are_at_least_what_the_precision_resolves_beside_the_largest_eigenvalue(resolution: float) -> None:
    gram = torch.diag(torch.tensor([100.0, 1.0, 1e-3, 1.0])).double()
    path = RidgePath.of_alphas(gram, torch.ones(1, 4).double(), [1e-12, 1e-11, 10.0], resolution)
    assert path.penalties.tolist() == pytest.approx([10 * 101.001 / 3, 100 * resolution])


def test_the_constant_feature_sets_the_resolution_of_a_gram_matrix_of_small_features() -> None:
    gram = torch.diag(torch.tensor([1e-9, 1e-9, 1.0])).double()
    path = RidgePath.of_alphas(gram, torch.ones(1, 3).double(), ALPHAS, 1e-7)
    assert path.penalties.tolist() == pytest.approx([1e-7])


def test_penalties_are_those_asked_for_in_descending_order_each_once() -> None:
    gram = torch.diag(torch.tensor([4.0, 1.0])).double()
    path = RidgePath(gram, torch.ones(1, 2).double(), [0.5, 2.0, 0.5])
    assert path.penalties.tolist() == [2.0, 0.5]
    expected = torch.tensor([[[1 / 6, 1 / 3]], [[1 / 4.5, 1 / 1.5]]], dtype=torch.float64)
    torch.testing.assert_close(path.weights, expected)


def test_what_is_left_on_the_rows_is_that_of_the_residuals() -> None:
    design, targets = rows(1, 30, 6)
    path = path_of(design, targets, [0.1, 1.0])
    left = path.residual(torch.from_numpy((targets**2).mean(0)))
    for weights, found in zip(path.weights, left, strict=True):
        np.testing.assert_allclose(found, ((targets - design @ weights.numpy().T) ** 2).mean(0), rtol=1e-8)


def test_a_matrix_that_is_not_finite_is_an_error_of_one_line() -> None:
    gram = torch.full((3, 3), torch.nan).double()
    with pytest.raises(FloatingPointError, match="the Gram matrix is not finite: check the size of the inputs"):
        RidgePath.of_alphas(gram, torch.ones(1, 3).double(), ALPHAS, 1e-7)


def test_inputs_are_left_alone() -> None:
    design, targets = rows(0, 20, 4)
    gram, cross = torch.from_numpy(design.T @ design), torch.from_numpy(targets.T @ design)
    before = gram.clone(), cross.clone()
    RidgePath.of_alphas(gram, cross, ALPHAS, 1e-7).solve(cross, torch.tensor([0, 1, 0]))
    assert torch.equal(gram, before[0])
    assert torch.equal(cross, before[1])


@settings(deadline=None, max_examples=50)
@given(seeds, st.integers(2, 40), st.integers(2, 60))
def test_the_largest_eigenvalue_is_met_to_a_few_per_cent(seed: int, width: int, n_rows: int) -> None:
    design, _ = rows(seed, n_rows, width)
    gram = torch.from_numpy(np.maximum(design, 0).T @ np.maximum(design, 0) / n_rows)
    exact = float(torch.linalg.eigvalsh(gram)[-1])
    assert 0.95 * exact <= largest_eigenvalue(gram) <= exact * (1 + 1e-12)


def test_a_matrix_of_zeros_has_no_eigenvalue_above_zero_and_zero_weights() -> None:
    zero = torch.zeros(3, 3).double()
    assert largest_eigenvalue(zero) == 0
    assert not RidgePath.of_alphas(zero, torch.zeros(2, 3).double(), ALPHAS, 1e-7).weights.any()
