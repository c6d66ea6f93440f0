"""The exact solver: squared loss by one factorisation of the Gram matrix, one regularisation per label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from hierlit.losses import MarginLoss
from hierlit.solvers.base import Certificate, Solver

if TYPE_CHECKING:
    from hierlit.task import LayerwiseTask

ALPHAS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


class ExactSolver(Solver):
    """Solves F_k for the squared loss: one epoch for the gradient at zero, one to certify the minimum.

    The Gram matrix G of the centred features is factorised once; the gradient at A = 0 is minus their covariance with
    the residuals, so that A = −g(G + λ)⁻¹, label by label with a λ_j of its own. λ_j is the candidate of least
    generalised cross-validation score (Golub, Heath and Wahba 1979), which the same sums give. Where labels are
    missing the Gram matrix only bounds the curvature, and more such steps follow until the tolerance is reached.

    Args:
        alphas: Candidates for λ_j, as multiples of the mean diagonal of G, raised to what the weights' precision can
            resolve beside the largest eigenvalue; the task's `regularization` for every label when empty.

    Raises:
        ValueError: If an alpha is not positive; by `check`, if the loss is not squared.
    """

    min_epochs = 2

    def __init__(self, alphas: list[float] | None = None) -> None:
        self.alphas = list(ALPHAS) if alphas is None else alphas
        if any(not alpha > 0 for alpha in self.alphas):
            raise ValueError(f"alphas must all be positive, got {self.alphas}")

    def check(self, loss: MarginLoss) -> None:
        """Refuses a loss whose minimum has no closed form."""
        if not loss.is_squared:
            raise ValueError(
                f"solver ExactSolver needs the loss SquaredLoss, got {loss}; for others use GradientSolver"
            )

    def configure_optimizers(self, task: LayerwiseTask) -> Optimizer:
        """A plain unit step: `step` puts the whole way to the minimum in the gradient's place."""
        return torch.optim.SGD([task.active], lr=1.0)

    def start_block(self, task: LayerwiseTask) -> None:
        """Factorises the block's Gram matrix."""
        self._eigenvalues, self._vectors = torch.linalg.eigh(task.objective.gram.double())
        self._eigenvalues = self._eigenvalues.clamp(min=0)

    def certify(self, task: LayerwiseTask, objective: Tensor, epoch: int) -> Certificate | None:
        """The certificate; before the first step, also chooses each label's regularisation."""
        if epoch == 0 and self.alphas:
            certificate = super().certify(task, objective, epoch)
            assert task.active.grad is not None
            task.objective.regularization = self._choose(task.active.grad.double(), 2 * objective.double(), task)
            return certificate
        return super().certify(task, objective, epoch)

    def step(self, task: LayerwiseTask, epoch: int) -> None:
        """Goes to the minimum of the quadratic."""
        gradient, regularization = task.active.grad, task.objective.regularization.double()
        assert gradient is not None
        rotated = gradient[:, :-1].double() @ self._vectors
        slopes = (rotated / (self._eigenvalues + regularization[:, None])) @ self._vectors.T
        intercept = gradient[:, -1:].double() / (1 + regularization[:, None])
        task.active.grad = torch.cat([slopes, intercept], 1).to(task.active.dtype)
        optimizer: Any = task.optimizers()
        optimizer.step()
        task.active.grad = None

    def _choose(self, gradient: Tensor, power: Tensor, task: LayerwiseTask) -> Tensor:
        """λ_j [n] of least GCV score, from the gradient at zero [n, q+1] and the residuals' mean squares [n]."""
        explained = (gradient[:, :-1] @ self._vectors).square()
        n_pairs, scores = task.objective.n_pairs, []
        resolution = torch.finfo(task.active.dtype).eps * self._eigenvalues[-1].clamp(min=1)
        candidates = (torch.tensor(self.alphas).to(gradient) * self._eigenvalues.mean()).clamp(min=resolution)
        for candidate in candidates:
            shrunk = self._eigenvalues + candidate
            # a label's residual power after the fit: Σ_i r_i² (s_i + 2λ)/(s_i + λ)² leaves the power before
            fitted = (explained * (self._eigenvalues + 2 * candidate) / shrunk.square()).sum(1)
            left = (power - gradient[:, -1].square() - fitted).clamp(min=0)
            freedom = 1 + (self._eigenvalues / shrunk).sum()
            scores.append(left / F.relu(1 - freedom / n_pairs).clamp(min=1e-9).square())
        chosen: Tensor = candidates[torch.stack(scores).argmin(0)]
        return chosen.to(task.active.dtype)
