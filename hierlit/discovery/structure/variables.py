"""What functions of labels may read, and the search of one label's."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hierlit.discovery.structure.columns import LabelColumns, Places
from hierlit.discovery.structure.counts import PairCounts
from hierlit.discovery.structure.functions import LabelFunction, Signs
from hierlit.discovery.structure.implications import Implications
from hierlit.discovery.structure.options import StructureOptions
from hierlit.discovery.structure.search import Explanation, FunctionSearch

HELD = 5
"""Every so many examples one is left out of the search for functions."""
FEW, OF_FEW = 32, 4
"""Variables up to which truth tables are of so many."""
CORRELATED = 5000
"""Rows by which the labels that go with a label are known."""
MANY, OF_MANY = 128, 2
"""Candidates, and variables of truth tables, where there are more: all, or those that go with a label most."""
MOST_LABELS = 1000
"""Labels up to which truth tables are looked for; of more, functions are those that implications suggest."""


class Variables:
    """What functions may read, and the search of one label's.

    Args:
        counts: Of the labels.
        found: Implications between them.
        groups: Of labels of which each row has exactly one; none of them explains another.
        options: How to search.
        windows: Rows [R, w] that a row's label may read; its own when None.

    Attributes:
        label_of: The label of each variable.
        own: The variable of each label at the row's own place.
        names: Of the variables: a label's name, with the place in the window where it is not the row's own.
        labels: Those whose function is looked for: the first of each that are the same, if they vary.
    """

    def __init__(
        self,
        counts: PairCounts,
        found: Implications,
        groups: list[list[int]],
        options: StructureOptions,
        windows: Places | None,
    ) -> None:
        columns, self._options = counts.columns, options
        n = columns.n_labels
        firsts = found.stands_for == np.arange(n)
        self.labels = np.flatnonzero(firsts & (counts.positives > 0) & (counts.negatives > 0)).tolist()
        windows = np.arange(columns.n_rows)[:, None] if windows is None else windows
        own_place = int((windows == np.arange(len(windows))[:, None]).mean(0).argmax()) if len(windows) else 0
        kept, number = columns.spaced_rows()
        self._held = number % HELD == HELD - 1
        self._signs = signs_of(columns, windows[kept])
        self._is_first = firsts
        self.own = [own_place * n + label for label in range(n)]
        self.label_of = [variable % n for variable in range(self._signs.shape[1])]
        self.names = [
            columns.names[variable % n] + ("" if variable // n == own_place else f"@{variable // n - own_place:+d}")
            for variable in range(self._signs.shape[1])
        ]
        self._group = {label: set(own) for own in groups for label in own}
        self._weight = counts.weight
        self._tables = n <= MOST_LABELS
        self._children, self._parents = found.families()

    @cached_property
    def _correlation(self) -> NDArray[np.float32]:
        """Absolute correlation of all variables [V, V] in some fitted rows; what is not observed is 0."""
        signs = self._signs[np.flatnonzero(~self._held)[:CORRELATED]].astype(np.float32)
        signs -= signs.mean(0)
        signs /= np.maximum(np.sqrt(np.square(signs).sum(0)), np.float32(1e-6))
        return np.asarray(np.abs(signs.T @ signs))

    def explain(self, label: int) -> list[Explanation]:
        """Return the functions that explain a label."""
        least = float(np.log2(len(self.labels) / self._options.rate))
        search = FunctionSearch(self._signs, self._held, self._weight, self._options.exceptions, least)
        given = [
            LabelFunction(tuple(sorted(self.own[other] for other in others)), (False,) * len(others), at_least)
            for others, at_least in (
                (self._children.get(label, []), 1),
                (self._parents.get(label, []), len(self._parents.get(label, []))),
            )
            if len(others) > 1
        ]
        candidates, most = self._candidates(label)
        return search.explain(self._signs[:, self.own[label]], candidates, most, given)

    def _candidates(self, label: int) -> tuple[list[int], int]:
        """Return the variables that a truth table may read, and how many of them at most."""
        if not self._tables:
            return [], 0
        out = {label, *self._group.get(label, set())}
        allowed = [v for v, of in enumerate(self.label_of) if of not in out and self._is_first[of]]
        if len(allowed) <= MANY:
            return allowed, OF_FEW if len(allowed) <= FEW else OF_MANY
        correlation = self._correlation[self.own[label], allowed]
        chosen = np.argsort(-correlation, kind="stable")[:MANY]
        return sorted(np.array(allowed)[chosen].tolist()), OF_MANY


def signs_of(columns: LabelColumns, windows: Places) -> Signs:
    """Return the labels [R, w · n] in {−1, 0, 1} of windows [R, w] of rows; 0 where there is no row."""
    parts = []
    for place in windows.T:
        own = columns.take(np.maximum(place, 0))
        signs = 2 * own.positive.toarray().astype(np.int8) - 1
        signs[own.hidden.toarray() > 0] = 0
        signs[place < 0] = 0
        parts.append(signs)
    return np.concatenate(parts, axis=1)
