"""ARFF, with the hierarchical extension of CLUS (KU Leuven), and the ways in which MEKA and MULAN name labels.

The formats are described in the manuals of CLUS, Weka, MEKA and MULAN; neither SciPy's reader nor liac-arff knows the
`hierarchical` type, whose paths or terms are joined by `@` in rows, or weights.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

from hierlit.data.tables.cells import SIGNS, as_text, cell_error
from hierlit.data.tables.table_file import Reading, TableError, composed
from hierlit.data.tables.text_file import TextFile, open_text

if TYPE_CHECKING:
    from pandas import DataFrame

QUOTED = r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|"""
ATTRIBUTE = re.compile(rf"@attribute\s+(?:{QUOTED}([^\s{{]+)(?![^\s{{]))\s*(\S.*)", re.I)
VALUE = re.compile(rf"\s*(?:{QUOTED}([^,%]*))\s*([,%]|$)")
VALUES = re.compile(r"""\{(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^'"}])*\}(?=\s*(?:%|$))""")
SPARSE = re.compile(r"\{(.*?)\}\s*(,\s*\{[^{}]*\})?\s*(%.*)?")
ENTRY = re.compile(rf"\s*(\d+)\s+(?:{QUOTED}([^,]*))\s*(?:,|$)")
WEIGHT = re.compile(r"\{\s*[\d.+eE-]+\s*\}")
N_LABELS = re.compile(r"-C\s+(-?\d+)")
ESCAPED = re.compile(r"\\(.)")
NUMERIC = ("numeric", "real", "integer")
HIERARCHICAL = "hierarchical"


class ArffFile(TextFile):
    """An ARFF file.

    Labels are a hierarchical attribute; or those that KEEL's `@outputs` names; or those that an XML file of MULAN
    beside the file lists, `birds.xml` for `birds-train.arff`; or as many first attributes as the relation says with
    MEKA's `-C n`, last ones if n is below 0. Weights of rows are not used, which `notices` says.

    Args:
        path: The file; its name may end in that of a compression.
        reading: How it is read; values are always separated by commas, and `?` is missing too.
    """

    mark = "comma"

    def __init__(self, path: Path, reading: Reading) -> None:
        self._listed: dict[str, list[str]] = {}
        self._data_line = self._n_first = 0
        super().__init__(path, replace(reading, missing=reading.missing and reading.missing | {"?"}))

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
            elif keyword in ("@outputs", "@output"):  # KEEL's labels
                self.label_names = [composed(name) for name in split_values(line.split(maxsplit=1)[1])]
            elif keyword in ("@inputs", "@input"):
                continue
            elif keyword == "@relation":
                self._n_first = int(found[1]) if (found := N_LABELS.search(line)) else 0
            else:
                raise TableError(
                    f"{self.path}, line {number}: must be @relation, @attribute or @data, got {line[:60]!r}"
                )
        if not self._data_line:
            raise TableError(f"{self.path} has no line @data")
        if not declared:
            raise TableError(f"{self.path} has no line @attribute")
        self.take_names([name for name, *_ in declared])
        for name, (_, number, text) in zip(self.names, declared, strict=True):
            kind, where = re.split(r"[\s\[]", text)[0].lower(), f"{self.path}, line {number}"
            if kind in NUMERIC:
                self.is_number[name] = True
            elif text.startswith("{"):
                end = found.end() if (found := VALUES.match(text)) else len(text) * text.endswith("}")
                if not end:
                    raise TableError(f"{where}: the list of values of {name!r} has no closing brace")
                self.is_number[name], self._listed[name] = False, split_values(text[1 : end - 1])
            else:
                self.refused[name] = kind
            if kind == HIERARCHICAL:
                if self.path_column is not None:
                    raise TableError(f"{where}: a second hierarchical attribute {name!r}")
                entries = [entry.strip() for entry in text[len(HIERARCHICAL) :].split(",")]
                self.path_column, self.classes, self.classes_line = name, list(filter(None, entries)), number
                if not self.classes:
                    raise TableError(f"{where}: the hierarchical attribute {name!r} lists no classes")
        if abs(n := self._n_first) > len(self.names):
            raise TableError(f"{self.path}: -C {n} is for more attributes than the {len(self.names)} that there are")
        if lacking := [name for name in self.label_names if name not in self.names]:
            raise TableError(f"{self.path}: @outputs names no attribute: {lacking[0]!r}")
        if self.path_column is None and not self.label_names:
            first = (self.names[:n] if n > 0 else self.names[n:]) if n else []
            self.label_names = self._mulan_labels() or first
        self.class_names = [name for name, own in self._listed.items() if not SIGNS.issuperset(map(str.lower, own))]

    def _mulan_labels(self) -> list[str]:
        """Return the labels that an XML file beside this one lists; none if there is no such file."""
        base = self.path.name.lower().partition(".arff")[0]
        beside = {each.stem.lower(): each for each in self.path.parent.glob("*.[xX][mM][lL]")}
        while base and base not in beside:
            base = base[: max(base.rfind(mark) for mark in "-_.")] if re.search("[-_.]", base) else ""
        if not base or b"<labels" not in beside[base].read_bytes():
            return []
        try:
            tags = [each for each in ElementTree.parse(beside[base]).iter() if each.tag.rpartition("}")[2] == "label"]
        except ElementTree.ParseError as error:
            raise TableError(f"{beside[base]}: {error}") from error
        labels = [composed(tag.get("name", "")) for tag in tags]
        if lacking := [label for label in labels if label not in self.names]:
            raise TableError(f"{beside[base]}: {self.path} has no attribute {lacking[0]!r}")
        return labels

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Numbers and texts of the lines that are neither blank nor comments."""
        with open_text(self.path, self.encoding) as file:
            for number, line in enumerate(file, start=1):
                text = line.strip()
                if text and text[0] != "%":
                    yield number, text

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line and the values of each row."""
        n_weights, n_columns = 0, len(self.names)
        # what is not there is 0, or the first value that the header lists
        absent = [self._listed.get(name, "?" if name == self.path_column else "0")[0] for name in self.names]
        for number, line in self._lines():
            if number > self._data_line:
                values, has_weight = self._sparse(number, line, absent) if line[0] == "{" else (split_row(line), False)
                if len(values) == n_columns + 1 and WEIGHT.fullmatch(values[-1].strip()):
                    values.pop()
                    has_weight = True
                n_weights += has_weight
                yield number, values
        self.notices = [f"{self.path}: weights of {n_weights:,} rows are not used"] if n_weights else []

    def _sparse(self, number: int, line: str, absent: Sequence[str]) -> tuple[list[str], bool]:
        """Return the values of a sparse row, absent ones as given; and whether it has a weight."""
        match, values, place = SPARSE.fullmatch(line), list(absent), 0
        given: set[int] = set()
        text = match[1] if match else "?"
        while place < len(text.rstrip()):
            entry = ENTRY.match(text, place)
            if entry is None or int(entry[1]) >= len(values):
                rule = f"a sparse row must have places below {len(values)} and values, as in {{0 1.5, 7 yes}}"
                raise TableError(f"{self.path}, line {number}: {rule}, got {line[:60]!r}")
            if (at := int(entry[1])) in given:
                raise TableError(f"{self.path}, line {number}: a sparse row must have each place once, got {at} twice")
            given.add(at)
            values[at], place = unquoted(entry, 2), entry.end()
        return values, bool(match and match[2])

    def chunks(self, names: Sequence[str], numeric: Collection[str] = ()) -> Iterator[DataFrame]:
        """Yield texts, where the header lists them those that it does."""
        from pandas import factorize

        listed = {name: self._listed[name] for name in names if name in self._listed}
        for frame in super().chunks(names, numeric):
            for name, valid in listed.items():
                texts = set(map(as_text, valid))
                codes, own = factorize(frame[name])
                wrong = [as_text(value) not in texts for value in own]
                if (others := np.array([*wrong, False])[codes]).any():
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


def unquoted(match: re.Match[str], first: int = 1) -> str:
    """Return the value of which a match has groups, one in single quotes, in double quotes or in none."""
    single, double, plain = match.group(first, first + 1, first + 2)
    return plain.rstrip() if plain is not None else ESCAPED.sub(r"\1", double if single is None else single)
