"""Input columns: numbers and categories as read, and filled, scaled and one-hot as fitted to the training rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierlit.data.tables.rows import MISSING, Floats, Rows, TableError, TableFile

IMPUTATIONS = ("mean", "most_frequent")
SCALES = ("standard", "unit", "none")
MOST_CATEGORIES = 1000
LARGEST = float(np.finfo(np.float32).max)


@dataclass
class Tally:
    """What an input column holds: how many numbers, how many other texts, and the place and text of the first."""

    n_numbers: int = 0
    n_texts: int = 0
    text: tuple[str, str] | None = None


class FeatureSurvey:
    """Look at the rows to train on, chunk by chunk, for which input columns are numbers.

    Args:
        files: The files to train on.
        names: The input columns.
        categorical: Those that are categories whatever their values look like.
    """

    def __init__(self, files: Sequence[TableFile], names: Sequence[str], categorical: Sequence[str]) -> None:
        self._names = list(names)
        self._known: dict[str, bool] = {}
        for name in names:
            declared = {file.types[name].is_number for file in files if name in file.types} - {None}
            if name in categorical or declared:
                self._known[name] = name not in categorical and declared == {True}
        self._tallies = {name: Tally() for name in names if name not in self._known}

    @property
    def columns(self) -> list[str]:
        """The columns that it has to look at: those that no header tells the type of."""
        return list(self._tallies)

    def see(self, rows: Rows) -> None:
        """Count numbers and texts."""
        for name, tally in self._tallies.items():
            numbers, wrong = rows.columns[name].numbers()
            n_texts = int(wrong.sum())
            tally.n_numbers += int(np.count_nonzero(~np.isnan(numbers)))
            tally.n_texts += n_texts
            if n_texts and tally.text is None:
                tally.text = rows.first_of(wrong, name)

    def kinds(self) -> FeatureKinds:
        """Return which columns are numbers: those that are at least half of them; a column without a value is one too.

        Raises:
            TableError: If such a column has other texts.
        """
        numbers = {name: self._known.get(name, True) for name in self._names}
        for name, tally in self._tallies.items():
            numbers[name] = tally.n_numbers >= tally.n_texts
            if numbers[name] and tally.text is not None:
                raise not_a_number(*tally.text, "; name the column in categorical_columns if it holds categories")
        return FeatureKinds(
            [name for name in self._names if numbers[name]], [name for name in self._names if not numbers[name]]
        )


@dataclass(frozen=True)
class FeatureKinds:
    """Input columns by kind."""

    numbers: list[str]
    categories: list[str]

    def read(self, rows: Rows, texts: list[dict[str, int]] | None = None) -> RawFeatures:
        """Return the columns' values in some rows.

        Args:
            rows: The rows.
            texts: For each column of categories the codes of its texts so far, to which new ones are added.

        Raises:
            TableError: If a column of numbers has something else, or an infinite one, or a category is none that the
                file's header lists.
        """
        texts = [{} for _ in self.categories] if texts is None else texts
        numbers = np.empty((len(rows), len(self.numbers)))
        for place, name in enumerate(self.numbers):
            numbers[:, place], wrong = rows.columns[name].numbers()
            if wrong.any():
                raise not_a_number(*rows.first_of(wrong, name))
        if (too_large := np.abs(numbers) > LARGEST).any():
            row, place = np.argwhere(too_large)[0]
            where = rows.place(int(row), self.numbers[place])
            raise TableError(f"{where}: a number must be finite and below 3.4e38, got {numbers[row, place]}")
        codes = np.empty((len(rows), len(self.categories)), np.int64)
        for place, name in enumerate(self.categories):
            codes[:, place] = self._codes(rows, name, texts[place])
        return RawFeatures(numbers, codes, texts)

    def _codes(self, rows: Rows, name: str, known: dict[str, int]) -> NDArray[np.int64]:
        own, distinct = rows.columns[name].texts()
        declared = rows.file.types[name].categories if name in rows.file.types else None
        for place, text in enumerate(distinct):
            if declared is not None and text not in declared:
                raise TableError(
                    f"{rows.first_of(own == place, name)[0]}: must be one of {', '.join(declared)}, got {text!r}"
                )
        codes = [known.setdefault(text, len(known)) for text in distinct]
        return np.array([*codes, MISSING], np.int64)[own]


@dataclass(frozen=True)
class RawFeatures:
    """Input columns as read.

    Attributes:
        numbers: Float64 [rows, columns of numbers], NaN where missing.
        codes: Long [rows, columns of categories], `MISSING` where missing.
        texts: For each column of categories the codes of its texts.
    """

    numbers: Floats
    codes: NDArray[np.int64]
    texts: list[dict[str, int]]

    def __getitem__(self, rows: NDArray[Any]) -> RawFeatures:
        return RawFeatures(self.numbers[rows], self.codes[rows], self.texts)

    def __len__(self) -> int:
        return len(self.numbers)


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
class FittedFeatures:
    """Input columns as fitted to the rows to train on.

    Inputs are the numbers, in the order of their columns, and then the categories', one-hot and not scaled.

    Attributes:
        numbers: Columns of numbers.
        categories: Columns of categories.
        unit: Whether each row is at last scaled to a mean square of 1.
        unseen: Categories of rows read that were not among those to train on, as `column=category`.
    """

    numbers: list[NumberFit]
    categories: list[CategoryFit]
    unit: bool = False
    unseen: dict[str, None] = field(default_factory=dict, compare=False)

    @property
    def kinds(self) -> FeatureKinds:
        """The columns by kind."""
        return FeatureKinds([fit.name for fit in self.numbers], [fit.name for fit in self.categories])

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        return self.kinds.numbers + self.kinds.categories

    @property
    def input_names(self) -> list[str]:
        """Of the inputs: `column`, or `column=category`."""
        return self.kinds.numbers + [f"{fit.name}={text}" for fit in self.categories for text in fit.categories]

    def encode(self, raw: RawFeatures) -> NDArray[np.float32]:
        """Return inputs [rows, d] of columns as read; a category not fitted to is all zeros."""
        shift, scale, fill = (
            np.array([getattr(fit, name) for fit in self.numbers]) for name in ("shift", "scale", "fill")
        )
        numbers = np.where(np.isnan(raw.numbers), fill, raw.numbers)
        parts = [((numbers - shift) / scale).astype(np.float32)]
        for place, fit in enumerate(self.categories):
            parts.append(self._one_hot(raw.codes[:, place], fit, raw.texts[place]))
        inputs = np.concatenate(parts, axis=1)
        if self.unit:
            norms = np.sqrt(np.mean(np.square(inputs, dtype=np.float64), axis=1, keepdims=True))
            inputs = (inputs / np.where(norms > 0, norms, 1)).astype(np.float32)
        return inputs

    def _one_hot(self, codes: NDArray[np.int64], fit: CategoryFit, texts: dict[str, int]) -> NDArray[np.float32]:
        place = {text: number for number, text in enumerate(fit.categories)}
        patterns = np.zeros((len(texts) + 1, len(fit.categories)), np.float32)
        for text, code in texts.items():
            if text in place:
                patterns[code, place[text]] = 1
            elif (codes == code).any():
                self.unseen[f"{fit.name}={text}"] = None
        if fit.fill is not None:
            patterns[MISSING, place[fit.fill]] = 1
        return patterns[codes]


def fit_features(kinds: FeatureKinds, parts: Sequence[RawFeatures], impute: str, scale: str) -> FittedFeatures:
    """Fit what fills and scales columns.

    Means and standard deviations are those of the values that are not missing, with as many degrees of freedom; a
    column of one value is shifted alone, and one of none becomes zeros.

    Args:
        kinds: The columns by kind.
        parts: The rows to fit to, of which all have the same codes of texts.
        impute: One of `IMPUTATIONS`; categories are filled with the most frequent one in any case.
        scale: One of `SCALES`.

    Raises:
        ValueError: If a column has too many categories.
    """
    numbers = []
    for place, name in enumerate(kinds.numbers):
        values = np.concatenate([part.numbers[:, place] for part in parts])
        numbers.append(_fit_numbers(name, values[~np.isnan(values)], impute, scale))
    categories = []
    for place, name in enumerate(kinds.categories):
        codes = np.concatenate([part.codes[:, place] for part in parts])
        categories.append(_fit_categories(name, codes[codes != MISSING], list(parts[0].texts[place])))
    return FittedFeatures(numbers, categories, scale == "unit")


def _fit_numbers(name: str, values: Floats, impute: str, scale: str) -> NumberFit:
    if not len(values):
        return NumberFit(name, fill=0.0)
    mean = fill = float(np.sum(values / len(values)))
    if impute == "most_frequent":
        distinct, counts = np.unique(values, return_counts=True)
        fill = float(distinct[counts.argmax()])
    if scale == "none":
        return NumberFit(name, fill)
    if values.min() == values.max():
        return NumberFit(name, fill, shift=float(values[0]))
    largest = float(np.abs(values - mean).max())
    deviation = largest * math.sqrt(np.mean(np.square((values - mean) / largest)))
    return NumberFit(name, fill, mean, deviation)


def _fit_categories(name: str, codes: NDArray[np.int64], texts: list[str]) -> CategoryFit:
    found, counts = np.unique(codes, return_counts=True)
    if len(found) > MOST_CATEGORIES:
        remedy = "name it in ignore_columns if it identifies rows"
        raise ValueError(f"column {name!r} has {len(found):,} categories, more than {MOST_CATEGORIES:,}: {remedy}")
    frequent = texts[found[counts.argmax()]] if len(found) else None
    return CategoryFit(name, sorted(texts[code] for code in found), frequent)


def not_a_number(place: str, text: str, remedy: str = "") -> TableError:
    """Return the error of a text in a column of numbers."""
    return TableError(f"{place}: must be a number, got {text!r}{remedy}")
