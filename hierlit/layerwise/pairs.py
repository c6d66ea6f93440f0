"""All pairs of a block on each process, and their products: for kernel machines with a unit around each pair."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierlit.layerwise.gather import drawn_pairs
from hierlit.layerwise.moments import check_finite
from hierlit.models.radial_units import DualUnits

if TYPE_CHECKING:
    from hierlit.layerwise.chunk import Chunk
    from hierlit.layerwise.problem import BlockProblem
    from hierlit.layerwise.unobserved import LabelLoss


COLUMNS = 1024
"""Columns of the products that are at work at a time, where they are made float64."""


@dataclass(frozen=True)
class Pairs:
    """Pairs (row, location) of all processes that are fitted, as a block of `DualUnits` sees them.

    Attributes:
        gram: Products of their white features, the constant one among these, over their number P, [P, P].
        scores: Scores before the block, [P, n].
        labels: Labels in {−1, 0, 1}, [P, n].
        units: The unit of each, [P].
        folds: The fold of each, [P]; None where rows have none.
        n_units: Units q; as many as pairs unless a fold is left out.
    """

    gram: Tensor
    scores: Tensor
    labels: Tensor
    units: Tensor
    folds: Tensor | None
    n_units: int

    def without(self, fold: int) -> Pairs:
        """Return those that are not of a fold."""
        assert self.folds is not None
        left = (self.folds != fold).nonzero()[:, 0]
        gram = self.gram.index_select(0, left).index_select(1, left).mul_(len(self.gram) / len(left))
        folds = self.folds[left]
        return replace(
            self, gram=gram, scores=self.scores[left], labels=self.labels[left], units=self.units[left], folds=folds
        )

    def residual(self, loss: LabelLoss) -> tuple[Tensor, Tensor]:
        """Return the residuals y − ŷ before the block, [P, n], and their weights, of `LabelLoss.targets`, [P, n]."""
        targets, weights = loss.targets(self.labels)
        return targets - self.scores, weights

    def weight(self, duals: Tensor) -> Tensor:
        """Return the weight [n, q+1] that combines the pairs' white features by coefficients [n, P]."""
        weight = duals.new_zeros(len(duals), self.n_units + 1)
        weight[:, self.units], weight[:, -1] = duals, duals.sum(1)
        return weight

    def products(self, weight: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Return the products [n, P] of a weight [n, q+1] with the pairs' white features, in a dtype or their own."""
        duals = weight[:, self.units].to(dtype or self.gram.dtype)
        parts = [duals @ columns.to(duals) for columns in torch.split(self.gram, COLUMNS, dim=1)]
        return torch.cat(parts, 1).mul_(len(self.gram))

    def metric(self, weight: Tensor) -> Tensor:
        """Return what a weight is multiplied by for its squared norm, and for products with others, [n, q+1]."""
        products = weight.new_zeros(weight.shape)
        products[:, self.units] = self.products(weight).to(weight)
        return products

    def evaluate(self, loss: LabelLoss, weight: Tensor, penalty: Tensor) -> tuple[Tensor, Tensor]:
        """Return F_k [n] at a weight [n, q+1], and the gradient [n, q+1] of its data terms, a combination too.

        Scores are summed in float64: coefficients of pairs that are alike, but not in their labels, are large.
        """
        changes = self.products(weight, torch.float64)
        size = (changes * weight[:, self.units]).sum(1)
        scores = changes.T + self.scores
        terms, rise = loss(scores, self.labels).mean(0), loss.derivative(scores, self.labels)
        return terms + penalty.double() / 2 * size, self.weight(rise.T / len(scores))


@torch.no_grad()
def take_pairs(problem: BlockProblem) -> Pairs:
    """Return the pairs of a block of `DualUnits` that are placed, in the order of their units.

    Raises:
        FloatingPointError: If a product is not finite.
    """
    features, net = problem.block.features, problem.rows.net
    assert isinstance(features, DualUnits)
    number = features.n_features

    def labelled(chunk: Chunk, rows: Tensor) -> Tensor:
        parts = (net.scores(chunk.stream[rows]), chunk.labels[rows])
        return torch.cat([problem.block.of_labels(part) for part in parts], -1)

    def folded(chunk: Chunk, rows: Tensor) -> Tensor:
        assert chunk.folds is not None
        return chunk.folds[rows, None].expand(-1, net.n_locations)

    scores, labels = torch.split(drawn_pairs(problem, number, labelled), problem.n_labels, dim=1)
    folds = None if problem.rows.folds is None else drawn_pairs(problem, number, folded)
    gram = features.products().add_(1).div_(number)
    check_finite(problem, gram)
    return Pairs(gram, scores, labels, torch.arange(number, device=gram.device), folds, number)
