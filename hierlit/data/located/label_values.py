"""What the values of label arrays mean: found in the training files, then read everywhere alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierlit.data.tables.cells import Bools, Floats
from hierlit.data.tables.labels import MOST_CLASSES
from hierlit.data.tables.table_file import TableError

Signs = NDArray[np.int8]
Place = Callable[[int], str]
"""Says where a person finds a row."""
RULE = "a label must be -1, 0 or 1"
CLASS_RULE = "a class must be a whole number"


@dataclass(frozen=True)
class LabelCoding:
    """How values become −1, 0 and 1.

    Attributes:
        names: Of the labels.
        classes: The classes that are the labels, of one column of them; None where each column is a label.
        unobserved_zeros: Of each column, whether a 0 is not observed, or else negative.
    """

    names: list[str]
    classes: list[int] | None
    unobserved_zeros: list[bool]

    def read(self, values: Floats, present: Bools, place: Place, unknown: dict[int, None]) -> Signs:
        """Return labels [B, |G|, n].

        Args:
            values: [B, |G|, m], or [B, 1, m] where they are those of examples.
            present: Where there is a location, [B, |G|].
            place: Of a row of these.
            unknown: Is given the classes that are no label; none holds where they are.

        Raises:
            TableError: If a value is none of those allowed.
        """
        shown = np.broadcast_to(present[..., None], (*present.shape, values.shape[2]))
        if values.shape[1] == 1:
            shown = shown[:, :1] | True
        check_values(values, shown, self.classes is not None, place)
        if self.classes is None:
            zeros = np.where(self.unobserved_zeros, 0, -1)
            signs = np.where(values == 0, zeros, np.nan_to_num(values)).astype(np.int8)
        else:
            signs = np.where(values == np.array(self.classes), 1, -1).astype(np.int8)
            signs[np.isnan(values[..., 0]) | (values[..., 0] < 0)] = 0
            seen = values[(values >= 0) & shown]
            unknown.update(dict.fromkeys(sorted(set(seen.astype(np.int64).tolist()) - set(self.classes))))
        return signs * present[..., None].astype(np.int8)


class FoundValues:
    """The values of the labels of training files, gathered chunk by chunk.

    Args:
        name: Of the array.
        zero: What a 0 means: auto, negative or not_observed.
        classes: Whether one column holds classes; None to find out.
    """

    def __init__(self, name: str, zero: str, classes: bool | None) -> None:
        self._name, self._zero, self._classes = name, zero, classes
        self._held = np.zeros((3, 0), bool)
        self._whole: set[int] = set()

    def gather(self, values: Floats, present: Bools, place: Place) -> None:
        """Look at the labels of some rows; for the arguments see `LabelCoding.read`.

        Raises:
            TableError: If a value is neither −1, 0 or 1 nor a class of a single column.
        """
        shown = np.broadcast_to(present[..., None], (*present.shape, values.shape[2]))
        if values.shape[1] == 1:
            shown = shown[:, :1] | True
        may_be_classes = values.shape[2] == 1 and self._classes is not False
        check_values(values, shown, may_be_classes, place)
        held = np.stack([((values == value) & shown).any((0, 1)) for value in (-1, 0, 1)])
        self._held = held if not self._held.size else self._held | held
        if may_be_classes:
            self._whole.update(np.unique(values[shown & ~np.isnan(values)]).astype(np.int64).tolist())
            if len(self._whole) > MOST_CLASSES:
                raise ValueError(f"{self._name} must have at most {MOST_CLASSES:,} classes, got more")

    def coding(self, names: list[str] | None) -> LabelCoding:
        """Return what they mean.

        Args:
            names: Of the labels, if given.

        Raises:
            ValueError: If there are not as many names as labels, or zeros can be read in more than one way.
        """
        if self._classes or not self._whole <= {-1, 0, 1}:
            found = sorted(each for each in self._whole if each >= 0)
            return LabelCoding(self._names(names, [f"{self._name}={each}" for each in found]), found, [False])
        n_labels = self._held.shape[1]
        own = self._names(names, [f"{self._name}_{number}" for number in range(n_labels)])
        negative, zero, _ = self._held
        if self._zero != "auto":
            return LabelCoding(own, None, [self._zero == "not_observed"] * n_labels)
        signed, unsigned = negative & zero, zero & ~negative
        if signed.any() and unsigned.any():
            pair = own[int(signed.argmax())], own[int(unsigned.argmax())]
            raise ValueError(
                f"label {pair[0]!r} holds -1 and 0, {pair[1]!r} holds 0 and no -1: "
                "set zero_labels to negative or not_observed"
            )
        return LabelCoding(own, None, signed.tolist())

    @staticmethod
    def _names(given: list[str] | None, made: list[str]) -> list[str]:
        if given is not None and (len(given) != len(made) or len(set(given)) < len(given)):
            raise ValueError(f"label_names must be {len(made)} different names, one a label, got {given!r}")
        return given or made


def check_values(values: Floats, shown: Bools, are_classes: bool, place: Place) -> None:
    """See that values [B, |G|, m] are labels, or classes, wherever there are locations.

    Raises:
        TableError: If one is not; it names the first.
    """
    allowed = np.isnan(values) | np.isin(values, (-1, 0, 1))
    if are_classes:
        allowed |= values == np.round(values)
    if (wrong := ~allowed & shown).any():
        row, location, label = np.argwhere(wrong)[0]
        at = f"{place(row)}, " + (f"location {location}, " if values.shape[1] > 1 else "") + f"label {label}"
        value = values[row, location, label]
        rule = f"{RULE}, or {CLASS_RULE} in a column of its own" if are_classes else RULE
        raise TableError(f"{at}: {rule}, got {value:g}")
