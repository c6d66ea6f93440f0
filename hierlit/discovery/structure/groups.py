"""Sets of labels of which each row has exactly one (ours)."""

from __future__ import annotations

import numpy as np

from hierlit.discovery.structure.columns import LabelColumns, Places
from hierlit.discovery.structure.counts import PairCounts

FEWEST_ROWS, MOST_ROWS = 30, 2000
"""Rows that groups are looked for in; they must then hold in all."""
MOST_STEPS = 200
"""Labels that are tried in the search of one label's group."""


def one_of_groups(columns: LabelColumns) -> list[list[int]]:
    """Find groups of three labels or more that exclude one another and of which each row has one: an exact cover.

    A column of classes makes one. Two such labels are each other's negation, and no group. Only rows are looked at
    whose labels are all observed, if there are `FEWEST_ROWS`.

    Args:
        columns: The labels.
    """
    complete = columns.take(np.flatnonzero(np.diff(columns.hidden.indptr) == 0))
    if complete.n_rows < FEWEST_ROWS:
        return []
    columns = complete.take(np.arange(min(complete.n_rows, MOST_ROWS)))
    counts = PairCounts(columns)
    known = counts.positives > 0
    rows = columns.positive.tocsr()
    excludes = np.asarray(counts.both.toarray() == 0)
    grouped: set[int] = set()
    groups = []
    for label in np.flatnonzero(known).tolist():
        if label in grouped or counts.positives[label] == columns.n_rows:
            continue
        allowed = excludes[label] & known
        allowed[sorted(grouped)] = False
        found = Cover(counts, rows.indptr, rows.indices).complete([label], allowed)
        if found is not None and len(found) > 2 and (complete.positive[:, found].sum(1) == 1).all():
            groups.append(sorted(found))
            grouped.update(found)
    return groups


class Cover:
    """The search of an exact cover of the rows, depth first.

    Args:
        counts: Of the labels.
        indptr: Of the rows' labels.
        indices: Of the rows' labels.
    """

    def __init__(self, counts: PairCounts, indptr: Places, indices: Places) -> None:
        self._counts, self._indptr, self._indices = counts, indptr, indices
        self._steps = 0

    def complete(self, chosen: list[int], allowed: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[int] | None:
        """Return labels, with those chosen, that cover each row once; None if there are none, or it takes too long."""
        positives = self._counts.positives
        if positives[chosen].sum() == self._counts.columns.n_rows:
            return chosen
        self._steps += 1
        if self._steps > MOST_STEPS or positives[chosen].sum() + positives[allowed].sum() < self._counts.columns.n_rows:
            return None
        covered = np.isin(self._indices, chosen)
        is_covered = np.add.reduceat(np.append(covered, False), self._indptr[:-1])[: self._counts.columns.n_rows] > 0
        is_covered &= np.diff(self._indptr) > 0
        row = int(np.flatnonzero(~is_covered)[0])
        for label in self._indices[self._indptr[row] : self._indptr[row + 1]].tolist():
            if allowed[label]:
                rest = allowed & np.asarray(self._counts.both[label].toarray()[0] == 0)
                if (found := self.complete([*chosen, label], rest)) is not None:
                    return found
        return None
