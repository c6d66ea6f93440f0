import math
from collections.abc import Callable
from functools import partial

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import optimize
from torch import Tensor

from hierlit.data import CellularAutomaton
from hierlit.layerwise.losses import (
    HingeLoss,
    HybridMarginLoss,
    LogisticLoss,
    MarginLoss,
    SquaredHingeLoss,
    SquaredLoss,
)
from hierlit.layerwise.solvers import GradientSolver
from hierlit.models import Window1d
from hierlit.training import LayerwiseTask

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


class Recorder(L.Callback):
    """Keeps each block's report and certificate, and what `observe` says at the start of each epoch."""

    def __init__(self, observe: Callable[[LayerwiseTask], object] = lambda task: None) -> None:
        self.observe, self.seen, self.reports, self.certificates = observe, [], [], []

    def on_train_batch_start(self, trainer: L.Trainer, task: LayerwiseTask, batch: object, batch_idx: int) -> None:
        if batch_idx == 0:
            self.seen.append((task.block, task.block_epoch, self.observe(task)))

    def on_train_epoch_end(self, trainer: L.Trainer, task: LayerwiseTask) -> None:
        if task.report is not None and task.report.block > len(self.reports):
            self.reports.append(task.report)
            self.certificates.append(task.certificate)


@every_loss
@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_the_certificate_has_autograds_gradient_and_objective_on_all_rows_at_once(
    name: str, missing: float, fit, xors, fitted_rows
) -> None:
    data = xors(missing=missing, batch_size=100)
    task = LayerwiseTask(6, 3, n_blocks=2, n_features=20, loss=LOSSES[name][0], regularization=PENALTY)
    recorder = Recorder()
    fit(task, data, recorder, precision="64-true", acceptance="none", gradient_tolerance=0.02)
    assert len(data.fit_rows) % data.batch_size, "the last batch should be smaller"
    assert [report.stop_reason for report in recorder.reports] == ["gradient norm"] * 2
    assert all(report.gradient_norm <= 0.02 for report in recorder.reports)
    for block, certificate in enumerate(recorder.certificates):
        rows, weight = fitted_rows(task, data, block), task.net.block(block).weight
        np.testing.assert_allclose(
            certificate.gradient_norm, gradient(name, rows, weight).norm(dim=1), rtol=1e-9, atol=1e-12
        )
        # the epoch's data terms are added up in float32
        np.testing.assert_allclose(certificate.objective, objective(name, rows, weight), rtol=1e-6)
        assert torch.equal(certificate.regularization, torch.full((3,), PENALTY).double())


def test_the_gradient_counts_every_location_of_every_row(fit, fitted_rows) -> None:
    data = CellularAutomaton(n_levels=2, n_cells=16, n_train=40, n_val=5, n_test=5, batch_size=12)
    task = LayerwiseTask(1, 2, 16, proximity=Window1d(3), n_blocks=2, n_features=20, regularization=PENALTY)
    recorder = Recorder()
    fit(task, data, recorder, precision="64-true", acceptance="none", gradient_tolerance=0.02)
    for block, certificate in enumerate(recorder.certificates):
        rows = fitted_rows(task, data, block)
        assert len(rows[0]) == 16 * len(data.fit_rows)
        expected = gradient("squared", rows, task.net.block(block).weight).norm(dim=1)
        np.testing.assert_allclose(certificate.gradient_norm, expected, rtol=1e-9, atol=1e-12)


@every_loss
def test_the_certificate_bounds_the_distance_to_scipys_minimum_and_says_something(
    name: str, fit, xors, fitted_rows, record_property
) -> None:
    data = xors(batch_size=300)
    task = LayerwiseTask(6, 3, n_blocks=2, n_features=15, loss=LOSSES[name][0], regularization=PENALTY)
    recorder = Recorder()
    fit(task, data, recorder, precision="64-true", acceptance="none")
    for block, (report, certificate) in enumerate(zip(recorder.reports, recorder.certificates, strict=True)):
        assert report.stop_reason == "gradient norm"
        assert report.gradient_norm <= report.gradient_tolerance
        assert report.suboptimality <= 0.01 * report.initial_objective
        rows, weight = fitted_rows(task, data, block), task.net.block(block).weight
        shape = weight.shape

        def value(flat: NDArray[np.float64], rows=rows, shape=shape) -> tuple[float, NDArray[np.float64]]:
            weight = torch.from_numpy(flat).reshape(shape)
            return float(objective(name, rows, weight).sum()), gradient(name, rows, weight).numpy().ravel()

        options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 0, "gtol": 1e-9, "maxcor": 60}
        start = weight.double().numpy().ravel()
        best = optimize.minimize(value, start, jac=True, method="L-BFGS-B", options=options).x
        least = objective(name, rows, torch.from_numpy(best).reshape(shape))
        gap = (objective(name, rows, weight) - least).numpy()
        bound = certificate.suboptimality.numpy()
        ratio = float(bound.sum() / gap.sum())
        record_property(f"certificate/gap in block {block + 1}", ratio)
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
def test_a_rotated_stream_with_its_first_layers_rotated_along_trains_to_the_same_scores(optimizer: str, fit) -> None:
    tasks = {}
    for output in ("split", "orthogonal"):
        data = CellularAutomaton(n_levels=2, n_cells=8, n_train=40, n_val=5, n_test=20, batch_size=12)
        task = LayerwiseTask(
            1,
            2,
            8,
            proximity=Window1d(3),
            n_blocks=3,
            n_features=15,
            output=output,
            solver=GradientSolver(OPTIMIZERS[optimizer], minibatch_epochs=4),
        ).double()
        tasks[output] = task
        if output == "orthogonal":
            rotation = task.net.rotation
            rotation.copy_(torch.linalg.qr(rotation)[0])
            for rotated, split in zip(task.net.blocks, tasks["split"].net.blocks, strict=True):
                windows = split.features.weight.view(15, 3, 3)  # features, positions, channels
                rotated.features.weight.copy_((windows @ rotation).flatten(1))
                rotated.features.bias.copy_(split.features.bias)
        fit(task, data, precision="64-true", acceptance="none", gradient_tolerance=0.05)
    inputs = data.tables["test"].inputs.double()
    torch.testing.assert_close(tasks["orthogonal"](inputs), tasks["split"](inputs), rtol=0, atol=1e-8)
    assert tasks["orthogonal"].report.epochs == tasks["split"].report.epochs
    for rotated, split in zip(tasks["orthogonal"].net.blocks, tasks["split"].net.blocks, strict=True):
        assert split.weight.any()
        torch.testing.assert_close(rotated.weight, split.weight, rtol=0, atol=1e-8)


def test_optimizer_and_scheduler_start_afresh_with_every_block(fit, xors) -> None:
    made = {"optimizers": 0, "schedulers": 0}

    def optimizer(parameters: list[Tensor]) -> torch.optim.Optimizer:
        made["optimizers"] += 1
        return torch.optim.Adam(parameters, lr=0.08)

    def scheduler(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        made["schedulers"] += 1
        return torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    def state(task: LayerwiseTask) -> tuple[float, float | None]:
        own = task.optimizers().optimizer
        steps = [float(entry["step"]) for entry in own.state.values() if "step" in entry]
        return own.param_groups[0]["lr"], steps[0] if steps else None

    data = xors(batch_size=100)
    solver = GradientSolver(optimizer, scheduler, minibatch_epochs=3)
    recorder = Recorder(state)
    fit(LayerwiseTask(6, 3, n_blocks=2, n_features=20, solver=solver), data, recorder, acceptance="none")
    n_batches = math.ceil(len(data.fit_rows) / 100)
    for block in (0, 1):
        seen = [value for own, epoch, value in recorder.seen if own == block and epoch < 3]
        assert seen == [(0.08, None), (0.04, float(n_batches)), (0.02, 2.0 * n_batches)]
    assert made == {"optimizers": 2, "schedulers": 2}


def test_momentum_of_the_full_batch_steps_starts_afresh_with_every_block(fit, xors) -> None:
    recorder = Recorder(lambda task: len(task.optimizers().optimizer.state))
    task = LayerwiseTask(6, 3, n_blocks=2, n_features=20, solver=GradientSolver(minibatch_epochs=0))
    fit(task, xors(batch_size=300), recorder, acceptance="none")
    assert [held for _, epoch, held in recorder.seen if epoch == 0] == [0, 0]
    assert all(held == 1 for _, epoch, held in recorder.seen if epoch > 0)


def test_a_gradient_that_is_not_finite_is_an_error_that_names_block_epoch_and_batch(fit, xors) -> None:
    solver = GradientSolver(partial(torch.optim.SGD, lr=1e30), minibatch_epochs=2)
    with pytest.raises(FloatingPointError, match="loss or gradient is not finite in block 1, epoch 1, batch 2: "):
        fit(LayerwiseTask(6, 3, n_blocks=2, n_features=20, solver=solver), xors())


def test_mini_batches_alone_give_no_certificate(fit, xors) -> None:
    with pytest.raises(ValueError, match="max_epochs_per_block must be at least 6 for GradientSolver, got 5"):
        fit(LayerwiseTask(6, 3, n_blocks=1, n_features=20), xors(), max_epochs_per_block=5)


def test_a_negative_number_of_epochs_is_refused() -> None:
    with pytest.raises(ValueError, match="minibatch_epochs must be 0 or more, got -1"):
        GradientSolver(minibatch_epochs=-1)
