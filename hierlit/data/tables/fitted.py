"""What predictions need of the rows of a table that a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass, field

from hierlit.data.fitted import FEW, Fitted, other_names, other_values
from hierlit.models.checks import listed


@dataclass(frozen=True)
class FittedTable(Fitted):
    """Inputs and labels as found in the rows to train on.

    Inputs are the numbers, in the order of their columns, and then the categories', one-hot and not scaled.

    Attributes:
        numbers: Columns of numbers, of which x becomes (x − shift) / scale, or (√x − shift) / scale.
        fills: What x is where it is missing.
        shifts: Of each.
        scales: Of each.
        flags: Those of the numbers that true and false stand for, as 1 and 0; all where that is not known, None.
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
    flags: list[str] | None = None

    @property
    def columns(self) -> list[str]:
        """The columns that inputs are made of."""
        return [*self.numbers, *self.categories]

    @property
    def input_names(self) -> list[str]:
        """Of the inputs: `column`, or `column=category`."""
        return self.numbers + [f"{name}={text}" for name, found in self.categories.items() for text in found]

    def difference(self, other: FittedTable, values: bool = True) -> str:
        """Say in what a checkpoint's are others, by more than rounding; nothing if they are not. See `Fitted`."""
        names = other_names("label", self.label_names, other.label_names)
        names = names or other_names("input", self.input_names, other.input_names)
        if names := names or other_names("input column", self.columns, other.columns):
            return names
        if self.parents != other.parents:
            return "the hierarchy has other edges"
        if not values:
            return ""
        if (self.unit, self._is_scaled) != (other.unit, other._is_scaled):
            return "scale is another"
        if self.are_counts != other.are_counts:
            return "other columns are taken for counts"
        for what, own, theirs in (
            ("mean", self.shifts, other.shifts),
            ("standard deviation", self.scales, other.scales),
            ("value in place of missing ones", self.fills, other.fills),
        ):
            if changed := [repr(self.numbers[column]) for column in other_values(own, theirs, self.scales)]:
                have = "column {} has" if len(changed) == 1 else "columns {} have"
                return f"{have.format(listed(changed, FEW))} another {what}"
        changed = [repr(name) for name, text in self.frequent.items() if text != other.frequent[name]]
        return f"the most frequent category is another in {listed(changed, FEW)}" if changed else ""

    @property
    def _is_scaled(self) -> bool:
        return any(self.shifts) or any(scale != 1 for scale in self.scales)
