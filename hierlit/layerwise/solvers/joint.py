"""Joint training: every W² at once, by backpropagation through the network; the paper's third open question."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from hierlit.layerwise.solvers.base import Certificate, EpochSums, Solver
from hierlit.models.resnet import is_count, readout

if TYPE_CHECKING:
    from hierlit.layerwise.stream import Chunk
    from hierlit.training.task import LayerwiseTask


class JointSolver(Solver):
    """Trains all blocks at once, end to end, and then hands them over one by one (ours).

    The network is the same: W¹ random and frozen, features calibrated, here on the inputs alone, before the first step.
    The objective is the loss of the last block's scores, or the mean over all blocks' scores, plus (λ/2)‖W²_k‖² for
    each block; it is not convex. The joint epochs are those of the first block. Each block, as it is frozen, then has
    one epoch at fixed weights, for its row in the tables: its F_k, and by its certificate how far the block is from the
    minimum that layerwise training would have found after the blocks before it. All labels follow every block.

    Args:
        epochs: Joint epochs.
        optimizer: Makes the optimizer of the list of all W²; AdamW with step 1e-3 and no weight decay when None.
        lr_scheduler: Makes a scheduler of that optimizer, stepped once an epoch; cosine decay to 0 when None.
        every_block: Whether each block's scores are supervised, and not the last block's alone.

    Raises:
        ValueError: If `epochs` is not a positive integer.
    """

    is_joint = True

    def __init__(
        self,
        epochs: int = 100,
        optimizer: Callable[[list[Tensor]], Optimizer] | None = None,
        lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        every_block: bool = False,
    ) -> None:
        if not is_count(epochs):
            raise ValueError(f"epochs must be a positive integer, got {epochs}")
        self.epochs, self.every_block = epochs, every_block
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.min_epochs = epochs + 1
        self._scheduler: LRScheduler | None = None
        self._scheduler_state: dict[str, Any] | None = None

    def trained(self, task: LayerwiseTask) -> list[Tensor]:
        """W² of every block, the active parameter in the first one's place."""
        return [task.active, *(task.net.block(index).weight for index in range(1, len(task.net.blocks)))]

    def blocks_to_calibrate(self, task: LayerwiseTask) -> Iterable[int]:
        """All of them, before the first step."""
        return range(len(task.net.blocks)) if task.block == 0 else ()

    def start_block(self, task: LayerwiseTask) -> None:
        """Takes a block's weight up again as it was trained; all are 0 before the first."""
        self._scheduler = self._scheduler_state = None
        if task.block > 0:
            task.active.data.copy_(task.net.block(task.block).weight)

    def state_dict(self) -> dict[str, Any]:
        """The scheduler's state."""
        return {"scheduler": self._scheduler.state_dict() if self._scheduler else None}

    def load_state_dict(self, task: LayerwiseTask, state: dict[str, Any]) -> None:
        """Goes on with the scheduler, once its optimizer is there."""
        self._scheduler_state = state["scheduler"]

    def configure_optimizers(self, task: LayerwiseTask) -> Optimizer:
        """The optimizer of all W²; one that does nothing once they are trained."""
        weights = self.trained(task)
        if task.block > 0:
            return torch.optim.SGD(weights, lr=0.0)
        optimizer = self.optimizer(weights) if self.optimizer else torch.optim.AdamW(weights, 1e-3, weight_decay=0.0)
        self._scheduler = (
            self.lr_scheduler(optimizer) if self.lr_scheduler else CosineAnnealingLR(optimizer, self.epochs)
        )
        if self._scheduler_state is not None:
            self._scheduler.load_state_dict(self._scheduler_state)
        return optimizer

    def training_step(self, task: LayerwiseTask, chunk: Chunk, epoch: int) -> tuple[Tensor, Tensor]:
        """Takes a step of all W², or visits the batch at fixed weights once they are trained."""
        if not self._is_under_way(task, epoch):
            return task.data_term(chunk)
        weights = [weight.detach().requires_grad_() for weight in self.trained(task)]
        scores = list(block_scores(task, chunk.stream, weights))
        losses = [task.objective.loss(each, chunk.labels) for each in (scores if self.every_block else scores[-1:])]
        terms = torch.stack(losses).mean(0).sum((0, 1)) / task.objective.n_pairs
        gradients = torch.stack(torch.autograd.grad(terms.sum(), weights))
        self._take_step(task, task.reduce(gradients.clone()) * task.trainer.num_training_batches)
        return terms.detach(), gradients[0]

    def _take_step(self, task: LayerwiseTask, gradients: Tensor) -> None:
        penalty, optimizer = task.objective.regularization[:, None], task.optimizers()
        for weight, gradient in zip(self.trained(task), gradients, strict=True):
            weight.grad = gradient + penalty * weight.detach()
        optimizer.step()  # type: ignore[union-attr]
        for weight in self.trained(task):
            weight.grad = None

    def certify(self, task: LayerwiseTask, sums: EpochSums, epoch: int) -> Certificate | None:
        """The certificate of a block, at the epoch of its own."""
        return None if self._is_under_way(task, epoch) else super().certify(task, sums, epoch)

    def step(self, task: LayerwiseTask, sums: EpochSums, epoch: int) -> None:
        """Ends a joint epoch."""
        if self._scheduler is not None:
            self._scheduler.step()

    def _is_under_way(self, task: LayerwiseTask, epoch: int) -> bool:
        return task.block == 0 and epoch < self.epochs


def block_scores(task: LayerwiseTask, stream: Tensor, weights: list[Tensor]) -> Iterator[Tensor]:
    """The scores [B, |G|, n] after each block, of Γ_0 [B, |G|, d+n], with gradients in the weights [n, q+1]."""
    for index, weight in enumerate(weights):
        stream = task.net.add_scores(stream, readout(task.net.features(stream, index), weight))
        yield task.net.scores(stream)
