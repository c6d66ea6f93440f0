"""Rows of a table a chunk at a time, whatever the file's format, and the place of each for a person to look at."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MISSING_TEXTS = ("", "?", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
MISSING = -1
"""The code of a value that is missing."""


class TableError(ValueError):
    """What is wrong with a file, in one line that names it and, if there is one, the line, the column and the value."""


class Column(Protocol):
    """A column of a chunk."""

    def __len__(self) -> int: ...

    def numbers(self) -> tuple[Floats, NDArray[np.bool_]]:
        """Return its values [rows], NaN where missing, and where [rows] it holds neither a number nor nothing."""

    def texts(self) -> tuple[NDArray[np.int64], list[str]]:
        """Return each row's place [rows] in a list of distinct texts, `MISSING` where there is none, and that list."""


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers.

    Attributes:
        values: Float64 [rows], NaN where missing.
    """

    values: Floats

    def __len__(self) -> int:
        return len(self.values)

    def numbers(self) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the values, all of them numbers or missing."""
        return self.values, np.zeros(len(self.values), bool)

    def texts(self) -> tuple[NDArray[np.int64], list[str]]:
        """Return the values as a person writes them: 3, not 3.0."""
        distinct, codes = np.unique(self.values, return_inverse=True)
        codes = np.where(np.isnan(self.values), MISSING, codes)
        return codes, [str(int(v)) if v.is_integer() else repr(v) for v in distinct.tolist() if v == v]


@dataclass(frozen=True)
class TextColumn:
    """A column of texts, which may be numbers.

    Attributes:
        values: Arrow's array of strings [rows].
        missing: Texts that stand for a missing value, as nulls do.
    """

    values: Any
    missing: frozenset[str]

    def __len__(self) -> int:
        return len(self.values)

    def numbers(self) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the values read as numbers: all at once, or where that fails each distinct text."""
        arrow, compute = import_arrow()
        try:
            parsed = compute.cast(self.values, arrow.float64()).to_numpy(zero_copy_only=False)
            return parsed, np.zeros(len(parsed), bool)
        except arrow.ArrowInvalid:
            codes, texts = self.texts()
        read = [as_number(text) for text in texts]
        values = np.array([np.nan if number is None else number for number in read] + [np.nan])
        return values[codes], np.array([number is None for number in read] + [False])[codes]

    def texts(self) -> tuple[NDArray[np.int64], list[str]]:
        """Return the distinct texts, without the space around them."""
        encoded = self.values.dictionary_encode()
        codes = encoded.indices.fill_null(MISSING).to_numpy(zero_copy_only=False).astype(np.int64)
        place: dict[str, int] = {}
        places = [
            MISSING if text in self.missing else place.setdefault(text, len(place))
            for text in (text.strip() for text in encoded.dictionary.to_pylist())
        ]
        return np.array([*places, MISSING])[codes], list(place)


def as_number(text: str) -> float | None:
    """Return a text's number; None if it is none."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


class ColumnType(NamedTuple):
    """What a file's header says of a column.

    Attributes:
        is_number: Whether it holds numbers; None where its values are to tell.
        categories: The values it may hold; None where the header does not list them.
        refused: The name of a type that no input or label can have; else nothing.
    """

    is_number: bool | None = None
    categories: tuple[str, ...] | None = None
    refused: str = ""


@dataclass(frozen=True)
class Reading:
    """How text files are read.

    Attributes:
        separator: Between the values of a row; by the suffix when None.
        missing: Texts that stand for a missing value.
        encoding: Of the file.
    """

    separator: str | None = None
    missing: frozenset[str] = frozenset()
    encoding: str = "utf-8"


class TableFile(ABC):
    """A file with a header and rows, of which opening reads the header alone.

    Args:
        path: The file.

    Attributes:
        path: As given.
        names: Of its columns, in order and distinct: a second `a` is `a (2)`, and a third column without a name
            `column 3`.
        repeated: Names that occurred more than once.
        nameless: Names given to columns that had none.
        types: What the header says of a column; nothing where it says nothing.
        label_names: Columns that the format has for labels.
        path_column: The column of paths or terms that the format has for labels.
        classes: What the header lists as that column's paths, or edges; empty if it lists none.
        classes_line: The line where it does.

    Raises:
        TableError: If the header cannot be read.
    """

    unit = "row"
    """What `place` counts, from 1."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        self.repeated: list[str] = []
        self.nameless: list[str] = []
        self.types: dict[str, ColumnType] = {}
        self.label_names: list[str] = []
        self.path_column: str | None = None
        self.classes: list[str] = []
        self.classes_line = 0

    def take_names(self, names: Sequence[str]) -> None:
        """Take the header's names and make them distinct."""
        seen: dict[str, int] = {}
        for number, name in enumerate(names, start=1):
            count = seen[name] = seen.get(name, 0) + 1
            if not name:
                self.nameless.append(f"column {number}")
            elif count == 2:
                self.repeated.append(name)
            self.names.append(self.nameless[-1] if not name else name if count == 1 else f"{name} ({count})")

    @abstractmethod
    def chunks(self, names: Sequence[str]) -> Iterator[Mapping[str, Column]]:
        """Return the columns `names` of some rows after the others.

        Raises:
            TableError: If a row cannot be read.
        """

    def line(self, row: int) -> int:
        """Return the number, from 1, of a row counted from 0, in the file's own unit."""
        return row + 1

    def place(self, row: int, column: str | None = None) -> str:
        """Return where a person finds a row, counted from 0, and a column of it."""
        where = f"{self.path}, {self.unit} {self.line(row)}"
        return where if column is None else f"{where}, column {column!r}"

    def rows(self, names: Sequence[str]) -> Iterator["Rows"]:
        """Yield what `chunks` gives, with the number of each chunk's first row.

        Raises:
            TableError: If a row cannot be read, or there are none.
        """
        first = 0
        for columns in self.chunks(names):
            rows = Rows(self, first, columns)
            first += len(rows)
            yield rows
        if not first:
            raise TableError(f"{self.path} has a header but no rows")


@dataclass(frozen=True)
class Rows:
    """Some rows of a file.

    Attributes:
        file: The file.
        first: The number of the first of them, from 0.
        columns: By name.
    """

    file: TableFile
    first: int
    columns: Mapping[str, Column] = field(repr=False)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def place(self, row: int, column: str | None = None) -> str:
        """Return where a person finds one of these rows, counted from 0."""
        return self.file.place(self.first + int(row), column)

    def first_of(self, chosen: NDArray[np.bool_], column: str) -> tuple[str, str]:
        """Return the place of the first of some rows, and the text of a column there."""
        row = int(chosen.argmax())
        codes, texts = self.columns[column].texts()
        return self.place(row, column), texts[codes[row]]


def import_arrow() -> tuple[ModuleType, ModuleType]:
    """Return the modules pyarrow and pyarrow.compute.

    Raises:
        ImportError: With a hint, if they are not installed.
    """
    try:
        import pyarrow
        import pyarrow.compute
    except ImportError as error:
        raise ImportError("reading tables needs pyarrow: pip install hierlit[tables]") from error
    return pyarrow, pyarrow.compute
