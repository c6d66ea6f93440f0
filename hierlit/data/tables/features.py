"""Which input columns are numbers, and what fills and scales them, fitted to the training rows by scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hierlit.data.tables.cells import MISSING, Bools, Floats, cell_error, note_codes, numbers, place, texts
from hierlit.data.tables.roles import ColumnRoles
from hierlit.data.tables.table_file import TableError, TableFile
from hierlit.models.checks import listed

if TYPE_CHECKING:
    from pandas import DataFrame, Series

IMPUTATIONS = ("mean", "most_frequent")
SCALES = ("standard", "auto", "unit", "none")
MOST_CATEGORIES = 1000
REMEDY = (
    "; name the column in categorical_columns if it holds categories, and the text in missing if it stands for no value"
)
LARGEST_COUNT = 255
"""Larger numbers, most of them 0, are amounts, of money for example."""
STEPS = 1000
"""Values that float32 must tell apart between the least and the largest of a column."""
LARGEST = float(np.finfo(np.float32).max)


def take_numbers(
    frame: DataFrame, roles: ColumnRoles, files: Sequence[TableFile]
) -> tuple[DataFrame, list[str], list[str]]:
    """Turn the columns of numbers among the inputs into such.

    They are those that a header says are, or of which at least half of the values are; a column without a value is one
    too. True and false are 1 and 0 where all other values are that too; beside other numbers they are texts, which
    such a column must not have.

    Args:
        frame: The rows of the files to train on.
        roles: Its columns by what they are.
        files: The files.

    Returns:
        The rows, the names of these columns, and of those that are 0 and 1 alone, which true and false may stand for.

    Raises:
        TableError: If such a column has other texts.
    """
    from pandas import DataFrame, Series

    columns, found, flags = dict(frame.items()), [], []
    for name in roles.features:
        declared = {file.is_number[name] for file in files if name in file.is_number}
        if name in roles.categorical or False in declared:
            continue
        values, wrong = numbers(frame[name])
        is_flag = not wrong.any() and bool((np.isnan(values) | (values == 0) | (values == 1)).all())
        if not is_flag:
            values, wrong = numbers(frame[name], has_words=False)
        if declared or np.count_nonzero(~np.isnan(values)) >= np.count_nonzero(wrong):
            check_numbers(frame, name, values, wrong, REMEDY)
            if not declared:
                note_codes(frame[name])
            columns[name] = Series(values, frame.index)
            found.append(name)
            flags += [name] * is_flag
    return DataFrame(columns, copy=False), found, flags


def float32_notices(least: Floats, largest: Floats, names: Sequence[str], what: str, remedy: str) -> list[str]:
    """Name the columns that vary by few steps of float32: seconds since 1970 of rows of a day are counted by 128.

    Args:
        least: Of each column.
        largest: Of each column.
        names: Of the columns.
        what: What they are called.
        remedy: How to have them told apart.
    """
    steps = (largest - least) / (np.maximum(np.abs(least), np.abs(largest)) + 1e-300) / np.finfo(np.float32).eps
    own = [name for name, is_coarse in zip(names, (steps > 0) & (steps < STEPS), strict=True) if is_coarse]
    return [f"{len(own)} of {len(steps)} {what} vary too little for float32: {remedy}: {listed(own)}"] if own else []


def check_numbers(frame: DataFrame, name: str, values: Floats, wrong: Bools, remedy: str = "") -> None:
    """Look at what `numbers` gave of a column.

    Raises:
        TableError: If there was something else, or a number is infinite.
    """
    if wrong.any():
        raise cell_error(frame, wrong, name, "must be a number", remedy)
    if (too_large := np.abs(values) > LARGEST).any():
        found = values[too_large.argmax()]
        raise TableError(f"{place(frame, too_large, name)}: a number must be finite and below 3.4e38, got {found}")


def fit_numbers(values: Floats, impute: str, scale: str) -> dict[str, list[Any]]:
    """Fit what fills and scales columns of numbers.

    Means and standard deviations are those of the values that are not missing; a column of one value is shifted alone,
    and one of none becomes zeros. With the scale auto columns of counts have their square roots taken, and share the
    scale that gives these a mean variance of 1: how often a thing is met says how far it matters.

    Args:
        values: Of the rows to fit to, [rows, columns].
        impute: One of `IMPUTATIONS`.
        scale: One of `SCALES`.

    Returns:
        The attributes `fills`, `shifts`, `scales` and `are_counts` of a `FittedTable`.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    n_columns = values.shape[1]
    counts = np.array([scale == "auto" and holds_counts(column) for column in values.T], bool)
    fit: dict[str, list[Any]] = {"fills": [0.0] * n_columns, "shifts": [0.0] * n_columns, "scales": [1.0] * n_columns}
    fit["are_counts"] = counts.tolist() if counts.any() else []
    if n_columns:
        fit["fills"] = SimpleImputer(strategy=impute, keep_empty_features=True).fit(values).statistics_.tolist()
    if n_columns and scale != "none":
        if counts.any():
            values = values.copy()
            values[:, counts] = np.sqrt(values[:, counts])
        with np.errstate(invalid="ignore"):  # a column of no value
            scaler = StandardScaler().fit(values)
        if counts.any():
            scaler.scale_[counts] = np.sqrt(scaler.var_[counts].mean())
        fit["shifts"] = np.nan_to_num(scaler.mean_).tolist()
        fit["scales"] = np.nan_to_num(scaler.scale_, nan=1.0).tolist()
    return fit


def holds_counts(column: Floats) -> bool:
    """Return whether what is not missing is whole numbers up to `LARGEST_COUNT`, over half of them 0, some above 1."""
    seen = column[~np.isnan(column)]
    are_rare = np.count_nonzero(seen == 0) > len(seen) / 2
    return bool(are_rare and seen.min() == 0 and 1 < seen.max() <= LARGEST_COUNT and (seen == np.floor(seen)).all())


def fit_categories(column: Series) -> tuple[list[str], str | None]:
    """Return a column's categories, and the most frequent one.

    Raises:
        ValueError: If there are too many.
    """
    codes, found = texts(column)
    if len(found) > MOST_CATEGORIES:
        remedy = "name it in ignore_columns if it identifies rows"
        remedy += "" if numbers(column)[1].any() else ", or store numbers as numbers"
        raise ValueError(
            f"column {column.name!r} has {len(found):,} categories, more than {MOST_CATEGORIES:,}: {remedy}"
        )
    return sorted(found), found[np.bincount(codes[codes != MISSING]).argmax()] if found else None
