"""The contract of a solver: a function of a problem, and what it remembers from one pass to the next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

if TYPE_CHECKING:
    from hierlit.layerwise.problem import BlockProblem, Evaluation
    from hierlit.layerwise.unobserved import LabelLoss
    from hierlit.models.resnet import HierarchicalResNet


@dataclass(frozen=True)
class Certificate:
    """What is known of a block at a fixed weight, label by label: all tensors are [n] float64.

    Attributes:
        objective: F_k.
        gradient_norm: Norm of the full gradient of F_k in the label's row of A.
        modulus: λ_j, by which F_k is strongly convex in that row.
    """

    objective: Tensor
    gradient_norm: Tensor
    modulus: Tensor

    @property
    def suboptimality(self) -> Tensor:
        """Upper bound ‖∇F_k‖²/(2λ_j) on F_k − min F_k (the paper)."""
        return self.gradient_norm.square() / (2 * self.modulus)


@dataclass
class State:
    """All that a solver remembers: tensors and plain values, saved in checkpoints as they are.

    Attributes:
        weight: A [n, q+1].
        penalty: λ [n].
        passes: Passes over the rows that are done.
        steps: Steps taken so far.
        extra: What else the solver needs to resume.
    """

    weight: Tensor
    penalty: Tensor
    passes: int = 0
    steps: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


class Solver(ABC):
    """Minimise F_k, one pass over the rows at a time, and certify how far it has come. Holds options only.

    In each pass `visit` evaluates F_k over all rows, or takes steps on the way; `certify` bounds the distance to the
    minimum; where that is above the tolerance, `step` moves the weight. A subclass must define `step` only. What it
    derives from a problem once, it keeps by `problem.keep`.
    """

    min_epochs: int = 1
    """Epochs, that is passes over the rows, that a block needs before it can have a certificate."""

    reads_held_rows: bool = False
    """Whether it chooses something on the rows set aside."""

    def refusals(self, net: HierarchicalResNet, loss: LabelLoss, folds: int | None) -> list[str]:
        """Return a line for each thing it cannot work with: the network, the loss, the folds of the rows."""
        return []

    def open(self, problem: BlockProblem, memory: dict[str, Any]) -> BlockProblem | None:
        """Make the block's features ready, when they are drawn; scale and centre them unless overridden.

        Args:
            problem: The problem.
            memory: What is remembered from block to block, tensors and plain values; changed in place.

        Returns:
            The problem, perhaps of another block or with another λ; None if no further block is worth adding.
        """
        problem.calibrate()
        return problem

    def resume(self, problem: BlockProblem) -> BlockProblem:
        """Return a block that is open already as `open` returned it; the problem's own by default."""
        return problem

    def close(self, problem: BlockProblem, by_fold: Tensor | None, memory: dict[str, Any]) -> None:  # noqa: B027
        """Finish a block that is solved and judged, just before it is frozen and the rows advance.

        Args:
            problem: The problem.
            by_fold: Weights [K, n, q+1], number k of the fit without fold k, zeros for labels that are not accepted;
                None if the rows have no folds.
            memory: See `open`.
        """

    def start(self, problem: BlockProblem) -> State:
        """Return the state before the first pass: A = 0."""
        return State(problem.zeros(), problem.penalty.clone())

    def visit(self, problem: BlockProblem, state: State) -> Evaluation:
        """Go over the rows, at a fixed weight unless overridden to step on the way.

        Args:
            problem: The problem.
            state: Changed in place.
        """
        return problem.evaluate(state.weight, state.passes)

    def certify(self, problem: BlockProblem, state: State, at: Evaluation) -> Certificate | None:
        """Return the certificate of the weight, or None if the pass moved it.

        Args:
            problem: The problem.
            state: The state before `step`.
            at: What `visit` returned.
        """
        return certify(state, at)

    @abstractmethod
    def step(self, problem: BlockProblem, state: State, at: Evaluation) -> None:
        """Move `state.weight`.

        Args:
            problem: The problem.
            state: Changed in place.
            at: What `visit` returned. Its gradient is that of the data terms alone: the penalty adds
                `state.penalty[:, None] * state.weight`.
        """

    def at_fixed_penalty(self) -> Solver:
        """Return this solver with the problem's own λ, whatever it would choose."""
        return self


def certify(state: State, at: Evaluation) -> Certificate:
    """Return the certificate of a weight from the data terms of F_k at it, and their gradient."""
    weight, penalty = state.weight.double(), state.penalty.double()
    norm = (at.gradient + penalty[:, None] * weight).norm(dim=1)
    return Certificate(at.terms + penalty / 2 * weight.square().sum(1), norm, penalty)


@torch.no_grad()
def take_step(state: State, optimizer: Optimizer, gradient: Tensor) -> None:
    """Step an optimizer of the state's weight.

    Args:
        state: The state.
        optimizer: Of its weight alone.
        gradient: Of the data terms, [n, q+1], over all processes.
    """
    state.weight.grad = gradient.to(state.weight) + state.penalty[:, None] * state.weight
    optimizer.step()
    state.weight.grad = None
    state.steps += 1
