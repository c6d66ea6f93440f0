import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from plain import Table, automaton, network, pairs, problem, stream, train_all, xors
from scipy import optimize
from torch import Tensor

from hierlit.layerwise import GradientSolver, Pass, Stopping, solve
from hierlit.layerwise.losses import (
    HingeLoss,
    HybridMarginLoss,
    LogisticLoss,
    MarginLoss,
    SquaredHingeLoss,
    SquaredLoss,
)
from hierlit.models import HierarchicalResNet

PENALTY = 2.0**-10  # one that float32 holds exactly


def hinge(z: Tensor, margin: float, smoothing: float) -> Tensor:
    gap = 1 - z / margin
    return torch.where(gap < smoothing, gap.clamp(min=0) ** 2 / (2 * smoothing), gap - smoothing / 2)


LOSSES: dict[str, tuple[MarginLoss, Callable[[Tensor, int], Tensor]]] = {
    "squared": (SquaredLoss(), lambda z, m: (1 - z) ** 2 / 2),
    "hinge": (HingeLoss(), lambda z, m: hinge(z, 1, 0.5)),
    "squared hinge": (SquaredHingeLoss(), lambda z, m: (1 - z).clamp(min=0) ** 2 / 2),
    "logistic": (LogisticLoss(), lambda z, m: F.softplus(-z)),
    "hybrid": (
        HybridMarginLoss(near=0.5, far=1.0, far_weight=1.0, smoothing=1.0, ceiling=1.0),
        lambda z, m: hinge(z, 0.5, 1) + hinge(z, 1, 1) + (z - 1).clamp(min=0) ** 2 / 2,
    ),
    "paper's hybrid": (
        HybridMarginLoss("paper", bound=1.0, robustness=0.5),
        lambda z, m: hinge(z, 0.5, 0.5) + hinge(z, 0.75, 0.5) / (4 * m),
    ),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def objective(name: str, rows: tuple[NDArray[np.float64], ...], weight: Tensor) -> Tensor:
    """F_k of each label [n], worked out on all rows at once."""
    features, scores, labels = map(torch.from_numpy, rows)
    margins = labels * (scores + features @ weight.T)
    losses = LOSSES[name][1](margins, len(labels)) * labels.abs()
    return losses.sum(0) / len(labels) + PENALTY / 2 * weight.square().sum(1)


def gradient(name: str, rows: tuple[NDArray[np.float64], ...], weight: Tensor) -> Tensor:
    """Gradient of F_k [n, q+1] by autograd."""
    weight = weight.detach().double().requires_grad_()
    return torch.autograd.grad(objective(name, rows, weight).sum(), weight)[0]


def passes(net: HierarchicalResNet, table: Table, solver: GradientSolver) -> Iterator[Pass]:
    """The passes over the first block."""
    first = problem(stream(net, table))
    first.calibrate()
    return solve(first, solver, Stopping())


@every_loss
@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_the_certificate_has_autograds_gradient_and_objective_on_all_rows_at_once(name: str, missing: float) -> None:
    table = xors(missing=missing, batch_size=100)
    net = network(table).double()
    trained = train_all(net, table, loss=LOSSES[name][0], regularization=PENALTY, tolerance=0.05)
    assert len(table.rows()[0]) % table.batch_size, "the last batch should be smaller"
    assert trained.reasons == ["gradient norm"] * 2
    assert all(report.gradient_norm <= 0.05 for report in trained.reports)
    for index, last in enumerate(trained.last):
        rows, weight = pairs(net, table, index), net.block(index).weight
        expected = gradient(name, rows, weight).norm(dim=1)
        np.testing.assert_allclose(last.certificate.gradient_norm, expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(last.certificate.objective, objective(name, rows, weight), rtol=1e-6)
        assert torch.equal(last.certificate.modulus, torch.full((3,), PENALTY).double())


def test_the_gradient_counts_every_location_of_every_row() -> None:
    table = automaton(n_levels=2)
    net = network(table).double()
    trained = train_all(net, table, regularization=PENALTY, tolerance=0.02)
    for index, last in enumerate(trained.last):
        rows = pairs(net, table, index)
        assert len(rows[0]) == 16 * 32
        expected = gradient("squared", rows, net.block(index).weight).norm(dim=1)
        np.testing.assert_allclose(last.certificate.gradient_norm, expected, rtol=1e-9, atol=1e-12)


@every_loss
def test_the_certificate_bounds_the_distance_to_scipys_minimum_and_says_something(name: str, record_property) -> None:
    table = xors(batch_size=300)
    net = network(table, n_features=15).double()
    trained = train_all(net, table, loss=LOSSES[name][0], regularization=PENALTY)
    for index, (report, last) in enumerate(zip(trained.reports, trained.last, strict=True)):
        assert report.stop_reason == "gradient norm"
        assert report.gradient_norm <= report.gradient_tolerance
        assert report.suboptimality <= 0.01 * report.initial_objective
        rows, weight = pairs(net, table, index), net.block(index).weight
        shape = weight.shape

        def value(flat: NDArray[np.float64], rows=rows, shape=shape) -> tuple[float, NDArray[np.float64]]:
            weight = torch.from_numpy(flat).reshape(shape)
            return float(objective(name, rows, weight).sum()), gradient(name, rows, weight).numpy().ravel()

        options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 0, "gtol": 1e-9, "maxcor": 60}
        start = weight.double().numpy().ravel()
        best = optimize.minimize(value, start, jac=True, method="L-BFGS-B", options=options).x
        least = objective(name, rows, torch.from_numpy(best).reshape(shape))
        gap = (objective(name, rows, weight) - least).numpy()
        bound = last.certificate.suboptimality.numpy()
        ratio = float(bound.sum() / gap.sum())
        record_property(f"certificate/gap in block {index + 1}", ratio)
        assert (gap > -1e-12).all()
        assert (gap <= bound + 1e-12).all()
        assert report.suboptimality == pytest.approx(float(bound.sum()))
        # measured: 2 to 23
        assert ratio < 50, f"certificate {bound} of a gap of {gap}"


OPTIMIZERS = {
    "SGD": partial(torch.optim.SGD, lr=0.02, momentum=0.9, nesterov=True),
    "Adam": partial(torch.optim.Adam, lr=0.01),
    "default": None,
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_rotated_stream_with_its_first_layers_rotated_along_trains_to_the_same_scores(optimizer: str) -> None:
    table = automaton(60, n_levels=2, n_cells=8)
    split, rotated = (network(table, 3, 15, output=output).double() for output in ("split", "orthogonal"))
    rotated.rotation.copy_(torch.linalg.qr(rotated.rotation)[0])
    for ours, theirs in zip(rotated.blocks, split.blocks, strict=True):
        windows = theirs.features.weight.view(15, 3, 3)  # features, positions, channels
        ours.features.weight.copy_((windows @ rotated.rotation).flatten(1))
        ours.features.bias.copy_(theirs.features.bias)
    solver = GradientSolver(OPTIMIZERS[optimizer], minibatch_epochs=4)
    runs = [train_all(net, table, solver, tolerance=0.05) for net in (split, rotated)]
    inputs = table.rows("held")[0].double()
    torch.testing.assert_close(rotated(inputs), split(inputs), rtol=0, atol=1e-8)
    assert [report.epochs for report in runs[0].reports] == [report.epochs for report in runs[1].reports]
    for ours, theirs in zip(rotated.blocks, split.blocks, strict=True):
        assert theirs.weight.any()
        torch.testing.assert_close(ours.weight, theirs.weight, rtol=0, atol=1e-8)


def test_mini_batch_steps_are_those_of_the_optimizer_on_each_batch_in_its_order() -> None:
    table = xors(batch_size=50)
    net = network(table).double()
    rows = stream(net, table, seed=4)
    first = problem(rows, loss=LogisticLoss(), penalty=PENALTY)
    first.calibrate()
    weight = torch.zeros(3, 21, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weight], 0.05)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7)
    solver = GradientSolver(
        partial(torch.optim.Adam, lr=0.05),
        partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.7),
        minibatch_epochs=3,
    )
    n_rows, events = len(table.rows()[0]), solve(first, solver, Stopping())
    for number in range(3):
        orders = []
        for chunk in rows.visit(0, number):
            orders.append(chunk.labels[:, 0].sum().item())
            part = Table(chunk.stream[..., :6], chunk.labels)
            features, scores, labels = map(torch.from_numpy, pairs(net, part, 0))
            losses = F.softplus(-labels * (scores + features @ weight.T))
            loss = losses.sum() / n_rows * 5 + PENALTY / 2 * weight.square().sum()
            weight.grad = torch.autograd.grad(loss, weight)[0]
            optimizer.step()
        scheduler.step()
        assert len(orders) == 5
        at = next(events)
        assert at.certificate is None and math.isnan(at.tolerance)
        assert (at.state.passes, at.state.steps) == (number + 1, 5 * (number + 1))
        torch.testing.assert_close(at.state.weight, weight.detach(), rtol=1e-9, atol=1e-12)


def test_by_default_mini_batch_steps_are_half_those_of_gradient_descent_and_fall_linearly() -> None:
    table = xors(batch_size=50)
    net = network(table).double()
    lengths = []
    for at in passes(net, table, GradientSolver(minibatch_epochs=4)):
        if "optimizer" in at.state.extra:
            (group,) = at.state.extra["optimizer"]["param_groups"]
            assert (group["momentum"], group["nesterov"]) == (0.9, True)
            lengths.append(group["lr"])
    features, _, _ = pairs(net, table, 0)
    whole = 1 / (np.linalg.eigvalsh(features.T @ features / len(features))[-1] + float(np.float32(1e-3)))
    assert lengths == pytest.approx([whole / 2 * share for share in (13 / 16, 10 / 16, 7 / 16)])


def test_optimizer_and_scheduler_start_afresh_with_every_block() -> None:
    table = xors(batch_size=100)
    solver = GradientSolver(
        partial(torch.optim.Adam, lr=0.08),
        partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5),
        minibatch_epochs=3,
    )
    net = network(table)
    rows, n_batches = stream(net, table), len(table.batches())
    for index in (0, 1):
        block = problem(rows, index)
        block.calibrate()
        seen = []
        for at in solve(block, solver, Stopping()):
            if at.state.passes < 3:
                kept = at.state.extra["optimizer"]
                seen.append((kept["param_groups"][0]["lr"], float(kept["state"][0]["step"])))
            if at.state.passes == 3:
                assert at.state.extra == {}, "full-batch steps begin without momentum"
        assert seen == [(0.04, n_batches), (0.02, 2 * n_batches)]
        assert set(at.state.extra) == {"iterate", "age"}
        rows.advance(block.block, at.state.weight)


def test_a_scheduler_may_read_the_loss_of_a_pass() -> None:
    table = xors(batch_size=100)
    plateau = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, factor=0.5, patience=0)
    solver = GradientSolver(partial(torch.optim.SGD, lr=2.0), plateau, minibatch_epochs=8)
    first = problem(stream(network(table), table))
    first.calibrate()
    state = solver.start(first)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=2.0)
    theirs, lengths = plateau(optimizer), []
    for _ in range(7):
        theirs.step(float(solver.visit(first, state).terms.sum()))
        state.passes += 1
        lengths.append(optimizer.param_groups[0]["lr"])
        assert state.extra["optimizer"]["param_groups"][0]["lr"] == lengths[-1]
    assert lengths[0] == 2.0 > lengths[-1], "a step so long should not always make the loss fall"


def test_full_batch_steps_alone_are_possible() -> None:
    table = xors(batch_size=300)
    trained = train_all(network(table), table, GradientSolver(minibatch_epochs=0))
    assert trained.reasons == ["gradient norm"] * 2
    # the last pass only certifies
    assert [report.steps for report in trained.reports] == [report.epochs - 1 for report in trained.reports]


def test_a_gradient_that_is_not_finite_is_an_error_that_names_block_pass_and_batch() -> None:
    table = xors()
    solver = GradientSolver(partial(torch.optim.SGD, lr=1e30), minibatch_epochs=2)
    with pytest.raises(FloatingPointError, match="loss or gradient is not finite in block 1, epoch 1, batch 2: "):
        train_all(network(table), table, solver)


def test_an_optimizer_of_several_gradients_a_step_is_refused() -> None:
    table = xors()
    with pytest.raises(ValueError, match="optimizer must take a step from one gradient, got LBFGS, which needs sever"):
        train_all(network(table), table, GradientSolver(torch.optim.LBFGS))


def test_mini_batches_alone_give_no_certificate() -> None:
    assert GradientSolver().min_epochs == 6
    assert GradientSolver(minibatch_epochs=0).min_epochs == 1
    table = xors()
    found = [at.certificate for at, _ in zip(passes(network(table), table, GradientSolver()), range(6), strict=False)]
    assert [certificate is None for certificate in found] == [True] * 5 + [False]


def test_a_negative_number_of_passes_is_refused() -> None:
    with pytest.raises(ValueError, match="minibatch_epochs must be 0 or more, got -1"):
        GradientSolver(minibatch_epochs=-1)
