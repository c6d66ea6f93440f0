"""Comma-separated values, read by pyarrow; the csv module finds the line of what is wrong."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierlit.data.tables.recoded import Recoded
from hierlit.data.tables.table_file import Reading, TableError, first_line
from hierlit.data.tables.text_file import ERRORS, UNCOUNTED, TextFile, open_text

if TYPE_CHECKING:
    from pandas import DataFrame

SEPARATORS = ";\t|,"
SEPARATOR_LINE = re.compile("sep=(.)", re.I)
"""A first line that tells a spreadsheet the separator."""
END = "\x1aend of file"
"""A line after the last, which is a record of its own unless a quote is still open."""
LONGEST = 2**31 - 1
"""Characters of a value: the csv module takes 2¹⁷ unless it is told."""
BLOCK, BLOCKS = 2**19, 8
"""Bytes of the rows that are parsed at once, more where a row is longer; and how many such are given at once."""


class NotPlainError(Exception):
    """How a number is written may matter."""


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
        """Yield numbers as long as the columns of the rows so far have nothing else, whole numbers, and texts."""
        from pyarrow import ArrowInvalid

        done, block, numbers = 0, max(BLOCK, 2**15 * len(self.names)), set(numeric)
        is_plain = not self.has_number_words
        while True:
            row = 0
            try:
                types = self._plain_types(names, numbers, block) if is_plain else {}
                for rows in self._rows(names, types, block):
                    row += len(rows)
                    if row > done:
                        frame, done = self.cleaned(rows[len(rows) - (row - done) :], numbers), row
                        numbers = {name for name in numbers if frame[name].dtype.kind == "f"}
                        yield frame
                return
            except NotPlainError:
                is_plain = False
            except ArrowInvalid as error:
                said = str(error)  # a row may follow, so that its beginning alone tells
                if said.startswith("Empty CSV file"):
                    return
                if is_plain and said.startswith("In CSV column"):
                    is_plain = False
                elif said.startswith("straddling"):
                    block *= 16
                else:
                    self._look_closely()
                    raise TableError(f"cannot read {self.path}: {first_line(error)}") from error
            except ERRORS as error:
                raise self.explain(error) from error

    def _look_closely(self) -> None:
        """Read all rows with the csv module.

        Raises:
            TableError: If there is something wrong with one, by its line.
        """
        for _ in self.complete():
            pass

    def _plain_types(self, names: Sequence[str], numeric: Collection[str], block: int) -> dict[str, Any]:
        """Return Arrow's types of columns with numbers alone in the first block, whole ones or some of `numeric`."""
        from pyarrow import float64, int64

        with self._text() as text:
            schema = self._reader(text, names, {}, block).schema
        whole = {name: int64() for name in names if schema.field(name).type == int64() and name not in self.as_written}
        return whole | {name: float64() for name in numeric if schema.field(name).type in (int64(), float64())}

    def _rows(self, names: Sequence[str], types: Mapping[str, Any], block: int) -> Iterator[Any]:
        """Yield Arrow's tables of rows, and look closely if a quote seems to be open at the end.

        Args:
            names: The columns.
            types: Of those that are no texts.
            block: Bytes that are parsed at once.

        Raises:
            NotPlainError: If a number seems to be a code, and there are types.
        """
        from pyarrow import Table, string

        with self._text() as text:
            reader = self._reader(text, names, dict.fromkeys(names, string()) | dict(types), block)
            while batches := list(islice(reader, BLOCKS)):
                if types and text.has_codes:
                    raise NotPlainError
                yield Table.from_batches(batches)
        if text.n_quotes % 2:
            self._look_closely()

    @contextmanager
    def _text(self) -> Iterator[Recoded]:
        """Open the rows."""
        with open_text(self.path, self.encoding) as file:
            for _ in range(self._header_lines):
                file.readline()
            yield Recoded(file, self._separator)

    def _reader(self, text: Recoded, names: Sequence[str], types: Mapping[str, Any], block: int) -> Any:
        """Return Arrow's reader of columns, whose types are found in the first block if they are not given."""
        from pyarrow import csv as arrow

        nothing = sorted(self.missing if not self.words_are_ours else self.missing & UNCOUNTED)
        return arrow.open_csv(
            text,
            arrow.ReadOptions(use_threads=False, column_names=self.names, block_size=block),
            arrow.ParseOptions(delimiter=self._separator, newlines_in_values=True),
            arrow.ConvertOptions(include_columns=names, column_types=types, null_values=nothing),
        )
