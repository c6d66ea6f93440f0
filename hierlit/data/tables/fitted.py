"""What predictions need of the rows that a model was trained on, as plain values and as a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hierlit.data.tables.features import CategoryFit, FittedFeatures, NumberFit
from hierlit.data.tables.rows import TableError

TOLERANCE = 1e-6
"""Relative difference up to which fitted numbers are the same: sums of another machine round otherwise."""


@dataclass(frozen=True)
class FittedTable:
    """Inputs and labels as found in the rows to train on.

    Attributes:
        features: How inputs are made of columns.
        label_names: Of the labels.
        parents: Indices of each label's parents; None if no hierarchy was given.
        depths: Of the labels in it.
    """

    features: FittedFeatures
    label_names: list[str]
    parents: list[list[int]] | None = None
    depths: list[int] | None = None

    def to_json(self) -> str:
        """Return a text that `of_json` makes the same of."""
        state = asdict(self)
        del state["features"]["unseen"]
        return json.dumps(state, ensure_ascii=False)

    @classmethod
    def of_json(cls, text: str) -> FittedTable:
        """Return the inverse of `to_json`.

        Raises:
            ValueError: If the text is no such thing.
        """
        try:
            state: dict[str, Any] = json.loads(text)
            features = state.pop("features")
            numbers = [NumberFit(**fit) for fit in features["numbers"]]
            categories = [CategoryFit(**fit) for fit in features["categories"]]
            return cls(FittedFeatures(numbers, categories, features["unit"]), **state)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no columns of a LabelTable: {error!r}") from error

    def difference(self, other: FittedTable) -> str:
        """Return the first thing in which two differ by more than rounding; or nothing."""
        for name in ("label_names", "parents"):
            if getattr(self, name) != getattr(other, name):
                return name
        mine, others = self.features, other.features
        if mine.input_names != others.input_names:
            return "input_names"
        for fit, its in zip(mine.numbers, others.numbers, strict=True):
            for name in ("fill", "shift", "scale"):
                here, there = getattr(fit, name), getattr(its, name)
                if abs(here - there) > TOLERANCE * max(abs(here), abs(there), fit.scale):
                    return f"the {name} of column {fit.name!r}, {here:.9g} and {there:.9g}"
        return "" if (mine.categories, mine.unit) == (others.categories, others.unit) else "categories or scale"


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
