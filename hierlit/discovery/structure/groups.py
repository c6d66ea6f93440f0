"""Sets of labels of which each row has exactly one (ours)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hierlit.discovery.structure.columns import LabelColumns
from hierlit.discovery.structure.options import MOST_EXCEPTIONS, allowed

FEWEST_ROWS, MOST_ROWS = 30, 2000
"""Rows that groups are looked for in; they must then hold in all."""


def one_of_groups(columns: LabelColumns, exceptions: float = 0.0, weight: float = 1.0) -> list[list[int]]:
    """Find groups of three labels or more that exclude one another and of which each row has one.

    A column of classes makes one. Two such labels are each other's negation, and no group. Only rows are looked at
    whose labels are all observed, if there are `FEWEST_ROWS`. Where groups share a label, the one with fewer exceptions
    counts, and of these the one that is found first.

    Args:
        columns: The labels.
        exceptions: Share of entries that may be wrong.
        weight: Independent rows a row.
    """
    complete = columns.take(np.flatnonzero(np.diff(columns.hidden.indptr) == 0))
    if complete.n_rows < FEWEST_ROWS:
        return []
    signs = complete.take(np.arange(min(complete.n_rows, MOST_ROWS))).positive.toarray() > 0
    share, counted = signs.mean(0), signs.astype(np.float32)
    most = allowed(exceptions, share[:, None] + share, weight * len(signs))
    excludes = weight * (counted.T @ counted) <= most
    found = {tuple(group_of(label, signs, excludes)) for label in np.flatnonzero(signs.any(0)).tolist()}
    wrong = {own: np.count_nonzero(complete.positive[:, list(own)].sum(1) != 1) for own in found if len(own) > 2}
    groups: list[list[int]] = []
    for own in sorted(wrong, key=lambda own: (wrong[own], own)):
        is_new = not any(set(own) & set(group) for group in groups)
        if is_new and weight * wrong[own] <= allowed(exceptions, len(own), weight * complete.n_rows):
            groups.append(list(own))
    return sorted(groups)


def group_of(label: int, signs: NDArray[np.bool_], excludes: NDArray[np.bool_]) -> list[int]:
    """Return a label and others that exclude it and one another, sorted: as many as leave more rows with exactly one.

    Args:
        label: The label.
        signs: Which labels are 1 in which rows, [R, n].
        excludes: Whether labels are never 1 together, [n, n].
    """
    group, number, gains = [], np.zeros(len(signs), int), signs.sum(0)  # rows with exactly one that a label would add
    best, may_be = label, np.ones(signs.shape[1], bool)
    while True:
        group.append(best)
        new, again = (signs[:, best] & (number == own) for own in (0, 1))
        gains = gains - 2 * signs[new].sum(0) + signs[again].sum(0)
        number += signs[:, best]
        may_be &= excludes[best]
        may_be[best] = False
        offered = np.where(may_be & (gains > 0), gains, 0)
        best = int(offered.argmax())
        is_hopeless = np.count_nonzero(number == 1) + offered.sum() < (1 - MOST_EXCEPTIONS) * len(signs)
        if is_hopeless or not offered[best]:
            return sorted(group)
