"""A file of examples with locations: its arrays checked against one another, and examples taken from them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hierlit.data.located.parquet_arrays import ParquetStore
from hierlit.data.located.stored import ArrayStore, NpyStore, NpzStore, StoredArray
from hierlit.data.tables.cells import Bools, Floats
from hierlit.data.tables.table_file import CELLS_AT_ONCE, TableError

LAYOUTS = (None, "sequences", "images", "channels_first")
CHANNELS = (1, 3, 4)
"""Channels that images have, for telling them from heights."""
PARQUET = (".parquet", ".pq", ".parq")


@dataclass(frozen=True)
class ArrayNames:
    """Which array of a file is what.

    Attributes:
        inputs: The inputs.
        labels: The labels.
        mask: Where there is a location, if anything says so.
        lengths: How many locations an example has, if anything says so.
        layout: One of `LAYOUTS`.
    """

    inputs: str
    labels: str
    mask: str | None
    lengths: str | None
    layout: str | None


class Examples(NamedTuple):
    """Some examples of a file.

    Attributes:
        inputs: Float32 [B, |G|, d], 0 where there is no location.
        present: Where there is one, [B, |G|].
        labels: [B, |G|, m], or [B, 1, m] where they are those of examples; NaN where missing; None if there are none.
    """

    inputs: NDArray[np.float32]
    present: Bools
    labels: Floats | None


class ArrayFile:
    """A file, opened, of which no array has been looked at.

    Args:
        path: `.npz`, `.npy`, a folder of `.npy` or Parquet.
        names: Which array is what.
        has_labels: Whether it must have labels, which are otherwise not looked at.

    Raises:
        TableError: If it cannot be opened or lacks an array.
    """

    def __init__(self, path: Path, names: ArrayNames, has_labels: bool = True) -> None:
        self.path, self._names, self._has_labels = path, names, has_labels
        self._store = open_store(path, names.inputs)
        wanted = [names.inputs, names.labels if has_labels else None, names.mask, names.lengths]
        if lacking := [name for name in wanted if name and name not in self._store.names]:
            held = ", ".join(self._store.names) or "none"
            raise TableError(f"{path} lacks the array {lacking[0]!r}; its arrays are {held}")

    @cached_property
    def _inputs(self) -> StoredArray:
        """The inputs, [N, T, d] or [N, H, W, C]."""
        name, layout = self._names.inputs, self._names.layout
        found = self._store.array(name)
        n_dims = {"sequences": 3, "images": 4, "channels_first": 4, None: 4 if self._are_grey(found) else 3}[layout]
        if layout is None and found.ndim == 4:
            n_dims = 4
        if found.ndim == n_dims - 1 and layout != "channels_first" and (layout or n_dims == 4):
            found = StoredArray(found.values[..., None], found.starts)
        shape = found.shape
        if found.ndim != n_dims:
            valid = "[rows, locations, channels] or [rows, height, width, channels]"
            raise TableError(f"{self.path}: {name} must be {valid}, got {list(shape)}")
        if n_dims == 4 and found.starts is not None:
            row = int((np.diff(found.starts) != found.starts[1]).argmax())
            raise TableError(f"{self.place(row)}: images must have one height, got another than that of row 1")
        if layout == "channels_first":
            found = StoredArray(np.moveaxis(found.values, 1, -1))
        elif n_dims == 4 and layout is None and shape[1] in CHANNELS and shape[3] not in CHANNELS:
            rule = "seems to have its channels first: set layout to channels_first, or to images if it has not"
            raise TableError(f"{self.path}: {name} {list(shape)} {rule}")
        if not len(found):
            raise TableError(f"{self.path}: {name} has no rows")
        return found

    def _are_grey(self, inputs: StoredArray) -> bool:
        """Whether labels show that inputs [N, H, W] are images of one channel."""
        if inputs.ndim != 3 or not self._has_labels or inputs.starts is not None:
            return False
        shape = self._store.array(self._names.labels).shape
        return len(shape) == 4 and shape[:3] == inputs.shape

    @cached_property
    def _labels(self) -> StoredArray | None:
        """The labels, [N, ..., m], with as many axes as the inputs, or [N, m] where they are those of examples."""
        if not self._has_labels:
            return None
        found, inputs, name = self._store.array(self._names.labels), self._inputs, self._names.labels
        shape = list(found.shape)
        if len(found) != len(inputs):
            raise TableError(f"{self.path}: {name} must have {len(inputs)} rows as inputs have, got {len(found)}")
        if found.ndim == 1:
            return StoredArray(found.values[:, None])
        has_columns = not (found.ndim == inputs.ndim - 1 and (inputs.ndim == 4 or found.starts is not None))
        if not has_columns:
            found = StoredArray(found.values[..., None], found.starts)
        if found.ndim == 2:
            return found
        if found.ndim != inputs.ndim or (inputs.ndim == 4 and found.shape[:3] != inputs.shape[:3]):
            raise TableError(f"{self.path}: {name} must be {self._label_shapes}, got {shape}")
        sizes = [each.shape[1:2] if each.lengths is None else each.lengths for each in (found, inputs)]
        own, wanted = np.broadcast_arrays(*(np.asarray(size, np.int64) for size in sizes))
        if (unlike := own != wanted).any():
            row = int(unlike.argmax())
            got = f"{own[row]} locations with {name} and {wanted[row]} with {self._names.inputs}"
            at = self.path if len(own) == 1 else self.place(row)
            raise TableError(f"{at}: labels must be those of the example's locations, or [rows, labels], got {got}")
        return found

    @property
    def _label_shapes(self) -> str:
        sizes = ", ".join(map(str, self._inputs.shape[1:-1]))
        return f"[rows, {sizes}, labels], or [rows, labels] of examples"

    @property
    def n_rows(self) -> int:
        """Examples."""
        return len(self._inputs)

    @property
    def n_inputs(self) -> int:
        """Channels of a location, as stored."""
        return int(self._inputs.values.shape[-1])

    @property
    def n_columns(self) -> int:
        """Columns of labels."""
        return 0 if self._labels is None else int(self._labels.shape[-1])

    @property
    def _n_places(self) -> int:
        """Locations that are stored of an example, at most."""
        lengths = self._inputs.lengths
        return math.prod(self._inputs.values.shape[1:-1]) if lengths is None else int(lengths.max())

    @property
    def is_pooled(self) -> bool:
        """Whether labels are those of examples."""
        return self._labels is not None and self._labels.ndim == 2

    @property
    def is_image(self) -> bool:
        """Whether locations have two coordinates."""
        return self._inputs.ndim == 4

    @property
    def is_masked(self) -> bool:
        """Whether examples differ in their locations, or may."""
        return bool(self._names.mask or self._names.lengths) or self._inputs.starts is not None

    @property
    def grid(self) -> tuple[int, ...]:
        """The shape of the locations, (H, W), or (T,) with the longest example's."""
        return self._inputs.values.shape[1:3] if self.is_image else (int(self.lengths.max()),)

    def place(self, row: int) -> str:
        """Return where a person finds a row."""
        return f"{self.path}, row {row + 1}"

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Locations up to the last one of each example, [N]; of images, height times width."""
        inputs = self._inputs
        if self.is_image and self._names.lengths:
            raise TableError(f"{self.path}: lengths are those of sequences, name a mask for images")
        lengths = full = np.full(self.n_rows, self._n_places) if inputs.lengths is None else inputs.lengths
        if self.is_image:
            return full
        if self._names.lengths:
            lengths = self._side_array(self._names.lengths, 1).astype(np.int64)
            self._refuse((lengths < 1) | (lengths > full), lengths, f"{self._names.lengths} must be in 1..locations")
        if self._names.mask:
            lengths = np.concatenate([last_places(self._mask(rows)) for rows in self._row_chunks()])
        self._refuse(lengths < 1, lengths, "an example must have a location")
        return lengths

    def _side_array(self, name: str, n_dims: int) -> NDArray[Any]:
        found = self._store.array(name)
        if found.ndim != n_dims or len(found) != self.n_rows:
            valid = f"{n_dims} dimensions and {self.n_rows} rows"
            raise TableError(f"{self.path}: {name} must have {valid}, got {list(found.shape)}")
        return np.asarray(found.values)

    def _mask(self, rows: NDArray[np.int64]) -> Bools:
        """Return where rows have locations, [B, locations]."""
        mask, name = self._stored_mask, self._names.mask
        taken = mask.take(rows).reshape(len(rows), -1)
        if len(wrong := np.argwhere((taken != 0) & (taken != 1))):
            row, location = wrong[0]
            raise TableError(f"{self.place(rows[row])}, location {location}: {name} must be true or false")
        present: Bools = taken != 0
        return present

    @cached_property
    def _stored_mask(self) -> StoredArray:
        name = str(self._names.mask)
        mask = self._store.array(name)
        wanted = self._inputs.shape[:-1]
        if mask.shape != wanted:
            raise TableError(f"{self.path}: {name} must be {list(wanted)}, got {list(mask.shape)}")
        return mask

    def _refuse(self, wrong: Bools, values: NDArray[Any], rule: str) -> None:
        if wrong.any():
            row = int(wrong.argmax())
            raise TableError(f"{self.place(row)}: {rule}, got {values[row]}")

    def chunks(self) -> Iterator[tuple[NDArray[np.int64], Examples]]:
        """Yield all rows in order, and their examples, so many at a time as fit in little memory."""
        return ((rows, self.take(rows)) for rows in self._row_chunks())

    def _row_chunks(self) -> Iterator[NDArray[np.int64]]:
        n_rows = max(1, CELLS_AT_ONCE // max(1, self._n_places * (self.n_inputs + self.n_columns)))
        for first in range(0, self.n_rows, n_rows):
            yield np.arange(first, min(first + n_rows, self.n_rows))

    def take(self, rows: NDArray[np.int64]) -> Examples:
        """Return some examples, padded to the longest of them.

        Raises:
            TableError: If an input is not finite, or there is a label where there is no location.
        """
        inputs = self._inputs.take(rows)
        inputs = inputs.reshape(len(rows), -1, inputs.shape[-1]).astype(np.float32)
        lengths = self.lengths[rows]
        longest = int(lengths.max(initial=1))
        present = np.arange(inputs.shape[1]) < lengths[:, None]
        if self._names.mask:
            present = self._mask(rows)
        self._check(rows, ~np.isfinite(inputs) & present[..., None], inputs, "inputs must be finite", "input")
        inputs[~present] = 0
        labels = None if self._labels is None else self._labels.take(rows).astype(np.float64)
        if labels is not None:
            labels = labels.reshape(len(rows), -1, labels.shape[-1])
            if not self.is_pooled:
                outside = ~present[..., None] & (labels != 0) & ~((labels < 0) & (labels.shape[2] == 1))
                self._check(rows, outside, labels, "there must be no label where there is no location", "label")
                labels = labels[:, :longest]
        return Examples(inputs[:, :longest], present[:, :longest], labels)

    def _check(self, rows: NDArray[np.int64], wrong: Bools, values: NDArray[Any], rule: str, what: str) -> None:
        if wrong.any():
            row, location, channel = np.argwhere(wrong)[0]
            at = f"{self.place(rows[row])}, location {location}, {what} {channel}"
            raise TableError(f"{at}: {rule}, got {values[row, location, channel]:g}")


def last_places(present: Bools) -> NDArray[np.int64]:
    """Return the place after the last location of each row of [B, |G|], [B]; 0 where there is none."""
    return np.where(present.any(1), present.shape[1] - present[:, ::-1].argmax(1), 0)


def open_store(path: Path, inputs: str) -> ArrayStore:
    """Open a file or folder of arrays.

    Raises:
        TableError: If it cannot be opened.
    """
    suffix = path.suffix.lower()
    if path.is_dir() or suffix == ".npy":
        return NpyStore(path, inputs)
    if suffix in PARQUET:
        return ParquetStore(path)
    if suffix != ".npz":
        raise TableError(f"the suffix must be one of .npz, .npy, .parquet, or the path a folder of .npy, got {path}")
    return NpzStore(path)
