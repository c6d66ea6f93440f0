"""The contract of a solver, the objective it minimises, and the certificate it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from hierlit.layerwise.unobserved import LabelLoss

if TYPE_CHECKING:
    from hierlit.layerwise.stream import Chunk, Tile
    from hierlit.training.task import LayerwiseTask


@dataclass
class BlockObjective:
    """F_k(A) = 1/(m|G|) Σ ℓ(y·(ŷ_{k−1} + Aφ)) + Σ_j (λ_j/2)‖A_j‖², a sum over labels j (the paper's F_k).

    Attributes:
        loss: ℓ, of scores and labels.
        n_pairs: m|G|, the rows times locations of all processes, whatever is observed.
        regularization: λ_j, [n].
    """

    loss: LabelLoss
    n_pairs: int
    regularization: Tensor

    @torch.no_grad()
    def data_term(self, weight: Tensor, tiles: Iterable[Tile]) -> tuple[Tensor, Tensor]:
        """Rows' part of each F_k [n] at a weight [n, q+1], and its gradient; each tile is visited once."""
        slopes, intercept = weight[:, :-1].T, weight[:, -1]
        terms, gradient = weight.new_zeros(len(weight)), torch.zeros_like(weight)
        for tile in tiles:
            scores = torch.addmm(tile.scores + intercept, tile.features, slopes)
            terms += self.loss(scores, tile.labels).sum(0)
            rise = self.loss.derivative(scores, tile.labels)
            gradient[:, :-1].addmm_(rise.T, tile.features)
            gradient[:, -1] += rise.sum(0)
        return terms / self.n_pairs, gradient.div_(self.n_pairs)


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


@dataclass
class EpochSums:
    """Sums over the batches of an epoch: of this process while the epoch lasts, of all once it is reduced.

    Attributes:
        values: [n, q+2] float64: the gradient of each label's data terms, and the data terms.
    """

    values: Tensor

    @classmethod
    def zeros(cls, weight: Tensor) -> EpochSums:
        """No batch yet, for a weight [n, q+1]."""
        return cls(torch.zeros(len(weight), weight.shape[1] + 1, dtype=torch.float64, device=weight.device))

    @property
    def gradient(self) -> Tensor:
        """The gradient [n, q+1] of the data terms."""
        return self.values[:, :-1]

    @property
    def terms(self) -> Tensor:
        """The data terms [n]."""
        return self.values[:, -1]

    def add(self, terms: Tensor, gradient: Tensor) -> None:
        """Adds a batch."""
        self.values[:, :-1] += gradient
        self.values[:, -1] += terms


class Solver(ABC):
    """Minimises the active block's F_k, an epoch at a time, and certifies its exact full gradient norm.

    For each batch of an epoch the task calls `training_step`; after the last it calls `certify`, and then, unless the
    block is finished, `step`. Solvers train `task.active`, the n×(q+1) weight of the active block.
    """

    min_epochs: int = 1
    """Epochs a block needs before it can have a certificate."""
    gram_dtype: torch.dtype | None = None
    """What products of features are summed in for the Gram matrix; the weights' own precision when None."""
    reads_gram: bool = True
    """Whether it reads the moments of the features."""
    reads_set_aside_rows: bool = False
    """Whether it chooses something on the set-aside rows."""
    is_joint: bool = False
    """Whether it trains every block at once, in the first one's place; blocks then follow as they are."""
    is_radial: bool = False
    """Whether it fills in radial features, and can do with no others."""
    is_finished: bool = False
    """Whether the active block is left at zero, and no other follows it."""

    def trained(self, task: LayerwiseTask) -> list[Tensor]:
        """The parameters that its optimizers move."""
        return [task.active]

    def blocks_to_calibrate(self, task: LayerwiseTask) -> Iterable[int]:
        """The blocks whose features are scaled and centred on the stream before the active block, when it starts."""
        return [task.block]

    @abstractmethod
    def configure_optimizers(self, task: LayerwiseTask) -> Optimizer:
        """A fresh optimizer of `task.active`; called when a block starts and when the solver changes phase."""

    @abstractmethod
    def start_block(self, task: LayerwiseTask) -> None:
        """Forgets the block before; F_k is known by now as `task.objective`."""

    def state_dict(self) -> dict[str, Any]:
        """What a block under way needs beyond the weight and its optimizer's state, to go on after `start_block`."""
        return {}

    def load_state_dict(self, task: LayerwiseTask, state: dict[str, Any]) -> None:  # noqa: B027
        """Goes on with a block, between `start_block` and `configure_optimizers`."""

    def end_block(self, task: LayerwiseTask) -> None:  # noqa: B027
        """Goes on from a block that is frozen, with the streams past it."""

    def training_step(self, task: LayerwiseTask, chunk: Chunk, epoch: int) -> tuple[Tensor, Tensor]:
        """Visits a batch. Returns this process's part of its data terms [n] and of their gradient [n, q+1]."""
        return task.data_term(chunk)

    def certify(self, task: LayerwiseTask, sums: EpochSums, epoch: int) -> Certificate | None:
        """The certificate at the weights just before `step`, or None if this epoch did not hold them fixed.

        Args:
            task: The task.
            sums: Those of the epoch, over all processes.
            epoch: Epoch within the block, from 0.
        """
        weight, regularization = task.active.detach().double(), task.objective.regularization.double()
        norm = (sums.gradient + regularization[:, None] * weight).norm(dim=1)
        return Certificate(sums.terms + regularization / 2 * weight.square().sum(1), norm, regularization)

    @abstractmethod
    def step(self, task: LayerwiseTask, sums: EpochSums, epoch: int) -> None:
        """Moves the weights, given the sums of the epoch over all processes."""


@torch.no_grad()
def take_step(task: LayerwiseTask, gradient: Tensor) -> None:
    """Steps the task's optimizer with a data term's gradient [n, q+1], summed over processes, and the penalty's."""
    optimizer: Any = task.optimizers()
    task.active.grad = gradient.to(task.active) + task.objective.regularization[:, None] * task.active
    optimizer.step()
    task.active.grad = None
