from __future__ import annotations

import re

import numpy as np
import pytest

from hierlit import HierarchicalClassifier
from hierlit.estimator.probabilities import consistent, descendants


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
    y[::20, 0] = 0  # with exceptions, it is not found among the labels
    edges = [(0, 1), (0, 2)]
    free, bound = (
        HierarchicalClassifier(n_blocks=1, n_features=20, hierarchy=hierarchy).fit(x, y) for hierarchy in (None, edges)
    )
    before, after = free.predict_proba(x), bound.predict_proba(x)
    assert (before[:, :1] < before[:, 1:]).any()
    assert (after[:, :1] >= after[:, 1:]).all()
    np.testing.assert_array_equal(after[:, 1:], before[:, 1:])
    np.testing.assert_array_equal(bound.predict(x), after > 0.5)
    for wrong in (("top", 1), (0, 9), (0, 1, 2), 1, ([0], 1)):
        said = f"hierarchy must have pairs (parent, child) of labels, among 0, 1, 2, got {wrong!r}"
        with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
            HierarchicalClassifier(hierarchy=[wrong]).fit(x, y)
    with pytest.raises(ValueError, match="hierarchy must be None for one class a row"):
        HierarchicalClassifier(hierarchy=edges).fit(x, y[:, 0])


def test_mean_scores_of_several_draws_agree_with_what_labels_imply() -> None:
    draw = np.random.default_rng(0)
    y = np.cumprod(draw.random((600, 3)) < [0.5, 0.5, 0.4], axis=1)
    x = 2.0 * y - 1 + 2 * draw.normal(size=y.shape)
    model = HierarchicalClassifier(n_draws=2, n_blocks=1, solver="exact", n_features=60, val_fraction=0.3)
    probabilities = model.fit(x[:400], y[:400]).predict_proba(x[400:])
    assert (np.diff(probabilities) <= 0).all()
