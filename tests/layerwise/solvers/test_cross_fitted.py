from collections.abc import Callable

import lightning as L
import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from hierlit.data import ArrayHierarchy
from hierlit.layerwise.losses import LogisticLoss
from hierlit.layerwise.solvers import CrossFittedSolver, ExactSolver, Solver
from hierlit.layerwise.solvers.kernel_choice import climb
from hierlit.metrics import average_precision
from hierlit.models import RadialFeatures, Window1d
from hierlit.training import LayerwiseTask

Fit = Callable[..., L.Trainer]


def table(n_rows: int = 200, noise: bool = False, seed: int = 0, **data: object) -> ArrayHierarchy:
    """A label of the inputs, one of that label and another, or labels that depend on nothing."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n_rows, 5))
    y = np.stack([x[:, 0] + x[:, 1], x[:, 2], x[:, 3] * x[:, 4]], 1)
    y = draw.normal(size=y.shape) if noise else y
    defaults = {"val_fraction": 0.25, "acceptance_fraction": 0.0, "batch_size": 40}
    return ArrayHierarchy(x, np.where(y > 0, 1, -1), **{**defaults, **data})


def task(n_blocks: int = 2, n_features: int = 400, solver: Solver | None = None, **model: object) -> LayerwiseTask:
    arguments = {"features": RadialFeatures(), "n_blocks": n_blocks, "n_features": n_features, **model}
    return LayerwiseTask(5, 3, solver=solver or CrossFittedSolver(), **arguments)


@pytest.mark.parametrize("n_features", [80, 225, 400])
def test_solves_the_block_and_predicts_other_rows(fit: Fit, n_features: int) -> None:
    data, model = table(300), task(n_features=n_features)
    fit(model, data, acceptance="none")
    val = data.tables["val"]
    assert average_precision(model(val.inputs), val.labels) > 0.9
    assert len(model.solver.choices) in (1, 2)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_first_block_is_kernel_ridge_regression(fit: Fit, power: float) -> None:
    data, solver = table(), CrossFittedSolver([0.7], [power], [0.1])
    model = task(n_blocks=1, solver=solver)
    fit(model, data, acceptance="none", relative_suboptimality=1e-6, max_epochs_per_block=1)
    train, val = data.tables["train"], data.tables["val"]
    x, labels, at = train.inputs[:, 0].numpy(), train.labels[:, 0].numpy(), val.inputs[:, 0].numpy()
    variance = x.var(0, ddof=1).sum()
    distances = cdist(np.concatenate([x, at]), x) / (0.7 * np.sqrt(variance))
    kernel = np.exp(-(distances**power) / power)
    own, other = kernel[: len(x)], kernel[len(x) :]
    centred = own - own.mean(0) - own.mean(1, keepdims=True) + own.mean()
    dual = np.linalg.solve(centred + 0.1 * np.diag(centred).mean() * np.eye(len(x)), labels - labels.mean(0))
    expected = (other - own.mean(0)) @ dual + labels.mean(0)
    np.testing.assert_allclose(model(val.inputs)[:, 0].numpy(), expected, atol=1e-3)


def test_few_units_are_nystroms_approximation(fit: Fit) -> None:
    data, solver = table(), CrossFittedSolver([1.0], [2.0], [0.1])
    model = task(n_blocks=1, n_features=40, solver=solver)
    fit(model, data, acceptance="none", relative_suboptimality=1e-5, max_epochs_per_block=1)
    features, train = model.net.block(0).features, data.tables["train"]
    windows = torch.nn.functional.pad(train.inputs[:, 0], (0, 3)).double()
    seen, own = (features.double()(at) for at in (windows, features.weight.double()))
    penalty = model.certificate.regularization[0]
    hessian = seen.T @ seen / len(seen) + penalty * (own + features.mean)
    labels = train.labels[:, 0].double()
    expected = torch.linalg.solve(hessian, seen.T @ (labels - labels.mean(0)) / len(seen)).T
    torch.testing.assert_close(
        model.net.block(0).weight[:, :-1].double() @ seen.T, expected @ seen.T, atol=2e-3, rtol=0
    )


def test_training_rows_go_on_with_scores_of_fits_that_left_them_out(fit: Fit) -> None:
    data, model = table(noise=True), task(n_blocks=1, solver=CrossFittedSolver(alphas=[0.01], bandwidths=[0.5]))
    kept = {}

    class Keep(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: LayerwiseTask, *_: object) -> None:
            chunks = list(pl_module.streams.chunks("train"))
            kept["scores"] = torch.cat([pl_module.net.scores(chunk.stream) for chunk in chunks])
            kept["labels"] = torch.cat([chunk.labels for chunk in chunks])

    fit(model, data, Keep(), acceptance="none")
    train = data.tables["train"]
    assert average_precision(kept["scores"], kept["labels"]) < 0.75
    assert average_precision(model(train.inputs), train.labels) > 0.95


def test_nothing_depends_on_validation_rows(fit: Fit) -> None:
    weights = []
    for sign in (1, -1):
        data, model = table(), task(n_features=50)
        data.setup()
        data.tables["val"].labels *= sign
        fit(model, data, acceptance="none")
        weights.append(model.net.block(0).weight)
    assert torch.equal(*weights)


def test_a_block_without_gain_ends_the_run_at_the_labels_means(fit: Fit) -> None:
    draw = np.random.default_rng(0)
    always = ArrayHierarchy(
        draw.normal(size=(60, 5)), np.ones((60, 3)), val_fraction=0.2, acceptance_fraction=0.0, positives_only=True
    )
    model = task(n_blocks=3, n_features=30)
    with pytest.warns(UserWarning, match="every score is its label's mean"):
        fit(model, always, acceptance="none")
    assert model.solver.choices == [] and int(model.net.n_trained) == 1
    assert not model.net.block(0).weight[:, :-1].any()
    assert (model.net.block(0).weight[:, -1] == 1).all()


def test_labels_not_observed_are_solved_by_steps(fit: Fit) -> None:
    data, model = table(), task(n_blocks=1, n_features=60, solver=CrossFittedSolver(alphas=[0.1, 1.0]))
    data.setup()
    train = data.tables["train"].labels
    train[torch.rand(train.shape, generator=torch.Generator().manual_seed(0)) < 0.3] = 0
    fit(model, data, acceptance="none", relative_suboptimality=1e-4, max_epochs_per_block=200)
    assert 1 < model.block_epoch < 199
    assert float(model.certificate.suboptimality.sum()) <= 1e-4 * float(model.moments.objective.sum())


def test_no_block_follows_one_with_labels_not_observed(fit: Fit) -> None:
    data, model = table(), task(n_blocks=3, n_features=200, solver=CrossFittedSolver(alphas=[0.1, 1.0]))
    data.setup()
    data.tables["train"].labels[::7, 0, 1] = 0
    fit(model, data, acceptance="none", max_epochs_per_block=200)
    assert len(model.solver.choices) == 1 and int(model.net.n_trained) == 2
    assert not model.net.block(1).weight.any()


@pytest.mark.parametrize("seed", [6, 10])
def test_scores_of_one_label_are_read_without_a_failure(fit: Fit, seed: int) -> None:
    draw = np.random.default_rng(seed)
    x, y = draw.normal(size=(100, 5)), draw.integers(0, 2, 100)
    data = ArrayHierarchy(x, 2 * y[:, None] - 1, val_fraction=0.1, acceptance_fraction=0.0)
    solver = CrossFittedSolver(powers=[2.0], alphas=[0.003])
    fit(
        LayerwiseTask(5, 1, solver=solver, features=RadialFeatures(), n_blocks=3, n_features=90),
        data,
        acceptance="none",
    )


def test_rows_that_are_all_alike(fit: Fit) -> None:
    y = np.random.default_rng(0).choice([-1, 1], (60, 3))
    fit(task(), ArrayHierarchy(np.ones((60, 5)), y, acceptance_fraction=0.0), acceptance="none")


def test_labels_of_which_positives_alone_are_told(fit: Fit) -> None:
    data, model = table(300), task(unobserved="assume_negative")
    data.setup()
    train, val = data.tables["train"].labels, data.tables["val"]
    train.clamp_(min=0)
    fit(model, data, acceptance="none")
    assert average_precision(model(val.inputs), val.labels) > 0.9


def test_windows(fit: Fit) -> None:
    draw = np.random.default_rng(0)
    x = draw.choice([-1.0, 1.0], (60, 8, 1))
    y = np.stack([x[..., 0] * np.roll(x[..., 0], 1, 1), x[..., 0]], 2)
    data = ArrayHierarchy(x, y, val_fraction=0.2, acceptance_fraction=0.0, batch_size=20)
    arguments = {"features": RadialFeatures(), "n_blocks": 2, "n_features": 200}
    model = LayerwiseTask(1, 2, 8, None, Window1d(3), solver=CrossFittedSolver(), **arguments)
    fit(model, data, acceptance="none")
    assert average_precision(model(data.tables["val"].inputs), data.tables["val"].labels) > 0.99


def test_refuses_what_it_cannot_do(fit: Fit) -> None:
    with pytest.raises(ValueError, match="CrossFittedSolver needs SquaredLoss, got LogisticLoss"):
        fit(task(loss=LogisticLoss()), table(), acceptance="none")
    with pytest.raises(ValueError, match="n_folds must be at most the 45 training rows, got 50"):
        fit(task(solver=CrossFittedSolver(n_folds=50)), table(60), acceptance="none")
    model = task()
    model.net.n_trained += 1
    with pytest.raises(ValueError, match="from its first block to its last: start it without ckpt_path"):
        fit(model, table(), acceptance="none")


def test_radial_units_and_this_solver_need_each_other(fit: Fit) -> None:
    with pytest.raises(ValueError, match="features must be RadialFeatures with CrossFittedSolver, got GaussianF"):
        fit(task(features=None), table(), acceptance="none")
    with pytest.raises(ValueError, match="features must not be RadialFeatures with ExactSolver, got RadialF"):
        fit(task(solver=ExactSolver()), table(), acceptance="none")
    with pytest.raises(ValueError, match="output must be split with RadialFeatures, got 'orthogonal'"):
        task(output="orthogonal")


def test_too_many_pairs(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hierlit.layerwise.solvers.cross_fitted.MOST_PAIRS", 100)
    with pytest.raises(ValueError, match="takes 100 rows times locations at most, got 150"):
        fit(task(), table(), acceptance="none")


def test_arguments() -> None:
    with pytest.raises(ValueError) as error:
        CrossFittedSolver([0.0], [3.0], [-1.0], 1, 0)
    for name in ("bandwidths", "alphas", "powers", "n_folds", "choice_rows"):
        assert name in str(error.value)


@pytest.mark.parametrize("peak", range(5))
@pytest.mark.parametrize("start", range(5))
def test_climb(peak: int, start: int) -> None:
    seen = []

    def height(value: float) -> float:
        seen.append(value)
        return -abs(value - peak)

    assert climb([0, 1, 2, 3, 4], start, height) == (0, peak)
    assert len(seen) == len(set(seen))
