"""Labels named in a column of slash paths, or of a graph's terms; those above them are implied."""

from __future__ import annotations

import numpy as np

from hierlit.data.tables.hierarchy import LabelHierarchy
from hierlit.data.tables.labels import Labels, Signs, Survey
from hierlit.data.tables.rows import MISSING, Rows, TableError


class PathSurvey(Survey):
    """Labels of a column of slash paths, or of a graph's terms.

    Args:
        column: Its name.
        separator: Between the paths of a row.
        declared: The hierarchy where a header or a file lists it; None for paths found in the rows.
    """

    def __init__(self, column: str, separator: str, declared: LabelHierarchy | None) -> None:
        self.columns, self._separator, self._declared = [column], separator, declared
        self._found: set[str] = set()

    def see(self, rows: Rows) -> None:
        """Collect paths, unless they are listed."""
        if self._declared is not None:
            return
        codes, texts = rows.columns[self.columns[0]].texts()
        for place, text in enumerate(texts):
            try:
                labels = split_labels(text, self._separator)
                if not self._found.issuperset(labels):
                    LabelHierarchy.of_paths(labels)
            except ValueError as error:
                row = (codes == place).argmax()
                raise TableError(f"{rows.place(int(row), self.columns[0])}: {error}") from error
            self._found.update(labels)

    def labels(self) -> PathLabels:
        """Return the paths and all that they begin with, sorted; or the hierarchy's labels in its order."""
        hierarchy = self._declared
        if hierarchy is None:
            hierarchy = LabelHierarchy.of_paths(sorted(self._found))
        if not hierarchy.names:
            raise ValueError(f"path_column {self.columns[0]!r} holds no path in any row of train_files")
        return PathLabels(self.columns[0], self._separator, hierarchy, self._declared is not None)


class PathLabels(Labels):
    """Labels that a row has if its column names them, or a label below them.

    Args:
        column: The column's name.
        separator: Between the paths, or terms, of a row.
        hierarchy: The labels'.
        is_declared: Whether a label that is not in the hierarchy, nor in the header of the row's own file, is an error.
    """

    def __init__(self, column: str, separator: str, hierarchy: LabelHierarchy, is_declared: bool) -> None:
        super().__init__([column], hierarchy.names, hierarchy)
        self._separator, self._is_declared = separator, is_declared
        self._listed: tuple[object, LabelHierarchy] | None = None

    def read(self, rows: Rows) -> Signs:
        """1 for a row's labels and their ancestors, −1 for all others; 0 where the row's value is missing."""
        codes, texts = rows.columns[self.columns[0]].texts()
        patterns = np.full((len(texts) + 1, len(self.names)), -1, np.int8)
        patterns[MISSING] = 0
        for place, text in enumerate(texts):
            try:
                patterns[place, self._places(text, rows)] = 1
            except ValueError as error:
                row = int((codes == place).argmax())
                raise TableError(f"{rows.place(row, self.columns[0])}: {error}") from error
        return patterns[codes]

    def _places(self, text: str, rows: Rows) -> list[int]:
        assert self.hierarchy is not None
        found: set[int] = set()
        for label in split_labels(text, self._separator):
            lineage, is_known = self.hierarchy.lineage(label)
            found |= lineage
            if not is_known:
                if self._is_declared and not self._lists(rows, label):
                    raise ValueError(f"unknown class {label!r}: not in the hierarchy")
                self.unknown[label] = None
        return list(found)

    def _lists(self, rows: Rows, label: str) -> bool:
        """Return whether the header of the rows' own file has a label."""
        if self._listed is None or self._listed[0] is not rows.file:
            self._listed = rows.file, LabelHierarchy.of_entries(rows.file.classes)
        return self._listed[1].lineage(label)[1]


def split_labels(text: str, separator: str) -> list[str]:
    """Return the paths, or terms, of a row; a separator may follow the last.

    Raises:
        ValueError: If one is empty.
    """
    labels = [label.strip() for label in text.split(separator)]
    if not labels[-1] and len(labels) > 1:
        labels.pop()
    if not all(labels):
        raise ValueError(f"labels must not be empty, got {text!r}")
    return labels
