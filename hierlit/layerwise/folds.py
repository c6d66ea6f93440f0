"""Folds of the rows, for cross-fitting: rows advance with the scores of fits that left them out (ours)."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hierlit.draws import Draws
from hierlit.models.resnet import readout


@dataclass(frozen=True)
class Folds:
    """Folds of the training rows, drawn at random, whatever the number of processes.

    A block's scores are better on the rows that it was fitted to than on others, and a later block would trust them too
    much. With folds, a row that is fitted advances with the scores of a fit to the other folds, any other row with
    those of the fit to all.

    Args:
        number: Folds K, 2 or more.
        n_rows: Rows of the training table.
        seed: Seed of the draw.
    """

    number: int
    n_rows: int
    seed: int = 0

    def of(self, rows: Tensor) -> Tensor:
        """Return the fold of each of some rows of the training table, [B]."""
        return self._of_all[rows.cpu()]

    @cached_property
    def _of_all(self) -> Tensor:
        return torch.from_numpy(Draws(self.seed, "folds").permutation(self.n_rows)) % self.number


def readout_by_fold(features: Tensor, weights: Tensor, folds: Tensor) -> Tensor:
    """Scores [P, n] of features [P, q], each pair's under the weight of its fold, of [K, n, q+1]."""
    scores = features.new_empty(len(features), weights.shape[1], dtype=weights.dtype)
    for fold, weight in enumerate(weights):
        rows = (folds == fold).nonzero()[:, 0]
        scores[rows] = readout(features[rows], weight)
    return scores
