"""Rows of a split, in memory or read from files when they are asked for."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from hierlit.data.checks import table_problems

Integers = NDArray[np.int64]
ROWS_AT_ONCE = 256
"""Rows of a chunk, where a table is gone through."""


class Batch(NamedTuple):
    """Examples that travel together.

    Attributes:
        inputs: Float32 [B, |G|, d].
        labels: Float32 [B, |G|, n] in {-1, 0, 1}, 0 = not observed.
        index: Long [B], the rows in their split's table; for fit and set-aside batches, in the training table.
    """

    inputs: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]


class RowDataset(Dataset[Batch], ABC):
    """The rows of a split, read a batch at a time.

    Attributes:
        masked: Whether input channel 0 says where a row has a location, 1, or is padded, 0.
        lengths: Locations of each row, [N], where batches are padded to their longest row; None where rows have
            equally many.
    """

    masked: bool = False
    lengths: Integers | None = None
    _counts: Tensor | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows N."""

    @abstractmethod
    def __getitem__(self, index: Tensor | int) -> Batch:
        """Return the rows ``index``, a long tensor [B] (an int counts as a tensor of one row)."""

    def chunks(self, n_rows: int = ROWS_AT_ONCE) -> Iterator[Batch]:
        """Yield all rows in order, so many at a time."""
        firsts = range(0, len(self), n_rows)
        return (self[torch.arange(first, min(first + n_rows, len(self)))] for first in firsts)

    def label_pairs(self) -> Iterator[Tensor]:
        """Yield the labels [P, n] of all locations that rows have, a chunk of rows at a time."""
        for batch in self.chunks():
            yield batch.labels[batch.inputs[..., 0] != 0] if self.masked else batch.labels.flatten(0, 1)

    def counts(self) -> Tensor:
        """Return how often each label is −1, 0 and 1, long [3, n], over all locations that rows have.

        All rows are gone through when it is first asked for.
        """
        if self._counts is None:
            counts = torch.zeros(3, self[torch.arange(0)].labels.shape[2], dtype=torch.long)
            for labels in self.label_pairs():
                counts += torch.stack([(labels == value).sum(0) for value in (-1, 0, 1)])
            self._counts = counts
        return self._counts

    def digests(self) -> dict[str, str]:
        """Return digests of all inputs and labels, by these names; all rows are gone through."""
        sums = {name: blake2b(digest_size=16) for name in ("inputs", "labels")}
        for batch in self.chunks():
            for name, digest in sums.items():
                digest.update(getattr(batch, name).contiguous().to(torch.float32).numpy().data)
        return {name: digest.hexdigest() for name, digest in sums.items()}

    @property
    def inputs(self) -> Tensor:
        """All inputs [N, |G|, d], padded to the longest row, made anew each time: for few rows."""
        return self._whole(torch.float32, "inputs")

    @property
    def labels(self) -> Tensor:
        """All labels [N, |G|, n], padded to the longest row; where rows are read from files, int8 and made anew."""
        return self._whole(torch.int8, "labels")

    def problems(self, split: str, shape: tuple[int | None, int, int]) -> list[str]:
        """Say what is wrong with the rows, of which one chunk at a time is in memory.

        Args:
            split: Their name.
            shape: |G|, None where rows differ in it; d; and n.

        Returns:
            A line for each problem of the first chunk that has any.
        """
        if len(self) == 0:
            return table_problems(split, *self[torch.arange(0)][:2], shape, self.masked)
        found = (
            table_problems(split, *batch[:2], shape, self.masked, int(batch.index[0]) if len(batch.index) else 0)
            for batch in self.chunks()
        )
        return next((problems for problems in found if problems), [])

    def _whole(self, dtype: torch.dtype, name: str) -> Tensor:
        empty: Tensor = getattr(self[torch.arange(0)], name)
        longest = empty.shape[1] if self.lengths is None else int(self.lengths.max(initial=1))
        whole = torch.zeros(len(self), longest, empty.shape[2], dtype=dtype)
        for batch in self.chunks():
            part: Tensor = getattr(batch, name)
            whole[batch.index, : part.shape[1]] = part.to(dtype)
        return whole


class ArrayDataset(RowDataset):
    """A table in memory, read a batch at a time.

    Args:
        inputs: Float [N, |G|, d].
        labels: Float [N, |G|, n].
        masked: Whether input channel 0 says where a row has a location.
        lengths: Locations of each row, [N], where batches are to be cut to the longest of their rows.
    """

    def __init__(self, inputs: Tensor, labels: Tensor, masked: bool = False, lengths: Integers | None = None) -> None:
        self._inputs, self._labels = inputs, labels
        self.masked, self.lengths = masked, lengths

    @property
    def inputs(self) -> Tensor:
        """As given."""
        return self._inputs

    @property
    def labels(self) -> Tensor:
        """As given."""
        return self._labels

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: Tensor | int) -> Batch:
        """Return the rows ``index``, a long tensor [B] (an int counts as a tensor of one row)."""
        rows = torch.as_tensor(index, dtype=torch.long).reshape(-1)
        longest = None if self.lengths is None else int(self.lengths[rows.numpy()].max(initial=1))
        return Batch(self.inputs[rows][:, :longest], self.labels[rows][:, :longest], rows)


def by_file(firsts: Integers, rows: Integers) -> Iterator[tuple[int, Integers, Integers]]:
    """Yield each file that has some of the rows, their places among them, and their numbers in it.

    Args:
        firsts: Number of the first row of each file, and of all rows.
        rows: Numbers counted through all files.
    """
    of_files = np.searchsorted(firsts, rows, "right") - 1
    for number in np.unique(of_files):
        places = np.flatnonzero(of_files == number)
        yield int(number), places, rows[places] - firsts[number]


def last_locations(present: Tensor) -> NDArray[np.int64]:
    """Return the place after the last location of each row, [N], at least 1, where `present` [N, |G|] is not 0."""
    places = torch.arange(1, present.shape[1] + 1)
    lengths: NDArray[np.int64] = ((present != 0) * places).amax(1).clamp(min=1).numpy()
    return lengths
