"""Rows to predict, read a chunk at a time while they are predicted: memory does not grow with their number."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from hierlit.data.base import Batch
from hierlit.data.tables.encoder import TableEncoder
from hierlit.data.tables.table_file import TableFile


@dataclass(eq=False)
class StreamedRows(IterableDataset[Batch]):
    """The rows of files in order, as batches; labels are all 0, not observed.

    Every process reads all of every file and takes its slice of each batch, as `FixedBatches` does.

    Attributes:
        files: The files.
        encoder: How inputs are made of columns.
        batch_size: Rows in a batch over all processes; the last may have fewer.
        n_processes: Number of processes.
        rank: This process.
        at_end: Called once all rows are read.
    """

    files: Sequence[TableFile]
    encoder: TableEncoder
    batch_size: int
    n_processes: int
    rank: int
    at_end: Callable[[], None]

    def __iter__(self) -> Iterator[Batch]:
        """Yield this process's part of each batch.

        Raises:
            TableError: If a row cannot be read; batches before it have been yielded.
        """
        first, n_labels = 0, len(self.encoder.table.label_names)
        for inputs in self._batches():
            rows = torch.arange(first, first + len(inputs)).tensor_split(self.n_processes)[self.rank]
            own = torch.from_numpy(inputs)[rows - first, None]
            yield Batch(own, torch.zeros(len(rows), 1, n_labels), rows)
            first += len(inputs)
        self.at_end()

    def _batches(self) -> Iterator[NDArray[np.float32]]:
        """Yield inputs [`batch_size`, d], and fewer at the end."""
        table, size = self.encoder.table, self.batch_size
        waiting = np.empty((0, len(table.input_names)), np.float32)
        for file in self.files:
            for frame in file.chunks(table.columns, table.numbers):
                waiting = np.concatenate([waiting, self.encoder.encode(frame)])
                n_whole = len(waiting) // size * size
                yield from (waiting[first : first + size] for first in range(0, n_whole, size))
                waiting = waiting[n_whole:]
        if len(waiting):
            yield waiting
