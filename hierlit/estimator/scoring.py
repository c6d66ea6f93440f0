"""Scorers for scikit-learn's model selection that skip what is not observed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score

from hierlit.estimator.targets import missing

RESPONSES = ("predict_proba", "decision_function", "predict")
AVERAGES = ("macro", "micro")


def observed_scorer(
    metric: Callable[..., float] = average_precision_score,
    response: str = "predict_proba",
    average: str = "macro",
) -> Callable[[Any, ArrayLike, ArrayLike], float]:
    """Make a scorer, as `cross_val_score(scoring=...)` takes it, of a metric that knows no missing labels.

    Give model selection its folds as an object, `cv=KFold(5)`: scikit-learn refuses NaN in `y` where `cv` is a number.

    Args:
        metric: Of the true values and the response [m] of one label, such as `roc_auc_score`; of one of predicted
            labels, such as `f1_score`, with the response `predict`.
        response: What the estimator is asked for: `predict_proba`, `decision_function` or `predict`.
        average: `macro`, the mean over the labels with both values among their observed entries, or `micro`, the metric
            of all observed pairs together.

    Returns:
        A function of an estimator or pipeline, X, and y: classes [N] or labels [N, n]. NaN and None are not observed,
        nor are zeros in labels that also have −1. It is NaN where nothing can be judged.

    Raises:
        TypeError: If the metric is no function.
        ValueError: If `response` or `average` is none of those.
    """
    if not callable(metric):
        raise TypeError(f"metric must be a function such as sklearn.metrics.roc_auc_score, got {metric!r}")
    if response not in RESPONSES:
        raise ValueError(f"response must be one of {', '.join(RESPONSES)}, got {response!r}")
    if average not in AVERAGES:
        raise ValueError(f"average must be one of {', '.join(AVERAGES)}, got {average!r}")

    def score(estimator: Any, X: ArrayLike, y: ArrayLike) -> float:
        truth, answers = np.asarray(y), np.asarray(getattr(estimator, response)(X))
        if truth.ndim == 1:
            seen = ~missing(truth)
            is_binary = answers.ndim == 2 and answers.shape[1] == 2
            return float(metric(truth[seen], answers[seen, 1] if is_binary else answers[seen]))
        truth = truth.astype(float)
        is_seen = ~np.isnan(truth) & ((truth != 0) | ~(truth == -1).any())
        signs = truth > 0
        if average == "micro":
            return of_pairs(metric, signs[is_seen], answers[is_seen])
        of_labels = [of_pairs(metric, signs[own, label], answers[own, label]) for label, own in enumerate(is_seen.T)]
        return float(np.nanmean(of_labels)) if not np.isnan(of_labels).all() else float("nan")

    return score


def of_pairs(metric: Callable[..., float], signs: NDArray[np.bool_], answers: NDArray[Any]) -> float:
    """Return the metric of observed pairs; NaN unless both values are among them."""
    if signs.all() or not signs.any():
        return float("nan")
    return float(metric(signs, answers > 0 if answers.dtype.kind in "biu" else answers))
