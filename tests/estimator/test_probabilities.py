from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import average_precision_score, brier_score_loss

from hierlit import HierarchicalClassifier
from hierlit.estimator.probabilities import ENOUGH, Calibration, Curve, consistent, descendants, precision

RATES = np.array([0.5, 0.3, 0.1, 0.01, 0.01, 0.005])


def drawn(n_rows: int, shrink: np.ndarray | float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores [N, 1, 6] that are probabilities [N, 1, 6] shrunk to −1, and labels drawn with these."""
    rng = np.random.default_rng(seed)
    true = expit(np.log(RATES / (1 - RATES)) + 2 * rng.standard_normal((n_rows, 1, 6)))
    labels = np.where(rng.random(true.shape) < true, 1, -1)
    return shrink * 2 * true - 1, labels, true


@pytest.mark.parametrize("own", [False, True])
def test_probabilities_are_those_that_labels_were_drawn_with(own: bool) -> None:
    scores, labels, _ = drawn(4000)
    calibration = Calibration.fit(scores, labels, own)
    test_scores, test_labels, true = drawn(4000, seed=1)
    found = expit(calibration.log_odds(test_scores))
    assert np.abs(found - true).mean() < 0.02
    positive = (test_labels > 0).ravel()
    best = brier_score_loss(positive, true.ravel())
    assert brier_score_loss(positive, found.ravel()) < best + 0.002
    assert brier_score_loss(positive, (test_scores.ravel() + 1) / 2) > best + 0.02


def test_labels_with_enough_positives_have_lines_of_their_own() -> None:
    shrink = np.array([0.9, 0.5, 0.3, 0.2, 0.1, 0.1])
    scores, labels, _ = drawn(600, shrink)
    calibration = Calibration.fit(scores, labels)
    n_positive = (labels > 0).sum((0, 1))
    assert ((calibration.slopes != 1) == (n_positive >= ENOUGH)).all()
    assert (n_positive < ENOUGH).any()
    assert (n_positive >= ENOUGH).any()
    test_scores, test_labels, true = drawn(4000, shrink, seed=1)
    assert precision(calibration.log_odds(test_scores), test_labels) > precision(test_scores, test_labels) + 0.02
    shared = Calibration.fit(scores, labels, may_differ=False)
    errors = [np.abs(expit(found.log_odds(test_scores)) - true).mean() for found in (calibration, shared)]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("seed", range(5))
def test_lines_of_their_own_are_left_out_where_they_lower_average_precision(seed: int) -> None:
    """Scores are the best order already; few rows fit lines that can only spoil it."""
    scores, labels, _ = drawn(200, seed=seed)
    calibration = Calibration.fit(scores, labels)
    test_scores, test_labels, _ = drawn(20_000, seed=seed + 100)
    before, after = (precision(found, test_labels) for found in (test_scores, calibration.log_odds(test_scores)))
    if (calibration.slopes == 1).all():
        assert after == before
    assert after > before - 0.005


@given(
    st.lists(st.tuples(st.floats(-3, 3, width=32), st.sampled_from([-1, 1])), min_size=1, max_size=40),
    st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=20),
)
def test_a_curve_keeps_every_order(pairs: list[tuple[float, int]], points: list[float]) -> None:
    scores, labels = (np.array(column) for column in zip(*pairs, strict=True))
    curve, ordered = Curve.fit(scores, labels), np.sort(points)
    apart = np.diff(ordered) > 1e-6
    assert (np.diff(curve(ordered))[apart] > 0).all()
    assert np.isfinite(curve(ordered)).all()


def test_average_precision_is_that_of_the_scores() -> None:
    scores, labels, _ = drawn(300)
    test_scores, test_labels, _ = drawn(3000, seed=1)
    positive = (test_labels > 0).ravel()
    shared = expit(Calibration.fit(scores, labels, may_differ=False).log_odds(test_scores))
    assert average_precision_score(positive, shared.ravel()) == average_precision_score(positive, test_scores.ravel())
    own = expit(Calibration.fit(scores, labels).log_odds(test_scores))
    for label in range(6):
        truth, before, after = (table[:, 0, label] for table in (test_labels > 0, test_scores, own))
        assert average_precision_score(truth, after) == average_precision_score(truth, before)


def test_equal_steps_do_not_tie_the_scores_between_them() -> None:
    scores = np.arange(9) / 10
    labels = np.array([-1, -1, -1, 1, -1, 1, -1, 1, 1])
    curve = Curve.fit(scores, labels)
    assert len(curve.scores) == 3
    assert (np.diff(curve(np.linspace(-1, 2, 1000))) > 0).all()


def test_without_positives_log_odds_are_those_of_the_squared_loss() -> None:
    scores = np.linspace(-1, 1, 9)
    np.testing.assert_array_equal(Curve.fit(scores, -np.ones(9))(scores), 2 * scores)


def test_descendants_raise_their_ancestors() -> None:
    below = descendants([(0, 1), (1, 3), (2, 3)], 5)
    assert below.sum() == 5 + 4
    log_odds = np.array([[-3.0, -2.0, 4.0, 1.0, 7.0]])
    np.testing.assert_array_equal(consistent(log_odds, below), [[1.0, 1.0, 4.0, 1.0, 7.0]])
    with pytest.raises(ValueError, match="hierarchy must have no cycle, got one through label 1"):
        descendants([(0, 1), (1, 3), (3, 1)], 4)


def test_the_estimator_is_consistent_where_a_hierarchy_is_given() -> None:
    x = np.random.default_rng(0).choice([-1.0, 1.0], (300, 6))
    parent = (x[:, 0] > 0) | (x[:, 1] > 0)
    y = np.stack([parent, parent & (x[:, 2] > 0), parent & (x[:, 3] * x[:, 4] > 0)], 1).astype(int)
    edges = [(0, 1), (0, 2)]
    free, bound = (
        HierarchicalClassifier(n_blocks=1, n_features=20, hierarchy=hierarchy).fit(x, y) for hierarchy in (None, edges)
    )
    before, after = free.predict_proba(x), bound.predict_proba(x)
    assert (before[:, :1] < before[:, 1:]).any()
    assert (after[:, :1] >= after[:, 1:]).all()
    np.testing.assert_array_equal(after[:, 1:], before[:, 1:])
    np.testing.assert_array_equal(bound.predict(x), after > 0.5)
    with pytest.raises(ValueError, match="hierarchy must have edges between labels, of classes_, got 'top'"):
        HierarchicalClassifier(hierarchy=[("top", 1)]).fit(x, y)
    with pytest.raises(ValueError, match="hierarchy must be None for one class a row"):
        HierarchicalClassifier(hierarchy=edges).fit(x, y[:, 0])
