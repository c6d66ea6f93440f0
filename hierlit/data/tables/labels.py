"""What a table's labels are, found in the rows to train on, and their values in any rows: what every kind has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hierlit.data.tables.hierarchy import LabelHierarchy
from hierlit.data.tables.rows import Rows

Signs = NDArray[np.int8]


class Labels(ABC):
    """Labels of a table.

    Attributes:
        columns: Those that are read.
        names: Of the labels.
        hierarchy: Theirs, if one was given.
        unknown: Labels of the rows read that are none of these and were left out.
    """

    def __init__(self, columns: Sequence[str], names: Sequence[str], hierarchy: LabelHierarchy | None = None) -> None:
        self.columns, self.names, self.hierarchy = list(columns), list(names), hierarchy
        self.unknown: dict[str, None] = {}

    @abstractmethod
    def read(self, rows: Rows) -> Signs:
        """Return the labels [rows, n] in {−1, 0, 1}, 0 = not observed.

        Raises:
            TableError: If a value is no label.
        """


class Survey(ABC):
    """Look at the rows to train on, chunk by chunk, for what their labels are."""

    columns: Sequence[str]

    @abstractmethod
    def see(self, rows: Rows) -> None:
        """Look at some rows.

        Raises:
            TableError: If a value is no label.
        """

    @abstractmethod
    def labels(self) -> Labels:
        """Return the labels found.

        Raises:
            ValueError: If there are none, or values can be read in more than one way.
        """
