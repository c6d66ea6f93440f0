"""Folds of the rows, for cross-fitting: rows advance with the scores of fits that left them out (ours)."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hierlit.draws import Draws
from hierlit.models.block import readout

MOST_ROWS = 20_000
"""Rows that are dealt out label by label; where there are more, chance deals them out well enough."""
MOST_CELLS = 2**22
"""Rows times labels that are looked at for it, those of the rarest labels."""


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
        labels: Labels of these rows [rows, |G|, n] in {−1, 0, 1}, to give each fold its share of the rarer sign of the
            rarest labels that have a row for each fold, as many as `MOST_CELLS` allows (iterative stratification,
            Sechidis et al., ECML 2011); at random when None, or beyond `MOST_ROWS`.
    """

    number: int
    n_rows: int
    seed: int = 0
    labels: Tensor | None = field(default=None, repr=False, compare=False)

    def of(self, rows: Tensor) -> Tensor:
        """Return the fold of each of some rows of the training table, [B]."""
        return self._of_all[rows.cpu()]

    @cached_property
    def _of_all(self) -> Tensor:
        order = torch.from_numpy(Draws(self.seed, "folds").permutation(self.n_rows))
        folds = order % self.number
        if self.labels is None or self.n_rows > MOST_ROWS:
            return folds
        rare = rarer_signs(self.labels.cpu(), self.number)
        if rare.shape[1]:
            folds[order] = self._stratified(rare[order])
        return folds

    def _stratified(self, signs: Tensor) -> Tensor:
        """Folds [rows] of which each has its share of each column of `signs`, boolean [rows, columns]."""
        from iterstrat.ml_stratifiers import IterativeStratification

        seed = int(Draws(self.seed, "ties of folds").integers(1, 2**32)[0])
        shares, random_state = np.full(self.number, 1 / self.number), np.random.RandomState(seed)
        return torch.from_numpy(IterativeStratification(signs.numpy(), shares, random_state))


def rarer_signs(labels: Tensor, least: int) -> Tensor:
    """Return where each label has the sign that fewer rows have, boolean [rows, columns], the rarest first.

    Labels whose rarer sign fewer than `least` rows have are left out: not every fold can have one.
    """
    positive, negative = (labels > 0).any(1), (labels < 0).any(1)
    rarer = positive.where(positive.sum(0) <= negative.sum(0), negative)
    counts, order = rarer.sum(0).sort(stable=True)
    return rarer[:, order[counts >= least][: MOST_CELLS // max(1, len(labels))]]


def readout_by_fold(features: Tensor, weights: Tensor, folds: Tensor) -> Tensor:
    """Scores [P, n] of features [P, q], each pair's under the weight of its fold, of [K, n, q+1]."""
    scores = features.new_empty(len(features), weights.shape[1], dtype=weights.dtype)
    for fold, weight in enumerate(weights):
        rows = (folds == fold).nonzero()[:, 0]
        scores[rows] = readout(features[rows], weight)
    return scores
