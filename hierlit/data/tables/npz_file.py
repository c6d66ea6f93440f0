"""NumPy archives, whose arrays are read row after row out of the archive."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from hierlit.data.tables.table_file import CELLS_AT_ONCE, Reading, TableError, TableFile

if TYPE_CHECKING:
    from pandas import DataFrame

ARRAYS = ("inputs", "labels")
NAMES = {"inputs": "input_names", "labels": "label_names"}
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class Shape(NamedTuple):
    """What the header of an array says."""

    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype[Any]


class NpzFile(TableFile):
    """An archive of `inputs` [N, d], and, except for predicting, `labels` [N, n], made by `np.savez`.

    Columns are called input_0, … and label_0, …, or as the archive's `input_names` [d] and `label_names` [n] say.

    Args:
        path: The file.
        reading: Not used: the arrays hold numbers.
    """

    def __init__(self, path: Path, reading: Reading) -> None:
        super().__init__(path)
        try:
            with np.load(path, allow_pickle=False) as archive:
                self._arrays = [name for name in ARRAYS if name in archive.files]
                if "inputs" not in self._arrays:
                    held = ", ".join(archive.files) or "nothing"
                    raise TableError(f"{path} must hold the array inputs, and labels to train on; it holds {held}")
                given = {name: archive[NAMES[name]] for name in self._arrays if NAMES[name] in archive.files}
            shapes = {name: self._shape(name) for name in self._arrays}
        except TableError:
            raise
        except (OSError, ValueError, AttributeError, zipfile.BadZipFile, EOFError) as error:
            raise TableError(f"{path} is not an archive of np.savez: {str(error).partition(chr(10))[0]}") from error
        if len({shape.shape[0] for shape in shapes.values()}) > 1:
            rows = " and ".join(str(shape.shape[0]) for shape in shapes.values())
            raise TableError(f"{path}: inputs and labels must have equally many rows, got {rows}")
        self._names = {name: self._column_names(name, shapes[name], given.get(name)) for name in self._arrays}
        self.take_names([column for names in self._names.values() for column in names])
        if self.repeated:
            raise TableError(f"{path} has more than one column {self.repeated[0]!r}")
        self.is_number = dict.fromkeys(self.names, True)
        self.label_names = self._names.get("labels", [])

    def _shape(self, name: str) -> Shape:
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as file:
            shape = read_header(file)
        if len(shape.shape) != 2 or shape.dtype.kind not in "biuf":
            raise TableError(
                f"{self.path}: {name} must be numbers [rows, columns], got {shape.dtype} {list(shape.shape)}"
            )
        if not shape.shape[0]:
            raise TableError(f"{self.path} has a header but no rows")
        return shape

    def _column_names(self, name: str, shape: Shape, given: NDArray[Any] | None) -> list[str]:
        n_columns = shape.shape[1]
        if given is None:
            return [f"{name[:-1]}_{number}" for number in range(n_columns)]
        if given.shape != (n_columns,):
            raise TableError(f"{self.path}: {NAMES[name]} must be {n_columns} names, got shape {list(given.shape)}")
        return [str(each) for each in given.tolist()]

    def frames(self, names: Sequence[str]) -> Iterator[DataFrame]:
        """Yield numbers of the arrays' own types."""
        from pandas import DataFrame, concat

        needed = [array for array in self._arrays if not set(names).isdisjoint(self._names[array])]
        n_rows, first = max(1, CELLS_AT_ONCE // sum(len(self._names[array]) for array in needed)), 1
        try:
            with ExitStack() as stack:
                archive = stack.enter_context(zipfile.ZipFile(self.path))
                files = [stack.enter_context(archive.open(f"{array}.npy")) for array in needed]
                for parts in zip(*(read_rows(file, n_rows) for file in files), strict=True):
                    index = range(first, first + len(parts[0]))
                    first = index.stop
                    own = zip(needed, parts, strict=True)
                    yield concat([DataFrame(part, index, self._names[array]) for array, part in own], axis=1)[
                        list(names)
                    ]
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise TableError(f"cannot read {self.path}: {str(error).partition(chr(10))[0]}") from error


def read_header(file: IO[bytes]) -> Shape:
    """Read an array's header and leave the file where its values begin.

    Raises:
        ValueError: If it is no array, or one of a version that has no use for numbers.
    """
    version = npy.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"version {version} of the format")
    return Shape(*HEADERS[version](file))


def read_rows(file: IO[bytes], n_rows: int) -> Iterator[NDArray[Any]]:
    """Yield the rows of a two-dimensional array, `n_rows` at a time; all at once where it is stored by columns."""
    (total, n_columns), by_columns, dtype = read_header(file)
    for first in range(0, total, total if by_columns else n_rows):
        count = total if by_columns else min(n_rows, total - first)
        data = file.read(count * n_columns * dtype.itemsize)
        order = "F" if by_columns else "C"
        yield np.frombuffer(data, dtype).reshape((count, n_columns), order=order)  # type: ignore[call-overload]
