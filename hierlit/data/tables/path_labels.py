"""Labels named in a column of slash paths, or of a graph's terms; those above them are implied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hierlit.data.tables.cells import place, texts
from hierlit.data.tables.column_labels import Signs
from hierlit.data.tables.hierarchy import LabelHierarchy, beginnings
from hierlit.data.tables.table_file import TableError

if TYPE_CHECKING:
    from pandas import DataFrame


class PathLabels:
    """Labels of a column of slash paths, or of a graph's terms: a row has those that it names, and all above them.

    Args:
        column: Its name.
        separator: Between the paths, or terms, of a row.
        declared: The hierarchy where a header or a file lists it, so that a label that is neither in it nor in the
            header of the row's own file is an error; None for paths found in the rows.

    Attributes:
        columns: That column.
        names: Of the labels, once they are found.
        hierarchy: Theirs.
        unknown: Labels of the rows read that are none of these and were left out.
    """

    def __init__(self, column: str, separator: str, declared: LabelHierarchy | None) -> None:
        self.columns, self._separator, self._declared = [column], separator, declared
        self.hierarchy = declared or LabelHierarchy({}, is_graph=False)
        self.names: list[str] = []
        self.unknown: dict[str, None] = {}

    def find(self, frame: DataFrame) -> None:
        """Find the paths of the rows to train on and all that they begin with, sorted, unless they are listed.

        Raises:
            ValueError: If a value is no path, or there is none.
        """
        if self._declared is None:
            found: set[str] = set()
            self._each(frame, lambda labels: found.update(*map(beginnings, labels)))
            self.hierarchy = LabelHierarchy.of_paths(sorted(found))
        self.names = self.hierarchy.names
        if not self.names:
            raise ValueError(f"path_column {self.columns[0]!r} holds no path in any row of train_files")

    def read(self, frame: DataFrame, listed: Sequence[str] = ()) -> Signs:
        """Return 1 for a row's labels and their ancestors, −1 for all others; 0 where the row's value is missing.

        Args:
            frame: The rows.
            listed: What the header of their own file lists.

        Raises:
            TableError: If a value is no path, or an unknown one although labels are declared.
        """
        own, patterns = LabelHierarchy.of_entries(listed), []

        def mark(labels: list[str]) -> None:
            pattern = np.full(len(self.names), -1, np.int8)
            for label in labels:
                lineage, is_known = self.hierarchy.lineage(label)
                pattern[list(lineage)] = 1
                if not is_known:
                    if self._declared is not None and not own.lineage(label)[1]:
                        raise ValueError(f"unknown class {label!r}: not in the hierarchy")
                    self.unknown[label] = None
            patterns.append(pattern)

        codes = self._each(frame, mark)
        return np.array([*patterns, np.zeros(len(self.names), np.int8)])[codes]

    def _each(self, frame: DataFrame, act: Callable[[list[str]], None]) -> NDArray[np.int64]:
        """Act on the labels of each distinct value, and return each row's place among those values.

        Raises:
            TableError: If the action refuses one; it names the value's first row.
        """
        column = self.columns[0]
        codes, found = texts(frame[column], is_code=False)
        for number, text in enumerate(found):
            labels = [label.strip() for label in text.split(self._separator)]
            if not labels[-1] and len(labels) > 1:  # a separator may follow the last
                labels.pop()
            try:
                if not all(labels):
                    raise ValueError(f"labels must not be empty, got {text!r}")
                act(labels)
            except ValueError as error:
                raise TableError(f"{place(frame, codes == number, column)}: {error}") from error
        return codes
