"""Ridge regression by the Gram matrix of the rows, and what it predicts of rows that it was not fitted to."""

import torch
from torch import Tensor

LEAST_DIAGONAL = 1e-4
"""Of a kernel that is 1 at its centre: rows that are all alike leave nothing to divide by."""
REFINEMENTS, ENOUGH = 3, 1e-6
"""Most steps of refinement, and the suboptimality, relative to the minimum at A = 0, that needs no further one."""
ROWS_AT_ONCE = 1024


def penalty_of(gram: Tensor, alpha: float) -> float:
    """λ of an alpha in units of the mean diagonal of K [m, m]."""
    return alpha * max(float(gram.diagonal().mean()), LEAST_DIAGONAL)


def factorise(gram: Tensor, penalty: float) -> tuple[Tensor, float]:
    """The Cholesky factor of K + λ, and λ: ten times what was asked for while rounding leaves K + λ indefinite."""
    shifted = gram.clone()
    shifted.diagonal().add_(penalty)
    factor, failed = torch.linalg.cholesky_ex(shifted)
    if failed and not shifted.isfinite().all():
        raise FloatingPointError("the features are not finite: check the size of the inputs")
    return factorise(gram, 10 * penalty) if failed else (factor, penalty)


def held_out(gram: Tensor, residual: Tensor, held: Tensor, alpha: float) -> Tensor:
    """What a fit to the other rows predicts of those held, [h, n].

    Args:
        gram: K [m, m].
        residual: R [m, n], what is regressed.
        held: Which rows [m] are held out.
        alpha: λ, as for `FoldRidge`.
    """
    factor, _ = factorise(gram[~held][:, ~held], penalty_of(gram, alpha))
    return gram[held][:, ~held] @ torch.cholesky_solve(residual[~held], factor)


class FoldRidge:
    """The minimiser of ‖R − ΦA‖² + λ‖A‖² by K = ΦΦᵀ: A = Φᵀ(K + λ)⁻¹R, for any R.

    Args:
        gram: K [m, m].
        alpha: λ, in units of the mean diagonal of K; ten times as much while rounding leaves K + λ indefinite.

    Attributes:
        penalty: λ.
        inverse: (K + λ)⁻¹ [m, m].
    """

    def __init__(self, gram: Tensor, alpha: float) -> None:
        self.gram = gram
        factor, self.penalty = factorise(gram, penalty_of(gram, alpha))
        self.inverse = torch.cholesky_inverse(factor)

    def solve(self, residual: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The duals a = (K + λ)⁻¹R [m, n], refined by errors in float64, and of each column ‖A‖² and ‖gradient/2‖ [n].

        The gradient is by A, Φᵀ(λa − (R − Ka)): of the length that the error R − (K + λ)a has in K.

        Args:
            residual: R [m, n], what is regressed.
        """
        duals = self.inverse @ residual
        enough = ENOUGH * self.penalty * float(residual.double().square().sum())
        for refinement in range(REFINEMENTS + 1):
            error = self._error(residual, duals)
            squared = (error * (self.gram @ error)).double().sum(0).clamp(min=0)
            if float(squared.sum()) <= enough or refinement == REFINEMENTS:
                break
            duals += self.inverse @ error
        norm = (duals.double() * (residual - self.penalty * duals - error).double()).sum(0)
        return duals, norm, squared.sqrt()

    def _error(self, residual: Tensor, duals: Tensor) -> Tensor:
        rows = zip(residual.split(ROWS_AT_ONCE), self.gram.split(ROWS_AT_ONCE), duals.split(ROWS_AT_ONCE), strict=True)  # type: ignore[no-untyped-call]
        exact = duals.double()
        return torch.cat(
            [(wanted - gram.double() @ exact - self.penalty * own).to(residual) for wanted, gram, own in rows]
        )

    def left_out(
        self, residual: Tensor, folds: Tensor, without: int | None = None, wanted: Tensor | None = None
    ) -> Tensor:
        """What fits to the other folds predict of each row, [m, n].

        Each is what a fit without the fold would give, not an approximation: with E the rows left out and a = (K +
        λ)⁻¹R, it is R_E − ((K + λ)⁻¹_EE)⁻¹ a_E.

        Args:
            residual: R [m, n], what is regressed.
            folds: Of each row, [m].
            without: A fold that no fit may use either.
            wanted: Rows [m] that predictions are made of, by whole folds; others get zeros. All when None.
        """
        duals, predicted = self.inverse @ residual, torch.zeros_like(residual)
        for fold in (folds if wanted is None else folds[wanted]).unique().tolist():  # type: ignore[no-untyped-call]
            out = ((folds == fold) | (folds == without)) if without is not None else folds == fold
            rows = out.nonzero()[:, 0]
            inner = torch.linalg.solve(self.inverse[rows][:, rows], duals[rows])
            of_fold = folds[rows] == fold
            predicted[rows[of_fold]] = (residual[rows] - inner)[of_fold]
        return predicted
