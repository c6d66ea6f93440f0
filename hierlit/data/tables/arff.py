"""ARFF with the hierarchical extension of CLUS (KU Leuven): an attribute of paths or terms, joined by `@` in rows.

The format is described in the manual of CLUS; neither SciPy's reader nor liac-arff knows its `hierarchical` type.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hierlit.data.tables.rows import Column, ColumnType, Reading, TableError, TableFile, TextColumn, import_arrow
from hierlit.data.tables.text import check_start, open_text, undecodable, unreadable

CELLS_AT_ONCE = 2**16
ATTRIBUTE = re.compile(r"""@attribute\s+('[^']*'|"[^"]*"|[^\s{]+)\s*(\S.*)""", re.I)
VALUE = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,%]*))\s*([,%]|$)""")
ESCAPED = re.compile(r"\\(.)")
NUMERIC = ("numeric", "real", "integer")
HIERARCHICAL = "hierarchical"


class ArffFile(TableFile):
    """An ARFF file.

    Attributes:
        path_column: Its hierarchical attribute, if it has one.
        classes: What that attribute lists: paths, or parent/child edges; an entry may be repeated.

    Args:
        path: The file; its name may end in `.gz`.
        reading: How it is read; values are always separated by commas, and `?` is missing too.
    """

    unit = "line"

    def __init__(self, path: Path, reading: Reading) -> None:
        super().__init__(path)
        import_arrow()
        self._encoding, self._missing = reading.encoding, reading.missing | {"?"}
        check_start(path, reading.encoding)
        try:
            self._take_header()
        except (OSError, EOFError, UnicodeError) as error:
            raise self._explain(error) from error

    def _take_header(self) -> None:
        names = []
        declared = []
        for number, line in self._lines():
            keyword = line.split(maxsplit=1)[0].lower()
            if keyword == "@data":
                break
            if keyword == "@attribute":
                match = ATTRIBUTE.match(line)
                if match is None:
                    raise TableError(f"{self.path}, line {number}: must be @attribute name type, got {line[:60]!r}")
                names.append(unquoted(match[1]))
                declared.append((number, match[2].strip()))
            elif keyword != "@relation":
                raise TableError(
                    f"{self.path}, line {number}: must be @relation, @attribute or @data, got {line[:60]!r}"
                )
        else:
            raise TableError(f"{self.path} has no line @data")
        if not names:
            raise TableError(f"{self.path} has no line @attribute")
        self.take_names(names)
        self._n_values = len(names)
        for name, (number, text) in zip(self.names, declared, strict=True):
            self.types[name] = self._type(name, number, text)

    def _type(self, name: str, number: int, text: str) -> ColumnType:
        kind = text.split(maxsplit=1)[0].lower()
        if kind in NUMERIC:
            return ColumnType(is_number=True)
        if kind == HIERARCHICAL:
            if self.path_column is not None:
                raise TableError(f"{self.path}, line {number}: a second hierarchical attribute {name!r}")
            entries = (entry.strip() for entry in text[len(HIERARCHICAL) :].split(","))
            self.path_column, self.classes = name, [entry for entry in entries if entry]
            self.classes_line = number
            if not self.classes:
                raise TableError(f"{self.path}, line {number}: the hierarchical attribute {name!r} lists no classes")
            return ColumnType(refused=HIERARCHICAL)
        if text.startswith("{"):
            if not text.endswith("}"):
                raise TableError(f"{self.path}, line {number}: the list of values of {name!r} has no closing brace")
            return ColumnType(is_number=False, categories=tuple(split_values(text[1:-1])))
        return ColumnType(refused=kind)

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Numbers and texts of the lines that are neither blank nor comments."""
        with open_text(self.path, self._encoding) as file:
            for number, line in enumerate(file, start=1):
                text = line.strip()
                if text and text[0] != "%":
                    yield number, text

    def _data(self) -> Iterator[tuple[int, str]]:
        lines = self._lines()
        for _, line in lines:
            if line[:5].lower() == "@data":
                return lines
        return lines

    def line(self, row: int) -> int:
        """Return the line of a row counted from 0."""
        return next(line for number, (line, _) in enumerate(self._data()) if number == row)

    def chunks(self, names: Sequence[str]) -> Iterator[Mapping[str, Column]]:
        """Columns of texts."""
        n_rows, rows = max(1, CELLS_AT_ONCE // self._n_values), []
        places = {name: self.names.index(name) for name in names}
        try:
            for number, line in self._data():
                values = split_row(line)
                if len(values) != self._n_values:
                    raise self._ragged(number, line, len(values))
                rows.append(values)
                if len(rows) == n_rows:
                    yield self._columns(rows, places)
                    rows = []
        except (OSError, EOFError, UnicodeError) as error:
            raise self._explain(error) from error
        if rows:
            yield self._columns(rows, places)

    def _columns(self, rows: list[list[str]], places: Mapping[str, int]) -> dict[str, Column]:
        arrow, _ = import_arrow()
        by_column = list(zip(*rows, strict=True))
        columns: dict[str, Column] = {}
        for name, place in places.items():
            texts = by_column[place]
            known = [None if text == "?" else text for text in texts] if "?" in texts else texts
            columns[name] = TextColumn(arrow.array(known, arrow.string()), self._missing)
        return columns

    def _ragged(self, number: int, line: str, n_values: int) -> TableError:
        where = f"{self.path}, line {number}"
        if line.startswith("{"):
            return TableError(f"{where}: sparse rows are not read: write all values of the row")
        ends = " (a comma at its end?)" if n_values == self._n_values + 1 and line.rstrip().endswith(",") else ""
        return TableError(f"{where}: {self._n_values} values expected, got {n_values}{ends}")

    def _explain(self, error: Exception) -> TableError:
        is_text = not isinstance(error, UnicodeError)
        found = None if is_text else undecodable(self.path, self._encoding)
        return found or unreadable(self.path, error)


def split_row(line: str) -> list[str]:
    """Return the values of a row, without the comment that may follow them."""
    if "'" in line or '"' in line:
        return split_values(line)
    return line.partition("%")[0].rstrip().split(",")


def split_values(text: str) -> list[str]:
    """Return the values of a list in which they may be quoted; what follows a `%` outside quotes is a comment."""
    values, place = [], 0
    while match := VALUE.match(text, place):
        single, double, plain, end = match.groups()
        values.append(plain.rstrip() if plain is not None else ESCAPED.sub(r"\1", double if single is None else single))
        if end != ",":
            break
        place = match.end()
    return values


def unquoted(text: str) -> str:
    """Return a name without its quotes."""
    return text[1:-1] if text[0] in "'\"" else text
