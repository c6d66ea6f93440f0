"""Labels named in a column of slash paths, or of a graph's terms; those above them are implied."""

from __future__ import annotations

import numpy as np

from hierlit.data.tables.hierarchy import LabelHierarchy
from hierlit.data.tables.labels import Labels, Signs
from hierlit.data.tables.rows import MISSING, Rows, TableError


class PathLabels(Labels):
    """Labels of a column of slash paths, or of a graph's terms: a row has those that it names, and all above them.

    Args:
        column: Its name.
        separator: Between the paths, or terms, of a row.
        declared: The hierarchy where a header or a file lists it, so that a label that is neither in it nor in the
            header of the row's own file is an error; None for paths found in the rows.
    """

    def __init__(self, column: str, separator: str, declared: LabelHierarchy | None) -> None:
        super().__init__([column], declared)
        self._separator, self._is_declared = separator, declared is not None
        self._found: set[str] = set()
        self._listed: tuple[object, LabelHierarchy] | None = None

    def see(self, rows: Rows) -> None:
        """Collect paths, unless they are listed."""
        if self._is_declared:
            return
        codes, texts = rows.columns[self.columns[0]].texts()
        for place, text in enumerate(texts):
            try:
                labels = split_labels(text, self._separator)
                if not self._found.issuperset(labels):
                    LabelHierarchy.of_paths(labels)
            except ValueError as error:
                raise TableError(f"{rows.first_of(codes == place, self.columns[0])[0]}: {error}") from error
            self._found.update(labels)

    def settle(self) -> None:
        """Return the paths and all that they begin with, sorted; or the hierarchy's labels in its order."""
        self.hierarchy = self.hierarchy or LabelHierarchy.of_paths(sorted(self._found))
        self.names = self.hierarchy.names
        if not self.names:
            raise ValueError(f"path_column {self.columns[0]!r} holds no path in any row of train_files")

    def read(self, rows: Rows) -> Signs:
        """1 for a row's labels and their ancestors, −1 for all others; 0 where the row's value is missing."""
        codes, texts = rows.columns[self.columns[0]].texts()
        patterns = np.full((len(texts) + 1, len(self.names)), -1, np.int8)
        patterns[MISSING] = 0
        for place, text in enumerate(texts):
            try:
                patterns[place, self._places(text, rows)] = 1
            except ValueError as error:
                raise TableError(f"{rows.first_of(codes == place, self.columns[0])[0]}: {error}") from error
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
