"""What predictions need of the rows that a model was trained on, as plain values and as a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hierlit.data.tables.table_file import TableError

NAMES = ("label_names", "parents", "input_names")
TOLERANCE = 1e-6
"""Relative difference up to which fitted numbers are the same: sums of another machine round otherwise."""


@dataclass(frozen=True)
class FittedTable:
    """Inputs and labels as found in the rows to train on.

    Inputs are the numbers, in the order of their columns, and then the categories', one-hot and not scaled.

    Attributes:
        numbers: Columns of numbers, of which x becomes (x − shift) / scale, or (√x − shift) / scale.
        fills: What x is where it is missing.
        shifts: Of each.
        scales: Of each.
        are_counts: Whether the square root is taken, of each; of no column if empty.
        categories: Those of each column of categories.
        frequent: The one of each column that stands for a missing one; None if it has none.
        unit: Whether each row is at last scaled to a mean square of 1.
        label_names: Of the labels.
        parents: Indices of each label's parents; None if no hierarchy was given.
        depths: Of the labels in it.
        class_labels: Indices of the labels that are the classes of a column, by its name.
    """

    numbers: list[str]
    fills: list[float]
    shifts: list[float]
    scales: list[float]
    categories: dict[str, list[str]]
    frequent: dict[str, str | None]
    unit: bool
    label_names: list[str]
    parents: list[list[int]] | None = None
    depths: list[int] | None = None
    class_labels: dict[str, list[int]] = field(default_factory=dict)
    are_counts: list[bool] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """The columns that inputs are made of."""
        return [*self.numbers, *self.categories]

    @property
    def input_names(self) -> list[str]:
        """Of the inputs: `column`, or `column=category`."""
        return self.numbers + [f"{name}={text}" for name, found in self.categories.items() for text in found]

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
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(f"no columns of a LabelTable: {error!r}") from error

    def difference(self, other: FittedTable) -> str:
        """Return the first thing in which two differ by more than rounding; or nothing."""
        for name in NAMES:
            if getattr(self, name) != getattr(other, name):
                return name
        for name in ("fills", "shifts", "scales"):
            for column, here, there, scale in zip(
                self.numbers, getattr(self, name), getattr(other, name), self.scales, strict=True
            ):
                if abs(here - there) > TOLERANCE * max(abs(here), abs(there), scale):
                    return f"the {name[:-1]} of column {column!r}, {here:.9g} and {there:.9g}"
        own, others = ((table.frequent, table.unit, table.are_counts) for table in (self, other))
        return "" if own == others else "categories or scale"


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


def refuse_other_rows(difference: str) -> None:
    """Say in what training rows differ from those of a checkpoint.

    Raises:
        ValueError: If they do.
    """
    if difference:
        raise ValueError(
            f"train_files and the splits must be those of the checkpoint, got others: they differ in {difference}"
        )
