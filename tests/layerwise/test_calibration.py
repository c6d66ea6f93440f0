from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain import automaton, network, train_all
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.metrics import average_precision_score, brier_score_loss

from hierlit.layerwise import ExactSolver, Folds, StreamCache
from hierlit.layerwise.calibration import fit_calibration, fit_lines, left_out, precision
from hierlit.models import Calibration

RATES = np.array([0.5, 0.3, 0.1, 0.01, 0.01, 0.005])
ONE_COLUMN = np.ones((6, 1))
"""Six labels that are the classes of a column: none has a line of its own."""


def log_odds(calibration: Calibration, scores: np.ndarray) -> np.ndarray:
    return calibration.log_odds(torch.from_numpy(scores)).numpy()


def curve_of(scores: np.ndarray, labels: np.ndarray) -> Calibration:
    """A calibration of one label, which is a curve alone."""
    return fit_calibration(scores[:, None, None], labels[:, None, None])


def at(calibration: Calibration, scores: np.ndarray) -> np.ndarray:
    return log_odds(calibration, scores[:, None])[:, 0]


def drawn(n_rows: int, shrink: np.ndarray | float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores [N, 1, 6] that are probabilities [N, 1, 6] shrunk to −1, and labels drawn with these."""
    rng = np.random.default_rng(seed)
    true = expit(np.log(RATES / (1 - RATES)) + 2 * rng.standard_normal((n_rows, 1, 6)))
    labels = np.where(rng.random(true.shape) < true, 1, -1)
    return shrink * 2 * true - 1, labels, true


@pytest.mark.parametrize("own", [False, True])
def test_probabilities_are_those_that_labels_were_drawn_with(own: bool) -> None:
    scores, labels, _ = drawn(4000)
    calibration = fit_calibration(scores, labels, None if own else ONE_COLUMN)
    test_scores, test_labels, true = drawn(4000, seed=1)
    found = expit(log_odds(calibration, test_scores))
    assert np.abs(found - true).mean() < 0.02
    positive = (test_labels > 0).ravel()
    best = brier_score_loss(positive, true.ravel())
    assert brier_score_loss(positive, found.ravel()) < best + 0.002
    assert brier_score_loss(positive, (test_scores.ravel() + 1) / 2) > best + 0.02


@pytest.mark.parametrize("n_rows", [600, 20_000])
def test_labels_have_lines_of_their_own_where_scores_of_labels_mean_different_things(n_rows: int) -> None:
    shrink = np.array([0.9, 0.5, 0.3, 0.2, 0.1, 0.1])
    test_scores, test_labels, true = drawn(4000, shrink, seed=1)
    scores, labels, _ = drawn(n_rows, shrink)
    calibration, shared = fit_calibration(scores, labels), fit_calibration(scores, labels, ONE_COLUMN)
    assert precision(log_odds(calibration, test_scores), test_labels) > precision(test_scores, test_labels) + 0.02
    errors = [np.abs(expit(log_odds(found, test_scores)) - true).mean() for found in (calibration, shared)]
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize(("sign", "hidden", "has_line"), [(1, False, True), (1, True, False), (-1, True, True)])
def test_a_label_whose_negatives_are_missing_has_no_line(sign: int, hidden: bool, has_line: bool) -> None:
    scores, labels, _ = drawn(2000, np.array([0.9, 0.5, 0.3, 0.2, 0.1, 0.1]))
    labels[..., 0] = sign
    labels[:1000, :, 0] *= not hidden
    calibration = fit_calibration(scores, labels)
    assert bool(calibration.intercepts[0] != 0) == has_line
    assert (calibration.intercepts[1:] != 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_lines_of_their_own_are_left_out_where_they_lower_average_precision(seed: int) -> None:
    """Scores are the best order already; few rows fit lines that can only spoil it."""
    scores, labels, _ = drawn(200, seed=seed)
    calibration = fit_calibration(scores, labels)
    test_scores, test_labels, _ = drawn(20_000, seed=seed + 100)
    before, after = (precision(found, test_labels) for found in (test_scores, log_odds(calibration, test_scores)))
    if (calibration.slopes == 1).all():
        assert after == before
    assert after > before - 0.005


@given(
    st.lists(st.tuples(st.floats(-3, 3, width=32), st.sampled_from([-1, 1])), min_size=1, max_size=40),
    st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=20),
)
def test_a_curve_keeps_every_order(pairs: list[tuple[float, int]], points: list[float]) -> None:
    scores, labels = (np.array(column) for column in zip(*pairs, strict=True))
    curve, ordered = curve_of(scores, labels), np.sort(points)
    apart = np.diff(ordered) > 1e-6
    assert (np.diff(at(curve, ordered))[apart] > 0).all()
    assert np.isfinite(at(curve, ordered)).all()


def test_average_precision_is_that_of_the_scores() -> None:
    scores, labels, _ = drawn(300)
    test_scores, test_labels, _ = drawn(3000, seed=1)
    positive = (test_labels > 0).ravel()
    shared = expit(log_odds(fit_calibration(scores, labels, ONE_COLUMN), test_scores))
    assert average_precision_score(positive, shared.ravel()) == average_precision_score(positive, test_scores.ravel())
    own = expit(log_odds(fit_calibration(scores, labels), test_scores))
    for label in range(6):
        truth, before, after = (table[:, 0, label] for table in (test_labels > 0, test_scores, own))
        assert average_precision_score(truth, after) == average_precision_score(truth, before)


@pytest.mark.parametrize("size", [0.1, 0.01])
def test_small_scores_mean_what_large_ones_do(size: float) -> None:
    """As of a large λ, which shrinks them."""
    scores, labels, _ = drawn(1000)
    small, large = (expit(log_odds(fit_calibration(by * scores, labels), by * scores)) for by in (size, 1.0))
    assert np.abs(small - large).mean() < 0.002


def test_equal_steps_do_not_tie_the_scores_between_them() -> None:
    scores = np.arange(9) / 10
    labels = np.array([-1, -1, -1, 1, -1, 1, -1, 1, 1])
    curve = curve_of(scores, labels)
    assert curve.knots.shape == (2, 3)
    assert (np.diff(at(curve, np.linspace(-1, 2, 1000))) > 0).all()


def test_without_positives_log_odds_are_those_of_the_squared_loss() -> None:
    scores = np.linspace(-1, 1, 9)
    np.testing.assert_array_equal(at(curve_of(scores, -np.ones(9)), scores), 2 * scores)


def test_the_curve_is_that_of_interpolation_between_its_knots() -> None:
    scores, labels, _ = drawn(500)
    calibration = fit_calibration(scores, labels, ONE_COLUMN)
    points, values = calibration.knots.numpy()
    asked = np.linspace(-2, 2, 999)[:, None].repeat(6, 1)
    beyond = asked - asked.clip(points[0], points[-1])
    np.testing.assert_allclose(log_odds(calibration, asked), np.interp(asked, points, values) + 2 * beyond, atol=1e-12)


SHARED = np.array([[1.0], [0.0]]).repeat(3, 1)


def of_lines(n_rows: int, n_locations: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds [N, |G|, 3], and labels that are drawn by lines of these, a fifth of them hidden."""
    rng = np.random.default_rng(1)
    log_odds = rng.normal(-1, 2, size=(n_rows, n_locations, 3))
    labels = np.where(rng.random(log_odds.shape) < expit([0.5, 1.0, 2.0] * log_odds + [1, 0, -1]), 1, -1)
    labels[rng.random(labels.shape) < 0.2] = 0
    return log_odds, labels


@pytest.mark.parametrize(("prior", "n_locations"), [(1.0, 1), (100.0, 1), (10.0, 5)])
def test_lines_are_those_of_logistic_regression_drawn_to_the_shared_curve(prior: float, n_locations: int) -> None:
    log_odds, labels = of_lines(500 // n_locations, n_locations)
    for label, found in enumerate(fit_lines(log_odds, labels, prior, SHARED).T):
        seen = labels[..., label] != 0
        x, y = log_odds[seen, label], labels[seen, label]

        def loss(line: np.ndarray, x: np.ndarray = x, y: np.ndarray = y) -> float:
            departure = line - [1, 0]
            return float(np.logaddexp(0, -y * (line[0] * x + line[1])).sum() + prior / 2 * departure @ departure)

        np.testing.assert_allclose(found, minimize(loss, [1, 0], tol=1e-9).x, atol=1e-4)


@pytest.mark.parametrize("n_locations", [1, 4])
def test_a_row_left_out_is_predicted_by_lines_fitted_without_it(n_locations: int) -> None:
    log_odds, labels = of_lines(80, n_locations)
    slopes, intercepts = fit_lines(log_odds, labels, 3.0, SHARED)
    found = left_out(log_odds, labels, 3.0, np.stack([slopes, intercepts]))
    by_all = slopes * log_odds + intercepts
    for row in range(80):
        without = np.where(np.arange(80)[:, None, None] == row, 0, labels)
        slopes, intercepts = fit_lines(log_odds, without, 3.0, SHARED)
        refitted = slopes * log_odds[row] + intercepts
        assert np.abs(found[row] - refitted).max() <= 0.1 * np.abs(by_all[row] - refitted).max() + 1e-6


def test_locations_of_few_rows_that_are_alike_are_no_evidence_for_lines() -> None:
    """Scores are the best order already, and the locations of a row have the same label."""
    lost = []
    for seed in range(5):
        scores, labels, _ = drawn(20, seed=seed)
        many = (table.repeat(200, 1) for table in (scores, labels))
        test_scores, test_labels, _ = drawn(4000, seed=seed + 100)
        found = log_odds(fit_calibration(*many), test_scores)
        lost.append(precision(test_scores, test_labels) - precision(found, test_labels))
    assert np.mean(lost) < 0.01


def test_classes_of_a_column_share_one_probability() -> None:
    scores, labels, _ = drawn(500)
    membership = np.zeros((6, 2))
    membership[1:3, 0] = membership[3:6, 1] = 1
    calibration = fit_calibration(scores, labels, membership)
    probabilities = calibration(torch.from_numpy(scores)).numpy()
    alone = expit(log_odds(calibration, scores))
    np.testing.assert_allclose(probabilities[..., 0], alone[..., 0])
    for labels_of in (slice(1, 3), slice(3, 6)):
        part = alone[..., labels_of]
        np.testing.assert_allclose(probabilities[..., labels_of], part / part.sum(-1, keepdims=True))
    assert (calibration.slopes[1:] == 1).all()


def test_a_calibration_takes_the_tensors_of_another_size_and_does_without() -> None:
    scores, labels, _ = drawn(500)
    fitted, other = fit_calibration(scores, labels, ONE_COLUMN), Calibration(6)
    other.load_state_dict({})
    assert torch.equal(other.log_odds(torch.tensor([[0.5] * 6])), torch.ones(1, 6))
    other.load_state_dict(fitted.state_dict())
    given = torch.from_numpy(scores)
    torch.testing.assert_close(other(given.float()), fitted(given).float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("folds", [None, 3])
def test_each_block_leaves_the_calibration_of_the_rows_that_no_fit_has_seen(folds: int | None) -> None:
    table = automaton(60, n_levels=2, n_cells=8, flips=0.2)
    val = automaton(20, n_levels=2, n_cells=8, flips=0.2, seed=1)
    net = network(table, 2, 20).double()
    net.calibration.set_classes([[0, 1]])
    rows = StreamCache(net, folds=folds and Folds(folds, len(table.inputs)))
    for split, batches in (("fit", table.batches()), ("held", table.batches("held")), ("val", val.batches())):
        rows.fill(split, batches)
    train_all(net, rows, ExactSolver())
    unseen = [(net(inputs.double()), labels) for inputs, labels in (table.rows("held"), val.rows())]
    if folds:
        unseen += [(net.scores(chunk.stream), chunk.labels) for chunk in rows.chunks("fit")]
    scores, labels = (torch.cat(parts).detach().numpy() for parts in zip(*unseen, strict=True))
    expected = fit_calibration(scores, labels, np.ones((2, 1)))
    torch.testing.assert_close(net.calibration.knots, expected.knots, rtol=1e-9, atol=1e-9)


def test_without_rows_that_no_fit_has_seen_log_odds_are_those_of_the_squared_loss() -> None:
    table = replace(automaton(30, n_levels=2, n_cells=8), n_held=0)
    net = network(table, 1, 20)
    train_all(net, table, ExactSolver())
    scores = torch.linspace(-2, 2, 10).repeat(2, 1).T
    torch.testing.assert_close(net.calibration(scores), torch.sigmoid(2 * scores))
