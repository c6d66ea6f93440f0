"""Which labels imply which: found among training labels, never told (ours)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

from hierlit.layerwise.solvers.choice import HELD

if TYPE_CHECKING:
    from hierlit.layerwise.problem import BlockProblem

CHANCE = 0.01
"""Implications of a label that chance may be expected to make, if labels were independent."""


class Counts(NamedTuple):
    """Pairs (row, location), by labels i and j.

    Attributes:
        both: Those where i and j are 1, [n, n].
        broken: Those where i is 1 and j is −1, [n, n].
        seen: Those where j is observed, [n].
    """

    both: Tensor
    broken: Tensor
    seen: Tensor

    @classmethod
    def of(cls, labels: Tensor) -> Counts:
        """Count labels [N, |G|, n] in {−1, 0, 1}."""
        labels = labels.flatten(0, 1)
        positive = (labels > 0).float()
        broken = (positive.T @ (labels < 0).float()).int()
        return cls((positive.T @ positive).int(), broken, (labels != 0).sum(0).int())

    def add(self, other: Counts) -> Counts:
        """Return the counts of both sets of pairs; these are changed."""
        return Counts(*(mine.add_(theirs) for mine, theirs in zip(self, other, strict=True)))


@torch.no_grad()
def count(problem: BlockProblem, labels: Tensor) -> tuple[Counts, Counts]:
    """Count some labels [m] of the rows of all processes that are fitted: of fold `HELD`, and of all others."""
    labels = labels.to(problem.penalty.device)
    nothing = problem.penalty.new_zeros(0, 1, len(labels))
    held, others = Counts.of(nothing), Counts.of(nothing)
    for chunk in problem.chunks("fit"):
        own = chunk.labels[..., labels.to(chunk.labels.device)]
        is_held = torch.zeros(len(own)) if chunk.folds is None else chunk.folds == HELD
        for counts, value in ((held, 1), (others, 0)):
            counts.add(Counts.of(own[is_held.to(own.device) == value]))
    for tensor in (*held, *others):
        problem.processes.sum(tensor)
    return held, others


def implications(counts: Counts) -> Tensor:
    """Return the pairs of labels (i, j), [2, e], where j is 1 wherever i is, itself or by way of others.

    There is no exception, and more rows than chance would give: were j independent of i, all rows that have i would
    have j with a probability of `CHANCE` / n at most. Where labels are missing, j may imply what rows with i are known
    not to have; then i is not taken to imply j.
    """
    rate = counts.both.diagonal() / counts.seen.clamp(min=1)
    by_chance = counts.both * rate.log().clamp(min=-1e6)  # both 0 and rate 0 is 0
    found = ((counts.broken == 0) & (by_chance < math.log(CHANCE / len(rate)))).cpu().numpy()
    contradicted = closure(found) @ (counts.broken > 0).cpu().numpy().T
    pairs = torch.from_numpy(np.stack(closure(found & ~contradicted.T).nonzero())).long()
    return pairs[:, pairs[0] != pairs[1]]


def closure(links: NDArray[np.bool_]) -> csr_matrix:
    """Return which labels are reached from which by way of links [n, n]."""
    reached = csr_matrix(links)
    while (further := (reached + reached @ reached).astype(bool)).nnz > reached.nnz:
        reached = further
    return reached
