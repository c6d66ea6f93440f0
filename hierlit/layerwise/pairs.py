"""All pairs of a block on each process, and their products: for blocks with no more pairs than features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierlit.layerwise.moments import add_product, check_finite, mirror

if TYPE_CHECKING:
    from hierlit.layerwise.problem import BlockProblem


@dataclass(frozen=True)
class Pairs:
    """Pairs (row, location) of all processes, as a block sees them.

    Attributes:
        features: Features, the constant one last, [P, q+1].
        products: Their products with each other, [P, P].
        residual: Residuals y − ŷ (weighted by `LabelLoss.targets`), [P, n].
        folds: The fold of each, [P]; None where rows have none.
    """

    features: Tensor
    products: Tensor
    residual: Tensor
    folds: Tensor | None

    def without(self, fold: int) -> Pairs:
        """Return those that are not of a fold."""
        assert self.folds is not None
        left = (self.folds != fold).nonzero()[:, 0]
        products = self.products.index_select(0, left).index_select(1, left)
        return Pairs(self.features[left], products, self.residual[left], self.folds[left])


@torch.no_grad()
def take_pairs(problem: BlockProblem) -> Pairs:
    """Return the pairs of a calibrated block's rows.

    Raises:
        FloatingPointError: If a feature is not finite.
    """
    width, n_labels = problem.block.features.n_features, problem.n_labels
    own = torch.tensor(sum(problem.rows.n_pairs(problem.n_chunks)), device=problem.penalty.device)
    sizes = problem.processes.all_gather(own)
    first = int(sizes[: problem.processes.rank].sum())
    values = problem.penalty.new_zeros(problem.n_pairs, width + 1 + n_labels + 1)
    for tile in problem.tiles():
        targets, weights = problem.loss.targets(tile.labels)
        part = values[first : first + len(targets)]
        part[:, :width], part[:, width] = tile.features, 1.0
        part[:, width + 1 : -1] = (targets - tile.scores) * weights
        if tile.folds is not None:
            part[:, -1] = tile.folds
        first += len(targets)
    features, residual, folds = torch.split(problem.processes.sum(values), [width + 1, n_labels, 1], dim=1)
    products = values.new_zeros(len(values), len(values))
    add_product(products, features.T)
    check_finite(problem, products)
    mirror(products)
    return Pairs(features, products, residual, None if problem.rows.folds is None else folds[:, 0])
