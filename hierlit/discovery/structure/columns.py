"""A table of labels as sparse columns: which entries are 1, and which are not observed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, issparse
from torch import Tensor

from hierlit.data.base import numbered_names
from hierlit.estimator.targets import LabelTargets, missing

Places = NDArray[np.int64]
Floats = NDArray[np.float64]
MOST_ROWS = 20_000
"""Rows that functions and rules are looked for in."""
RULE = "labels must be in {-1, 1} or {0, 1}, NaN = not observed"


@dataclass(frozen=True)
class LabelColumns:
    """Labels and nothing else.

    Attributes:
        positive: Which entries are 1, [R, n].
        hidden: Which are not observed, [R, n].
        names: Of the labels [n].
        example: Numbers of the rows' examples [R]; an example with locations has a row for each of them, in sequence.
    """

    positive: csr_matrix
    hidden: csr_matrix
    names: list[str]
    example: Places

    @classmethod
    def of(cls, labels: Any, names: Sequence[str] | None = None, zero_labels: str = "auto") -> LabelColumns:
        """Read labels.

        Args:
            labels: [N, n] or [N, |G|, n]: a data frame, an array, a tensor, or a sparse matrix, whose missing entries
                are 0. In {0, 1} or {−1, 0, 1}, NaN where not observed.
            names: Of the labels; the columns of a data frame, y0, y1, … otherwise.
            zero_labels: What a 0 means, as in `HierarchicalClassifier`: auto, negative or not_observed.

        Raises:
            ValueError: In one line, if they are no such labels.
        """
        if names is None and hasattr(labels, "columns"):
            names = [str(name) for name in labels.columns]
        if issparse(labels):
            return cls.of_sparse(labels.tocsr(), names)
        values = np.asarray(labels.numpy(force=True) if isinstance(labels, Tensor) else labels)
        if values.ndim not in (2, 3) or not values.size:
            got = f"{type(labels).__name__} of shape {values.shape}"
            raise ValueError(f"labels must be [rows, labels] or [rows, locations, labels], and not empty, got {got}")
        named = list(names or numbered_names(values.shape[-1]))
        if twice := [name for name, number in Counter(named).items() if number > 1]:
            raise ValueError(f"labels must have different names, two are called {twice[0]!r}")
        try:
            values = as_floats(values)
        except (ValueError, TypeError):
            own = next(name for place, name in enumerate(named) if not are_numbers(values[..., place]))
            raise ValueError(f"{RULE}, got values of {own!r} that are no numbers") from None
        others = values[~np.isnan(values) & ~np.isin(values, (-1, 0, 1))]
        if len(others):
            raise ValueError(f"{RULE}, got {others[0]:g}")
        signs = LabelTargets.of(values, np.array(named, dtype=object), zero_labels).encode(values)
        return cls.of_signs(signs, named)

    @classmethod
    def of_signs(
        cls, signs: NDArray[Any], names: Sequence[str], exists: NDArray[np.bool_] | None = None
    ) -> LabelColumns:
        """Return those of signs.

        Args:
            signs: [N, n] or [N, |G|, n] in {−1, 0, 1}, 0 = not observed.
            names: Of the labels.
            exists: Where examples have a location, [N, |G|]; everywhere when None.
        """
        signs = signs[:, None] if signs.ndim == 2 else signs
        kept = np.ones(signs.shape[:2], dtype=bool) if exists is None else exists
        example, rows = kept.nonzero()[0], signs[kept]
        return cls(as_counts(rows > 0), as_counts(rows == 0), list(names), example)

    @classmethod
    def of_sparse(cls, matrix: csr_matrix, names: Sequence[str] | None = None) -> LabelColumns:
        """Return those of a sparse matrix: 1 where it says so, −1 or 0 for the absence of a label."""
        n_rows, n_labels = matrix.shape
        positive = as_counts(matrix > 0)
        hidden = csr_matrix((n_rows, n_labels), dtype=np.int64)
        return cls(positive, hidden, list(names or numbered_names(n_labels)), np.arange(n_rows))

    @property
    def n_rows(self) -> int:
        """Rows R."""
        return int(self.positive.shape[0])

    @property
    def n_labels(self) -> int:
        """Labels n."""
        return len(self.names)

    @property
    def n_examples(self) -> int:
        """Examples N."""
        return int(np.count_nonzero(np.diff(self.example))) + 1 if self.n_rows else 0

    def spaced_rows(self) -> tuple[Places, Places]:
        """Return rows of every so many examples, about `MOST_ROWS` at most, and the number of each one's example."""
        stride = -(-self.n_rows // MOST_ROWS)
        rows = np.flatnonzero(self.example % stride == 0)
        return rows, self.example[rows] // stride

    def take(self, rows: Places) -> LabelColumns:
        """Return some rows, in this order, or the same one several times."""
        return LabelColumns(self.positive[rows], self.hidden[rows], self.names, self.example[rows])

    def resampled(self, draws: np.random.Generator) -> tuple[LabelColumns, LabelColumns]:
        """Return as many examples drawn with replacement, and those that were not drawn."""
        starts = np.flatnonzero(np.diff(self.example, prepend=-1))
        sizes = np.diff(starts, append=self.n_rows)
        drawn = np.sort(draws.integers(len(starts), size=len(starts)))
        rest = np.setdiff1d(np.arange(len(starts)), drawn)

        def rows_of(examples: Places) -> Places:
            own = sizes[examples]
            within = np.arange(own.sum()) - np.repeat(np.cumsum(own) - own, own)
            return np.asarray(np.repeat(starts[examples], own) + within)

        sample = self.take(rows_of(drawn))
        number = np.repeat(np.arange(len(drawn)), sizes[drawn])
        return LabelColumns(sample.positive, sample.hidden, self.names, number), self.take(rows_of(rest))

    def shuffled(self, draws: np.random.Generator) -> LabelColumns:
        """Return each column with its rows permuted by itself: labels keep their frequencies, and no more."""
        n_rows = self.n_rows
        positive, hidden = (matrix.tocsc(copy=True) for matrix in (self.positive, self.hidden))
        for label in range(self.n_labels):
            order = draws.permutation(n_rows)
            for matrix in (positive, hidden):
                own = slice(matrix.indptr[label], matrix.indptr[label + 1])
                matrix.indices[own] = order[matrix.indices[own]]
        for matrix in (positive, hidden):
            matrix.has_sorted_indices = False
        return LabelColumns(positive.tocsr(), hidden.tocsr(), self.names, self.example)


def as_counts(where: Any) -> csr_matrix:
    """Return a sparse matrix of 0 and 1 that can be multiplied without overflow."""
    return csr_matrix(where).astype(np.int64)


def as_floats(values: NDArray[Any]) -> Floats:
    """Return values as numbers, NaN where missing; ValueError or TypeError if one is none."""
    return np.where(missing(values), np.nan, values).astype(float)


def are_numbers(values: NDArray[Any]) -> bool:
    """Return whether values can be read as numbers, those that are missing aside."""
    try:
        as_floats(values)
    except (ValueError, TypeError):
        return False
    return True
