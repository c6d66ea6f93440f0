"""Ridge regression by the Gram matrix of the rows, and what it predicts of rows that it was not fitted to."""

from collections.abc import Callable

import torch
from torch import Tensor

SLAB = 1024
"""Features computed at a time, of all rows."""
Slabs = Callable[[int, int], Tensor]
"""Features number first to last − 1 of all rows, [rows, last − first], not centred."""


def row_gram(slabs: Slabs, n_rows: int, n_features: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """K = ΦΦᵀ [rows, rows] of centred features Φ, and the means [q] that centre them, of the dtype of `like`."""
    gram, means = like.new_zeros(n_rows, n_rows), like.new_empty(n_features)
    step = -(-n_rows // 4)
    for first in range(0, n_features, SLAB):
        last = min(first + SLAB, n_features)
        seen = slabs(first, last)
        means[first:last] = seen.mean(0)
        seen = seen - means[first:last]
        for top in range(0, n_rows, step):  # what is above the diagonal need not be computed
            gram[top : top + step, : top + step].addmm_(seen[top : top + step], seen[: top + step].T)
    return gram.tril() + gram.tril(-1).T, means


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
        self.penalty = alpha * max(float(gram.diagonal().mean()), torch.finfo(gram.dtype).tiny)
        shifted = gram.clone()
        shifted.diagonal().add_(self.penalty)
        factor, failed = torch.linalg.cholesky_ex(shifted)
        if failed and not shifted.isfinite().all():
            raise FloatingPointError("the features are not finite: check the size of the inputs")
        if failed:
            self.__init__(gram, 10 * alpha)  # type: ignore[misc]
            return
        self.inverse = torch.cholesky_inverse(factor)

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
