"""Rows to predict, read a chunk at a time while they are predicted: memory does not grow with their number."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from hierlit.data.base import Batch
from hierlit.data.tables.features import FittedFeatures
from hierlit.data.tables.rows import TableFile


class StreamedRows(IterableDataset[Batch]):
    """The rows of files in order, as batches; labels are all 0, not observed.

    Every process reads all of every file and takes its slice of each batch, as `FixedBatches` does.

    Args:
        files: The files.
        features: How inputs are made of columns.
        n_labels: Labels n.
        batch_size: Rows in a batch over all processes; the last may have fewer.
        n_processes: Number of processes.
        rank: This process.
        at_end: Called once all rows are read.
    """

    def __init__(
        self,
        files: Sequence[TableFile],
        features: FittedFeatures,
        n_labels: int,
        batch_size: int,
        n_processes: int = 1,
        rank: int = 0,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._files, self._features, self._n_labels = files, features, n_labels
        self._batch_size, self._n_processes, self._rank = batch_size, n_processes, rank
        self._at_end = at_end

    def __iter__(self) -> Iterator[Batch]:
        """Yield this process's part of each batch.

        Raises:
            TableError: If a row cannot be read; batches before it have been yielded.
        """
        first = 0
        for inputs in regrouped(self._chunks(), self._batch_size):
            rows = torch.arange(first, first + len(inputs)).tensor_split(self._n_processes)[self._rank]
            own = torch.from_numpy(inputs)[rows - first, None]
            yield Batch(own, torch.zeros(len(rows), 1, self._n_labels), rows)
            first += len(inputs)
        self._at_end()

    def _chunks(self) -> Iterator[NDArray[np.float32]]:
        kinds = self._features.kinds
        for file in self._files:
            for rows in file.rows(self._features.columns):
                yield self._features.encode(kinds.read(rows))


def regrouped(chunks: Iterator[NDArray[np.float32]], n_rows: int) -> Iterator[NDArray[np.float32]]:
    """Chunks [any, d] of rows regrouped to `n_rows` rows each, and fewer in the last."""
    waiting: list[NDArray[np.float32]] = []
    n_waiting = 0
    for chunk in chunks:
        place = 0
        while n_waiting + len(chunk) - place >= n_rows:
            end = place + n_rows - n_waiting
            yield np.concatenate([*waiting, chunk[place:end]])
            waiting, n_waiting, place = [], 0, end
        waiting.append(chunk[place:])
        n_waiting += len(chunk) - place
    if n_waiting:
        yield np.concatenate(waiting)
