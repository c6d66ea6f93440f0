"""Ridge regression by the Gram matrix of the rows, and what it predicts of rows that it was not fitted to."""

from functools import cached_property

import torch
from torch import Tensor


class LeftOut:
    """A fit of R [m, n] by K = ΦΦᵀ with the penalty λ‖A‖², and what fits to a part of its rows predict of the others.

    Args:
        gram: K [m, m].
        penalty: λ; ten times as much while rounding leaves K + λ indefinite.
        residual: R.
    """

    def __init__(self, gram: Tensor, penalty: float, residual: Tensor) -> None:
        self.factor, self.residual = factorise(gram, penalty), residual

    @cached_property
    def duals(self) -> Tensor:
        """(K + λ)⁻¹R [m, n]."""
        return torch.cholesky_solve(self.residual, self.factor)

    def others(self, gram: Tensor) -> Tensor:
        """Predict other rows [h, n] by their products [h, m] with those fitted."""
        if len(gram) < self.residual.shape[1]:  # fewer rows than labels
            return torch.cholesky_solve(gram.T, self.factor).T @ self.residual
        return gram @ self.duals

    def by_fold(self, sizes: list[int]) -> Tensor:
        """Predict each row by a fit to the other folds, [m, n], where folds are so many rows one after another.

        Each is what a fit without the fold gives, not an approximation: with C = (K + λ)⁻¹, E the rows of the fold and
        a = CR, it is R_E − (C_EE)⁻¹ a_E.
        """
        predicted, first = [], 0
        for residual, duals in zip(torch.split(self.residual, sizes), torch.split(self.duals, sizes), strict=True):
            # C_EE = XᵀX, X the columns of the inverse factor, which is 0 above them
            below = self.factor[first:, first:]
            columns = torch.eye(len(below), len(residual), dtype=below.dtype, device=below.device)
            columns = torch.linalg.solve_triangular(below, columns, upper=False)
            predicted.append(residual - torch.linalg.solve(columns.T @ columns, duals))
            first += len(residual)
        return torch.cat(predicted)


def factorise(gram: Tensor, penalty: float) -> Tensor:
    """Return the Cholesky factor of K + λ, of ten times λ while rounding leaves that indefinite.

    Raises:
        FloatingPointError: If K is not finite.
    """
    shifted = gram.clone()
    shifted.diagonal().add_(penalty)
    factor, failed = torch.linalg.cholesky_ex(shifted)
    if failed and not shifted.isfinite().all():
        raise FloatingPointError("the features are not finite: check the size of the inputs")
    return factorise(gram, 10 * penalty) if failed else factor
