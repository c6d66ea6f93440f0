"""Stretched coordinates: their size against autograd's gradients, and what a kernel machine makes of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain import Table, network, stream, train_all
from torch import Tensor

from hierlit.layerwise import Folds
from hierlit.layerwise.solvers import KernelSolver
from hierlit.layerwise.solvers.stretch import stretches
from hierlit.models import HierarchicalResNet, RadialFeatures
from hierlit.models.radial_units import Kernel, squared_distances

N_NOISE = 12


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_they_are_the_fourth_root_of_mean_squared_gradients(power: float, dtype: torch.dtype) -> None:
    points, duals, scale = normal(40, 5), normal(40, 3, seed=1), 0.7
    points[:, 4], points[39], duals[39] = 1e3, points[38], 0  # a constant column, and rows that are alike

    def fit(z: Tensor) -> Tensor:
        radii = ((z - points).square().sum(1) * scale + 1e-300).sqrt()
        return torch.exp(-(radii**power) / power) @ (duals - duals.mean(0))

    gradients = torch.stack([torch.autograd.functional.jacobian(fit, z) for z in points])
    expected = gradients.square().sum((0, 1)) ** 0.25
    squared, tolerance = squared_distances(points, points), 1e-6 if dtype == torch.float64 else 1e-4
    found = stretches(points.to(dtype), squared.to(dtype), Kernel(power), scale, duals.to(dtype), seed=0)
    expected = expected / expected.square().mean().sqrt()
    torch.testing.assert_close(found[:4].double(), expected[:4], rtol=tolerance, atol=0)
    assert found[4] < 0.02


def test_of_many_labels_random_combinations_stand_for_all() -> None:
    points = normal(300, 4)
    duals = points[:, :1].sin() * normal(1, 200, seed=1) + 0.1 * points[:, 1:2].sin() * normal(1, 200, seed=2)
    squared = torch.cdist(points, points).square()
    few, many = (
        stretches(points, squared, Kernel(), 0.5, weights, seed=0) for weights in (duals, duals.repeat(1, 2) / 2**0.5)
    )
    torch.testing.assert_close(few, many, rtol=0.1, atol=0.02)


def test_a_fit_that_is_flat_stretches_nothing() -> None:
    points = normal(10, 3)
    ones = stretches(points, torch.cdist(points, points).square(), Kernel(), 1.0, torch.ones(10, 2).double(), seed=0)
    assert torch.equal(ones, torch.ones(3, dtype=torch.float64))


def table(n_rows: int, seed: int) -> Table:
    """Two labels that are functions of two inputs each, of 4 + `N_NOISE`."""
    x = np.random.default_rng(seed).normal(size=(n_rows, 1, 4 + N_NOISE))
    labels = np.stack([np.sign(x[..., 0] * x[..., 1]), np.sign(x[..., 2] * x[..., 3])], -1)
    return Table(torch.from_numpy(x), torch.from_numpy(labels), 0, 64)


def fitted(rows: Table) -> HierarchicalResNet:
    net = network(rows, 1, len(rows.inputs), features=RadialFeatures()).double()
    train_all(net, stream(net, rows, folds=Folds(4, len(rows.inputs))), KernelSolver())
    return net


def test_inputs_that_labels_do_not_depend_on_count_for_less() -> None:
    features = fitted(table(600, 0)).block(0).features
    assert features.stretch[:4].min() > 1.5 * features.stretch[4:].max()
    torch.testing.assert_close(features.stretch.square().mean(), torch.ones((), dtype=torch.float64))


def test_rows_not_seen_are_ranked_better_for_it() -> None:
    from sklearn.metrics import average_precision_score
    from sklearn.svm import SVC

    rows, fresh = table(600, 0), table(600, 1)
    ours = fitted(rows)(fresh.inputs)[:, 0]
    for label in range(2):
        x, y = rows.inputs[:, 0].numpy(), rows.labels[:, 0, label].numpy()
        theirs = SVC().fit(x, y).decision_function(fresh.inputs[:, 0].numpy())
        truth = fresh.labels[:, 0, label].numpy() > 0
        ranked, peer = (average_precision_score(truth, scores) for scores in (ours[:, label].numpy(), theirs))
        assert ranked > peer + 0.05


def test_where_all_inputs_count_alike_none_is_stretched_far() -> None:
    rows = table(400, 0)
    radius = rows.inputs.square().sum(-1, keepdim=True)
    features = fitted(replace(rows, labels=torch.where(radius > radius.median(), 1.0, -1.0).double())).block(0).features
    assert 0.7 < features.stretch.min() <= features.stretch.max() < 1.4
