"""Rows grouped into batches, the same whatever the number of processes."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from hierlit.data.rows import Batch
from hierlit.draws import Draws


class FixedBatches(DistributedSampler[Tensor]):
    """Rows grouped into batches once, whatever the number of processes.

    Each epoch yields every row exactly once: one index tensor a batch, of which a process gets its fixed slice,
    perhaps an empty one. The order derives from the seed and from the epoch alone. It is a ``DistributedSampler`` so
    that Lightning leaves it in place.

    Args:
        rows: Long [N], the rows to go through.
        batch_size: Rows in a batch over all processes; the last batch may be smaller.
        seed: Seed of the grouping and of the order.
        shuffle: Group at random and take the batches in a new order each epoch; otherwise keep the order of ``rows``.
        num_replicas: Number of processes.
        rank: This process, 0..num_replicas-1.
        lengths: Locations of each of the rows, [N]: a batch then has rows of similar length, so that little of it is
            padding, and the batches are put in a random order once, all but the last, so that the leading ones are
            not the shortest, whether or not they are shuffled. None where rows have equally many.

    Attributes:
        leading: Number of batches that come first in every epoch, all of them if None: where Lightning's
            ``limit_train_batches`` cuts an epoch short, every epoch has the same rows.
    """

    def __init__(
        self,
        rows: Tensor,
        batch_size: int,
        seed: int,
        shuffle: bool,
        num_replicas: int = 1,
        rank: int = 0,
        lengths: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__(TensorDataset(rows), num_replicas, rank, shuffle, seed)
        order = Draws(seed, "batches").permutation(len(rows)) if shuffle else np.arange(len(rows))
        if lengths is not None:
            order = order[np.argsort(lengths[order], kind="stable")]
        batches = list(torch.split(rows[torch.from_numpy(order)], batch_size)) if len(rows) else []
        if lengths is not None:
            batches[:-1] = [batches[place] for place in Draws(seed, "batches by length").permutation(len(batches[:-1]))]
        self.leading: int | None = None
        self.batches = [batch.tensor_split(num_replicas)[rank] for batch in batches]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield this process's rows of each batch of the epoch, which is looked up when the first is asked for."""
        order = np.arange(len(self.batches))
        if self.shuffle:
            draws = Draws(self.seed, "batch order", 0, self.epoch)
            order[: self.leading] = draws.permutation(len(order[: self.leading]))
        for number in order:
            yield self.batches[number]


class BatchLoader(DataLoader[Batch]):
    """A loader of ``FixedBatches``."""

    sampler: FixedBatches
