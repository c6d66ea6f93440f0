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
    """Labels of a table: the rows to train on are seen, chunk by chunk, for what they are; then they are read in any.

    Attributes:
        columns: Those that are read.
        names: Of the labels, once they are settled.
        hierarchy: Theirs, if there is one.
        unknown: Labels of the rows read that are none of these and were left out.
    """

    def __init__(self, columns: Sequence[str], hierarchy: LabelHierarchy | None = None) -> None:
        self.columns, self.hierarchy = list(columns), hierarchy
        self.names: list[str] = []
        self.unknown: dict[str, None] = {}

    @abstractmethod
    def see(self, rows: Rows) -> None:
        """Look at some of the rows to train on.

        Raises:
            TableError: If a value is no label.
        """

    @abstractmethod
    def settle(self) -> None:
        """Find the labels in what was seen.

        Raises:
            ValueError: If there are none, or values can be read in more than one way.
        """

    @abstractmethod
    def read(self, rows: Rows) -> Signs:
        """Return the labels [rows, n] in {−1, 0, 1}, 0 = not observed.

        Raises:
            TableError: If a value is no label.
        """
