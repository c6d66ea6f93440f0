"""Labels with a column each, columns of classes, and labels named in a column of slash paths or of a graph's terms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hierlit.data.tables.cell_labels import LIST, hidden_separator, split_paths
from hierlit.data.tables.cells import (
    MISSING,
    Bools,
    Floats,
    as_text,
    cell_error,
    codes_of,
    note_codes,
    numbers,
    place,
    texts,
)
from hierlit.data.tables.hierarchy import LabelHierarchy, beginnings
from hierlit.data.tables.table_file import TableError
from hierlit.models.checks import listed

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Signs = NDArray[np.int8]
RULE = "a label must be 0, 1, -1, true, false or missing"
MOST_CLASSES = 10_000
EMPTY = (None, "negative", "not_observed")
"""What a row without a path may have."""
ZEROS = ("auto", "negative", "not_observed")
"""What a 0 may mean in a label column."""


class Labels(ABC):
    """What label columns hold.

    Args:
        columns: Their names.
        texts: Those that hold classes or paths, whatever their values look like.
        hierarchy: Of the labels, where a header or a file lists it.

    Attributes:
        columns: As given.
        texts: As given.
        hierarchy: Of the labels in their order, once they are found; None without one.
        names: Of the labels, once they are found.
        class_labels: Indices of the labels that are a column's classes, by its name, once they are found.
        unknown: Labels of the rows read that are none of these and were left out.
        empty: Rows read without a path, by where the first of some is, unless it was told what they have.
        notices: What else a person should know of the rows read.
    """

    def __init__(self, columns: Sequence[str], texts: Sequence[str], hierarchy: LabelHierarchy | None) -> None:
        self.columns, self.texts, self.hierarchy, self._declared = list(columns), list(texts), hierarchy, hierarchy
        self.names: list[str] = []
        self.class_labels: dict[str, list[int]] = {}
        self.unknown: Counter[str] = Counter()
        self.empty: Counter[str] = Counter()
        self.notices: list[str] = []

    @abstractmethod
    def find(self, frame: DataFrame) -> None:
        """Find the labels in the rows to train on.

        Raises:
            ValueError: If a value is no label, or there is none.
        """

    @abstractmethod
    def read(self, frame: DataFrame, listed: Sequence[str] = ()) -> Signs:
        """Return a 1 for each label of a row, −1 for others, 0 where there is no value, [rows, n].

        Args:
            frame: The rows.
            listed: The paths that the header of their own file lists.

        Raises:
            TableError: If a value is no label.
        """


class ColumnLabels(Labels):
    """Labels of one column each, and of columns of classes, one label a class.

    Args:
        columns: Their names.
        class_columns: Those that hold classes whatever their values look like.
        zero: What a 0 means, one of `ZEROS`.
        declared: The hierarchy that a file lists; it is kept for reports.
        are_named: Whether a person, and not a header, says that those hold classes.
    """

    def __init__(
        self,
        columns: Sequence[str],
        class_columns: Sequence[str],
        zero: str,
        declared: LabelHierarchy | None = None,
        are_named: bool = True,
    ) -> None:
        super().__init__(columns, class_columns, declared)
        self._zero, self._settled = zero, class_columns if are_named else ()

    def find(self, frame: DataFrame) -> None:
        """Find the labels: one a column, or a class.

        Raises:
            ValueError: If a value is no label, a column has none, zeros can be read in more than one way, two labels
                have one name, or the hierarchy has other labels.
        """
        held: dict[str, set[float]] = {}
        self.names, self.class_labels = [], {}
        # for each column its classes, None where it is a label
        self._classes = {name: self._classes_of(frame, name, held) for name in self.columns}
        self._unobserved_zeros = self._find_unobserved_zeros(held)
        for name, own in self._classes.items():
            if own is not None:
                self.class_labels[name] = list(range(len(self.names), len(self.names) + len(own)))
            self.names += [name] if own is None else [f"{name}={text}" for text in own]
        pairs = {
            name: own for name, own in self._classes.items() if own and len(own) == 2 and name not in self._settled
        }
        if pairs:
            what = listed([f"{name} ({' and '.join(own)})" for name, own in pairs.items()])
            remedy = "write 1 and 0 to have one label a column, or name them in class_columns"
            self.notices.append(f"label columns of two classes become two labels each: {what}; {remedy}")
        if twice := [name for name, number in Counter(self.names).items() if number > 1]:
            raise ValueError(f"labels must have different names, two are called {twice[0]!r}: rename a column")
        if self._declared is not None:
            self.hierarchy = self._declared.among(self.names)

    def _classes_of(self, frame: DataFrame, name: str, held: dict[str, set[float]]) -> list[str] | None:
        """Return a column's classes; or None, and note in `held` what it holds, if it is a label."""
        if name not in self.texts:
            signs, others = as_signs(frame[name])
            if not others.any():
                note_codes(frame[name])
                held[name] = {sign for sign in (-1, 0, 1) if (signs == sign).any()}
                return None
            is_mixed = not (others | np.isnan(signs)).all()
            if (wrong := others if is_mixed else as_numbers(frame[name], signs)).any():
                remedy = "; name the column in class_columns if it holds classes"
                raise cell_error(frame, wrong, name, RULE, remedy)
        found = texts(frame[name])[1]
        if (lists := frame[name].isin([text for text in found if LIST.fullmatch(text)]).to_numpy(bool)).any():
            raise cell_error(frame, lists, name, "a class must not be a list", "; name the column in path_column")
        if not found:
            raise ValueError(f"label column {name!r} has no value in any row of train_files")
        if len(found) > MOST_CLASSES:
            raise ValueError(f"label column {name!r} has more than {MOST_CLASSES:,} classes")
        if name not in self.texts and (hidden := hidden_separator(found)):
            what = f"texts of label column {name!r} such as {hidden[0]!r} are one class each"
            remedy = f"name it in path_column and set path_separator to {hidden[1]!r} if that separates labels"
            self.notices.append(f"{what}: {remedy}")
        return sorted(found, key=_class_key)

    def _find_unobserved_zeros(self, held: dict[str, set[float]]) -> list[str]:
        """Return the columns in which a 0 means not observed.

        Raises:
            ValueError: If one column shows that 0 is not observed, and another has 0 and 1 without −1.
        """
        if self._zero != "auto":
            return list(held) if self._zero == "not_observed" else []
        signed = [name for name, values in held.items() if {-1, 0} <= values]
        unsigned = [name for name, values in held.items() if 0 in values and -1 not in values]
        if signed and unsigned:
            raise ValueError(
                f"label column {signed[0]!r} holds -1 and 0, {unsigned[0]!r} holds 0 and no -1: "
                "set zero_labels to negative or not_observed"
            )
        if signed:
            what = f"0 is taken for not observed in label columns that hold -1 too: {listed(signed)}"
            self.notices.append(f"{what}; set zero_labels to negative or not_observed")
        return signed

    def read(self, frame: DataFrame, listed: Sequence[str] = ()) -> Signs:
        """Return the columns' values; of a class 1 in its rows, −1 in those of others, 0 where the value is missing."""
        parts = [
            self._label(frame, name) if classes is None else self._group(frame, name, classes)
            for name, classes in self._classes.items()
        ]
        return np.concatenate(parts, axis=1)

    def _label(self, frame: DataFrame, name: str) -> Signs:
        signs, others = as_signs(frame[name])
        if others.any():
            raise cell_error(frame, others, name, RULE)
        if name not in self._unobserved_zeros:
            signs = np.where(signs == 0, -1, signs)
        return np.nan_to_num(signs).astype(np.int8)[:, None]

    def _group(self, frame: DataFrame, name: str, classes: list[str]) -> Signs:
        patterns = np.full((len(classes) + 2, len(classes)), -1, np.int8)
        np.fill_diagonal(patterns, 1)
        patterns[MISSING] = 0
        return patterns[codes_of(frame[name], classes, self.unknown)]


class PathLabels(Labels):
    """Labels of a column of slash paths, or of a graph's terms: a row has those that it names, and all above them.

    Args:
        column: Its name.
        separator: Between the paths, or terms, of a row.
        empty: What a row without a path has, one of `EMPTY`.
        declared: The hierarchy where a header or a file lists it, so that a label that is neither in it nor in the
            header of the row's own file is an error; None for paths found in the rows.
    """

    hierarchy: LabelHierarchy

    def __init__(self, column: str, separator: str, empty: str | None, declared: LabelHierarchy | None) -> None:
        super().__init__([column], [column], declared)
        self._separator, self._empty = separator, empty

    def find(self, frame: DataFrame) -> None:
        """Find the paths and all that they begin with, sorted, unless they are listed.

        Raises:
            ValueError: If a value is no path, or there is none.
        """
        if self._declared is None:
            found: set[str] = set()
            cells = self._each(frame, lambda labels, _: found.update(*map(beginnings, labels)))[1]
            self._look_for_separators([cell for cell in cells if isinstance(cell, str)])
            self.hierarchy = LabelHierarchy.of_paths(sorted(found))
        self.names = self.hierarchy.names
        if not self.names:
            raise ValueError(f"path_column {self.columns[0]!r} holds no path in any row of train_files")

    def read(self, frame: DataFrame, listed: Sequence[str] = ()) -> Signs:
        """Return 1 for a row's labels and their ancestors, −1 for all others; 0 where the row's value is missing.

        For the arguments see `Labels`.

        Raises:
            TableError: If a value is no path, or an unknown one although labels are declared.
        """
        own, nothing = LabelHierarchy.of_entries(listed), np.int8(-1 if self._empty == "negative" else 0)
        patterns: list[NDArray[np.int8]] = []

        def mark(labels: list[str], n_rows: int) -> None:
            pattern = np.full(len(self.names), -1 if labels else nothing, np.int8)
            for label in labels:
                lineage, is_known = self.hierarchy.lineage(label)
                pattern[list(lineage)] = 1
                if not is_known:
                    if self._declared is not None and not own.lineage(label)[1]:
                        raise ValueError(f"unknown class {label!r}: not in the hierarchy")
                    self.unknown[label] += n_rows
            patterns.append(pattern)

        codes, _ = self._each(frame, mark)
        signs = np.array([*patterns, np.full(len(self.names), nothing)])[codes]
        if self._empty is None and (is_empty := (signs == 0).all(1)).any():
            self.empty[place(frame, is_empty, self.columns[0])] += np.count_nonzero(is_empty)
        return signs

    def _look_for_separators(self, found: list[str]) -> None:
        """Note it if no cell is split, and another separator would leave fewer labels than there are."""
        if any(self._separator in text or LIST.fullmatch(text) for text in found):
            return
        if hidden := hidden_separator(found):
            what = f"no value of path_column {self.columns[0]!r} has the separator {self._separator!r}"
            remedy = f"set path_separator to {hidden[1]!r} if that separates labels"
            self.notices.append(f"{what}, and texts such as {hidden[0]!r} are one label each: {remedy}")

    def _each(
        self, frame: DataFrame, act: Callable[[list[str], int], None]
    ) -> tuple[NDArray[np.int64], list[str | tuple[object, ...]]]:
        """Act on the labels of each distinct value and its rows' number; return rows' places among them, and those.

        Raises:
            TableError: If the action refuses one; it names the value's first row.
        """
        from pandas import factorize

        column = self.columns[0]
        codes, values = factorize(frame[column])
        cells = [value if isinstance(value, tuple) else as_text(value, is_code=False) for value in values]
        counts = np.bincount(codes[codes != MISSING], minlength=len(cells)).tolist()
        for number, cell in enumerate(cells):
            try:
                act(split_paths(cell, self._separator), counts[number])
            except ValueError as error:
                raise TableError(f"{place(frame, codes == number, column)}: {error}") from error
        return codes, cells


def as_signs(column: Series) -> tuple[Floats, Bools]:
    """Return −1, 0 and 1 [rows], true and false as 1 and 0, NaN where missing; and where [rows] there are others."""
    values, wrong = numbers(column)
    wrong |= np.isnan(values) & column.notna().to_numpy(bool)  # the text nan
    return values, wrong | ~(np.isnan(values) | (values == 0) | (np.abs(values) == 1))


def as_numbers(column: Series, values: Floats) -> Bools:
    """Return where [rows] a column of other values than labels has numbers that are no classes.

    These are fractions, and floats that may stand for more than one whole number.
    """
    is_large = np.abs(values) >= 2**53 if column.dtype.kind == "f" else np.zeros(len(values), bool)
    no_classes: Bools = ~np.isnan(values) & ((values != np.round(values)) | is_large)
    return no_classes


def _class_key(text: str) -> tuple[int, float, str]:
    """Sort classes that are integers by their value, before others."""
    is_integer = text.isascii() and text.removeprefix("-").isdigit()
    return (0, float(text), text) if is_integer else (1, 0.0, text)
