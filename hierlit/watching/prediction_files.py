"""Predictions as tables, long or wide, and the files that they are streamed to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]
"""Equally long columns by name; texts have the dtype object."""
FORMATS_OF = {"i": "%d", "f": "%.9g", "O": "%s"}
"""How CSV has each kind of dtype; nine digits give back a float32 exactly."""
SEPARATOR = ";"
"""Between the labels of a predicted set."""


@dataclass(frozen=True)
class Labels:
    """What labels are called.

    Attributes:
        names: Texts, dtype object, [n].
        classes: Of each column of classes, by its name, the labels that are its classes.
    """

    names: NDArray[Any]
    classes: Mapping[str, Sequence[int]]

    @classmethod
    def of(cls, names: Sequence[str], classes: Mapping[str, Sequence[int]]) -> "Labels":
        """Return labels of these names."""
        return cls(np.array(names, object), classes)


@dataclass(frozen=True)
class Lines:
    """What was predicted at P pairs of a row and a location.

    Attributes:
        places: The columns that say which pairs they are, each [P].
        scores: [P, n].
        probabilities: [P, n].
    """

    places: Columns
    scores: NDArray[np.float32]
    probabilities: NDArray[np.float32]


Layout = Callable[[Labels, Lines], Columns]
"""Makes the columns of a file."""


def long_table(labels: Labels, lines: Lines) -> Columns:
    """Return a line for each row, location and label; see `PredictionWriter`."""
    n_lines, n_labels = lines.scores.shape
    columns = {name: place.repeat(n_labels) for name, place in lines.places.items()}
    columns |= {"label": np.tile(labels.names, n_lines), "score": lines.scores.ravel()}
    return columns | {"probability": lines.probabilities.ravel(), "sign": np.sign(lines.scores.ravel()).astype(np.int8)}


def wide_table(labels: Labels, lines: Lines) -> Columns:
    """Return a line for each row and location; see `PredictionWriter`.

    Raises:
        ValueError: If two columns would have the same name.
    """
    parts: list[tuple[str, NDArray[Any]]] = list(lines.places.items())
    is_free = np.ones(len(labels.names), bool)
    for column, own in labels.classes.items():
        is_free[own] = False
        classes = np.array([name.removeprefix(f"{column}=") for name in labels.names[own]], object)
        parts.append((column, classes[lines.probabilities[:, own].argmax(1)]))
    if is_free.any():
        texts, found = labels.names[is_free].astype(str), lines.probabilities[:, is_free] > 0.5
        chosen = [SEPARATOR.join(texts[line]) for line in found]  # as `HierarchicalClassifier.predict`
        parts.append(("labels", np.array(chosen, object)))
    parts += [(str(name), lines.probabilities[:, label]) for label, name in enumerate(labels.names)]
    names = [name for name, _ in parts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"predictions.format must be long for these labels, got wide: two columns named {twice[0]!r}")
    return dict(parts)


LAYOUTS: dict[str, Layout] = {"long": long_table, "wide": wide_table}


class TableFile(Protocol):
    """A table that grows by a batch at a time."""

    def write(self, columns: Columns) -> None:
        """Append columns, of the names and dtypes that the file was opened with."""

    def close(self) -> None:
        """End the file."""


class CsvFile:
    """A CSV file with a header, in UTF-8."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._file.write(",".join(map(quoted, columns)) + "\n")
        self._line = ",".join(FORMATS_OF[column.dtype.kind] for column in columns.values()) + "\n"

    def write(self, columns: Columns) -> None:
        """Append a line for each entry of the columns."""
        values = [map(quoted, column) if column.dtype == object else column.tolist() for column in columns.values()]
        lines = list(zip(*values, strict=True))
        self._file.write(self._line * len(lines) % tuple(chain.from_iterable(lines)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ParquetFile:
    """A Parquet file with one row group a batch."""

    def __init__(self, path: Path, columns: Columns) -> None:
        arrow, parquet = import_pyarrow()
        types = [
            (name, arrow.string() if column.dtype == object else arrow.from_numpy_dtype(column.dtype))
            for name, column in columns.items()
        ]
        self._table, self._schema = arrow.table, arrow.schema(types)
        self._writer = parquet.ParquetWriter(path, self._schema)

    def write(self, columns: Columns) -> None:
        """Append a row group."""
        self._writer.write_table(self._table(columns, schema=self._schema))

    def close(self) -> None:
        """Write the footer and close the file."""
        self._writer.close()


FILES: dict[str, type[CsvFile] | type[ParquetFile]] = {".csv": CsvFile, ".parquet": ParquetFile}


@lru_cache(maxsize=4096)
def quoted(text: str) -> str:
    """Return a text as a cell of CSV."""
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n\r') else text


def import_pyarrow() -> tuple[ModuleType, ModuleType]:
    """Return the modules pyarrow and pyarrow.parquet.

    Raises:
        ImportError: With a hint, if they are not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("writing .parquet needs pyarrow: pip install hierlit[tables]") from error
    return pyarrow, pyarrow.parquet
