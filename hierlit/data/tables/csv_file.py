"""Comma-separated values, read by pyarrow; the csv module finds the line of what is wrong."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from hierlit.data.tables.table_file import Reading, TableError, first_line
from hierlit.data.tables.text_file import ERRORS, TextFile, open_text

if TYPE_CHECKING:
    from pandas import DataFrame

SEPARATORS = ";\t|,"
SEPARATOR_LINE = re.compile("sep=(.)", re.I)
"""A first line that tells a spreadsheet the separator."""
END = "\x1aend of file"
"""A line after the last, which is a record of its own unless a quote is still open."""
LONGEST = 2**31 - 1
"""Characters of a value: the csv module takes 2¹⁷ unless it is told."""
BLOCK, MOST_BYTES = 2**19, 4
"""Bytes of the rows that are parsed at once, more where a row is longer; and those of a character."""


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
        if found := SEPARATOR_LINE.fullmatch(self._separator.join(header)):
            rule = f"{found[0]!r} is for spreadsheets: remove the line, and set separator to {found[1]!r}"
            raise TableError(f"{self.path}, line 1: {rule}")
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
        self._header_lines = 0
        with open_text(self.path, self.encoding) as file:
            reader = csv.reader(chain(file, [END]), delimiter=self._separator)
            for values in reader:
                if values and values[-1].endswith(END):
                    if values != [END]:
                        raise TableError(f"{self.path}: a quote opened after line {last} is never closed")
                elif values:
                    last, self._header_lines = line, self._header_lines or reader.line_num
                    yield line, values
                line = reader.line_num + 1

    def frames(self, names: Sequence[str], numeric: Collection[str]) -> Iterator[DataFrame]:
        """Yield numbers as long as the columns of the rows so far have nothing else, and texts."""
        from pyarrow import ArrowInvalid

        done, block, numbers = 0, max(BLOCK, 2**15 * len(self.names)), set(numeric)
        while True:
            row = 0
            try:
                for batch in self._batches(names, block):
                    row += len(batch)
                    if row > done:
                        rest, done = batch[len(batch) - (row - done) :], row
                        frame = self.cleaned(dict(zip(names, rest.columns, strict=True)), numbers)
                        numbers = {name for name in numbers if frame[name].dtype.kind == "f"}
                        yield frame
                return
            except ArrowInvalid as error:
                if "Empty CSV file" in str(error):
                    return
                if "straddling" not in str(error):
                    self._look_closely()
                    raise TableError(f"cannot read {self.path}: {first_line(error)}") from error
                block *= 16
            except ERRORS as error:
                raise self.explain(error) from error

    def _look_closely(self) -> None:
        """Read all rows with the csv module.

        Raises:
            TableError: If there is something wrong with one, by its line.
        """
        for _ in self.complete():
            pass

    def _batches(self, names: Sequence[str], block: int) -> Iterator[Any]:
        """Yield Arrow's batches of rows as texts, and look closely if a quote seems to be open at the end."""
        from pyarrow import csv as arrow
        from pyarrow import string

        with open_text(self.path, self.encoding) as file:
            for _ in range(self._header_lines):
                file.readline()
            text = Recoded(file)
            yield from arrow.open_csv(
                text,
                arrow.ReadOptions(use_threads=False, column_names=self.names, block_size=block),
                arrow.ParseOptions(delimiter=self._separator, newlines_in_values=True),
                arrow.ConvertOptions(include_columns=names, column_types=dict.fromkeys(names, string())),
            )
        if text.n_quotes % 2:
            self._look_closely()


class Recoded:
    """What pyarrow reads: a text as bytes in UTF-8.

    Args:
        file: The text.

    Attributes:
        closed: Never.
        n_quotes: Those in what has been read.
    """

    closed = False

    def __init__(self, file: TextIO) -> None:
        self._file, self.n_quotes = file, 0

    def read(self, n_bytes: int) -> bytes:
        """Return the next bytes, so many at most."""
        text = self._file.read(n_bytes // MOST_BYTES)
        self.n_quotes += text.count('"')
        return text.encode()
