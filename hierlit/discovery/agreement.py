"""How what was found agrees with a hierarchy that is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from hierlit.data.base import HierarchyDataModule
from hierlit.data.tables import LabelTable
from hierlit.estimator.probabilities import descendants

N_RESAMPLES = 1000


@dataclass(frozen=True)
class Hierarchy:
    """A hierarchy that is known; it is not shown to the search.

    Attributes:
        levels: [n], 0 for a label that belongs to none.
        parents: Labels that each label is a function of, or those right above it; None if unknown.
    """

    levels: list[int]
    parents: list[list[int]] | None

    @classmethod
    def of(cls, data: HierarchyDataModule) -> Hierarchy | None:
        """Return that of a data module: the true one, or the one that came with a table; None if there is none."""
        levels = data.fitted.depths if isinstance(data, LabelTable) and data.parents is not None else data.levels
        return None if levels is None else cls(list(levels), data.parent_labels)

    def edges(self, among: set[int]) -> set[tuple[int, int]]:
        """Pairs of parent and label, both among some labels."""
        pairs = {(parent, label) for label, parents in enumerate(self.parents or []) for parent in parents}
        return {pair for pair in pairs if among.issuperset(pair)}

    def lineages(self) -> set[tuple[int, int]]:
        """Pairs of ancestor and label."""
        n_labels = len(self.levels)
        below = descendants(sorted(self.edges(set(range(n_labels)))), n_labels)
        return {(above, label) for above, label in np.argwhere(below).tolist() if above != label}


@dataclass(frozen=True)
class Share:
    """A share of some cases, with its 95% interval (Wilson's)."""

    right: int
    of: int

    def __str__(self) -> str:
        if not self.of:
            return "none to judge"
        ends = binomtest(self.right, self.of).proportion_ci(method="wilson")
        return f"{self.right / self.of:.3f} [{ends.low:.3f}, {ends.high:.3f}] ({self.right} of {self.of})"


@dataclass(frozen=True)
class Agreement:
    """Of levels and edges with a hierarchy that is known, among the labels that are predictable.

    Attributes:
        levels: Labels whose level is the known one.
        correlation: Spearman's, of levels found and known, with the ends of its 95% interval, by the bootstrap over
            labels; NaN where one of them does not vary.
        precision: Edges found that are known; None without known parents.
        lineage: Edges found that lead from an ancestor.
        recall: Known edges that were found.
    """

    levels: Share
    correlation: tuple[float, float, float]
    precision: Share | None
    lineage: Share | None
    recall: Share | None

    @classmethod
    def of(
        cls,
        known: Hierarchy,
        level: NDArray[np.int64],
        pairs: set[tuple[int, int]],
        mean_level: NDArray[np.float64] | None = None,
    ) -> Agreement:
        """Compare.

        Args:
            known: The hierarchy.
            level: [n], found; 0 for labels that are not predictable.
            pairs: Parent and label of each edge found.
            mean_level: [n], over splits, for the correlation, where a level alone would lose what splits differ in.
        """
        truth = np.array(known.levels)
        judged = np.flatnonzero((truth > 0) & (level > 0))
        levels = Share(int((truth == level)[judged].sum()), len(judged))
        correlation = rank_correlation(truth[judged], (level if mean_level is None else mean_level)[judged])
        if known.parents is None:
            return cls(levels, correlation, None, None, None)
        edges = known.edges(set(judged.tolist()))
        precision, recall = Share(len(pairs & edges), len(pairs)), Share(len(pairs & edges), len(edges))
        return cls(levels, correlation, precision, Share(len(pairs & known.lineages()), len(pairs)), recall)

    def is_exact(self, n_known: int) -> bool:
        """Return whether all levels, and all edges where they are known, are the known ones, and no others."""
        edges = [share for share in (self.precision, self.recall) if share is not None]
        return self.levels == Share(n_known, n_known) and all(share.right == share.of for share in edges)

    def sentences(self) -> list[str]:
        """Return what there is to say."""
        middle, low, high = self.correlation
        rank = "not defined: one does not vary" if np.isnan(middle) else f"{middle:+.3f} [{low:+.3f}, {high:+.3f}]"
        said = [f"levels that are the known ones: {self.levels}", f"rank correlation with the known levels: {rank}"]
        names = {"edges found that are known": self.precision, "edges found from an ancestor": self.lineage}
        names["known edges found"] = self.recall
        return said + [f"{name}: {share}" for name, share in names.items() if share is not None]


def rank_correlation(left: NDArray[Any], right: NDArray[Any]) -> tuple[float, float, float]:
    """Spearman's correlation and the ends of its 95% interval, by resampling labels; NaN where it is not defined."""
    draws, labels = np.random.default_rng(0), pd.DataFrame({"left": left, "right": right})
    middle = float(labels.corr(method="spearman").iloc[0, 1])
    if np.isnan(middle):
        return middle, middle, middle
    places = draws.integers(len(labels), size=(N_RESAMPLES, len(labels)))
    resampled = [labels.iloc[own].corr(method="spearman").iloc[0, 1] for own in places]
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return middle, float(low), float(high)
