"""NumPy archives, whose arrays are read row after row out of the archive."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from hierlit.data.tables.cells import require
from hierlit.data.tables.table_file import Reading, TableError, TableFile, first_line, read_error, rows_at_once

if TYPE_CHECKING:
    from pandas import DataFrame

ARRAYS = {"inputs": "input_names", "labels": "label_names"}
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
ERRORS = (OSError, ValueError, EOFError, zipfile.BadZipFile)


class NpzFile(TableFile):
    """An archive of `inputs` [N, d], and, except for predicting, `labels` [N, n], made by `np.savez`.

    Columns are called input_0, … and label_0, …, or as the archive's `input_names` [d] and `label_names` [n] say.

    Args:
        path: The file.
        reading: Not used: the arrays hold numbers, of which NaN is missing.
    """

    def __init__(self, path: Path, reading: Reading) -> None:
        super().__init__(path)
        require("pandas")
        shapes: dict[str, tuple[int, ...]] = {}
        try:
            with np.load(path, allow_pickle=False) as archive:
                held = archive.files
                arrays = {name: read_names(archive, name) for name in ARRAYS.values() if name in held}
                for name in [name for name in ARRAYS if name in held]:
                    with archive.zip.open(f"{name}.npy") as file:
                        shapes[name], _, dtype = read_header(file)
                    if len(shapes[name]) != 2 or dtype.kind not in "biuf":
                        got = f"{dtype} {list(shapes[name])}"
                        raise TableError(f"{path}: {name} must be numbers [rows, columns], got {got}")
        except TableError:
            raise
        except (*ERRORS, AttributeError) as error:
            raise TableError(f"{path} is not an archive of np.savez: {first_line(error)}") from error
        if "inputs" not in shapes:
            held = ", ".join(held) or "nothing"
            raise TableError(f"{path} must hold the array inputs, and labels to train on; it holds {held}")
        if len({n_rows for n_rows, _ in shapes.values()}) > 1:
            rows = " and ".join(str(n_rows) for n_rows, _ in shapes.values())
            raise TableError(f"{path}: inputs and labels must have equally many rows, got {rows}")
        self._names: dict[str, list[str]] = {}
        for name, (_, n) in shapes.items():
            given = arrays.get(ARRAYS[name], np.array([f"{name[:-1]}_{number}" for number in range(n)]))
            if given.shape != (n,):
                raise TableError(f"{path}: {ARRAYS[name]} must be {n} names, got shape {list(given.shape)}")
            self._names[name] = [str(each) for each in given.tolist()]
        self.take_typed_names([column for names in self._names.values() for column in names], reading, "NaN")
        self.is_number = dict.fromkeys(self.names, True)
        self.label_names = self._names.get("labels", [])

    def frames(self, names: Sequence[str], numeric: Collection[str]) -> Iterator[DataFrame]:
        """Yield numbers of the arrays' own types."""
        from pandas import DataFrame, concat

        needed = {array: own for array, own in self._names.items() if not set(names).isdisjoint(own)}
        n_rows = rows_at_once(sum(map(len, needed.values())))
        try:
            with ExitStack() as stack:
                archive = stack.enter_context(zipfile.ZipFile(self.path))
                files = [stack.enter_context(archive.open(f"{array}.npy")) for array in needed]
                for parts in zip(*(read_rows(file, n_rows) for file in files), strict=True):
                    frames = (DataFrame(part, columns=own) for part, own in zip(parts, needed.values(), strict=True))
                    yield concat(frames, axis=1)[list(names)]
        except ERRORS as error:
            raise read_error(self.path, error) from error


def read_names(archive: Any, name: str) -> NDArray[Any]:
    """Read the names of columns out of an open archive.

    Raises:
        ValueError: If they are objects, which no file of others is trusted with.
    """
    try:
        return np.asarray(archive[name])
    except ValueError as error:
        raise TableError(f"{archive.zip.filename}: {name} must be texts: np.array(names, dtype=str)") from error


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read an array's shape, whether it is stored by columns, and type; leave the file where its values begin.

    Raises:
        ValueError: If it is no array, or one of a version that has no use for numbers.
    """
    version = npy.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"version {version} of the format")
    return HEADERS[version](file)


def read_rows(file: IO[bytes], n_rows: int) -> Iterator[NDArray[Any]]:
    """Yield the rows of a two-dimensional array, `n_rows` at a time; all at once where it is stored by columns."""
    (total, n_columns), by_columns, dtype = read_header(file)
    for first in range(0, total, total or 1 if by_columns else n_rows):
        count = total if by_columns else min(n_rows, total - first)
        data = file.read(count * n_columns * dtype.itemsize)
        order = "F" if by_columns else "C"
        yield np.frombuffer(data, dtype).reshape((count, n_columns), order=order)  # type: ignore[call-overload]
