"""Probabilities of scores, from rows that were set aside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.isotonic import IsotonicRegression

Floats = NDArray[np.float64]
SLOPE = 2.0
"""Of the log-odds of (1 + ŷ)/2, which ŷ would be the squared loss's best guess of, at ŷ = 0."""


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
    def fit(cls, scores: Floats, labels: NDArray[np.int8]) -> Curve:
        """The isotonic regression of labels on scores, its steps joined at their middles so that no two scores tie.

        Labels count as Platt's (1999) targets (N₊+1)/(N₊+2) and 1/(N₋+2), so that no log-odds is infinite.

        Args:
            scores: Of labels that are observed [m].
            labels: −1 or 1 [m]; unless there are both, the curve is the straight line through 0.
        """
        n_positive, n_negative = int((labels > 0).sum()), int((labels < 0).sum())
        if not n_positive or not n_negative:
            return cls(np.zeros(1), np.zeros(1))
        targets = np.where(labels > 0, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
        steps, step_of, counts = np.unique(
            IsotonicRegression().fit_transform(scores, targets), return_inverse=True, return_counts=True
        )
        return cls(np.bincount(step_of, scores) / counts, logit(steps))

    def __call__(self, scores: Floats) -> Floats:
        """Log-odds of scores, in their shape."""
        beyond = scores - scores.clip(self.scores[0], self.scores[-1])
        log_odds: Floats = np.interp(scores, self.scores, self.log_odds) + SLOPE * beyond
        return log_odds
