"""Sets of labels of which each row has exactly one (ours)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hierlit.discovery.structure.columns import LabelColumns

FEWEST_ROWS, MOST_ROWS = 30, 2000
"""Rows that groups are looked for in; they must then hold in all."""
MOST_STEPS = 5000
"""Labels that are tried in all."""


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
    signs = complete.take(np.arange(min(complete.n_rows, MOST_ROWS))).positive.toarray() > 0
    cover = Cover(signs)
    grouped: set[int] = set()
    groups = []
    for label in np.flatnonzero(signs.any(0) & ~signs.all(0)).tolist():
        if label in grouped:
            continue
        found = cover.complete([label], [other for other in cover.excluded_by(label) if other not in grouped])
        if found is not None and len(found) > 2 and (complete.positive[:, found].sum(1) == 1).all():
            groups.append(sorted(found))
            grouped.update(found)
    return groups


class Cover:
    """The search of an exact cover of rows, depth first.

    Args:
        signs: Which labels are 1 in which rows, [R, n].
    """

    def __init__(self, signs: NDArray[np.bool_]) -> None:
        self._signs, self._positives, self._steps = signs, signs.sum(0), 0
        counted = signs.astype(np.float32)
        self._excludes = counted.T @ counted == 0

    def excluded_by(self, label: int) -> list[int]:
        """Labels that are never 1 together with a label, and sometimes otherwise."""
        found: list[int] = np.flatnonzero(self._excludes[label] & (self._positives > 0)).tolist()
        return found

    def complete(self, chosen: list[int], allowed: list[int]) -> list[int] | None:
        """Return labels, with those chosen, that cover each row once; None if there are none, or it takes too long."""
        n_rows, n_covered = len(self._signs), self._positives[chosen].sum()
        if n_covered == n_rows:
            return chosen
        self._steps += 1
        if self._steps > MOST_STEPS or n_covered + self._positives[allowed].sum() < n_rows:
            return None
        row = int(self._signs[:, chosen].any(1).argmin())
        for label in (label for label in allowed if self._signs[row, label]):
            rest = [other for other in allowed if self._excludes[label, other]]
            if (found := self.complete([*chosen, label], rest)) is not None:
                return found
        return None
