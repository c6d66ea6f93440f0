"""Files of sentences: where each begins is found in one pass, and a sentence is parsed when it is asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hierlit.data.tables.table_file import TableError, first_line, read_error

FORM = "form"
MISSING = "_"
"""What stands for a missing value."""
BOM = b"\xef\xbb\xbf"
Value: TypeAlias = str | Mapping[str, str] | None
"""A column's value: one text, texts by key, or none."""


class Token(NamedTuple):
    """A token of a sentence.

    Attributes:
        form: As written.
        start: Its first character's place in the text.
        stop: The place after its last one.
        values: Those of its columns, by their names; empty where none is observed.
    """

    form: str
    start: int
    stop: int
    values: Mapping[str, Value]


class Sentence(NamedTuple):
    """A sentence.

    Attributes:
        text: As written.
        tokens: In order; none overlaps another.
    """

    text: str
    tokens: list[Token]


class SentenceFile(ABC):
    """A text file, in UTF-8, with a line a token and blank lines between sentences.

    Args:
        path: The file.

    Raises:
        TableError: When sentences are read: if it cannot be read, or holds none.
    """

    columns: Sequence[str]
    """Those that may be labels."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def parse(self, lines: Sequence[str], first: int) -> Sentence:
        """Return the sentence of some lines.

        Args:
            lines: Not blank, without their ends.
            first: The number of the first in the file, from 1.

        Raises:
            TableError: If it is none; it names the file and the line.
        """

    def __len__(self) -> int:
        return len(self._places)

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """Of each sentence where it begins and ends, in bytes, and its first line, [N, 3]."""
        places, position, start, first = array("q"), 0, 0, 0
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    is_blank = not line.strip()
                    if first and is_blank:
                        places.extend((start, position, first))
                        first = 0
                    elif not first and not is_blank:
                        start, first = position, number
                    position += len(line)
        except OSError as error:
            raise read_error(self.path, error) from error
        if first:
            places.extend((start, position, first))
        if not places:
            raise TableError(f"{self.path} has no sentences")
        return np.array(places, np.int64).reshape(-1, 3)

    def read(self, numbers: Sequence[int] | NDArray[np.int64]) -> Iterator[Sentence]:
        """Yield some sentences, by their numbers from 0.

        Raises:
            TableError: If one cannot be read; it names the file and the line.
        """
        places = self._places[np.asarray(numbers, np.int64)].tolist()
        with self.path.open("rb") as file:
            for start, stop, first in places:
                file.seek(start)
                data = file.read(stop - start).removeprefix(BOM)
                try:
                    text = data.decode("utf-8")
                except UnicodeDecodeError as error:
                    line = first + data.count(b"\n", 0, error.start)
                    raise TableError(f"{self.path}, line {line}: text must be UTF-8: {first_line(error)}") from error
                yield self.parse([line.rstrip("\r") for line in text.rstrip("\r\n").split("\n")], first)

    def error(self, line: int, what: str) -> TableError:
        """Return an error of a line."""
        return TableError(f"{self.path}, line {line}: {what}")


class ColumnFile(SentenceFile):
    """Lines of a token and its columns, separated by tabs, or by blanks where there is no tab.

    The text of a sentence is its tokens with a blank between them.

    Args:
        path: The file.
        names: Of the columns, one of which is `form`.
        needs_all: Whether a line must have all of them, or the form alone.
    """

    def __init__(self, path: Path, names: Sequence[str], needs_all: bool = True) -> None:
        super().__init__(path)
        self._names, self._needs_all = list(names), needs_all
        self.columns = [name for name in names if name != FORM]

    def parse(self, lines: Sequence[str], first: int) -> Sentence:
        """Return the sentence of some lines."""
        place, start, tokens = self._names.index(FORM), 0, []
        for number, line in enumerate(lines, start=first):
            cells = [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()
            if len(cells) != len(self._names) and (self._needs_all or len(cells) <= place):
                names = ", ".join(self._names)
                raise self.error(number, f"there must be {len(self._names)} columns, {names}, got {len(cells)}")
            if not cells[place]:
                raise self.error(number, "a token must not be empty")
            values = {name: None if cell == MISSING else cell for name, cell in zip(self._names, cells, strict=False)}
            tokens.append(Token(cells[place], start, start + len(cells[place]), values))
            start += len(cells[place]) + 1
        return Sentence(" ".join(token.form for token in tokens), tokens)
