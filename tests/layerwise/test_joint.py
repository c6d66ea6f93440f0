"""Joint training against a network written out with autograd."""

from functools import partial

import numpy as np
import pytest
import torch
from plain import Table, Trained, automaton, features_of, gather, label_loss, network, pairs, stream, train_all
from torch import Tensor
from torch.optim import SGD

from hierlit.layerwise import JointTraining, LogisticLoss, Pass
from hierlit.layerwise.joint import JOINT, block_scores
from hierlit.models import HierarchicalResNet

EPOCHS, RATE, PENALTY = 5, 0.3, 1e-2
CONSTANT = partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0)


def rings(batch_size: int = 100) -> Table:
    table = automaton(50, n_levels=2, n_cells=8)
    table.batch_size = batch_size
    return table


def trained(net: HierarchicalResNet, table: Table, every_block: bool = False) -> Trained:
    joint = JointTraining(EPOCHS, lambda weights: SGD(weights, RATE), CONSTANT, every_block)
    rows = stream(net, table)
    return gather(joint.train(net, rows, label_loss(LogisticLoss()), regularization=PENALTY), rows)


def plain_scores(net: HierarchicalResNet, inputs: Tensor, weights: list[Tensor]) -> list[Tensor]:
    """The scores after each block, in double precision."""
    scores, staged = torch.zeros(*inputs.shape[:2], 2, dtype=torch.float64), []
    for index, weight in enumerate(weights):
        stream = torch.cat([inputs, scores], 2)
        windows = torch.cat([stream.roll(1, 1), stream, stream.roll(-1, 1)], 2)
        drawn = net.block(index).features
        features = torch.relu(drawn.scale.double() * windows @ drawn.weight.double().T + drawn.bias.double())
        scores = scores + (features - drawn.mean.double()) @ weight[:, :-1].T + weight[:, -1]
        staged.append(scores)
    return staged


def plain_training(net: HierarchicalResNet, inputs: Tensor, labels: Tensor, every_block: bool) -> list[Tensor]:
    """The weights of full-batch gradient descent, of the same W¹, from zero; in double precision."""
    weights = [torch.zeros(2, 21, dtype=torch.float64, requires_grad=True) for _ in net.blocks]
    for _ in range(EPOCHS):
        losses = [
            torch.log1p(torch.exp(-scores * labels)).sum(2).mean() for scores in plain_scores(net, inputs, weights)
        ]
        loss = sum(losses) / len(losses) if every_block else losses[-1]
        loss = loss + sum(PENALTY / 2 * weight.square().sum() for weight in weights)
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.data -= RATE * gradient
    return weights


@pytest.mark.parametrize("every_block", [False, True])
def test_it_is_backpropagation_through_the_network(every_block: bool) -> None:
    table = rings()
    net = network(table, 3)
    trained(net, table, every_block)
    inputs, labels = (part.double() for part in table.rows())
    expected = plain_training(net, inputs, labels, every_block)
    assert int(net.n_trained) == 3
    for index, weight in enumerate(expected):
        assert float(weight.detach().norm()) > 1e-2
        torch.testing.assert_close(net.block(index).weight.double(), weight.detach(), rtol=1e-3, atol=1e-6)


def test_one_block_trained_jointly_has_the_layerwise_minimum() -> None:
    table = rings()
    joint, alone = (network(table, 1) for _ in range(2))
    rows = stream(joint, table)
    training = JointTraining(500, lambda weights: SGD(weights, 0.08, momentum=0.9))
    gather(training.train(joint, rows, label_loss(None), regularization=0.1), rows)
    train_all(alone, table, relative=1e-6, regularization=0.1)
    torch.testing.assert_close(joint.block(0).weight, alone.block(0).weight, rtol=1e-2, atol=1e-3)


def test_w1_stays_as_it_was_drawn() -> None:
    table = rings()
    net, fresh = network(table, 3), network(table, 3)
    trained(net, table)
    for index in range(3):
        assert torch.equal(net.block(index).features.weight, fresh.block(index).features.weight)
        assert float(net.block(index).features.mean.abs().max()) > 0


def test_all_blocks_are_calibrated_on_the_inputs_before_the_first_step() -> None:
    table = rings()
    net = network(table, 3).double()
    trained(net, table)
    inputs = table.rows()[0].numpy()
    for index in range(3):
        assert float(net.block(index).features.scale) == pytest.approx(3**0.5)  # one of three channels lives
        features = features_of(net, np.concatenate([inputs, np.zeros((*inputs.shape[:2], 2))], 2), index)
        np.testing.assert_allclose(features[..., :-1].mean((0, 1)), 0, atol=1e-12)


@pytest.mark.parametrize("batch_size", [100, 16])
def test_each_block_has_one_pass_of_its_own_that_certifies_the_weight_it_was_given(batch_size: int) -> None:
    table = rings(batch_size)
    net = network(table, 3).double()
    done = trained(net, table)
    penalty = float(np.float32(PENALTY))
    assert done.reasons == [JOINT] * 3
    assert [report.epochs for report in done.reports] == [EPOCHS + 1, 1, 1]
    assert [report.steps for report in done.reports] == [EPOCHS * len(table.batches()), 0, 0]
    assert [report.is_last for report in done.reports] == [False, False, True]
    for index, (report, last) in enumerate(zip(done.reports, done.last, strict=True)):
        features, scores, labels = map(torch.from_numpy, pairs(net, table, index))
        weight = net.block(index).weight.detach().clone().requires_grad_()
        margins = labels * (scores + features @ weight.T)
        objective = torch.log1p(torch.exp(-margins)).mean(0) + penalty / 2 * weight.square().sum(1)
        (gradient,) = torch.autograd.grad(objective.sum(), weight)
        torch.testing.assert_close(last.certificate.objective, objective.detach())
        torch.testing.assert_close(last.certificate.gradient_norm, gradient.norm(dim=1))
        assert report.suboptimality == pytest.approx(float(gradient.square().sum() / (2 * penalty)))
        before = torch.log1p(torch.exp(-labels * scores)).mean(0).sum()
        assert report.initial_objective == pytest.approx(float(before))


def test_the_rows_go_through_the_blocks_as_they_are_frozen() -> None:
    table = rings(16)
    net = network(table, 3).double()
    rows = stream(net, table)
    training = JointTraining(2)
    for event in training.train(net, rows, label_loss(None)):
        inputs = table.rows()[0].double()
        scores = torch.cat([net.scores(chunk.stream) for chunk in rows.chunks("fit")])
        torch.testing.assert_close(scores, net(inputs))
        assert isinstance(event, Pass) or event.block == int(net.n_trained)
    assert scores.any()


def test_by_default_the_steps_are_adams_without_decay_and_fall_to_nothing_by_a_cosine() -> None:
    table = rings()
    net = network(table, 2)
    rows, lengths = stream(net, table), []
    for event in JointTraining(4).train(net, rows, label_loss(None)):
        if isinstance(event, Pass) and event.reason is None:
            (group,) = event.state.extra["optimizer"]["param_groups"]
            assert (group["betas"], group["weight_decay"]) == ((0.9, 0.999), 0.0)
            lengths.append(group["lr"])
    assert lengths == pytest.approx([1e-3 * (1 + np.cos(np.pi * number / 4)) / 2 for number in (1, 2, 3, 4)])


def test_block_scores_are_those_of_the_network() -> None:
    table = rings()
    net = network(table, 3, output="orthogonal").double()
    train_all(net, table, relative=0.1)
    inputs = table.rows()[0].double()
    staged = block_scores(net, net.embed(inputs), [block.weight for block in net.blocks])
    for ours, theirs in zip(staged, net.staged_scores(inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_gradient_that_is_not_finite_is_an_error_that_names_pass_and_batch() -> None:
    table = rings(16)
    net = network(table, 2)
    joint = JointTraining(3, lambda weights: SGD(weights, 1e30), CONSTANT)
    rows = stream(net, table)
    with pytest.raises(FloatingPointError, match="loss or gradient is not finite in block 1, epoch 1, batch 2: "):
        gather(joint.train(net, rows, label_loss(None)), rows)


@pytest.mark.parametrize("epochs", [0, 1.5])
def test_epochs_out_of_range_are_named(epochs: float) -> None:
    with pytest.raises(ValueError, match=f"epochs must be a positive integer, got {epochs}"):
        JointTraining(epochs=epochs)
