from __future__ import annotations

import copy
import logging
import os
import pickle
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import hierlit.estimator.fitting
from hierlit.data import CellularAutomaton, JuntaHierarchy
from hierlit.estimator import HierarchicalClassifier
from hierlit.layerwise import AutoSolver
from hierlit.layerwise.adaptive_draw import AdaptiveDraw
from hierlit.layerwise.losses import SquaredHingeLoss
from hierlit.layerwise.solvers import GradientSolver, KernelSolver
from hierlit.models import Calibration, GaussianFeatures, RadialFeatures, Window1d

matplotlib.use("Agg")
LEVELS = [1, 1, 1, 1, 2, 2, 3]


def parities(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Signs x [n, 12], and labels: products of two of the first 8, of two such products, and of these two."""
    x = np.random.default_rng(seed).choice([-1.0, 1.0], size=(n, 12))
    first = x[:, :8:2] * x[:, 1:8:2]
    second = first[:, ::2] * first[:, 1::2]
    return x, np.hstack([first, second, second[:, :1] * second[:, 1:]])


def small(**arguments: object) -> HierarchicalClassifier:
    return HierarchicalClassifier(**({"n_blocks": 1, "n_features": 30} | arguments))


@pytest.fixture(scope="module")
def fitted() -> HierarchicalClassifier:
    classifier = HierarchicalClassifier(n_blocks=3, n_features=400, levels=LEVELS, accelerator="cpu")
    return classifier.fit(*parities(1200))


def test_learns_a_hierarchy(fitted) -> None:
    x, y = parities(seed=1)
    assert fitted.score(x, y) > 0.98
    assert fitted.levels_ == [1, 2, 3]
    assert fitted.n_features_in_ == 12
    assert fitted.level_accuracy_.shape == (3, 3)
    assert fitted.level_accuracy_[0, 0] == 1
    assert [block.block for block in fitted.blocks_] == [1, 2, 3]


def noisy(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal inputs [n, 20], and rare labels that depend on three of them with much noise."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, 20))
    return x, (x[:, :5] + x[:, 5:10] * x[:, 10:15] + 2 * draw.normal(size=(n, 5)) > 2).astype(float)


def test_what_a_person_would_have_to_set_is_chosen_on_noisy_tables() -> None:
    at, expected = noisy(3000, 7)
    gains = []
    for seed in range(3):
        x, y = noisy(500, seed)
        models = HierarchicalClassifier().fit(x, y), HierarchicalClassifier(n_blocks=2, solver="exact").fit(x, y)
        chosen, exact = (
            average_precision_score(expected, model.predict_proba(at), average="micro") for model in models
        )
        gains.append(chosen - exact)
    assert min(gains) > 0
    assert np.mean(gains) > 0.03
    assert models[0].net_.features == RadialFeatures() and models[0].net_.block(0).features.n_features == 500


@pytest.mark.parametrize("degree", [2, 3])
def test_what_a_person_would_have_to_set_is_chosen_on_juntas(degree: int) -> None:
    data = JuntaHierarchy(n_inputs=8, n_levels=2, labels_per_level=4, degree=degree, n_train=400, n_test=400)
    tables = data.make_tables()
    model = HierarchicalClassifier(levels=data.levels).fit(*tables["train"])
    assert model.score(*tables["test"]) >= 0.99
    assert model.level_accuracy_.shape == (len(model.blocks_), 2)


def test_what_is_given_is_not_chosen() -> None:
    x, y = parities(60)
    for given in ({"loss": SquaredHingeLoss()}, {"features": GaussianFeatures(0.3)}, {"acceptance": "strict"}):
        auto, exact = (small(solver=solver, **given).fit(x, y) for solver in ("auto", "exact"))
        np.testing.assert_array_equal(auto.decision_function(x), exact.decision_function(x))


def test_scores_of_several_draws_are_averaged() -> None:
    (x, y), (at, _) = noisy(300, 0), noisy(50, 1)
    model = small(n_blocks=2, n_draws=3, acceptance="none", random_state=5).fit(x, y)
    alone = small(n_blocks=2, acceptance="none", random_state=5, val_fraction=0.1).fit(x, y)
    assert len(model.nets_) == 3 and model.nets_[0] is model.net_
    assert torch.equal(model.net_.block(0).weight, alone.net_.block(0).weight)
    inputs = torch.tensor(at[:, None])
    mean = sum(net(inputs) for net in model.nets_)[:, 0].detach().numpy() / 3
    np.testing.assert_allclose(
        model.calibration_.log_odds(torch.from_numpy(mean)), model.decision_function(at), atol=1e-6
    )
    chosen = HierarchicalClassifier(n_blocks=2, n_draws=2).fit(x, y)
    assert chosen.calibration_.knots.shape != Calibration(chosen.net_.n_labels).knots.shape
    assert not torch.equal(model.nets_[1].block(0).features.weight, model.net_.block(0).features.weight)


def test_predictions_are_those_of_the_network(fitted, monkeypatch) -> None:
    x, y = parities(50, seed=1)
    with torch.no_grad():
        scores = fitted.net_(torch.tensor(x[:, None]))[:, 0].numpy()
        in_training = copy.deepcopy(fitted.net_).float()(torch.tensor(x[:, None]).float())[:, 0].numpy()
    np.testing.assert_allclose(scores, in_training, atol=1e-4)
    direct = fitted.calibration_.log_odds(torch.from_numpy(scores)).numpy()
    log_odds = fitted.decision_function(x)
    assert log_odds.shape == y.shape
    np.testing.assert_allclose(log_odds, direct, rtol=1e-9)
    predicted = fitted.predict(x)
    np.testing.assert_array_equal(predicted, np.where(direct > 0, 1, -1))
    monkeypatch.setattr("hierlit.models.resnet.NUMBERS_AT_ONCE", 3000)
    np.testing.assert_allclose(fitted.decision_function(torch.tensor(x)), direct, rtol=1e-9)
    partly = np.where(np.arange(7) < 4, y, 0)
    assert fitted.score(x, partly) == (predicted == y)[:, :4].mean()


def test_locations_keep_their_dimension() -> None:
    data = CellularAutomaton(rule=110, n_levels=2, n_cells=16, n_train=60, n_val=10, n_test=10)
    tables = data.make_tables()
    classifier = HierarchicalClassifier(n_blocks=2, n_features=80, proximity=Window1d(3, periodic=True))
    classifier.fit(*tables["train"])
    assert classifier.predict(tables["test"][0]).shape == tables["test"][1].shape
    assert classifier.score(*tables["test"]) > 0.98
    with pytest.raises(ValueError, match=r"X must have shape \[rows, 16, 1\] as in fit, got \[5, 1\]"):
        classifier.predict(np.ones((5, 1)))


def test_fit_is_repeatable_quiet_and_writes_nothing(tmp_path: Path, monkeypatch, capfd, caplog) -> None:
    monkeypatch.chdir(tmp_path)
    x, y = parities(60)
    state, level = torch.get_rng_state(), logging.getLogger("lightning.pytorch").level
    with warnings.catch_warnings(), caplog.at_level(logging.INFO):
        warnings.simplefilter("error", UserWarning)
        first, second = (small().fit(x, y).decision_function(x) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not (small(random_state=1).fit(x, y).decision_function(x) == first).all()
    assert torch.equal(torch.get_rng_state(), state)
    assert logging.getLogger("lightning.pytorch").level == level
    assert os.listdir() == []
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_verbose_reports_each_block(capfd) -> None:
    small(verbose=True).fit(*parities(60))
    assert "block 1/1" in capfd.readouterr().out


@pytest.mark.parametrize("solver", ["gradient", GradientSolver(minibatch_epochs=1)])
def test_other_losses_need_the_gradient_solver(solver) -> None:
    x, y = parities(100)
    classifier = small(loss=SquaredHingeLoss(), solver=solver, n_features=100, acceptance="none").fit(x, y)
    assert (classifier.predict(x)[:, :4] == y[:, :4]).mean() > 0.9


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda fitted: pickle.loads(pickle.dumps(fitted))])
def test_a_copy_predicts_the_same(fitted, copied) -> None:
    x = parities(30, seed=2)[0]
    other = copied(fitted)
    np.testing.assert_array_equal(other.decision_function(x), fitted.decision_function(x))
    assert other.blocks_[0].seconds == fitted.blocks_[0].seconds


def test_follows_the_conventions_of_scikit_learn(fitted) -> None:
    given = fitted.get_params()
    assert all(getattr(fitted, name) is value for name, value in given.items())
    unfitted = clone(fitted)
    assert unfitted.get_params() == given
    assert not hasattr(unfitted, "net_")
    features = GaussianFeatures(0.1)
    assert unfitted.set_params(n_blocks=2, features=features) is unfitted
    assert (unfitted.n_blocks, unfitted.features) == (2, features)
    assert clone(unfitted).features == features
    assert repr(small(regularization=0.1)) == "HierarchicalClassifier(n_blocks=1, n_features=30, regularization=0.1)"
    with pytest.raises(ValueError, match=r"Invalid parameter 'depth' for estimator"):
        unfitted.set_params(depth=3)
    assert is_classifier(unfitted)
    pipeline = make_pipeline(FunctionTransformer(), small(n_features=200))
    assert cross_val_score(pipeline, *parities(100), cv=2).min() > 0.5
    search = GridSearchCV(pipeline, {"hierarchicalclassifier__n_features": [2, 200]}, cv=2)
    search.fit(*parities(100))
    assert search.best_params_ == {"hierarchicalclassifier__n_features": 200}


def test_draws_the_staircase(fitted) -> None:
    figure = fitted.plot_staircase()
    assert figure.axes[0].images[0].get_array().shape == (3, 3)
    matplotlib.pyplot.close(figure)


@pytest.mark.parametrize("method", ["predict", "decision_function", "score", "plot_staircase"])
def test_must_be_fitted_first(method) -> None:
    arguments = {"score": parities(3), "plot_staircase": ()}.get(method, parities(3)[:1])
    with pytest.raises(NotFittedError, match="HierarchicalClassifier instance is not fitted yet"):
        getattr(HierarchicalClassifier(), method)(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_blocks": 0}, "n_blocks must be an integer >= 1, got 0"),
        (
            {"n_features": 2.5, "random_state": -1},
            r"n_features must .* got 2.5; random_state must be .* >= 0, .*, got -1",
        ),
        ({"features": "radial"}, "features must be a Features or None, got 'radial'"),
        ({"solver": "adam"}, "solver must be one of auto, exact, gradient or a Solver, got 'adam'"),
        ({"solver": ["exact"]}, r"solver must be one of auto, exact, gradient or a Solver, got \['exact'\]"),
        (
            {"solver": KernelSolver([0.7]), "features": GaussianFeatures(), "acceptance": "strict"},
            r"^features must be None or RadialFeatures\(\) with this solver, got GaussianFeatures\(.*\); "
            "acceptance must be gain or none with this solver, got 'strict'$",
        ),
        ({"solver": AutoSolver(), "adaptation": AdaptiveDraw()}, "adaptation must be None with this solver, got Ada"),
        ({"loss": "hinge"}, "loss must be a MarginLoss or None, got 'hinge'"),
        ({"proximity": 3}, "proximity must be a Proximity or None, got 3"),
        ({"acceptance": "lenient"}, "acceptance must be one of none, gain, strict, got 'lenient'"),
        (
            {"acceptance_fraction": 0, "solver": "exact"},
            "acceptance_fraction must be positive unless acceptance is none, got 'gain'",
        ),
        ({"acceptance_fraction": 1}, r"acceptance_fraction must be a number in \[0, 1\), got 1"),
        ({"val_fraction": 1}, r"val_fraction must be a number in \[0, 1\), got 1"),
        ({"levels": [1, 2]}, r"levels must be 7 integers >= 1, one for each label, got \[1, 2\]"),
        ({"levels": 5}, "levels must be 7 integers >= 1, one for each label, got 5"),
        ({"regularization": 0}, "regularization must be positive, got 0"),
        ({"regularization": "a"}, "regularization must be positive, got 'a'"),
        ({"val_fraction": "a"}, r"val_fraction must be a number in \[0, 1\), got 'a'"),
        ({"random_state": "a"}, "^random_state must be an integer >= 0, a RandomState or None, got 'a'$"),
    ],
)
def test_arguments_are_checked_by_fit(arguments, message, monkeypatch) -> None:
    monkeypatch.setattr(hierlit.estimator.fitting.L, "Trainer", None)
    classifier = HierarchicalClassifier(**arguments)
    with pytest.raises(ValueError, match=message) as caught:
        classifier.fit(*parities(40))
    assert "\n" not in str(caught.value)


def test_arrays_are_checked_by_fit() -> None:
    x, y = parities(40)
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[40, 39\]"):
        small().fit(x, y[1:])
    with pytest.raises(ValueError, match="y must have 1, 2 or 3 dimensions, got 4"):
        small().fit(x, y[..., None, None])
    x[3, 2] = np.inf
    with pytest.raises(ValueError, match="Input X contains infinity"):
        small().fit(x, y)


def test_arrays_are_checked_by_predict_and_score(fitted) -> None:
    x, y = parities(5)
    with pytest.raises(ValueError, match="X has 11 features, but HierarchicalClassifier is expecting 12"):
        fitted.predict(x[:, 1:])
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array instead"):
        fitted.decision_function(x[0])
    with pytest.raises(ValueError, match=r"X must have shape \[rows, 12\] as in fit, got \[5, 2, 12\]"):
        fitted.predict(np.stack([x, x], 1))
    with pytest.raises(ValueError, match=r"y must have shape \[5, 7\] for this X, got \[5, 6\]"):
        fitted.score(x, y[:, 1:])
    with pytest.raises(ValueError, match=r"y must be in \{-1, 1\} or \{0, 1\}, NaN = not observed, got .*2.0"):
        fitted.score(x, 2 * abs(y))
    with pytest.raises(ValueError, match="y must have an observed label, got none"):
        fitted.score(x, 0 * y)
    x[4, 1] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        fitted.predict(x)


@pytest.mark.parametrize("acceptance", ["gain", pytest.param("none", marks=pytest.mark.slow)])
def test_rare_labels_are_learned(acceptance: str) -> None:
    rng = np.random.default_rng(0)
    inputs = rng.choice([-1.0, 1.0], size=(3500, 10))
    conjunctions = np.stack([(inputs[:, i : i + 6] > 0).all(1) for i in range(4)], 1)
    either = np.stack([conjunctions[:, 0] | conjunctions[:, 2], conjunctions[:, 1] | conjunctions[:, 3]], 1)
    labels = np.where(np.concatenate([conjunctions, either], 1), 1, -1)
    assert (labels > 0).mean(0)[:4].max() < 0.02
    fraction = 0.0 if acceptance == "none" else 0.2
    model = HierarchicalClassifier(n_blocks=2, n_features=300, acceptance=acceptance, acceptance_fraction=fraction)
    found = model.fit(inputs[:2000], labels[:2000]).predict(inputs[2000:])
    truth = labels[2000:] > 0
    assert ((found > 0) & truth).sum() / truth.sum() > 0.95
    assert ((found > 0) & ~truth).sum() / (found > 0).sum() < 0.05


def test_tables_of_positives_alone_are_ranked_once_the_others_are_taken_for_negative() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 5))
    true = np.stack([x[:, 0] + x[:, 1] > 0.8, x[:, 2] * x[:, 3] > 0.5, np.sin(2 * x[:, 4]) > 0.6], 1)
    positives = np.where(true & (rng.random(true.shape) < 0.6), 1.0, np.nan)
    with pytest.warns(UserWarning, match="rows cannot be ranked: set unobserved to assume_negative"):
        blind = HierarchicalClassifier().fit(x[:600], positives[:600])
    sighted = HierarchicalClassifier(unobserved="assume_negative").fit(x[:600], positives[:600])
    scores = sighted.net_(torch.from_numpy(x[600:, None])).numpy()
    known, guessed, plain = (
        average_precision_score(true[600:].ravel(), found.ravel())
        for found in (sighted.predict_proba(x[600:]), blind.predict_proba(x[600:]), scores)
    )
    assert known >= plain > 0.6 > 0.4 > guessed


def test_labels_not_observed_can_be_taken_for_negative() -> None:
    draw = np.random.default_rng(0)
    x = draw.choice([-1.0, 1.0], (400, 6))
    y = np.stack([x[:, 0] * x[:, 1], x[:, 2]], 1)
    positives = np.where(y > 0, y, 0)
    small = {"n_blocks": 1, "n_features": 200}
    guessed = HierarchicalClassifier(unobserved="assume_negative", **small).fit(x, positives)
    assert (guessed.predict(x) == y).mean() > 0.99
    assert set(np.unique(guessed.predict(x))) == {-1, 1}
    with pytest.raises(ValueError, match=r"unobserved must be one of ignore, .*, got 'guess'"):
        HierarchicalClassifier(unobserved="guess").fit(x, positives)


@pytest.mark.parametrize("kind", [np.array, pd.DataFrame])
@pytest.mark.parametrize(("first", "is_told"), [(1.7e9, True), (1e6, True), (0, False)])
def test_numbers_that_float32_does_not_tell_apart_are_named(kind, first: float, is_told: bool) -> None:
    x = np.stack([first + np.arange(40.0), np.arange(40.0), np.ones(40)], 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        HierarchicalClassifier(n_blocks=1, n_features=10, solver="exact").fit(kind(x), np.arange(40) % 2)
    said = [str(each.message) for each in caught if "float32" in str(each.message)]
    text = "1 of 3 columns of X vary too little for float32: subtract their means, as StandardScaler does: 0"
    assert said == [text] * is_told


@pytest.mark.parametrize(
    "column", [pd.Categorical([0, 1] * 20), pd.Series([1, "2"] * 20, dtype=object), pd.arrays.SparseArray([0, 1] * 20)]
)
def test_columns_of_numbers_may_have_any_dtype(column: object) -> None:
    table = pd.DataFrame({"a": column, "b": np.arange(40.0)})
    model = HierarchicalClassifier(n_blocks=1, n_features=10, solver="exact").fit(table, np.arange(40) % 2)
    assert model.predict(table).shape == (40,)
