"""Probabilities of scores, from rows that were set aside; and consistent ones, where a hierarchy is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from hierlit.metrics import average_precision

Floats = NDArray[np.float64]
SLOPE = 2.0
"""Of the log-odds of (1 + ŷ)/2, which ŷ would be the squared loss's best guess of, at ŷ = 0."""
RESOLVED = 6
"""Decimals of log-odds by which a curve's steps must differ."""
ENOUGH = 20
"""Positives, and negatives, among the rows set aside from which a label has a curve of its own."""


@dataclass(frozen=True)
class Curve:
    """Log-odds as a strictly increasing function of scores (ours): straight lines between knots, `SLOPE` beyond.

    Attributes:
        scores: Of the knots [k], ascending.
        log_odds: At them [k], ascending.
    """

    scores: Floats
    log_odds: Floats

    @classmethod
    def fit(cls, scores: Floats, labels: NDArray[Any]) -> Curve:
        """Isotonic regression of labels on scores, its steps joined at their middles so that no two scores tie.

        Args:
            scores: Of labels that are observed [m].
            labels: −1 or 1 [m]; unless there are both, the curve is the straight line through 0.
        """
        if not (labels > 0).any() or not (labels < 0).any():
            return cls(np.zeros(1), np.zeros(1))
        points, point_of, counts = np.unique(scores, return_inverse=True, return_counts=True)
        means = np.bincount(point_of, platt_targets(labels)) / counts
        fitted = logit(isotonic_regression(means, weights=counts).x)
        # steps that are equal but for rounding are one: scores between them would tie
        steps, step_of = np.unique(fitted.round(RESOLVED), return_inverse=True)
        return cls(np.bincount(step_of, points * counts) / np.bincount(step_of, counts), steps)

    def __call__(self, scores: Floats) -> Floats:
        """Log-odds of scores, in their shape."""
        beyond = scores - scores.clip(self.scores[0], self.scores[-1])
        log_odds: Floats = np.interp(scores, self.scores, self.log_odds) + SLOPE * beyond
        return log_odds


@dataclass(frozen=True)
class Calibration:
    """Log-odds of each label's scores: one curve for all, and for some labels a straight line of its log-odds.

    A label's own order of rows is never changed, and so its average precision is that of its scores. While all labels
    share the curve, so is the average precision of all pairs. Lines of their own change the order between labels: they
    are used if, fitted to either half of the rows set aside, they do not lower the average precision of the pairs of
    the other.

    Attributes:
        shared: The curve of all labels.
        slopes: Of the labels' own lines [n], positive; 1 where there is none.
        intercepts: Of the labels' own lines [n]; 0 where there is none.
    """

    shared: Curve
    slopes: Floats
    intercepts: Floats

    @classmethod
    def fit(cls, scores: Floats, labels: NDArray[Any], may_differ: bool = True) -> Calibration:
        """Fit the curves.

        Args:
            scores: Scores ŷ [N, |G|, n] of rows set aside.
            labels: Labels [N, |G|, n] in {−1, 0, 1}.
            may_differ: Whether labels may have lines of their own.
        """
        for half in (0, 1) if may_differ else ():
            fitted = cls._fit(scores[half::2], labels[half::2], may_differ)
            scores_left, labels_left = scores[1 - half :: 2], labels[1 - half :: 2]
            own = fitted.log_odds(scores_left)
            may_differ = may_differ and precision(own, labels_left) >= precision(scores_left, labels_left)
        return cls._fit(scores, labels, may_differ)

    @classmethod
    def _fit(cls, scores: Floats, labels: NDArray[Any], may_differ: bool) -> Calibration:
        scores, labels = scores.reshape(-1, scores.shape[-1]), labels.reshape(-1, labels.shape[-1])
        shared = Curve.fit(scores[labels != 0], labels[labels != 0])
        slopes, intercepts = np.ones(labels.shape[1]), np.zeros(labels.shape[1])
        counts = np.minimum((labels > 0).sum(0), (labels < 0).sum(0))
        for label in np.flatnonzero(counts >= ENOUGH) if may_differ and labels.shape[1] > 1 else ():
            seen = labels[:, label] != 0
            slope, intercept = fit_line(shared(scores[seen, label]), labels[seen, label])
            if slope > 0:
                slopes[label], intercepts[label] = slope, intercept
        return cls(shared, slopes, intercepts)

    def log_odds(self, scores: Floats) -> Floats:
        """Log-odds of scores ŷ [..., n]."""
        log_odds: Floats = self.slopes * self.shared(scores) + self.intercepts
        return log_odds


def platt_targets(labels: NDArray[Any]) -> Floats:
    """(N₊+1)/(N₊+2) and 1/(N₋+2) for labels 1 and −1 [m], after Platt (1999): no log-odds fitted are infinite."""
    n_positive, n_negative = (labels > 0).sum(), (labels < 0).sum()
    targets: Floats = np.where(labels > 0, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    return targets


def fit_line(log_odds: Floats, labels: NDArray[Any]) -> tuple[float, float]:
    """Slope and intercept of the log-odds of labels 1 and −1 [m] in the shared curve's, as Platt (1999) fits them."""
    targets = platt_targets(labels)
    inputs, classes = np.tile(log_odds, 2)[:, None], np.repeat([1, 0], len(log_odds))
    line = LogisticRegression(C=1e6).fit(inputs, classes, np.concatenate([targets, 1 - targets]))
    return float(line.coef_[0, 0]), float(line.intercept_[0])


def precision(scores: Floats, labels: NDArray[Any]) -> float:
    """Average precision of all observed pairs of scores and labels in {−1, 0, 1}; 0 if none is positive."""
    return average_precision(torch.from_numpy(scores), torch.from_numpy(labels)) if (labels > 0).any() else 0.0


def descendants(edges: Sequence[tuple[int, int]], n_labels: int) -> NDArray[np.bool_]:
    """Return which labels are below which, or the same: [n, n], a row for each label above.

    Args:
        edges: Parent and child, by number.
        n_labels: Labels n.

    Raises:
        ValueError: The edges have a cycle.
    """
    pairs = np.array(edges, int).reshape(-1, 2).T
    graph = csr_array((np.ones(len(edges)), tuple(pairs)), (n_labels, n_labels))
    below: NDArray[np.bool_] = np.isfinite(shortest_path(graph, "D", unweighted=True))
    cyclic = np.flatnonzero((below & below.T).sum(1) > 1)
    if len(cyclic):
        raise ValueError(f"hierarchy must have no cycle, got one through label {cyclic[0]}")
    return below


def consistent(log_odds: Floats, below: NDArray[np.bool_]) -> Floats:
    """Log-odds [..., n] raised to the largest of their descendants: no child is above its parent.

    Args:
        log_odds: Of labels.
        below: What `descendants` returned.
    """
    return np.stack([log_odds[..., row].max(-1) for row in below], -1)
