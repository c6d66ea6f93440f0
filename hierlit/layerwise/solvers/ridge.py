"""Ridge regression on sums over rows: a path of regularisations, each one Cholesky factorisation."""

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

ALPHAS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
POWER_STEPS = 30
RESOLUTION = {torch.float32: 1.2e-6, torch.float64: 1e-5}
"""Least λ by the weights' precision, in units of the largest eigenvalue of G. Sums of float32 products leave G as
uncertain as the first; above the second, float64 weights agree to nine digits whatever the order of summation."""


class RidgePath:
    """Minimisers of ½A G Aᵀ − A Cᵀ + (λ/2)‖A‖² for several λ, row by row.

    Args:
        gram: G [p, p], a Gram matrix whose last feature is the constant, in the precision of all that follows.
        cross: C [n, p].
        penalties: Candidates for λ.

    Attributes:
        penalties: λ [A], in descending order; ten times what was asked for where rounding left G + λ indefinite.
    """

    def __init__(self, gram: Tensor, cross: Tensor, penalties: Sequence[float]) -> None:
        self.gram, self.cross = gram, cross.to(gram)
        self.factors: list[Tensor] = []
        shifted = gram.clone()
        made = [self._factorise(penalty, shifted) for penalty in sorted(set(penalties), reverse=True)]
        self.penalties = torch.tensor(made, dtype=gram.dtype, device=gram.device)

    @cached_property
    def weights(self) -> Tensor:
        """The minimisers [A, n, p]."""
        return torch.stack([torch.cholesky_solve(self.cross.T, factor).T for factor in self.factors])

    @classmethod
    def of_alphas(cls, gram: Tensor, cross: Tensor, alphas: Sequence[float], resolution: float) -> "RidgePath":
        """Return the path of the λ of `penalties_of`."""
        return cls(gram, cross, penalties_of(gram, alphas, resolution))

    def _factorise(self, penalty: float, shifted: Tensor) -> float:
        """Keep the Cholesky factor of G + λ, of ten times λ while rounding has left it indefinite; return λ.

        Args:
            penalty: λ.
            shifted: G, up to its diagonal, to write G + λ to.
        """
        if not math.isfinite(penalty):
            raise FloatingPointError("the Gram matrix is not finite: check the size of the inputs")
        shifted.diagonal().copy_(self.gram.diagonal() + penalty)
        factor, failed = torch.linalg.cholesky_ex(shifted)
        if failed:
            return self._factorise(10 * penalty, shifted)
        self.factors.append(factor)
        return penalty

    def gcv(self, power: Tensor, n_pairs: int) -> Tensor:
        """Generalised cross-validation scores [A, n] (Golub, Heath and Wahba 1979), lower is better.

        Args:
            power: Mean squares [n] of what is regressed.
            n_pairs: Number of rows.
        """
        eigenvalues = torch.linalg.eigvalsh(self.gram)
        freedom = (eigenvalues / (eigenvalues + self.penalties[:, None])).sum(1, keepdim=True)
        scores: Tensor = self.residual(power) / (1 - freedom / n_pairs).clamp(min=1e-9).square()
        return scores

    def residual(self, power: Tensor) -> Tensor:
        """Mean squares [A, n] that are left on the rows fitted, of mean squares [n] of what is regressed."""
        left = [
            power - 2 * (weights * self.cross).sum(1) + ((weights @ self.gram) * weights).sum(1)
            for weights in self.weights
        ]
        return torch.stack(left).clamp(min=0)

    def minimisers(self, index: Tensor) -> Tensor:
        """Return the minimisers [n, p], row j with the penalty number `index[j]`."""
        return self.solve(self.cross, index)

    def solve(self, gradient: Tensor, index: Tensor) -> Tensor:
        """g(G + λ)⁻¹ [n, p] of gradients g [n, p], row j with the penalty number `index[j]`."""
        solved = torch.empty_like(gradient, dtype=self.gram.dtype)
        for number in sorted(set(index.tolist())):
            rows = index == number
            solved[rows] = torch.cholesky_solve(gradient[rows].to(self.gram).T, self.factors[number]).T
        return solved


def penalties_of(gram: Tensor, alphas: Sequence[float], resolution: float) -> list[float]:
    """Return λ as multiples of the mean diagonal of a Gram matrix without the constant, one for each multiple.

    Args:
        gram: G.
        alphas: The multiples; each λ is raised to what `resolution` leaves.
        resolution: Least λ, in units of the largest eigenvalue of G.
    """
    mean_diagonal = max(float(gram.diagonal()[:-1].mean()), torch.finfo(gram.dtype).tiny)
    floor = resolution * max(1.0, largest_eigenvalue(gram))
    return [max(alpha * mean_diagonal, floor) for alpha in alphas]


def largest_eigenvalue(gram: Tensor) -> float:
    """Return the largest eigenvalue of a Gram matrix to a few per cent, by power steps from a fixed random vector."""
    vector = torch.randn(len(gram), generator=torch.Generator().manual_seed(0), dtype=gram.dtype).to(gram.device)
    for _ in range(POWER_STEPS):
        vector = gram @ (vector / vector.norm().clamp(min=torch.finfo(gram.dtype).tiny))
    return float(vector.norm())
