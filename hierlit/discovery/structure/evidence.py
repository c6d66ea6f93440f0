"""Evidence for implications beyond the rows that they were found in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierlit.discovery.structure.columns import Floats, LabelColumns, Places
from hierlit.discovery.structure.counts import PairCounts
from hierlit.discovery.structure.implications import find_implications
from hierlit.discovery.structure.options import StructureOptions


@dataclass(frozen=True)
class Evidence:
    """What resamples of the examples say of edges [E].

    Attributes:
        frequency: Share of the resamples in which each is found.
        support: Rows that a resample left out, where the child is 1 and the parent observed; over the resamples that
            found the edge.
        exceptions: Those of them where the parent is −1.
        base_rate: Share of the rows left out where the parent is 1.
    """

    frequency: Floats
    support: Places
    exceptions: Places
    base_rate: Floats

    @property
    def effect(self) -> Floats:
        """How much more often the parent is 1 in rows left out where the child is; NaN without such rows."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(1 - self.exceptions / self.support - self.base_rate)


def resample(columns: LabelColumns, child: Places, parent: Places, options: StructureOptions) -> Evidence:
    """Look for edges in resamples of the examples, and at each in the examples that its resample left out.

    Args:
        columns: The labels.
        child: [E], of the edges in question.
        parent: [E].
        options: How to search.
    """
    draws = np.random.default_rng(options.seed)
    found, support, wrong = (np.zeros(len(child), dtype=np.int64) for _ in range(3))
    of_parent, observed = np.zeros(len(child)), np.zeros(len(child))
    for _ in range(options.resamples):
        sample, rest = columns.resampled(draws)
        sampled = PairCounts(sample, options.margins)
        edges = find_implications(sampled, options.exceptions, options.rate).edges()
        own = np.array([pair in edges for pair in zip(parent.tolist(), child.tolist(), strict=True)], dtype=bool)
        counts = PairCounts(rest)
        seen = counts.support(child[own], parent[own])
        found[own] += 1
        support[own] += seen
        wrong[own] += seen - counts.shared(child[own], parent[own])
        of_parent += counts.positives[parent]
        observed += counts.positives[parent] + counts.negatives[parent]
    return Evidence(found / max(1, options.resamples), support, wrong, of_parent / np.maximum(observed, 1))
