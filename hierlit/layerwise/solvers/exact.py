"""The exact solver: one Cholesky factorisation of the Gram matrix a candidate, one regularisation per label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from hierlit.layerwise.moments import set_aside_errors
from hierlit.layerwise.solvers.accelerated import AcceleratedGradient
from hierlit.layerwise.solvers.base import EpochSums, Solver, take_step
from hierlit.layerwise.solvers.ridge import ALPHAS, RESOLUTION, RidgePath

if TYPE_CHECKING:
    from hierlit.training.task import LayerwiseTask

CHOICES = ("set_aside", "gcv")


class ExactSolver(Solver):
    """Solves F_k from sums taken in one pass over the rows, then certifies it in another.

    For the squared loss with every label observed the ridge solution is the minimum, and the first epoch shows it.
    For other losses, and where labels are missing, it is where the block starts, and ℓ''·G + λ, with G the Gram matrix
    of all rows, is above the Hessian everywhere: accelerated steps in that metric follow, one an epoch, to the
    tolerance. Each label has its own λ_j, chosen for the squared loss and multiplied by the bound on ℓ''.

    Args:
        alphas: Candidates for λ_j, as multiples of the mean diagonal of G, raised to `RESOLUTION`, below which weights
            would depend on the order of summation; the task's `regularization` for every label when empty.
        choice: `set_aside` takes the candidate of least squared error on the set-aside rows (of least GCV score for a
            label that none of them observes), `gcv` that of least generalised cross-validation score.

    Raises:
        ValueError: If an alpha is not positive, or `choice` is not one of those.
    """

    gram_dtype = torch.float64

    def __init__(self, alphas: list[float] | None = None, choice: str = "set_aside") -> None:
        self.alphas = list(ALPHAS) if alphas is None else alphas
        if any(not alpha > 0 for alpha in self.alphas):
            raise ValueError(f"alphas must all be positive, got {self.alphas}")
        if choice not in CHOICES:
            raise ValueError(f"choice must be one of {', '.join(CHOICES)}, got {choice!r}")
        self.choice, self.reads_set_aside_rows = choice, choice == "set_aside"

    def start_block(self, task: LayerwiseTask) -> None:
        """Goes to the ridge solution."""
        objective = task.objective
        curvature = objective.loss.curvature
        resolution = RESOLUTION[task.active.dtype]
        alphas: Sequence[float] = self.alphas
        if not alphas:
            mean_diagonal = float(task.moments.gram.diagonal()[:-1].mean())
            alphas, resolution = [float(objective.regularization[0]) / curvature / max(mean_diagonal, 1e-300)], 0.0
        self._path = RidgePath(task.moments.gram, task.moments.cross, alphas, resolution)
        self._start_at(task, self._choose(task, self._path))

    def _start_at(self, task: LayerwiseTask, chosen: Tensor) -> None:
        """Goes to the ridge solution of each label's candidate [n]."""
        self._chosen, labels = chosen, torch.arange(len(chosen), device=chosen.device)
        if self.alphas:
            penalties = task.objective.loss.curvature * self._path.penalties[chosen]
            task.objective.regularization = penalties.to(task.active.dtype)
        task.active.data.copy_(self._path.weights[chosen, labels])

    def state_dict(self) -> dict[str, Any]:
        """The candidates chosen."""
        return {"chosen": self._chosen}

    def load_state_dict(self, task: LayerwiseTask, state: dict[str, Any]) -> None:
        """Goes back to the candidates chosen, which rounding could have chosen otherwise on other processes."""
        self._start_at(task, state["chosen"].to(self._chosen))

    def configure_optimizers(self, task: LayerwiseTask) -> Optimizer:
        """Accelerated steps in the metric ℓ''·G + λ."""
        curvature = task.objective.loss.curvature

        def precondition(gradient: Tensor) -> Tensor:
            return self._path.solve(gradient / curvature, self._chosen).to(gradient.dtype)

        return AcceleratedGradient([task.active], 1.0, precondition=precondition)

    def step(self, task: LayerwiseTask, sums: EpochSums, epoch: int) -> None:
        """Takes a step with the full gradient."""
        take_step(task, sums.gradient)

    def _choose(self, task: LayerwiseTask, path: RidgePath) -> Tensor:
        """Each label's candidate [n]."""
        if self.choice == "set_aside":
            weights = path.weights.to(task.active.dtype)
            errors = set_aside_errors(task.net, task.block, task.streams, task.reduce, weights, task.loss)
            if (errors.observed > 0).all():
                return errors.after.argmin(0)
        by_gcv = path.gcv(task.moments.power, task.moments.n_pairs).argmin(0)
        return by_gcv if self.choice == "gcv" else errors.after.argmin(0).where(errors.observed > 0, by_gcv)
