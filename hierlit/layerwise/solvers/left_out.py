"""Ridge regression by the Gram matrix of the rows, and what it predicts of rows that it was not fitted to."""

import torch
from torch import Tensor


class LeftOut:
    """Fits of R [m, n] by K = ΦΦᵀ with the penalty λ‖A‖², and what they predict of rows that they leave out.

    Each prediction is what a fit without those rows gives, not an approximation: with C = (K + λ)⁻¹, E the rows left
    out and a = CR, it is R_E − (C_EE)⁻¹ a_E.

    Args:
        gram: K [m, m].
        penalty: λ; ten times as much while rounding leaves K + λ indefinite.
    """

    def __init__(self, gram: Tensor, penalty: float) -> None:
        factor = factorise(gram, penalty)
        eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        # C = BᵀB; only blocks of C are needed
        self.root = torch.linalg.solve_triangular(factor, eye, upper=False)

    def __call__(self, residual: Tensor, folds: Tensor, without: int | None = None) -> Tensor:
        """Return what fits to the other folds predict of each row, [m, n].

        Args:
            residual: R.
            folds: The fold of each row, [m].
            without: A fold that no fit may use either.
        """
        duals, predicted = self.root.T @ (self.root @ residual), torch.zeros_like(residual)
        for fold in folds.unique().tolist():  # type: ignore[no-untyped-call]
            out = folds == fold if without is None else (folds == fold) | (folds == without)
            rows = out.nonzero()[:, 0]
            own = self.root[:, rows]
            inner = torch.linalg.solve(own.T @ own, duals[rows])
            of_fold = folds[rows] == fold
            predicted[rows[of_fold]] = (residual[rows] - inner)[of_fold]
        return predicted


def held_out(gram: Tensor, residual: Tensor, held: Tensor, penalty: float) -> Tensor:
    """Return what a fit to the other rows predicts of those held [m], [h, n]; see `LeftOut`."""
    factor = factorise(gram[~held][:, ~held], penalty)
    return gram[held][:, ~held] @ torch.cholesky_solve(residual[~held], factor)


def factorise(gram: Tensor, penalty: float) -> Tensor:
    """Return the Cholesky factor of K + λ, of ten times λ while rounding leaves that indefinite."""
    shifted = gram.clone()
    shifted.diagonal().add_(penalty)
    factor, failed = torch.linalg.cholesky_ex(shifted)
    if failed and not shifted.isfinite().all():
        raise FloatingPointError("the features are not finite: check the size of the inputs")
    return factorise(gram, 10 * penalty) if failed else factor
