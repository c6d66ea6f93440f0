"""Text files: compressed or not, in an encoding, what is wrong with their bytes, and their rows as data frames."""

from __future__ import annotations

import codecs
import csv
import lzma
import zipfile
import zlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from io import TextIOWrapper
from itertools import islice
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec.implementations.local import LocalFileSystem

from hierlit.data.tables.cells import LEADING_ZERO, require
from hierlit.data.tables.table_file import MISSING_TEXTS, Reading, TableError, TableFile, read_error, rows_at_once

if TYPE_CHECKING:
    from pandas import DataFrame

ERRORS = (OSError, EOFError, UnicodeError, csv.Error, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
"""What reading a file can raise, compressed or not."""
UNCOUNTED = frozenset({"", "?"})
"""What stands for a missing value and is no word."""
KINDS = {
    b"PK\x03\x04": "a zip archive (a workbook?)",
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "compressed: its name should end in .gz",
    b"\xff\xfe": "text in UTF-16: set encoding to utf-16",
    b"\xfe\xff": "text in UTF-16: set encoding to utf-16",
}
"""First bytes of files that are no text in UTF-8, and what those are."""


class TextFile(TableFile):
    """A file whose rows are lines, or records that begin in a line.

    Args:
        path: The file; its name may end in that of a compression.
        reading: How it is read.
    """

    mark = "separator"
    """What messages call that which stands between values."""

    def __init__(self, path: Path, reading: Reading) -> None:
        super().__init__(path)
        require("pandas", "pyarrow")
        self.encoding, self.words_are_ours = reading.encoding, reading.missing is None
        self.missing = frozenset(MISSING_TEXTS) if reading.missing is None else reading.missing
        self.has_number_words = any(map(is_number, self.missing))
        try:
            with open_file(path) as file:
                start = file.read(4)
            if not start:
                raise TableError(f"{path} is empty")
            for first, kind in KINDS.items():
                is_named = len(first) == 2 and codecs.lookup(reading.encoding).name.startswith("utf-16")
                if start.startswith(first) and not is_named:
                    raise TableError(f"{path} is not a text file of its suffix, but {kind}")
            if b"\0" in start and codecs.lookup(reading.encoding).name.startswith("utf-8"):
                raise TableError(f"{path} has zero bytes as text in UTF-16 has: set encoding to utf-16-le or utf-16-be")
            self.take_header()
        except ERRORS as error:
            raise self.explain(error) from error

    @abstractmethod
    def take_header(self) -> None:
        """Read the names of the columns, and what else the header tells.

        Raises:
            TableError: If it is no header.
        """

    @abstractmethod
    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line and the values of each row.

        Raises:
            TableError: If there is no telling where a row ends.
        """

    def where(self, row: int) -> str:
        """Return the file and the line, for which it is read again."""
        return f"{self.path}, line {next(islice(self.records(), row, None))[0]}"

    def complete(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the records, which must have as many values as there are columns."""
        n_columns = len(self.names)
        for line, values in self.records():
            if len(values) != n_columns:
                ends = f" (a {self.mark} at its end?)" if not values[-1] and len(values) == n_columns + 1 else ""
                raise TableError(f"{self.path}, line {line}: {n_columns} values expected, got {len(values)}{ends}")
            yield line, values

    def frames(self, names: Sequence[str], numeric: Collection[str]) -> Iterator[DataFrame]:
        """Yield texts."""
        from pyarrow import array

        numbered = {name: place for place, name in enumerate(self.names)}
        places = [numbered[name] for name in names]
        records, n_rows = self.complete(), rows_at_once(len(self.names))
        try:
            while rows := [values for _, values in islice(records, n_rows)]:
                cells = list(zip(*rows, strict=True))
                yield self.cleaned({name: array(cells[place]) for name, place in zip(names, places, strict=True)})
        except ERRORS as error:
            raise self.explain(error) from error

    def cleaned(self, columns: Any, numeric: Collection[str] = ()) -> DataFrame:
        """Return a frame of Arrow's columns; texts are without the space around them, none where missing.

        Args:
            columns: A table, or a dictionary of arrays: texts, or numbers, which stay as they are.
            numeric: Texts that become numbers if they are numbers all; `codes` keeps what that loses.
        """
        from pandas import ArrowDtype
        from pyarrow import array, compute, int64, string, table

        missing, given, found = array(sorted(self.missing), string()), table(columns), dict[str, Any]()
        for name, column in zip(given.column_names, given.columns, strict=True):
            if column.type != string():
                has_nan = name in numeric and isnan(compute.sum(column).as_py() or 0)
                found[name] = compute.if_else(compute.is_nan(column), None, column) if has_nan else column
                continue
            column = column.combine_chunks()
            number = as_floats(column) if name in numeric and not self.has_number_words else None
            if number is None or compute.any(compute.is_nan(number)).as_py():  # spaces, or words for what is missing
                column = self._trimmed(name, column, missing)
                number = as_floats(column) if name in numeric else None
            found[name] = column if number is None else number
            if number is not None:
                whole = column.filter(compute.equal(number, compute.floor(number)))
                codes = whole.filter(compute.match_substring_regex(whole, LEADING_ZERO))
                if len(codes):
                    self.codes.setdefault(name, codes[0].as_py())
        return table(found).to_pandas(types_mapper={kind: ArrowDtype(kind) for kind in (string(), int64())}.get)

    def _trimmed(self, name: str, column: Any, missing: Any) -> Any:
        """Return an Arrow's column of texts without the space around them, none where missing; count those words."""
        from pyarrow import compute

        encoded = column.dictionary_encode()  # a text that is repeated is looked at once
        text = compute.utf8_trim_whitespace(encoded.dictionary)
        if not compute.any(is_missing := compute.is_in(text, missing)).as_py():
            return text.take(encoded.indices)
        kept = compute.if_else(is_missing, None, text).take(encoded.indices)
        words = text.take(encoded.indices).filter(compute.is_null(kept)).value_counts().to_pylist()
        own = Counter({each["values"]: each["counts"] for each in words if each["values"] not in UNCOUNTED})
        self.words[name] = self.words.get(name, Counter()) + own
        return kept

    def explain(self, error: Exception) -> TableError:
        """Return the line that cannot be decoded, or what else is wrong."""
        if isinstance(error, UnicodeError) and "\n".encode(self.encoding) == b"\n":
            with open_file(self.path) as file:
                for number, line in enumerate(file, start=1):
                    try:
                        line.decode(self.encoding)
                    except UnicodeDecodeError as found:
                        byte = f"byte 0x{line[found.start]:02x} is not {self.encoding}"
                        where = f"{self.path}, line {number}"
                        return TableError(f"{where}: {byte}: set encoding, for example to latin-1")
        return read_error(self.path, error)


def is_number(word: str) -> bool:
    """Return whether a text is one that Arrow takes for a number, nan apart."""
    try:
        return not isnan(float(word))
    except ValueError:
        return False


def as_floats(column: Any) -> Any:
    """Return an Arrow's column of texts as numbers; None if one is none."""
    from pyarrow import ArrowInvalid, float64

    try:
        return column.cast(float64())
    except ArrowInvalid:
        return None


def open_file(path: Path) -> Any:
    """Open a file, or what is compressed in it, to read bytes.

    Raises:
        TableError: If it is an archive of other than one file.
    """
    if path.suffix.lower() != ".zip":
        return LocalFileSystem().open(str(path), "rb", compression="infer")
    archive = zipfile.ZipFile(path)
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if len(names) != 1:
        raise TableError(f"{path} must hold one file, got {', '.join(names) or 'none'}")
    return archive.open(names[0])


def open_text(path: Path, encoding: str) -> Any:
    """Open a text file without its byte order mark, line ends as they are."""
    if codecs.lookup(encoding).name == "utf-8":
        encoding = "utf-8-sig"
    return TextIOWrapper(open_file(path), encoding, newline="")
