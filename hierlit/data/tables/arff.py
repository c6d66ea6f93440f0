"""ARFF with the hierarchical extension of CLUS (KU Leuven): an attribute of paths or terms, joined by `@` in rows.

The format is described in the manual of CLUS; neither SciPy's reader nor liac-arff knows its `hierarchical` type.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hierlit.data.tables.cells import cell_error
from hierlit.data.tables.table_file import Reading, TableError
from hierlit.data.tables.text_file import TextFile, open_text

if TYPE_CHECKING:
    from pandas import DataFrame

QUOTED = r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|"""
ATTRIBUTE = re.compile(rf"@attribute\s+(?:{QUOTED}([^\s{{]+)(?![^\s{{]))\s*(\S.*)", re.I)
VALUE = re.compile(rf"\s*(?:{QUOTED}([^,%]*))\s*([,%]|$)")
ESCAPED = re.compile(r"\\(.)")
NUMERIC = ("numeric", "real", "integer")
HIERARCHICAL = "hierarchical"


class ArffFile(TextFile):
    """An ARFF file.

    Args:
        path: The file; its name may end in that of a compression.
        reading: How it is read; values are always separated by commas, and `?` is missing too.
    """

    mark = "comma"

    def __init__(self, path: Path, reading: Reading) -> None:
        self._listed: dict[str, list[str]] = {}
        self._data_line = 0
        super().__init__(path, replace(reading, missing=reading.missing | {"?"}))

    def take_header(self) -> None:
        """Read the attributes.

        Raises:
            TableError: If there are none, or lines that are something else.
        """
        declared: list[tuple[str, int, str]] = []
        for number, line in self._lines():
            keyword = line.split(maxsplit=1)[0].lower()
            if keyword == "@data":
                self._data_line = number
                break
            if keyword == "@attribute":
                match = ATTRIBUTE.match(line)
                if match is None:
                    raise TableError(f"{self.path}, line {number}: must be @attribute name type, got {line[:60]!r}")
                declared.append((unquoted(match), number, match[4].strip()))
            elif keyword != "@relation":
                raise TableError(
                    f"{self.path}, line {number}: must be @relation, @attribute or @data, got {line[:60]!r}"
                )
        if not self._data_line:
            raise TableError(f"{self.path} has no line @data")
        if not declared:
            raise TableError(f"{self.path} has no line @attribute")
        self.take_names([name for name, *_ in declared])
        for name, (_, number, text) in zip(self.names, declared, strict=True):
            kind, where = text.split(maxsplit=1)[0].lower(), f"{self.path}, line {number}"
            if kind in NUMERIC:
                self.is_number[name] = True
            elif text.startswith("{"):
                if not text.endswith("}"):
                    raise TableError(f"{where}: the list of values of {name!r} has no closing brace")
                self.is_number[name], self._listed[name] = False, split_values(text[1:-1])
            else:
                self.refused[name] = kind
            if kind == HIERARCHICAL:
                if self.path_column is not None:
                    raise TableError(f"{where}: a second hierarchical attribute {name!r}")
                entries = [entry.strip() for entry in text[len(HIERARCHICAL) :].split(",")]
                self.path_column, self.classes, self.classes_line = name, list(filter(None, entries)), number
                if not self.classes:
                    raise TableError(f"{where}: the hierarchical attribute {name!r} lists no classes")

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Numbers and texts of the lines that are neither blank nor comments."""
        with open_text(self.path, self.encoding) as file:
            for number, line in enumerate(file, start=1):
                text = line.strip()
                if text and text[0] != "%":
                    yield number, text

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line and the values of each row."""
        for number, line in self._lines():
            if number > self._data_line:
                if line.startswith("{"):
                    raise TableError(
                        f"{self.path}, line {number}: sparse rows are not read: write all values of the row"
                    )
                yield number, split_row(line)

    def chunks(self, names: Sequence[str], numeric: Collection[str] = ()) -> Iterator[DataFrame]:
        """Yield texts, where the header lists them those that it does."""
        listed = {name: self._listed[name] for name in names if name in self._listed}
        for frame in super().chunks(names, numeric):
            for name, valid in listed.items():
                if (others := ~frame[name].isin([*valid, None]).to_numpy()).any():
                    raise cell_error(frame, others, name, f"must be one of {', '.join(valid)}")
            yield frame


def split_row(line: str) -> list[str]:
    """Return the values of a row, without the comment that may follow them."""
    if "'" in line or '"' in line:
        return split_values(line)
    return line.partition("%")[0].rstrip().split(",")


def split_values(text: str) -> list[str]:
    """Return the values of a list in which they may be quoted; what follows a `%` outside quotes is a comment."""
    values, place = [], 0
    while match := VALUE.match(text, place):
        values.append(unquoted(match))
        if match[4] != ",":
            break
        place = match.end()
    return values


def unquoted(match: re.Match[str]) -> str:
    """Return the value of a match that begins with one in single quotes, in double quotes or in none."""
    single, double, plain = match.group(1, 2, 3)
    return plain.rstrip() if plain is not None else ESCAPED.sub(r"\1", double if single is None else single)
