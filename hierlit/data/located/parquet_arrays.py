"""Parquet columns of lists as arrays."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hierlit.data.located.stored import ArrayStore, StoredArray
from hierlit.data.tables.cells import require
from hierlit.data.tables.table_file import TableError, first_line

ROWS_AT_ONCE = 256


class ParquetStore(ArrayStore):
    """A Parquet file with a row an example and columns of numbers, of lists, or of lists of lists.

    Parquet has no way to read single rows: a column is unpacked, once, to a temporary file without a name, which is
    memory-mapped.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        require("pyarrow")
        import pyarrow

        self.path = path
        try:
            with self._open() as file:
                self.names = file.schema_arrow.names
        except (pyarrow.ArrowException, OSError) as error:
            raise TableError(f"{path} is not a Parquet file: {first_line(error)}") from error

    def _open(self) -> Any:
        from pyarrow import parquet

        return parquet.ParquetFile(self.path, pre_buffer=False)

    def array(self, name: str) -> StoredArray:
        """Unpack a column."""
        import pyarrow

        column = _Unpacked(self.path, name)
        try:
            with self._open() as file, tempfile.TemporaryFile() as target:
                for batch in file.iter_batches(ROWS_AT_ONCE, columns=[name], use_threads=False):
                    column.append(batch.column(0), target)
                return column.stored(target)
        except (pyarrow.ArrowException, OSError) as error:
            raise TableError(f"cannot read {self.path}: {first_line(error)}") from error


class _Unpacked:
    """A column of lists, taken apart batch by batch.

    Args:
        path: Of its file.
        name: Its own.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name, self._n_rows = path, name, 0
        self._lengths: list[NDArray[np.int64]] = []
        self._inner: list[int | None] = []
        self._dtype: np.dtype[Any] | None = None

    def append(self, column: Any, target: IO[bytes]) -> None:
        """Take the rows of a batch apart and append their numbers to a file."""
        from pyarrow import compute, types

        shape = list(getattr(column.type, "shape", []))
        column = getattr(column, "storage", column)
        owners, depth = np.arange(len(column)), 0
        while types.is_list(column.type) or types.is_large_list(column.type) or types.is_fixed_size_list(column.type):
            self._refuse(column.is_null().to_numpy(zero_copy_only=False), owners, "must not be missing")
            lengths = compute.list_value_length(column).to_numpy(zero_copy_only=False).astype(np.int64)
            if depth == 0:
                self._lengths.append(lengths)
            else:
                self._check_inner(depth - 1, lengths, owners)
            owners, column, depth = owners.repeat(lengths), column.flatten(), depth + 1
        self._refuse(column.is_null().to_numpy(zero_copy_only=False), owners, "must not have missing values")
        values = column.to_numpy(zero_copy_only=False)
        if values.dtype.kind not in "biuf":
            raise TableError(f"{self._path}: {self._name} must hold numbers, or lists of them, got {column.type}")
        if shape:
            self._lengths[-1], self._inner = np.full(len(self._lengths[-1]), shape[0]), list(shape[1:])
        self._dtype = values.dtype
        target.write(np.ascontiguousarray(values).tobytes())
        self._n_rows += len(owners) if depth == 0 else len(self._lengths[-1])

    def _check_inner(self, axis: int, lengths: NDArray[np.int64], owners: NDArray[np.int64]) -> None:
        """See that lists within lists have one length everywhere."""
        while len(self._inner) <= axis:
            self._inner.append(None)
        if self._inner[axis] is None and len(lengths):
            self._inner[axis] = int(lengths[0])
        rule = f"must have lists of {self._inner[axis]} at every location, as the first has"
        self._refuse(lengths != (self._inner[axis] or 0), owners, rule, lengths)

    def _refuse(
        self,
        wrong: NDArray[np.bool_],
        owners: NDArray[np.int64],
        rule: str,
        lengths: NDArray[np.int64] | None = None,
    ) -> None:
        if wrong.any():
            first = int(wrong.argmax())
            got = "" if lengths is None else f", got {lengths[first]}"
            raise TableError(f"{self._path}, row {self._n_rows + owners[first] + 1}: {self._name} {rule}{got}")

    def stored(self, target: IO[bytes]) -> StoredArray:
        """Map what was appended."""
        dtype = self._dtype or np.dtype(np.float32)
        inner = tuple(size or 0 for size in self._inner)
        target.flush()
        n_values = target.tell() // dtype.itemsize
        flat: NDArray[Any] = np.memmap(target, dtype, "r", shape=(n_values,)) if n_values else np.empty(0, dtype)
        if not self._lengths:
            return StoredArray(flat)
        lengths = np.concatenate(self._lengths)
        if len(set(lengths.tolist())) <= 1:
            return StoredArray(flat.reshape(len(lengths), int(lengths.max(initial=0)), *inner))
        return StoredArray(flat.reshape(int(lengths.sum()), *inner), np.concatenate([[0], lengths.cumsum()]))
