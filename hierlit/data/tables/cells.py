"""Values of a data frame's columns, one idea of them for all formats: as numbers, as texts, and where they are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hierlit.data.tables.table_file import TableError, composed, file_of, place_of

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
MISSING = -1
"""The code of a value that is missing."""
WORDS = {"true": 1.0, "false": 0.0}
SIGNS = frozenset({"0", "1", "-1", *WORDS})
"""Values of labels, and not of classes."""
WHOLE = re.compile(r"\+?(-?\d+)(?:\.0*)?")
LEADING_ZERO = r"^[-+]?0\d+$"
"""A whole number that is written as codes are."""
LARGE = re.compile(r"-?\d(\.\d+)?e\+(1[6-9]|2\d)")
"""Whole numbers as pandas writes them where they are floats of 10¹⁶ or more."""


def require(*packages: str) -> None:
    """Import what reads tables.

    Raises:
        ImportError: With a hint, if it is not installed.
    """
    try:
        for name in packages:
            import_module(name)
    except ImportError as error:
        raise ImportError(f"reading tables needs {name}: pip install hierlit[tables]") from error


def numbers(column: Series, has_words: bool = True) -> tuple[Floats, Bools]:
    """Return a column's values as numbers.

    Args:
        column: The values.
        has_words: Whether true and false are 1 and 0.

    Returns:
        The values [rows], NaN where missing; and where [rows] there is neither a number nor nothing.
    """
    if column.dtype.kind in "biuf" and isinstance(column.dtype, np.dtype):
        return column.to_numpy(np.float64), np.zeros(len(column), bool)
    import pandas
    import pyarrow

    try:
        cast = pyarrow.array(column.array, from_pandas=True).cast(pyarrow.float64())
        return cast.to_numpy(zero_copy_only=False), np.zeros(len(column), bool)
    except pyarrow.ArrowException:  # something is no number, or written as Arrow does not read it
        codes, found = pandas.factorize(column)
    words = {"nan": np.nan} | (WORDS if has_words else {})
    known = [words.get(str(value).lower(), value) for value in found]
    values = np.array([*pandas.to_numeric(np.array(known, object), errors="coerce"), np.nan], np.float64)
    wrong = [bool(np.isnan(number)) and value == value for number, value in zip(values, known, strict=False)]
    return values[codes], np.array([*wrong, False])[codes]


def texts(column: Series, is_code: bool = True) -> tuple[NDArray[np.int64], list[str]]:
    """Return a column's values as texts.

    Args:
        column: The values.
        is_code: Whether 2.0 is 2 in texts too: a path may be called 2.0.

    Returns:
        Each row's place [rows] in a list of distinct texts, `MISSING` where there is none; and that list.
    """
    import pandas

    codes, values = pandas.factorize(column)
    place: dict[str, int] = {}
    places = [place.setdefault(as_text(value, is_code), len(place)) for value in values]
    return np.array([*places, MISSING])[codes], list(place)


def codes_of(column: Series, known: Sequence[str], others: Counter[str]) -> NDArray[np.int64]:
    """Return the places of a column's values among known texts.

    Args:
        column: The values.
        known: Distinct texts.
        others: Counts the values that are none of these, as `column=value`.

    Returns:
        Places [rows], `MISSING` where there is no value, and the number of known texts for one of `others`.
    """
    codes, found = texts(column)
    places = {text: number for number, text in enumerate(known)}
    for number, text in enumerate(found):
        if text not in places:
            others[f"{column.name}={text}"] += np.count_nonzero(codes == number)
    return np.array([*(places.get(text, len(known)) for text in found), MISSING])[codes]


def as_text(value: Any, is_code: bool = True) -> str:
    """Return a value as a person writes it: 2, not 2.0 or +2, if it is a number, or a text that is a code."""
    text = composed(str(value).strip())
    if not is_code and isinstance(value, str):
        return text
    if whole := WHOLE.fullmatch(text):
        return whole[1] if whole[1].strip("-0") else whole[1].removeprefix("-")
    return str(int(float(text))) if LARGE.fullmatch(text) else text


def note_codes(column: Series) -> None:
    """Tell a file of the first value, of texts to become numbers, that is written as codes are."""
    if column.dtype.kind in "biuf":
        return
    codes, found = texts(column, is_code=False)
    is_code = np.array([*(bool(re.match(LEADING_ZERO, text)) for text in found), False])[codes]
    if is_code.any():
        row = int(is_code.argmax())
        file_of(int(column.index[row])).codes.setdefault(str(column.name), found[codes[row]])


def place(frame: DataFrame, chosen: Bools, column: str) -> str:
    """Return where a person finds a column in the first of the chosen rows [rows]."""
    return f"{place_of(int(frame.index[chosen.argmax()]))}, column {column!r}"


def cell_error(frame: DataFrame, chosen: Bools, column: str, rule: str, remedy: str = "") -> TableError:
    """Return the error of a column's value in the first of the chosen rows [rows]."""
    text = as_text(frame[column].iloc[int(chosen.argmax())])
    return TableError(f"{place(frame, chosen, column)}: {rule}, got {text!r}{remedy}")
