"""Joint training against a network written out with autograd."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.optim import SGD

from hierlit.data import CellularAutomaton
from hierlit.layerwise.adaptive_draw import AdaptiveDraw
from hierlit.layerwise.losses import LogisticLoss
from hierlit.layerwise.solvers import JointSolver
from hierlit.models import Window1d
from hierlit.training import LayerwiseTask

EPOCHS, RATE, PENALTY = 5, 0.3, 1e-2


def rings() -> CellularAutomaton:
    return CellularAutomaton(n_levels=2, n_cells=8, n_train=50, n_val=10, n_test=10, batch_size=100)


def trained(fit, data: CellularAutomaton, every_block: bool = False) -> LayerwiseTask:
    constant = partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0)
    solver = JointSolver(EPOCHS, lambda weights: SGD(weights, RATE), constant, every_block)
    sizes = {"n_blocks": 3, "n_features": 20, "regularization": PENALTY}
    task = LayerwiseTask(1, 2, 8, [1, 2], Window1d(3), loss=LogisticLoss(), solver=solver, **sizes)
    fit(task, data)
    return task


def plain_training(task: LayerwiseTask, inputs: Tensor, labels: Tensor, every_block: bool) -> list[Tensor]:
    """The weights of full-batch gradient descent, of the same W¹, from zero; in double precision."""
    net = task.net
    weights = [torch.zeros(2, 21, dtype=torch.float64, requires_grad=True) for _ in net.blocks]
    for _ in range(EPOCHS):
        scores, losses = torch.zeros_like(labels), []
        for index, weight in enumerate(weights):
            stream = torch.cat([inputs, scores], 2)
            windows = torch.cat([stream.roll(1, 1), stream, stream.roll(-1, 1)], 2)
            drawn = net.block(index).features
            features = torch.relu(drawn.scale.double() * windows @ drawn.weight.double().T + drawn.bias.double())
            features = features - drawn.mean.double()
            scores = scores + features @ weight[:, :-1].T + weight[:, -1]
            losses.append(torch.log1p(torch.exp(-scores * labels)).sum(2).mean())
        loss = sum(losses) / len(losses) if every_block else losses[-1]
        loss = loss + sum(PENALTY / 2 * weight.square().sum() for weight in weights)
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.data -= RATE * gradient
    return weights


@pytest.mark.parametrize("every_block", [False, True])
def test_it_is_backpropagation_through_the_network(fit, every_block: bool) -> None:
    data = rings()
    task = trained(fit, data, every_block)
    table = data.tables["train"]
    inputs, labels = table.inputs[data.fit_rows].double(), table.labels[data.fit_rows].double()
    expected = plain_training(task, inputs, labels, every_block)
    assert int(task.net.n_trained) == 3
    for index, weight in enumerate(expected):
        assert float(weight.detach().norm()) > 1e-2
        torch.testing.assert_close(task.net.block(index).weight.double(), weight.detach(), rtol=1e-3, atol=1e-6)


def test_one_block_trained_jointly_has_the_layerwise_minimum(fit) -> None:
    data = rings()
    solver, sizes = (
        JointSolver(2000, lambda weights: SGD(weights, 0.02, momentum=0.9)),
        {"n_blocks": 1, "n_features": 20},
    )
    joint = LayerwiseTask(1, 2, 8, None, Window1d(3), regularization=0.1, solver=solver, **sizes)
    fit(joint, data, max_epochs_per_block=2001)
    alone = LayerwiseTask(1, 2, 8, None, Window1d(3), regularization=0.1, **sizes)
    fit(alone, rings(), relative_suboptimality=1e-6, acceptance="none")
    torch.testing.assert_close(joint.net.block(0).weight, alone.net.block(0).weight, rtol=1e-2, atol=1e-3)


def test_w1_stays_as_it_was_drawn(fit) -> None:
    task, fresh = trained(fit, rings()), LayerwiseTask(1, 2, 8, None, Window1d(3), n_blocks=3, n_features=20)
    for index in range(3):
        assert torch.equal(task.net.block(index).features.weight, fresh.net.block(index).features.weight)
        assert float(task.net.block(index).features.mean.abs().max()) > 0


def test_wrong_arguments_are_named(fit) -> None:
    for epochs in (0, 1.5):
        with pytest.raises(ValueError, match=f"epochs must be a positive integer, got {epochs}"):
            JointSolver(epochs=epochs)
    task = LayerwiseTask(1, 2, 8, None, Window1d(3), n_blocks=2, adaptation=AdaptiveDraw(), solver=JointSolver())
    with pytest.raises(ValueError, match=r"adaptation redraws a block .* leave it out of joint training"):
        fit(task, rings())
    with pytest.raises(ValueError, match="max_epochs_per_block must be at least 101 for JointSolver, got 50"):
        fit(LayerwiseTask(1, 2, 8, None, Window1d(3), solver=JointSolver()), rings(), max_epochs_per_block=50)
