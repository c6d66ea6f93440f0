"""A file of a table: its columns, and its rows a chunk at a time as data frames, whatever the format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import normalize
from weakref import WeakValueDictionary

from hierlit.models.checks import listed

if TYPE_CHECKING:
    from pandas import DataFrame

NOT_A_NUMBER = ("NaN", "nan", "-NaN", "-nan")
MISSING_TEXTS = ("", "?", "NA", "N/A", "n/a", "#NA", "#N/A", "#N/A N/A", "<NA>", "null", "NULL", "None", *NOT_A_NUMBER)
"""Nothing, ARFF's ?, and what pandas reads as missing."""
CELLS_AT_ONCE = 2**17
MIN_ROWS = 2**9
"""Rows of a file of columns that are read at once at least: each column costs something every time."""
FEW = 3
"""Columns that are named beside the first of which something is true."""
MOST_ROWS = 2**40
NUMBERS = count()
OPEN: WeakValueDictionary[int, TableFile] = WeakValueDictionary()
"""Files by the numbers that rows of theirs have in an index of a data frame, times `MOST_ROWS`."""


class TableError(ValueError):
    """What is wrong with a file, in one line that names it and, if there is one, the line, the column and the value."""


@dataclass(frozen=True)
class Reading:
    """How text files are read.

    Attributes:
        separator: Between the values of a row; by the suffix when None.
        missing: Texts that stand for a missing value; `MISSING_TEXTS` when None.
        encoding: Of the file.
    """

    separator: str | None = None
    missing: frozenset[str] | None = None
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
        lists: Columns of those, of lists of texts, which can be paths.
        label_names: Columns that the format has for labels.
        class_names: Columns that have other values than labels have, as far as the header tells.
        words_are_ours: Whether nobody has said which texts stand for a missing value.
        notices: What a person should know of the rows, once they have been read.
        path_column: The column of paths or terms that the format has for labels.
        classes: What the header lists as that column's paths, or edges; empty if it lists none.
        classes_line: The line where it does.
        texts: Columns that the header says hold texts, but not that these are categories.
        as_written: Columns whose whole numbers a reader wants as texts, as paths are.
        words: Of each column of texts read, the words that were taken for a missing value, with how often.
        blanks: Of each column of texts read, the cells that are missing because there is nothing in the text, where a
            format has nulls of its own.
        codes: Of each column given as numbers, a value of it that is written as a code, with a leading zero.

    Raises:
        TableError: If the header cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._number = path, next(NUMBERS)
        OPEN[self._number] = self
        self.names: list[str] = []
        self.repeated: list[str] = []
        self.nameless: list[str] = []
        self.is_number: dict[str, bool] = {}
        self.refused: dict[str, str] = {}
        self.lists: list[str] = []
        self.label_names: list[str] = []
        self.class_names: list[str] = []
        self.words_are_ours = False
        self.notices: list[str] = []
        self.path_column: str | None = None
        self.classes: list[str] = []
        self.classes_line = 0
        self.texts: list[str] = []
        self.as_written: list[str] = []
        self.words: dict[str, Counter[str]] = {}
        self.blanks: Counter[str] = Counter()
        self.codes: dict[str, str] = {}

    def take_names(self, names: Sequence[str]) -> None:
        """Take the header's names and make them distinct."""
        seen, taken = Counter[str](), set[str]()
        for number, name in enumerate(map(composed, names), start=1):
            seen[name] += 1
            count = seen[name]
            if not name:
                self.nameless.append(f"column {number}")
            elif count == 2:
                self.repeated.append(name)
            own = self.nameless[-1] if not name else name if count == 1 else f"{name} ({count})"
            while own in taken:
                own += "'"
            taken.add(own)
            self.names.append(own)

    def take_typed_names(self, names: Sequence[str], reading: Reading, missing: str) -> None:
        """Take the names of a format that has types, and `missing` values, of its own.

        Raises:
            TableError: If a name occurs more than once.
        """
        self.take_names(names)
        if self.repeated:
            raise TableError(f"{self.path} has more than one column {self.repeated[0]!r}")
        if reading.missing:
            what = f"missing is for text files, and not used: what is {missing} is missing here"
            self.notices.append(f"{self.path}: {what}")

    def forget(self) -> None:
        """Forget what was noticed in the rows read so far."""
        for noticed in (self.words, self.blanks, self.codes):
            noticed.clear()

    @abstractmethod
    def frames(self, names: Sequence[str], numeric: Collection[str]) -> Iterator[DataFrame]:
        """Yield some columns of some rows after the others.

        Args:
            names: The columns.
            numeric: Those that may be given as numbers where all values so far are.

        Raises:
            TableError: If a row cannot be read.
        """

    def chunks(self, names: Sequence[str], numeric: Collection[str] = ()) -> Iterator[DataFrame]:
        """Yield what `frames` gives; a row's index tells `place_of` this file and the row's number.

        Raises:
            TableError: If a row cannot be read, or there are none.
        """
        self.forget()
        n_rows = 0
        for frame in self.frames(names, numeric):
            first = self._number * MOST_ROWS + n_rows
            n_rows += len(frame)
            yield frame.set_axis(range(first, first + len(frame)))
        if not n_rows:
            raise TableError(f"{self.path} has a header but no rows")

    def where(self, row: int) -> str:
        """Return where a person finds a row."""
        return f"{self.path}, row {row + 1}"


def rows_at_once(n_columns: int) -> int:
    """Return how many rows of so many columns are read at once."""
    return max(MIN_ROWS, CELLS_AT_ONCE // n_columns)


def place_of(row: int) -> str:
    """Return where a person finds a row of an open file, by its index in a data frame."""
    return file_of(row).where(row % MOST_ROWS)


def file_of(row: int) -> TableFile:
    """Return the open file of a row, by its index in a data frame."""
    return OPEN[row // MOST_ROWS]


def composed(text: str) -> str:
    """Return a text with accents as parts of letters (NFC), which is how the same word is always the same text."""
    return text if text.isascii() else normalize("NFC", text)


def likewise(said: Iterable[tuple[str, object, str]]) -> list[str]:
    """Return a line for each fault: that of the first column with it, and which others have it.

    Args:
        said: Columns, the fault of each, and a line that says so.
    """
    lines: dict[object, str] = {}
    others = defaultdict[object, list[str]](list)
    for column, fault, line in said:
        if lines.setdefault(fault, line) != line:
            others[fault].append(repr(column))
    return [line + f"; likewise {listed(others[fault], FEW)}" * bool(others[fault]) for fault, line in lines.items()]


def read_error(path: Path, error: Exception) -> TableError:
    """Return what a person reads of an error of the operating system or of the decompression."""
    return TableError(f"cannot read {path}: {getattr(error, 'strerror', None) or first_line(error)}")


def first_line(error: Exception) -> str:
    """Return the first line of an error's text."""
    return str(error).partition("\n")[0]
