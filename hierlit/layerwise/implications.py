"""Which labels imply which: found among training labels, never told (ours)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from hierlit.layerwise.solvers.choice import HELD

if TYPE_CHECKING:
    from hierlit.layerwise.problem import BlockProblem

CHANCE = 0.01
"""Implications of a label that chance may be expected to make, if labels were independent."""


class Counts(NamedTuple):
    """Pairs (row, location) of all processes, by labels i and j.

    Attributes:
        both: Those where i and j are 1, [n, n].
        broken: Those where i is 1 and j is −1, [n, n].
        seen: Those where j is observed, [n].
    """

    both: Tensor
    broken: Tensor
    seen: Tensor

    def add(self, other: Counts) -> Counts:
        """Return the counts of both sets of pairs; these are changed."""
        return Counts(*(mine.add_(theirs) for mine, theirs in zip(self, other, strict=True)))


@torch.no_grad()
def count(problem: BlockProblem, in_held: bool) -> Counts:
    """Count labels of the rows that are fitted: of fold `HELD`, or of all others."""
    n = problem.rows.net.n_labels
    zeros = [torch.zeros(shape, dtype=torch.int32, device=problem.penalty.device) for shape in ((n, n), (n, n), (n,))]
    counts = Counts(*zeros)
    for chunk in problem.chunks("fit"):
        own = torch.zeros(len(chunk.labels)) if chunk.folds is None else chunk.folds == HELD
        labels = chunk.labels[own.to(chunk.labels.device) == in_held, :, :n].flatten(0, 1)
        positive, negative = ((sign * labels > 0).float() for sign in (1, -1))
        products = positive.T @ positive, positive.T @ negative, (labels != 0).sum(0)
        counts.add(Counts(*(product.to(torch.int32) for product in products)))
    return Counts(*map(problem.processes.sum, counts))


def implications(counts: Counts) -> Tensor:
    """Return the pairs of labels (i, j), [2, e], where j is 1 wherever i is, itself or by way of others.

    There is no exception, and more rows than chance would give: were j independent of i, all rows that have i would
    have j with a probability of `CHANCE` / n at most.
    """
    rate = counts.both.diagonal() / counts.seen.clamp(min=1)
    by_chance = counts.both * rate.log().clamp(min=-1e6)  # both 0 and rate 0 is 0
    found = (counts.broken == 0) & (by_chance < math.log(CHANCE / len(rate)))
    reached = csr_matrix(found.cpu().numpy())
    while (further := (reached + reached @ reached).astype(bool)).nnz > reached.nnz:
        reached = further
    pairs = torch.from_numpy(np.stack(reached.nonzero())).long()
    return pairs[:, pairs[0] != pairs[1]]
