"""p-values over splits, false discovery rates and intervals."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom, false_discovery_control, wilcoxon
from torch import Tensor

Floats = NDArray[np.float64]


def centred(values: Tensor, seen: Tensor) -> Tensor:
    """Values [..., R, |G|, n] less their mean over what is seen, 0 elsewhere, divided by their norm."""
    count = seen.sum((-3, -2), keepdim=True).clamp(min=1)
    rest = (values - (values * seen).sum((-3, -2), keepdim=True) / count) * seen
    norm = rest.square().sum((-3, -2), keepdim=True).sqrt()
    return rest / norm.clamp(min=1e-12) * (norm > 1e-9)


def explained(scores: Tensor, labels: Tensor) -> Floats:
    """Share of each label's variance that scores explain: squared correlation [..., n], 0 where it is negative.

    Args:
        scores: [..., R, |G|, n].
        labels: [R, |G|, n] in {−1, 0, 1}; those not observed are left out.
    """
    scores, labels = scores.double(), labels.double()
    seen = (labels != 0).double()
    correlation = (centred(scores, seen) * centred(labels, seen)).sum((-3, -2))
    return np.asarray(correlation.clamp(min=0).square().numpy())


def permutation_p(
    scores: Tensor, labels: Tensor, n_permutations: int, seed: int, exists: Tensor | None = None
) -> Floats:
    """p-value [n] of each label being independent of its scores, by permuting held-out label rows.

    The statistic is the largest of the correlations with several models' scores, in the permutations too. It is exact:
    the models have not seen the rows. Where rows differ in their locations it is nearly so: in a permutation fewer
    locations have both scores and labels, so sums over rows are divided by the root of those of squares.

    Args:
        scores: [K, R, |G|, n] of K models.
        labels: [R, |G|, n] in {−1, 0, 1}.
        n_permutations: Of the rows, all locations of a row together.
        seed: Of the permutations.
        exists: Where rows have locations, 1, [R, |G|, 1]; everywhere when None.
    """
    seen, there = (labels != 0).to(scores), torch.ones_like(scores) if exists is None else exists.expand_as(scores)
    left, right = centred(scores, there), centred(labels.to(scores), seen)

    def largest(order: Tensor) -> Tensor:
        of_rows = (left * right[order]).sum(-2)
        found = of_rows.sum(-2)
        if not there.all():
            found = found / of_rows.square().sum(-2).sqrt().clamp(min=1e-12)
        return found.amax(0)

    generator = torch.Generator().manual_seed(seed)
    found = largest(torch.arange(len(labels)))
    as_large = torch.ones_like(found)
    for _ in range(n_permutations):
        as_large += largest(torch.randperm(len(labels), generator=generator)) >= found - 1e-9
    return np.asarray((as_large / (n_permutations + 1)).double().numpy())


def above_zero(values: Floats) -> float:
    """p-value of independent values [R] being as often so far above 0 as below, by Wilcoxon's signed ranks.

    What a parent tells may show in few rows, and then strongly: ranks count all the rows that it changes.
    """
    return float(wilcoxon(values, alternative="greater").pvalue) if np.any(values != 0) else 1.0


def over_splits(p: Floats) -> Floats:
    """Return one p-value of those [S, ...] of several splits, which depend on one another: twice their median."""
    return np.minimum(1.0, 2 * np.median(p, axis=0)) if len(p) > 1 else p[0]


def adjusted(p: Floats) -> Floats:
    """Benjamini–Hochberg: the false discovery rate at which each would be found."""
    return np.asarray(false_discovery_control(p, method="bh")) if p.size else p


def median_interval(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Medians over the first axis with the ends of their 95% intervals, which are order statistics.

    Five values' interval is from the least to the largest, and covers the median with probability 94%.
    """
    ordered, n = np.sort(values, axis=0), len(values)
    place = int(binom.ppf(0.025, n, 0.5)) if n > 5 else 0
    return np.median(values, axis=0), ordered[place], ordered[n - 1 - place]
