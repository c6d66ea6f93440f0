"""Comma-separated values, read by the csv module: it knows the line in which a record begins."""

import csv
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from hierlit.data.tables.table_file import Reading, TableError
from hierlit.data.tables.text_file import TextFile, open_text

SEPARATORS = ";\t|,"
END = "\x1aend of file"
"""A line after the last, which is a record of its own unless a quote is still open."""
LONGEST = 2**31 - 1
"""Characters of a value: the csv module takes 2¹⁷ unless it is told."""


class CsvFile(TextFile):
    """A CSV or TSV file with a header line.

    Args:
        path: The file; its name may end in that of a compression.
        reading: How it is read.
    """

    def __init__(self, path: Path, reading: Reading) -> None:
        is_tabbed = ".tsv" in [suffix.lower() for suffix in path.suffixes]
        self._separator = reading.separator or ("\t" if is_tabbed else ",")
        super().__init__(path, reading)

    def take_header(self) -> None:
        """Read the names of the columns."""
        _, header = next(self._lines(), (1, []))
        if not header:
            raise TableError(f"{self.path} is empty")
        others = [mark for mark in SEPARATORS if mark in header[0]]
        if len(header) == 1 and others:
            raise TableError(
                f"{self.path}, line 1: one column {header[0]!r} with separator {self._separator!r}: "
                f"set it to {others[0]!r}"
            )
        self.take_names([name.strip() for name in header])

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line and the values of each row; blank lines are left out."""
        lines = self._lines()
        next(lines)
        return lines

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """Yield what `records` does, and the header before."""
        csv.field_size_limit(LONGEST)
        line = last = 1
        with open_text(self.path, self.encoding) as file:
            reader = csv.reader(chain(file, [END]), delimiter=self._separator)
            for values in reader:
                if values and values[-1].endswith(END):
                    if values != [END]:
                        raise TableError(f"{self.path}: a quote opened after line {last} is never closed")
                elif values:
                    last = line
                    yield line, values
                line = reader.line_num + 1
