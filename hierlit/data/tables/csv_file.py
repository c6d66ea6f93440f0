"""Comma-separated values, read by Arrow a block at a time; the csv module finds the line of what is wrong."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hierlit.data.tables.rows import Column, Reading, TableError, TableFile, TextColumn, import_arrow
from hierlit.data.tables.text import GZIP, check_start, open_text, undecodable, unreadable

BLOCK = 2**16
"""Bytes read at once, of which Arrow keeps 32 ready; of wide tables more, as a row must not have more of them."""
BLOCK_PER_COLUMN = 2**7
SEPARATORS = ";\t|,"


class CsvFile(TableFile):
    """A CSV or TSV file with a header line.

    Args:
        path: The file; its name may end in `.gz`.
        reading: How it is read.
    """

    unit = "line"

    def __init__(self, path: Path, reading: Reading) -> None:
        super().__init__(path)
        import_arrow()
        self._reading = reading
        self._separator = reading.separator or ("\t" if ".tsv" in path.suffixes else ",")
        check_start(path, reading.encoding)
        try:
            header = next(self._records(), (1, []))[1]
        except (OSError, EOFError, UnicodeError, csv.Error) as error:
            raise self._explain(error) from error
        if not header:
            raise TableError(f"{path} is empty")
        others = [mark for mark in SEPARATORS if mark in header[0]]
        if len(header) == 1 and others:
            raise TableError(
                f"{path}, line 1: one column {header[0]!r} with separator {self._separator!r}: set it to {others[0]!r}"
            )
        self.take_names([name.strip() for name in header])

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Line numbers and fields, of the header too; blank lines are left out, as Arrow leaves them out."""
        with open_text(self.path, self._reading.encoding) as file:
            reader, line = csv.reader(file, delimiter=self._separator, strict=True), 1
            for record in reader:
                if record:
                    yield line, record
                line = reader.line_num + 1

    def line(self, row: int) -> int:
        """Return the line of a row counted from 0.

        Raises:
            TableError: If a quote that is never closed makes it another row than it should be.
        """
        try:
            return next(line for number, (line, _) in enumerate(self._records()) if number == row + 1)
        except csv.Error:
            self._check_records()
            raise

    def chunks(self, names: Sequence[str]) -> Iterator[Mapping[str, Column]]:
        """Columns of texts, a block of the file at a time."""
        arrow, _ = import_arrow()
        wanted = {name: f"f{self.names.index(name)}" for name in names}
        last, batch, header = f"f{len(self.names) - 1}", None, 1
        try:
            for batch in self._batches(sorted({*wanted.values(), last})):
                rows = batch.slice(header)
                header = 0
                if rows.num_rows:
                    yield {name: TextColumn(rows.column(own), self._reading.missing) for name, own in wanted.items()}
        except (arrow.ArrowInvalid, OSError, EOFError, UnicodeError) as error:
            raise self._explain(error) from error
        if batch is not None and "\n" in str(batch.column(last)[-1]):
            self._check_records()  # a quote that is never closed takes all that follows it

    def _batches(self, columns: list[str]) -> Iterator[Any]:
        import pyarrow
        import pyarrow.csv as arrow_csv

        stream = pyarrow.input_stream(str(self.path), compression="gzip" if self.path.suffix == GZIP else None)
        options = {
            "read_options": arrow_csv.ReadOptions(
                use_threads=False,
                block_size=max(BLOCK, BLOCK_PER_COLUMN * len(self.names)),
                autogenerate_column_names=True,  # the header is the first row: its names may repeat
                encoding=self._reading.encoding,
            ),
            "parse_options": arrow_csv.ParseOptions(delimiter=self._separator, newlines_in_values=True),
            "convert_options": arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pyarrow.string()),
                include_columns=columns,
                null_values=sorted(self._reading.missing),
                strings_can_be_null=True,
            ),
        }
        with stream, arrow_csv.open_csv(stream, **options) as batches:
            yield from batches

    def _explain(self, error: Exception) -> TableError:
        """Return the line of what Arrow, or the csv module, could not read."""
        encoding = self._reading.encoding
        try:
            is_ascii_like = "\n".encode(encoding) == b"\n"
            found = undecodable(self.path, encoding) if is_ascii_like else None
            if found is not None:
                return found
            self._check_records()
        except TableError as problem:
            return problem
        except (OSError, EOFError, UnicodeError) as problem:
            return unreadable(self.path, problem)
        return unreadable(self.path, error)

    def _check_records(self) -> None:
        """Look for the first row with another number of values than the header.

        Raises:
            TableError: If there is one, or a quote is never closed.
        """
        last, n_columns = 1, len(self.names)
        try:
            for last, record in self._records():
                if n_columns and len(record) != n_columns:
                    ends = " (a separator at its end?)" if record[-1] == "" and len(record) == n_columns + 1 else ""
                    raise TableError(f"{self.path}, line {last}: {n_columns} values expected, got {len(record)}{ends}")
        except csv.Error as error:
            if "end of data" in str(error):
                raise TableError(f"{self.path}: a quote opened after line {last} is never closed") from error
            raise TableError(f"{self.path}, after line {last}: {error}") from error
