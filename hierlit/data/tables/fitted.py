"""What predictions need of the rows that a model was trained on, as plain values and as a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hierlit.data.tables.table_file import TableError

TOLERANCE = 1e-6
"""Relative difference up to which fitted numbers are the same: sums of another machine round otherwise."""


@dataclass(frozen=True)
class NumberFit:
    """What a column of numbers becomes: (x − shift) / scale, and `fill` where x is missing."""

    name: str
    fill: float
    shift: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class CategoryFit:
    """What a column of categories becomes: a 1 at its place among them, that of `fill` where it is missing."""

    name: str
    categories: list[str]
    fill: str | None


@dataclass(frozen=True)
class FittedTable:
    """Inputs and labels as found in the rows to train on.

    Inputs are the numbers, in the order of their columns, and then the categories', one-hot and not scaled.

    Attributes:
        numbers: Columns of numbers.
        categories: Columns of categories.
        unit: Whether each row is at last scaled to a mean square of 1.
        label_names: Of the labels.
        parents: Indices of each label's parents; None if no hierarchy was given.
        depths: Of the labels in it.
    """

    numbers: list[NumberFit]
    categories: list[CategoryFit]
    unit: bool
    label_names: list[str]
    parents: list[list[int]] | None = None
    depths: list[int] | None = None

    @property
    def columns(self) -> list[str]:
        """The columns that inputs are made of."""
        return [fit.name for fit in self.numbers] + [fit.name for fit in self.categories]

    @property
    def input_names(self) -> list[str]:
        """Of the inputs: `column`, or `column=category`."""
        names = [fit.name for fit in self.numbers]
        return names + [f"{fit.name}={text}" for fit in self.categories for text in fit.categories]

    def to_json(self) -> str:
        """Return a text that `of_json` makes the same of."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def of_json(cls, text: str) -> FittedTable:
        """Return the inverse of `to_json`.

        Raises:
            ValueError: If the text is no such thing.
        """
        try:
            state: dict[str, Any] = json.loads(text)
            numbers = [NumberFit(**fit) for fit in state.pop("numbers")]
            return cls(numbers, [CategoryFit(**fit) for fit in state.pop("categories")], **state)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no columns of a LabelTable: {error!r}") from error

    def difference(self, other: FittedTable) -> str:
        """Return the first thing in which two differ by more than rounding; or nothing."""
        for name in ("label_names", "parents", "input_names"):
            if getattr(self, name) != getattr(other, name):
                return name
        for fit, its in zip(self.numbers, other.numbers, strict=True):
            for name in ("fill", "shift", "scale"):
                here, there = getattr(fit, name), getattr(its, name)
                if abs(here - there) > TOLERANCE * max(abs(here), abs(there), fit.scale):
                    return f"the {name} of column {fit.name!r}, {here:.9g} and {there:.9g}"
        return "" if (self.categories, self.unit) == (other.categories, other.unit) else "categories or scale"


def read_columns(path: Path) -> FittedTable:
    """Read what `LabelTable.write_columns` wrote.

    Raises:
        TableError: If the file cannot be read or holds something else.
    """
    try:
        return FittedTable.of_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TableError(f"columns_file: cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise TableError(f"columns_file: {path} was not written by write_columns ({error})") from error
