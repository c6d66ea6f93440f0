"""Kernel machines as blocks: against scikit-learn's, and what is chosen on rows left out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain import Table, Trained, network, stream, train_all
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel

from hierlit.layerwise import Folds, HingeLoss, LabelLoss, SquaredLoss
from hierlit.layerwise.solvers import KernelSolver
from hierlit.models import GaussianFeatures, HierarchicalResNet, RadialFeatures


def table(n_rows: int = 120, seed: int = 0) -> Table:
    """Rows of 3 numbers; two labels are smooth functions of them."""
    x = np.random.default_rng(seed).normal(size=(n_rows, 1, 3))
    labels = np.stack([np.sign(x[..., 0] * x[..., 1]), np.sign(np.sin(2 * x[..., 2]) + x[..., 0])], -1)
    return Table(torch.from_numpy(x), torch.from_numpy(labels), 0, 32)


def fitted(rows: Table, solver: KernelSolver, n_blocks: int = 1) -> tuple[HierarchicalResNet, Trained]:
    net = network(rows, n_blocks, len(rows.inputs), features=RadialFeatures()).double()
    return net, train_all(net, stream(net, rows, folds=Folds(4, len(rows.inputs))), solver)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_a_block_is_the_kernel_ridge_of_scikit_learn(power: float) -> None:
    rows, alpha = table(), 0.01
    net, trained = fitted(rows, KernelSolver([0.7], [power], [alpha]))
    x, y = rows.inputs[:, 0].numpy(), rows.labels[:, 0].numpy()
    deviation = float(np.sqrt(x.var(0, ddof=1).sum()))
    if power == 2:
        gram = rbf_kernel(x, gamma=1 / (2 * (0.7 * deviation) ** 2))
    else:
        distances = np.sqrt(((x[:, None] - x[None]) ** 2).sum(2))
        gram = np.exp(-distances / (0.7 * deviation))
    centred = gram - gram.mean(0) - gram.mean(1, keepdims=True) + gram.mean()
    penalty = alpha * np.trace(gram - gram.mean(1, keepdims=True)) / len(gram)
    ridge = KernelRidge(alpha=penalty, kernel="precomputed").fit(centred, y - y.mean(0))
    expected = ridge.predict(centred) + y.mean(0)
    np.testing.assert_allclose(net(rows.inputs)[:, 0].numpy(), expected, atol=2e-3)
    assert trained.reasons == ["gradient norm"]


def test_rows_that_are_alike_but_not_in_their_labels_take_few_passes() -> None:
    rows = table(1200)
    x = rows.inputs.sign().float()
    noise = torch.from_numpy(np.random.default_rng(1).random((1200, 1, 2)) < 0.3)
    rows = replace(
        rows, inputs=x, labels=torch.where(noise, -1, 1) * torch.stack([x[..., 0] * x[..., 1], x[..., 2]], -1)
    )
    net = network(rows, 1, 1200, features=RadialFeatures())
    trained = train_all(net, stream(net, rows, folds=Folds(4, 1200)), KernelSolver([1.0], [2.0], [1e-3]))
    assert trained.reasons == ["gradient norm"]
    assert trained.reports[0].epochs <= 3


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_are_all_alike_take_few_passes(seed: int) -> None:
    rows, draw = table(200), np.random.default_rng(seed)
    labels = torch.from_numpy(draw.choice([-1.0, 1.0], (200, 1, 4))).float()
    rows = replace(rows, inputs=rows.inputs[:1].float().expand(200, 1, 3), labels=labels)
    net = network(rows, 3, 200, features=RadialFeatures())
    trained = train_all(net, stream(net, rows, folds=Folds(5, 200)), KernelSolver())
    assert max(report.epochs for report in trained.reports) <= 20


def test_a_block_that_rows_left_out_do_not_want_is_refused_and_the_last() -> None:
    with pytest.warns(UserWarning, match="no kernel ranks rows left out better than at random"):
        alike = replace(table(), inputs=torch.ones(120, 1, 3, dtype=torch.float64))
        net, trained = fitted(alike, KernelSolver([0.7, 1.0], [2.0], [1.0, 100.0]), n_blocks=3)
    assert trained.reasons == ["no gain"]
    means = alike.labels.mean(0, keepdim=True).expand_as(alike.labels)
    torch.testing.assert_close(net(alike.inputs), means)


def test_kernel_and_penalties_are_among_the_candidates_and_worth_the_block() -> None:
    rows = table(300)
    net, trained = fitted(rows, KernelSolver(), n_blocks=2)
    assert trained.reasons[0] == "gradient norm"
    assert float(net.block(0).features.power) in (1.0, 2.0)
    fresh = table(300, seed=1)
    right = (net(fresh.inputs) * fresh.labels > 0).double().mean()
    assert float(right) > 0.85


@pytest.mark.parametrize("by_direction", [False, True])
def test_rows_left_out_say_whether_only_directions_count(by_direction: bool) -> None:
    rows = table(300)
    sizes = torch.from_numpy(np.random.default_rng(1).lognormal(sigma=2.0, size=(300, 1, 1)))
    if by_direction:
        rows = replace(rows, labels=rows.labels[..., :1], inputs=rows.inputs * sizes)
    else:
        rows = replace(rows, labels=torch.where((rows.inputs**2).sum(-1, keepdim=True) > 2.4, 1.0, -1.0).double())
    net, _ = fitted(rows, KernelSolver())
    assert bool(net.block(0).features.on_sphere) == by_direction


def test_whether_only_directions_count_may_be_said() -> None:
    for said in (False, True):
        net, _ = fitted(table(300), KernelSolver(on_sphere=said))
        assert bool(net.block(0).features.on_sphere) == said


def test_what_it_cannot_work_with_is_a_line_each() -> None:
    net = network(table(), 1, 10, features=GaussianFeatures())
    problems = KernelSolver().refusals(net, LabelLoss(HingeLoss()), None)
    assert len(problems) == 3
    assert (
        KernelSolver().refusals(network(table(), 1, 10, features=RadialFeatures()), LabelLoss(SquaredLoss()), 5) == []
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bandwidths": [0.0]}, "bandwidths must all be positive, got [0.0]"),
        ({"alphas": [-1.0]}, "alphas must all be positive, got [-1.0]"),
        ({"powers": [3.0]}, "powers must be 1, 2 or both, got [3.0]"),
        ({"choice_rows": 1}, "choice_rows must be 2 or more, got 1"),
    ],
)
def test_an_argument_out_of_range_is_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as error:
        KernelSolver(**arguments)
    assert str(error.value) == message
