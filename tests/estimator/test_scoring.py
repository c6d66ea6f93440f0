"""A scorer that skips what is not observed, in scikit-learn's model selection."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, average_precision_score, roc_auc_score
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hierlit import HierarchicalClassifier
from hierlit.estimator import observed_scorer

Arrays = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]
FOLDS = KFold(2)


@pytest.fixture(scope="module")
def rows() -> Arrays:
    draw = np.random.default_rng(0)
    X = draw.choice([-1.0, 1.0], (120, 4))
    Y = np.stack([X[:, 0] * X[:, 1] > 0, X[:, 2] > 0], 1).astype(float)
    return X, Y, draw.random(Y.shape) < 0.3


def model() -> Any:
    return make_pipeline(StandardScaler(), HierarchicalClassifier(n_blocks=1, n_features=4, solver="exact"))


@pytest.mark.parametrize("average", ["macro", "micro"])
@pytest.mark.parametrize("metric", [average_precision_score, roc_auc_score])
def test_without_missing_labels_it_is_scikit_learn_s_own(metric: Any, average: str, rows: Arrays) -> None:
    X, Y, _ = rows
    fitted = model().fit(X, Y)
    expected = metric(Y, fitted.predict_proba(X), average=average)
    assert observed_scorer(metric, average=average)(fitted, X, Y) == pytest.approx(expected)
    assert observed_scorer(metric, average=average)(fitted, X, 2 * Y - 1) == pytest.approx(expected)


def test_cross_validation_with_missing_labels_judges_those_observed(rows: Arrays) -> None:
    X, Y, gone = rows
    partly = np.where(gone, np.nan, Y)
    found = cross_val_score(model(), X, partly, cv=FOLDS, scoring=observed_scorer(), error_score="raise")
    for (train, test), value in zip(FOLDS.split(X), found, strict=True):
        answers = np.full(Y.shape, np.nan)
        answers[test] = model().fit(X[train], partly[train]).predict_proba(X[test])
        own = [test[~gone[test, label]] for label in (0, 1)]
        of_labels = [average_precision_score(Y[own[label], label], answers[own[label], label]) for label in (0, 1)]
        assert value == pytest.approx(np.mean(of_labels))
    with pytest.raises(ValueError, match="NaN"):
        cross_val_score(model(), X, partly, cv=FOLDS, scoring="average_precision", error_score="raise")


def test_classes_that_are_not_observed_are_left_out(rows: Arrays) -> None:
    X, Y, gone = rows
    classes = np.where(gone[:, 0], None, np.where(Y[:, 0] > 0, "yes", "no"))
    fitted = HierarchicalClassifier(n_blocks=1, n_features=4, solver="exact").fit(X, classes)
    seen = ~gone[:, 0]
    score = observed_scorer(lambda truth, said: accuracy_score(list(truth), list(said)), "predict")(fitted, X, classes)
    assert score == pytest.approx(np.mean(fitted.predict(X)[seen] == classes[seen]))


def test_zeros_beside_minus_ones_are_not_observed_and_one_value_alone_is_not_judged(rows: Arrays) -> None:
    X, Y, gone = rows
    fitted = model().fit(X, np.where(gone, 0, 2 * Y - 1))
    scorer = observed_scorer()
    expected = scorer(fitted, X, np.where(gone, np.nan, Y))
    assert scorer(fitted, X, np.where(gone, 0, 2 * Y - 1)) == pytest.approx(expected)
    one = np.stack([np.ones(len(Y)), Y[:, 1]], 1)
    assert scorer(fitted, X, one) == pytest.approx(average_precision_score(Y[:, 1], fitted.predict_proba(X)[:, 1]))
    assert np.isnan(scorer(fitted, X, np.ones_like(Y)))


@pytest.mark.parametrize(("wrong", "named"), [({"response": "score"}, "predict_proba"), ({"average": "all"}, "macro")])
def test_wrong_arguments_are_one_line(wrong: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        observed_scorer(**wrong)


def test_a_metric_that_is_a_name_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"^metric must be a function .*, got 'roc_auc'$"):
        observed_scorer("roc_auc")  # type: ignore[arg-type]
