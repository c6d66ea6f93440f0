"""Gradient steps: mini-batches first, then full-batch accelerated steps to the tolerance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler, ReduceLROnPlateau

from hierlit.layerwise.solvers.accelerated import accelerate, full_gradient
from hierlit.layerwise.solvers.base import Certificate, Solver, State, take_step

if TYPE_CHECKING:
    from hierlit.layerwise.problem import BlockProblem, Evaluation


class GradientSolver(Solver):
    """Mini-batch passes with any torch optimizer, then full-batch accelerated steps that reach the tolerance.

    A constant mini-batch step never settles: its gradient noise keeps the full gradient away from zero. So after
    `minibatch_epochs` the gradient is accumulated over the whole pass and followed by one accelerated step; the full
    gradient norm comes free with it. Both steps derive from L = ℓ'' · (largest eigenvalue of the Gram matrix) + λ.

    Args:
        optimizer: Makes the mini-batch optimizer of a list of parameters; SGD with step 1/(2L) that decays linearly
            and Nesterov momentum 0.9 when None.
        lr_scheduler: Makes a scheduler of that optimizer, stepped once a pass.
        minibatch_epochs: Passes of mini-batch steps at the start of each block.

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

    def visit(self, problem: BlockProblem, state: State) -> Evaluation:
        """Go over the rows, with a step after each mini-batch in the first passes."""
        if not self._in_minibatches(state):
            return problem.evaluate(state.weight, state.passes)
        optimizer, scheduler = self._optimizers(problem, state)
        sums, n_batches = problem.sums(state.passes), problem.rows.n_chunks("fit", problem.n_chunks)
        for batch in problem.batches(state.passes):
            part = batch(state.weight)
            sums.add(part)
            take_step(state, optimizer, problem.processes.sum(part.gradient) * n_batches)
        at = sums.evaluation()
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(float(at.terms.sum()))
        elif scheduler is not None:
            scheduler.step()
        state.extra = {}
        if state.passes + 1 < self.minibatch_epochs:
            kept = None if scheduler is None else scheduler.state_dict()
            state.extra = {"optimizer": optimizer.state_dict(), "scheduler": kept}
        return at

    def certify(self, problem: BlockProblem, state: State, at: Evaluation) -> Certificate | None:
        """Return the certificate, once the steps are full-batch."""
        return None if self._in_minibatches(state) else super().certify(problem, state, at)

    def step(self, problem: BlockProblem, state: State, at: Evaluation) -> None:
        """Take a full-batch step, once mini-batches are over."""
        if not self._in_minibatches(state):
            accelerate(state, full_gradient(state, at.gradient), length(problem), float(state.penalty.min()))

    def _in_minibatches(self, state: State) -> bool:
        return state.passes < self.minibatch_epochs

    def _optimizers(self, problem: BlockProblem, state: State) -> tuple[Optimizer, LRScheduler | None]:
        """Return the mini-batch optimizer of the weight and its scheduler, as the last pass left them."""
        weights, scheduler = [state.weight], None
        if self.optimizer is not None:
            optimizer = self.optimizer(weights)
            if isinstance(optimizer, torch.optim.LBFGS):
                raise ValueError("optimizer must take a step from one gradient, got LBFGS, which needs several")
        else:
            optimizer = torch.optim.SGD(weights, lr=length(problem) / 2, momentum=0.9, nesterov=True)
        if self.lr_scheduler is not None:
            scheduler = self.lr_scheduler(optimizer)
        elif self.optimizer is None:
            scheduler = LinearLR(optimizer, 1.0, 1.0 / self.minibatch_epochs, self.minibatch_epochs)
        if state.extra:
            if scheduler is not None:
                scheduler.load_state_dict(state.extra["scheduler"])
            optimizer.load_state_dict(state.extra["optimizer"])
        return optimizer, scheduler


def length(problem: BlockProblem) -> float:
    """1/L, the step of gradient descent on F_k."""
    lipschitz = problem.loss.curvature * problem.moments().largest_eigenvalue
    return 1 / (lipschitz + float(problem.penalty.max()))
