"""What predictions need of the rows of a table that a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass, field

from hierlit.data.fitted import TOLERANCE, Fitted

NAMES = ("label_names", "parents", "input_names")


@dataclass(frozen=True)
class FittedTable(Fitted):
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
