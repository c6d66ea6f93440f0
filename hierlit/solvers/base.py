"""The contract of a solver, the objective it minimises, and the certificate it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from hierlit.losses import MarginLoss, masked_loss

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

    def data_term(self, weight: Tensor, tiles: Iterable[Tile]) -> Tensor:
        """Rows' part of each F_k [n] at a weight [n, q+1]; its backward pass costs nothing more."""
        terms: Tensor = _DataTerm.apply(weight, self, tiles)  # type: ignore[no-untyped-call]
        return terms

    def penalty(self, weight: Tensor) -> Tensor:
        """Each label's (λ_j/2)‖A_j‖², [n]."""
        return self.regularization / 2 * weight.square().sum(1)


class _DataTerm(torch.autograd.Function):
    """Value and gradient in one visit to each tile, so that no tile's features need to outlive it."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, objective: BlockObjective, tiles: Iterable[Tile]) -> Tensor:
        slopes, intercept = weight[:, :-1].T, weight[:, -1]
        gradient, terms = torch.zeros_like(weight), weight.new_zeros(len(weight))
        for tile in tiles:
            with torch.enable_grad():
                scores = torch.addmm(tile.scores + intercept, tile.features, slopes).detach().requires_grad_()
                losses = masked_loss(objective.loss, scores, tile.labels).sum(0)
                (rise,) = torch.autograd.grad(losses.sum(), scores)
            gradient[:, :-1].addmm_(rise.T, tile.features)
            gradient[:, -1] += rise.sum(0)
            terms += losses.detach()
        ctx.save_for_backward(gradient.div_(objective.n_pairs))
        return terms / objective.n_pairs

    @staticmethod
    def backward(ctx: Any, *change: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return change[0][:, None] * gradient, None, None


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

    def start_block(self, task: LayerwiseTask) -> None:  # noqa: B027
        """Forgets the block before; F_k is known by now as `task.objective`."""

    def training_step(self, task: LayerwiseTask, chunk: Chunk, epoch: int) -> Tensor:
        """Adds a batch to the full gradient. Returns the labels' data terms [n], detached."""
        terms = task.data_term(chunk)
        # gradients are averaged over processes, F_k is a sum over all of their rows
        task.manual_backward(terms.sum() * task.trainer.world_size)
        return terms.detach()

    def certify(self, task: LayerwiseTask, objective: Tensor, epoch: int) -> Certificate | None:
        """The certificate at the weights just before `step`, or None if this epoch did not hold them fixed.

        Args:
            task: The task.
            objective: Data terms [n] summed over the epoch and all processes.
            epoch: Epoch within the block, from 0.
        """
        penalty = task.objective.penalty(task.active)
        task.manual_backward(penalty.sum())
        assert task.active.grad is not None
        return Certificate(
            objective + penalty.detach(), task.active.grad.norm(dim=1), task.objective.regularization.clone()
        )

    @abstractmethod
    def step(self, task: LayerwiseTask, epoch: int) -> None:
        """Moves the weights, given the full gradient in `task.active.grad`."""
