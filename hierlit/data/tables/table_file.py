"""A file of a table: its columns, and its rows a chunk at a time as data frames, whatever the format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame

MISSING_TEXTS = ("", "?", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
CELLS_AT_ONCE = 2**17


class TableError(ValueError):
    """What is wrong with a file, in one line that names it and, if there is one, the line, the column and the value."""


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
        nameless: Names of columns that were given none.
        is_number: Whether the columns whose type the header tells hold numbers, or else categories.
        refused: Types that no input or label can have, by column.
        label_names: Columns that the format has for labels.
        path_column: The column of paths or terms that the format has for labels.
        classes: What the header lists as that column's paths, or edges; empty if it lists none.
        classes_line: The line where it does.

    Raises:
        TableError: If the header cannot be read.
    """

    has_lines = False
    """Whether a person finds a row by its line, or else by its number from 1."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        self.repeated: list[str] = []
        self.nameless: list[str] = []
        self.is_number: dict[str, bool] = {}
        self.refused: dict[str, str] = {}
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
    def frames(self, names: Sequence[str]) -> Iterator[DataFrame]:
        """Yield the columns `names` of some rows after the others; an index is the line of each row, or of no meaning.

        Raises:
            TableError: If a row cannot be read.
        """

    def chunks(self, names: Sequence[str]) -> Iterator[DataFrame]:
        """Yield what `frames` gives; a row's index says where a person finds it.

        Raises:
            TableError: If a row cannot be read, or there are none.
        """
        n_rows = 0
        for frame in self.frames(names):
            lines = frame.index if self.has_lines else range(n_rows + 1, n_rows + len(frame) + 1)
            n_rows += len(frame)
            yield frame.set_axis([f"{self.path}, {'line' if self.has_lines else 'row'} {line}" for line in lines])
        if not n_rows:
            raise TableError(f"{self.path} has a header but no rows")


def read_error(path: Path, error: Exception) -> TableError:
    """Return what a person reads of an error of the operating system or of the decompression."""
    return TableError(f"cannot read {path}: {getattr(error, 'strerror', None) or first_line(error)}")


def first_line(error: Exception) -> str:
    """Return the first line of an error's text."""
    return str(error).partition("\n")[0]
