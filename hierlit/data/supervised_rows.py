"""Rows read from files, or of different lengths, whose labels are flipped, hidden or shuffled as they are fetched."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierlit.data.rows import Batch, RowDataset

Alter = Callable[[Tensor, int], Tensor]
"""Gives the labels [|G|, n] of a row of some number in place of those given; [1, n] where they are an example's."""


class SupervisedRows(RowDataset):
    """Rows of another dataset with other labels.

    Args:
        rows: The dataset.
        pooled: Whether all locations of a row have the same labels, which are altered once then.
        alter: What becomes of a row's labels; None for nothing.
        order: For each row the one whose labels it takes, [N]; its own when None. Labels of a longer row are cut,
            those of a shorter one repeated from its beginning.
    """

    def __init__(
        self, rows: RowDataset, pooled: bool, alter: Alter | None = None, order: NDArray[np.int64] | None = None
    ) -> None:
        self._rows, self._pooled, self._alter, self._order = rows, pooled, alter, order
        self.masked, self.lengths = rows.masked, rows.lengths

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Tensor | int) -> Batch:
        """Return the rows ``index``, a long tensor [B] (an int counts as a tensor of one row)."""
        batch = self._rows[index]
        labels = batch.labels if self._order is None else self._taken(batch, self._order)
        if self._alter is not None and len(labels):
            altered = [self._altered(own, int(row)) for own, row in zip(labels, batch.index, strict=True)]
            labels = torch.stack(altered)
        return Batch(batch.inputs, labels * batch.inputs[..., :1] if self.masked else labels, batch.index)

    def problems(self, split: str, shape: tuple[int | None, int, int]) -> list[str]:
        """Return those of the dataset: other labels are as valid."""
        return self._rows.problems(split, shape)

    def _altered(self, labels: Tensor, row: int) -> Tensor:
        """Alter a row's labels, up to its own length: what becomes of them is the same in any batch."""
        if self._alter is None:
            return labels
        if self._pooled:
            return self._alter(labels[:1], row).expand_as(labels)
        own = len(labels) if self.lengths is None else int(self.lengths[row])
        return torch.cat([self._alter(labels[:own], row), labels[own:]])

    def _taken(self, batch: Batch, order: NDArray[np.int64]) -> Tensor:
        """Return the labels that rows take from others."""
        givers = order[batch.index.numpy()]
        given = self._rows[torch.from_numpy(givers)].labels
        if self.lengths is None:
            return given
        taken, places = torch.zeros_like(batch.labels), torch.arange(batch.labels.shape[1])
        for place, giver in enumerate(givers):
            taken[place] = given[place][places % int(self.lengths[giver])]
        return taken
