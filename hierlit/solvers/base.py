"""The contract of a solver, the objective it minimises, and the certificate it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer

from hierlit.losses import MarginLoss

if TYPE_CHECKING:
    from hierlit.stream import Chunk, Tile
    from hierlit.task import LayerwiseTask


@dataclass
class BlockObjective:
    """F_k(A) = 1/(m|G|) Σ ℓ(y·(ŷ_{k−1} + Aφ)) + Σ_j (λ_j/2)‖A_j‖², a sum over labels j (the paper's F_k).

    Attributes:
        loss: ℓ, of margins.
        n_pairs: m|G|, the rows times locations of all processes, whatever is observed.
        regularization: λ_j, [n].
    """

    loss: MarginLoss
    n_pairs: int
    regularization: Tensor

    @torch.no_grad()
    def data_term(self, weight: Tensor, tiles: Iterable[Tile]) -> tuple[Tensor, Tensor]:
        """Rows' part of each F_k [n] at a weight [n, q+1], and its gradient; each tile is visited once."""
        slopes, intercept = weight[:, :-1].T, weight[:, -1]
        terms, gradient = weight.new_zeros(len(weight)), torch.zeros_like(weight)
        for tile in tiles:
            margins = torch.addmm(tile.scores + intercept, tile.features, slopes).mul_(tile.labels)
            observed = tile.labels != 0
            terms += (self.loss(margins) * observed).sum(0)
            rise = self.loss.derivative(margins).mul_(tile.labels)
            gradient[:, :-1].addmm_(rise.T, tile.features)
            gradient[:, -1] += rise.sum(0)
        return terms / self.n_pairs, gradient.div_(self.n_pairs)

    def penalty(self, weight: Tensor) -> Tensor:
        """Each label's (λ_j/2)‖A_j‖², [n]."""
        return self.regularization / 2 * weight.square().sum(1)


@dataclass
class Certificate:
    """What is known of a block at fixed weights, label by label: all tensors are [n].

    Attributes:
        objective: F_k.
        gradient_norm: Norm of the full gradient of F_k in the label's row of A.
        regularization: λ_j.
    """

    objective: Tensor
    gradient_norm: Tensor
    regularization: Tensor

    @property
    def suboptimality(self) -> Tensor:
        """F_k − min F_k ≤ ‖∇F_k‖²/(2λ_j), since F_k is λ_j-strongly convex in the label's row (the paper)."""
        return self.gradient_norm.square() / (2 * self.regularization)


class Solver(ABC):
    """Minimises the active block's F_k, an epoch at a time, and certifies its exact full gradient norm.

    For each batch of an epoch the task calls `training_step`; after the last it calls `certify`, and then, unless the
    block is finished, `step`. Solvers train `task.active`, the n×(q+1) weight of the active block.
    """

    min_epochs: int = 1
    """Epochs a block needs before it can have a certificate."""
    reads_set_aside_rows: bool = False
    """Whether it chooses something on the set-aside rows."""

    @abstractmethod
    def configure_optimizers(self, task: LayerwiseTask) -> Optimizer:
        """A fresh optimizer of `task.active`; called when a block starts and when the solver changes phase."""

    def start_block(self, task: LayerwiseTask) -> None:
        """Forgets the block before; F_k is known by now as `task.objective`."""
        self._gradient: Tensor | None = None

    def training_step(self, task: LayerwiseTask, chunk: Chunk, epoch: int) -> Tensor:
        """Adds a batch to this process's part of the full gradient. Returns the labels' data terms [n]."""
        terms, gradient = task.data_term(chunk)
        self._gradient = gradient if self._gradient is None else self._gradient.add_(gradient)
        return terms

    def backward(self, task: LayerwiseTask, gradient: Tensor) -> None:
        """Adds to `task.active.grad` a gradient [n, q+1] summed over processes, and that of the penalty."""
        # wrappers average what they see in the backward pass, and see each process's part of the sum
        given = (task.active * gradient).sum() * task.trainer.world_size
        task.manual_backward(given + task.objective.penalty(task.active).sum())

    def certify(self, task: LayerwiseTask, objective: Tensor, epoch: int) -> Certificate | None:
        """The certificate at the weights just before `step`, or None if this epoch did not hold them fixed.

        Args:
            task: The task.
            objective: Data terms [n] summed over the epoch and all processes.
            epoch: Epoch within the block, from 0.
        """
        gradient, self._gradient = self._gradient, None
        self.backward(task, torch.zeros_like(task.active) if gradient is None else gradient)
        assert task.active.grad is not None
        penalty = task.objective.penalty(task.active.detach())
        return Certificate(objective + penalty, task.active.grad.norm(dim=1), task.objective.regularization.clone())

    @abstractmethod
    def step(self, task: LayerwiseTask, epoch: int) -> None:
        """Moves the weights, given the full gradient in `task.active.grad`."""
