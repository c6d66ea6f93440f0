"""Gradient steps: mini-batches first, then full-batch accelerated steps to the tolerance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler, ReduceLROnPlateau

from hierlit.layerwise.solvers.accelerated import AcceleratedGradient
from hierlit.layerwise.solvers.base import Certificate, EpochSums, Solver, take_step

if TYPE_CHECKING:
    from hierlit.layerwise.stream import Chunk
    from hierlit.training.task import LayerwiseTask


class GradientSolver(Solver):
    """Mini-batch epochs with any torch optimizer, then full-batch accelerated steps that reach the tolerance.

    A constant mini-batch step never settles: its gradient noise keeps the full gradient away from zero. So after
    `minibatch_epochs` the gradient is accumulated over the whole epoch and followed by one accelerated step; the full
    gradient norm comes free with it. Both steps derive from L = ℓ'' · (largest eigenvalue of the Gram matrix) + λ.

    Args:
        optimizer: Makes the mini-batch optimizer of a list of parameters; SGD with step 1/(2L) that decays linearly
            and Nesterov momentum 0.9 when None.
        lr_scheduler: Makes a scheduler of that optimizer, stepped once an epoch.
        minibatch_epochs: Epochs of mini-batch steps at the start of each block.

    Raises:
        ValueError: If `minibatch_epochs` is negative.
    """

    def __init__(
        self,
        optimizer: Callable[[list[Tensor]], Optimizer] | None = None,
        lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        minibatch_epochs: int = 5,
    ) -> None:
        if minibatch_epochs < 0:
            raise ValueError(f"minibatch_epochs must be 0 or more, got {minibatch_epochs}")
        self.optimizer, self.lr_scheduler, self.minibatch_epochs = optimizer, lr_scheduler, minibatch_epochs
        self.min_epochs = minibatch_epochs + 1
        self._in_minibatches = minibatch_epochs > 0
        self._scheduler: LRScheduler | None = None
        self._scheduler_state: dict[str, Any] | None = None

    def start_block(self, task: LayerwiseTask) -> None:
        """Goes back to mini-batches."""
        self._in_minibatches = self.minibatch_epochs > 0
        self._scheduler = self._scheduler_state = None

    def state_dict(self) -> dict[str, Any]:
        """The phase, and the scheduler's state."""
        return {
            "in_minibatches": self._in_minibatches,
            "scheduler": self._scheduler.state_dict() if self._in_minibatches and self._scheduler else None,
        }

    def load_state_dict(self, task: LayerwiseTask, state: dict[str, Any]) -> None:
        """Goes to the phase; the scheduler follows with its optimizer."""
        self._in_minibatches, self._scheduler_state = state["in_minibatches"], state["scheduler"]

    def configure_optimizers(self, task: LayerwiseTask) -> Optimizer:
        """The optimizer of the phase the block is in."""
        objective = task.objective
        lipschitz = objective.loss.curvature * task.moments.largest_eigenvalue
        step = 1 / (lipschitz + float(objective.regularization.max()))
        if not self._in_minibatches:
            return AcceleratedGradient([task.active], step, float(objective.regularization.min()))
        if self.optimizer is not None:
            optimizer = self.optimizer([task.active])
            if isinstance(optimizer, torch.optim.LBFGS):
                raise ValueError("optimizer must take a step from one gradient, got LBFGS, which needs several")
        else:
            optimizer = torch.optim.SGD([task.active], lr=step / 2, momentum=0.9, nesterov=True)
        self._scheduler = self.lr_scheduler(optimizer) if self.lr_scheduler else None
        if self.optimizer is None and self.lr_scheduler is None:
            self._scheduler = LinearLR(optimizer, 1.0, 1.0 / self.minibatch_epochs, self.minibatch_epochs)
        if self._scheduler is not None and self._scheduler_state is not None:
            self._scheduler.load_state_dict(self._scheduler_state)
        self._scheduler_state = None
        return optimizer

    def training_step(self, task: LayerwiseTask, chunk: Chunk, epoch: int) -> tuple[Tensor, Tensor]:
        """Visits the batch, and takes a mini-batch step."""
        terms, gradient = task.data_term(chunk)
        if self._in_minibatches:
            take_step(task, task.reduce(gradient) * task.trainer.num_training_batches)
        return terms, gradient

    def certify(self, task: LayerwiseTask, sums: EpochSums, epoch: int) -> Certificate | None:
        """The certificate, once the steps are full-batch."""
        return None if self._in_minibatches else super().certify(task, sums, epoch)

    def step(self, task: LayerwiseTask, sums: EpochSums, epoch: int) -> None:
        """Takes the full-batch step, or ends a mini-batch epoch."""
        if not self._in_minibatches:
            take_step(task, sums.gradient)
        elif epoch + 1 == self.minibatch_epochs:
            self._in_minibatches = False
            task.restart_optimizers()
        elif isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step(float(sums.terms.sum()))
        elif self._scheduler is not None:
            self._scheduler.step()
