"""HierarchicalClassifier as one of scikit-learn's: its own checks, and every kind of target."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import load_iris, make_blobs
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from hierlit import HierarchicalClassifier


def small(**arguments: object) -> HierarchicalClassifier:
    return HierarchicalClassifier(**({"n_blocks": 2, "n_features": 40, "solver": "exact"} | arguments))


@parametrize_with_checks([small()])
def test_passes_the_checks_of_scikit_learn(estimator, check) -> None:
    """Of binary, multi-class and multi-label targets; none is expected to fail."""
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [
        small(n_blocks=1, solver="auto"),
        small(n_blocks=1, solver="gradient", acceptance="none", acceptance_fraction=0),
    ]
)
def test_passes_the_checks_of_scikit_learn_with_other_solvers(estimator, check) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def labels() -> tuple[np.ndarray, np.ndarray]:
    """Signs [600, 8], and products of two of them in {0, 1}."""
    x = np.random.default_rng(0).choice([-1.0, 1.0], (600, 8))
    return x, (x[:, :3] * x[:, 3:6] > 0).astype(int)


def test_iris_by_its_names() -> None:
    x, y = load_iris(return_X_y=True, as_frame=True)
    names = np.array(load_iris().target_names)[y]
    model = small(n_features=200).fit(x, names)
    assert model.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert model.feature_names_in_.tolist() == list(x.columns)
    assert model.score(x, names) > 0.95
    probabilities = model.predict_proba(x)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (model.classes_[probabilities.argmax(1)] == model.predict(x)).all()
    assert (model.decision_function(x).argmax(1) == probabilities.argmax(1)).all()
    assert cross_val_score(small(n_features=200), x, names, cv=3).mean() > 0.9


@pytest.mark.parametrize("classes", [[False, True], ["no", "yes"], [3.0, 1.0], [-1, 1]])
def test_two_classes_are_one_label(classes: list[object]) -> None:
    x, which = make_blobs(200, n_features=4, centers=2, random_state=0)
    y = np.array(classes)[which]
    model = small().fit(x, y)
    assert model.net_.n_labels == 1
    assert model.classes_.tolist() == sorted(classes)
    assert model.predict(x).dtype == y.dtype
    assert model.score(x, y) > 0.95
    log_odds = model.decision_function(x)
    np.testing.assert_allclose(model.predict_proba(x)[:, 1], expit(log_odds))
    assert (model.classes_[(log_odds > 0).astype(int)] == model.predict(x)).all()


@pytest.mark.parametrize("coding", [np.int64, np.float32, bool, "signs", "frame", "tensor"])
def test_labels_come_back_as_they_were_coded(labels, coding) -> None:
    x, zero_one = labels
    signs = 2 * zero_one - 1
    names = ["a", "b", "c"]
    given = {"signs": signs, "frame": pd.DataFrame(zero_one, columns=names), "tensor": torch.tensor(zero_one)}
    y = given[coding] if isinstance(coding, str) else zero_one.astype(coding)
    model, reference = small(n_features=300).fit(x, y), small(n_features=300).fit(x, signs)
    assert model.classes_.tolist() == (names if coding == "frame" else [0, 1, 2])
    np.testing.assert_array_equal(model.decision_function(x), reference.decision_function(x))
    predicted = model.predict(x)
    assert predicted.dtype == np.asarray(y).dtype
    np.testing.assert_array_equal(predicted == 1, model.predict_proba(x) > 0.5)
    assert set(np.unique(predicted)) == set(np.unique(np.asarray(y)))
    assert model.score(x, y) > 0.95


def test_labels_that_are_nan_are_not_observed(labels) -> None:
    x, zero_one = labels
    seen = np.random.default_rng(1).random(zero_one.shape) < 0.7
    fits = [
        np.where(seen, zero_one, np.nan),
        np.where(seen, 2 * zero_one - 1, np.nan),
        np.where(seen, 2 * zero_one - 1, 0),
        pd.DataFrame(np.where(seen, zero_one, 7)).astype("Int64").replace(7, pd.NA),
    ]
    models = [small(n_features=300).fit(x, y) for y in fits]
    for model in models[1:]:
        np.testing.assert_array_equal(model.decision_function(x), models[0].decision_function(x))
    assert models[0].score(x, zero_one) > 0.9
    assert models[0].score(x, fits[0]) == (models[0].predict(x) == zero_one)[seen].mean()
    with pytest.raises(ValueError, match="each label of y must have an observed entry, got none for 1"):
        small().fit(x, np.where([True, False, True], zero_one, np.nan))


def test_rows_of_no_class_count_for_nothing(labels) -> None:
    x, zero_one = labels
    y = zero_one[:, 0] + zero_one[:, 1]
    hidden = np.arange(len(y)) % 3 == 0
    model = small(n_features=300).fit(x, np.where(hidden, np.nan, y))
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.score(x[hidden], y[hidden]) > 0.9
    words = np.array(["none", "one", "two"], dtype=object)[y]
    words[hidden] = None
    named = small(n_features=300).fit(x, words)
    np.testing.assert_array_equal(named.decision_function(x), model.decision_function(x))
    with pytest.raises(ValueError, match="Input y contains NaN alone"):
        small().fit(x, np.full(len(y), np.nan))
    with pytest.raises(ValueError, match="y must have at least 2 classes, got 1 class: 4"):
        small().fit(x, np.full(len(y), 4))


def test_what_0_means_is_said_or_plain(labels) -> None:
    x, zero_one = labels
    mixed = np.hstack([2 * zero_one[:, :2] - 1, zero_one[:, 2:]])
    with pytest.raises(ValueError, match=r"zero_labels must be negative or not_observed.*label 2 has 0 and 1 alone"):
        small().fit(x, mixed)
    both = np.where(np.arange(600)[:, None] < 20, np.nan, 2 * zero_one - 1)
    both[50:60] = 0
    with pytest.raises(ValueError, match=r"zero_labels must be .* 0 would not be observed, but some are NaN"):
        small().fit(x, both)
    assert small(zero_labels="not_observed").fit(x, both).score(x, zero_one * 2 - 1) > 0.6
    with pytest.raises(ValueError, match="zero_labels must be not_observed or auto where y has -1, got 'negative'"):
        small(zero_labels="negative").fit(x, mixed)
    assert small(zero_labels="not_observed").fit(x, zero_one).predict(x).min() == 1
    with pytest.raises(ValueError, match="zero_labels must be one of auto, negative, not_observed, got 'maybe'"):
        small(zero_labels="maybe").fit(x, zero_one)
    with pytest.raises(ValueError, match=r"y must be in .*; these are coded \{0, 1\}, got -1"):
        small().fit(x, zero_one).score(x, 2 * zero_one - 1)


@pytest.mark.parametrize("form", ["csr_array", "csr_matrix", "coo_array", "lil_matrix", "fill 0", "fill NaN"])
def test_sparse_tables_are_the_dense_ones(form) -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(200, 9)) * (draw.random((200, 9)) < 0.3)
    y = (x[:, :3] + x[:, 3:6] > 0).astype(np.int8)
    if form.startswith("fill"):
        columns = pd.SparseDtype(float, 0.0 if form == "fill 0" else np.nan)
        sparse_x, sparse_y = pd.DataFrame(x).astype(columns), pd.DataFrame(y).astype(pd.SparseDtype(np.int8, 0))
    else:
        sparse_x, sparse_y = getattr(scipy.sparse, form)(x), getattr(scipy.sparse, form)(y)
    dense, model = small().fit(x, y), small().fit(sparse_x, sparse_y)
    np.testing.assert_array_equal(model.predict_proba(sparse_x), dense.predict_proba(x))
    predicted = model.predict(sparse_x)
    np.testing.assert_array_equal(predicted, dense.predict(x))
    assert predicted.dtype == y.dtype
    assert model.score(sparse_x, sparse_y) == dense.score(x, y)


def test_what_sparse_labels_store_is_1_or_as_dense(labels) -> None:
    x, zero_one = labels
    stored = scipy.sparse.csr_array(zero_one)
    stored.data[::7] = 0
    model, dense = small().fit(x, stored), small().fit(x, stored.toarray())
    np.testing.assert_array_equal(model.decision_function(x), dense.decision_function(x))


@pytest.mark.parametrize("is_target", [False, True])
def test_a_sparse_table_beyond_memory_is_one_line(is_target: bool) -> None:
    table = scipy.sparse.csr_array((2, 10**14) if is_target else (10**6, 10**8), dtype=np.float32)
    given = (np.eye(2), table) if is_target else (table, np.arange(10**6) % 2)
    name, shape = "Xy"[is_target], str(list(table.shape))
    message = rf"{name} must fit into memory as a dense array, got shape {re.escape(shape)}: [\d,.]+ GiB in float32, .*"
    with pytest.raises(ValueError, match=f"^{message}$"):
        small().fit(*given)


@pytest.mark.parametrize(
    ("sets", "got"),
    [
        ([["red"], ["blue", "red"]], r"\['red'\]"),
        ([("red", "green"), ("blue", "red")], "'red'"),
        ([{"red"}, set()], r"\{'red'\}"),
        (pd.Series([["red"], ["blue"]], index=[7, 8]), r"\['red'\]"),
    ],
)
def test_label_sets_are_told_how_to_become_labels(sets, got: str) -> None:
    message = rf"y must be in .*, got {got}; lists of names become such labels by sklearn.*MultiLabelBinarizer\(\)\.fit"
    with pytest.raises(ValueError, match=message):
        small().fit(np.eye(2), sets)


def test_values_that_are_no_labels_are_named() -> None:
    rule, yes = (
        "Unknown label type: y must be in {-1, 1} or {0, 1}, NaN = not observed, got ",
        "columns of texts by y == 'yes'",
    )
    texts = np.array([["yes", "yes"], ["yes", "no"]])
    day = pd.DataFrame({"a": pd.date_range("2026", periods=2), "b": 1})
    cases = (
        (texts, f"'yes'; .*{yes}"),
        (np.array([[1, "yes"], [0, 1]], object), f"'yes'; .*{yes}"),
        (day, "Timestamp.*"),
    )
    for y, got in (*cases, (np.full((2, 2), 0.5), "0.5")):
        with pytest.raises(ValueError, match=f"^{re.escape(rule)}{got}") as said:
            small().fit(np.eye(2), y)
        assert "\n" not in str(said.value) and ("MultiLabelBinarizer" in str(said.value)) == ("yes" in got)


def test_a_column_of_classes_is_one_target() -> None:
    x, y = make_blobs(90, n_features=3, centers=3, random_state=0)
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        model = small().fit(x, y[:, None])
    np.testing.assert_array_equal(model.predict(x), small().fit(x, y).predict(x))


def test_probabilities_by_block(labels) -> None:
    x, y = labels
    model = small(n_blocks=3, n_features=100).fit(x, y)
    stages = list(model.staged_predict_proba(x))
    assert [stage.shape for stage in stages] == [y.shape] * 3
    np.testing.assert_array_equal(stages[-1], model.predict_proba(x))
    errors = [np.abs(stage - y).mean() for stage in stages]
    assert errors[2] < errors[0]
    model.net_.n_trained -= 1
    np.testing.assert_array_equal(stages[1], model.predict_proba(x))


def test_random_state_as_in_scikit_learn(labels) -> None:
    x, y = labels

    def scores(random_state: object) -> np.ndarray:
        return small(random_state=random_state).fit(x, y).decision_function(x)

    np.testing.assert_array_equal(scores(np.random.RandomState(3)), scores(np.random.RandomState(3)))
    assert not (scores(None) == scores(None)).all()
    with pytest.raises(ValueError, match="random_state must be an integer >= 0, a RandomState or None, got -1"):
        scores(-1)


def test_threads_are_those_of_n_jobs_while_it_computes(labels, monkeypatch) -> None:
    x, y = labels
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    model = small(n_jobs=2).fit(x, y)
    assert 2 in seen
    assert seen[-1] == before
    seen.clear()
    clone(model).set_params(n_jobs=None).fit(x, y)
    assert set(seen) <= {before}
    with pytest.raises(ValueError, match="n_jobs must be an integer >= 1, -1 or None, got 0"):
        small(n_jobs=0).fit(x, y)


def test_other_estimators_can_wrap_it(labels) -> None:
    x, y = labels
    assert OneVsRestClassifier(small(n_features=300)).fit(x, y).score(x, y) > 0.9
