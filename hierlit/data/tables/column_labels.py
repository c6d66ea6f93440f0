"""Labels with a column each, and columns of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hierlit.data.tables.labels import Labels, Signs
from hierlit.data.tables.rows import MISSING, Column, Rows, TableError

NOTHING, OTHER = 2, 3
"""What stands for a missing value and for one that is none of −1, 0, 1, true, false."""
WORDS = {"true": 1, "false": 0}
MOST_CLASSES = 10_000
ZEROS = ("auto", "negative", "not_observed")
"""What a 0 may mean in a label column."""


@dataclass
class Tally:
    """What a label column holds.

    Attributes:
        counts: How often −1, 0 and 1, in the order of `range(-1, 2)`.
        other: The place and the text of the first value that is none of these.
        classes: The texts of all such values; of all values in a column of classes.
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(3, np.int64))
    other: tuple[str, str] | None = None
    classes: dict[str, None] = field(default_factory=dict)


class ColumnLabels(Labels):
    """Labels of one column each, and of columns of classes, one label a class.

    Args:
        columns: Their names.
        class_columns: Those that hold classes whatever their values look like.
        zero: What a 0 means, one of `ZEROS`.
    """

    def __init__(self, columns: Sequence[str], class_columns: Sequence[str], zero: str) -> None:
        super().__init__(columns)
        self._class_columns, self._zero = class_columns, zero
        self._tallies = {name: Tally() for name in columns}

    def see(self, rows: Rows) -> None:
        """Count values."""
        for name, tally in self._tallies.items():
            column = rows.columns[name]
            signs = as_signs(column)
            tally.counts += np.bincount(signs[np.abs(signs) < NOTHING] + 1, minlength=3)
            if name in self._class_columns:
                tally.classes.update(dict.fromkeys(column.texts()[1]))
            elif (others := signs == OTHER).any():
                codes, texts = column.texts()
                tally.classes.update((texts[place], None) for place in np.unique(codes[others]).tolist())
                tally.other = tally.other or rows.first_of(others, name)
            if len(tally.classes) > MOST_CLASSES:
                raise ValueError(f"label column {name!r} has more than {MOST_CLASSES:,} classes")

    def settle(self) -> None:
        """One label a column, or a class."""
        # for each column its classes, None where it is a label
        self._classes = {name: self._classes_of(name, tally) for name, tally in self._tallies.items()}
        binary = {name: self._tallies[name] for name, found in self._classes.items() if found is None}
        self._unobserved_zeros = self._find_unobserved_zeros(binary)
        for name, own in self._classes.items():
            self.names += [name] if own is None else [f"{name}={text}" for text in own]

    def _classes_of(self, name: str, tally: Tally) -> list[str] | None:
        if name not in self._class_columns:
            if tally.other is None:
                return None
            if tally.counts.any():
                raise not_a_label(*tally.other, "; name the column in class_columns if it holds classes")
        if not tally.classes:
            raise ValueError(f"label column {name!r} has no value in any row of train_files")
        return sorted(tally.classes, key=_class_key)

    def _find_unobserved_zeros(self, tallies: dict[str, Tally]) -> list[str]:
        """Return the columns in which a 0 means not observed.

        Raises:
            ValueError: If one column shows that 0 is not observed, and another has 0 and 1 without −1.
        """
        if self._zero != "auto":
            return list(tallies) if self._zero == "not_observed" else []
        held = {name: [bool(count) for count in tally.counts] for name, tally in tallies.items()}
        signed = [name for name, (minus, zero, _) in held.items() if minus and zero]
        unsigned = [name for name, (minus, zero, _) in held.items() if zero and not minus]
        if signed and unsigned:
            raise ValueError(
                f"label column {signed[0]!r} holds -1 and 0, {unsigned[0]!r} holds 0 and no -1: "
                "set zero_labels to negative or not_observed"
            )
        return signed

    def read(self, rows: Rows) -> Signs:
        """Return the columns' values; of a class 1 in its rows, −1 in those of others, 0 where the value is missing."""
        parts = [
            self._label(rows, name) if classes is None else self._group(rows, name, classes)
            for name, classes in self._classes.items()
        ]
        return np.concatenate(parts, axis=1)

    def _label(self, rows: Rows, name: str) -> Signs:
        signs = as_signs(rows.columns[name])
        if (others := signs == OTHER).any():
            raise not_a_label(*rows.first_of(others, name))
        if name not in self._unobserved_zeros:
            signs[signs == 0] = -1
        signs[signs == NOTHING] = 0
        return signs[:, None]

    def _group(self, rows: Rows, name: str, classes: list[str]) -> Signs:
        codes, texts = rows.columns[name].texts()
        patterns = np.full((len(texts) + 1, len(classes)), -1, np.int8)
        patterns[MISSING] = 0
        for place, text in enumerate(texts):
            if text in classes:
                patterns[place, classes.index(text)] = 1
            else:
                self.unknown[f"{name}={text}"] = None
        return patterns[codes]


def not_a_label(place: str, text: str, remedy: str = "") -> TableError:
    """Return the error of a text in a column of labels."""
    return TableError(f"{place}: a label must be 0, 1, -1, true, false or missing, got {text!r}{remedy}")


def as_signs(column: Column) -> Signs:
    """Values −1, 0 and 1, true and false as 1 and 0, `NOTHING` where missing, `OTHER` where none of these."""
    numbers, wrong = column.numbers()
    signs = np.full(len(numbers), OTHER, np.int8)
    for value in (-1, 0, 1):
        signs[numbers == value] = value
    signs[np.isnan(numbers) & ~wrong] = NOTHING
    if wrong.any():
        codes, texts = column.texts()
        words = np.array([WORDS.get(text.lower(), OTHER) for text in texts] + [NOTHING], np.int8)
        signs[wrong] = words[codes[wrong]]
    return signs


def _class_key(text: str) -> tuple[int, float, str]:
    """Sort classes that are integers by their value, before others."""
    is_integer = text.isascii() and text.removeprefix("-").isdigit()
    return (0, float(text), text) if is_integer else (1, 0.0, text)
