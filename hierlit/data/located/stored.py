"""Arrays in files, of which rows are read when they are asked for: they are memory-mapped, never held."""

from __future__ import annotations

import shutil
import struct
import tempfile
import zipfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hierlit.data.tables.npz_file import ERRORS, read_header
from hierlit.data.tables.table_file import TableError, first_line

LOCAL_HEADER = 26
"""Where the header of a zip archive's member has the lengths of its name and of its extra field."""


@dataclass(frozen=True)
class StoredArray:
    """An array whose first axis is rows.

    Attributes:
        values: Memory-mapped: [N, ...]; or, where rows differ in length, [locations of all rows, ...].
        starts: Where each row begins among these, and where the last ends, [N + 1]; None where rows have one length.
    """

    values: NDArray[Any]
    starts: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.values) if self.starts is None else len(self.starts) - 1

    @property
    def ndim(self) -> int:
        """Dimensions, rows included."""
        return self.values.ndim + (self.starts is not None)

    @property
    def lengths(self) -> NDArray[np.int64] | None:
        """The length of each row along the second axis, [N], where they differ."""
        return None if self.starts is None else np.diff(self.starts)

    @property
    def shape(self) -> tuple[int | str, ...]:
        """The shape; the second number is "any" where rows differ."""
        return self.values.shape if self.starts is None else (len(self), "any", *self.values.shape[1:])

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return some rows [B, ...]; where rows differ in length, padded with zeros to the longest of them."""
        if self.starts is None:
            return np.asarray(self.values[rows])
        lengths = self.starts[rows + 1] - self.starts[rows]
        taken = np.zeros((len(rows), int(lengths.max(initial=0)), *self.values.shape[1:]), self.values.dtype)
        for own, first, length in zip(taken, self.starts[rows], lengths, strict=True):
            own[:length] = self.values[first : first + length]
        return taken


class ArrayStore(ABC):
    """A file or folder with arrays by name.

    Attributes:
        path: Where.
        names: Of its arrays.
    """

    path: Path
    names: list[str]

    @abstractmethod
    def array(self, name: str) -> StoredArray:
        """Open an array.

        Raises:
            TableError: If it cannot be read or holds objects; one line names the file, and perhaps the row.
        """


class NpzStore(ArrayStore):
    """An archive of `np.savez`, whose arrays are mapped where they are.

    Those of `np.savez_compressed` are unpacked, once, to temporary files without a name.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self.names = [name.removesuffix(".npy") for name in archive.namelist()]
        except ERRORS as error:
            raise TableError(f"{path} is not an archive of np.savez: {first_line(error)}") from error

    def array(self, name: str) -> StoredArray:
        """Open an array."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                info = archive.getinfo(f"{name}.npy")
                if info.compress_type == zipfile.ZIP_STORED:
                    with self.path.open("rb") as file:
                        file.seek(info.header_offset + LOCAL_HEADER)
                        file.seek(sum(struct.unpack("<HH", file.read(4))), 1)
                        return map_array(file, f"{self.path}: {name}")
                with archive.open(info) as member, tempfile.TemporaryFile() as copy:
                    shutil.copyfileobj(member, copy)
                    copy.seek(0)
                    return map_array(copy, f"{self.path}: {name}")
        except TableError:
            raise
        except ERRORS as error:
            raise TableError(f"{self.path}: cannot read {name}: {first_line(error)}") from error


class NpyStore(ArrayStore):
    """Files of `np.save`: those of a folder, or one of inputs and those beside it whose names have another array's.

    Args:
        path: The folder; or the file with the inputs, whose name has theirs, as `train_inputs.npy` has.
        inputs: The name of the inputs.
    """

    def __init__(self, path: Path, inputs: str) -> None:
        self.path = path
        folder = path if path.is_dir() else path.parent
        before, after = ("", ".npy") if path.is_dir() else _around(path, inputs)
        names = [file.name for file in sorted(folder.glob("*.npy"))]
        own = [name for name in names if name.startswith(before) and name.endswith(after)]
        self.names = [name[len(before) : len(name) - len(after)] for name in own]
        self._path_of = {name: folder / file for name, file in zip(self.names, own, strict=True)}

    def array(self, name: str) -> StoredArray:
        """Open an array."""
        path = self._path_of[name]
        try:
            with path.open("rb") as file:
                return map_array(file, str(path))
        except TableError:
            raise
        except ERRORS as error:
            raise TableError(f"{path} is not a file of np.save: {first_line(error)}") from error


def _around(path: Path, inputs: str) -> tuple[str, str]:
    before, found, after = path.name.partition(inputs)
    if not found:
        example = path.with_name(f"train_{inputs}.npy")
        raise TableError(f"{path} must have the name of its array, {inputs!r}, in its own, as {example} has")
    return before, after


def map_array(file: IO[bytes], name: str) -> StoredArray:
    """Map the array that begins here in a file.

    Raises:
        TableError: If it holds something else than numbers.
    """
    shape, by_columns, dtype = read_header(file)
    if dtype.kind not in "biuf":
        held = "objects (rows of different length are stored padded, with their lengths)" if dtype.hasobject else dtype
        raise TableError(f"{name} must hold numbers, got {held}")
    if not shape:
        raise TableError(f"{name} must have rows, got a single number")
    if 0 in shape:
        return StoredArray(np.empty(shape, dtype))
    return StoredArray(np.memmap(file, dtype, "r", file.tell(), shape, "F" if by_columns else "C"))
