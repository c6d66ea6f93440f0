"""Sets of labels of which each row has exactly one (ours)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hierlit.discovery.structure.columns import LabelColumns
from hierlit.discovery.structure.options import MOST_EXCEPTIONS, allowed

FEWEST_ROWS, MOST_ROWS = 30, 2000
"""Rows that groups are looked for in; they must then hold in all."""
MOST_STEPS = 20_000
"""Labels that are put into groups in all, after which no further one is begun."""


def one_of_groups(columns: LabelColumns, exceptions: float = 0.0, weight: float = 1.0) -> list[list[int]]:
    """Find groups of three labels or more that exclude one another and of which each row has one.

    A column of classes makes one. Two such labels are each other's negation, and no group. Only rows are looked at
    whose labels are all observed, if there are `FEWEST_ROWS`. Where groups share a label, the one with fewer exceptions
    counts, and of these the larger one: classes, and not classes of classes.

    Args:
        columns: The labels.
        exceptions: Share of entries that may be wrong.
        weight: Independent rows a row.
    """
    complete = columns.take(np.flatnonzero(np.diff(columns.hidden.indptr) == 0))
    if complete.n_rows < FEWEST_ROWS:
        return []
    signs = complete.take(np.arange(min(complete.n_rows, MOST_ROWS))).positive.toarray() > 0
    pairs, n_steps = Pairs.of(signs, exceptions, weight), 0
    tried, found = set[int](), dict[tuple[int, ...], int]()

    def holds(n_wrong: int, n_rows: int, own: tuple[int, ...]) -> bool:
        return weight * n_wrong <= int(allowed(exceptions, len(own), weight * n_rows))

    for label in np.flatnonzero(signs.any(0)).tolist():
        for own in () if label in tried or n_steps > MOST_STEPS else pairs.groups_of(label, signs):
            n_steps += len(own)
            if len(own) > 2 and holds(wrong_rows(signs, own), len(signs), own):
                tried.update(own)
                if holds(n_wrong := wrong_rows(complete.positive, own), complete.n_rows, own):
                    found[own] = n_wrong
    groups: list[list[int]] = []
    for own in sorted(found, key=lambda own: (found[own], -len(own), own)):
        if not any(set(own) & set(group) for group in groups):
            groups.append(list(own))
    return sorted(groups)


class Pairs(NamedTuple):
    """What two labels are to one another.

    Attributes:
        excludes: Whether they are never 1 together, [n, n].
        within: Whether the first is 1 only where the second is, and rarer, [n, n].
    """

    excludes: NDArray[np.bool_]
    within: NDArray[np.bool_]

    @classmethod
    def of(cls, signs: NDArray[np.bool_], exceptions: float, weight: float) -> Pairs:
        """Compare all labels.

        Args:
            signs: Which labels are 1 in which rows, [R, n].
            exceptions: Share of entries that may be wrong.
            weight: Independent rows a row.
        """
        counted, support, rows = signs.astype(np.float32), signs.sum(0), weight * len(signs)
        together, share = counted.T @ counted, support / len(signs)
        excludes = weight * together <= allowed(exceptions, share[:, None] + share, rows)
        alone = weight * (support[:, None] - together)
        within = ~excludes & (support[:, None] < support) & (alone <= allowed(exceptions, 1, rows))
        return cls(excludes, within)

    def groups_of(self, label: int, signs: NDArray[np.bool_]) -> Iterator[tuple[int, ...]]:
        """Yield a label with others that exclude it and one another: of the finest labels, and of any.

        Each other one leaves more rows with exactly one of them than any other would.
        """
        is_any_coarse = True
        for is_fine in (True, False):
            if not is_any_coarse:
                return
            is_any_coarse = False
            group, number, gains = [], np.zeros(len(signs), int), signs.sum(0)
            best, may_be = label, np.ones(signs.shape[1], bool)
            while best >= 0:
                group.append(best)
                new, again = (signs[:, best] & (number == own) for own in (0, 1))
                gains = gains - 2 * signs[new].sum(0) + signs[again].sum(0)  # rows with exactly one that it would add
                number += signs[:, best]
                may_be &= self.excludes[best]
                may_be[best] = False
                offered = may_be & (gains > 0)
                coarse = offered & self.within[offered].any(0)
                is_any_coarse |= bool(coarse.any())
                if is_fine:
                    offered &= ~coarse
                most = np.count_nonzero(number == 1) + gains[may_be & (gains > 0)].sum()
                is_hopeless = most < (1 - MOST_EXCEPTIONS) * len(signs)
                best = -1 if is_hopeless or not offered.any() else int(np.where(offered, gains, 0).argmax())
            yield tuple(sorted(group))


def wrong_rows(signs: Any, group: tuple[int, ...]) -> int:
    """Count the rows of an array, or a sparse matrix, without exactly one of a group."""
    return int(np.count_nonzero(signs[:, list(group)].sum(1) != 1))
