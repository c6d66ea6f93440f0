"""A batch as the active block sees it, and the tiles it is read by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


@dataclass
class Chunk:
    """One batch as the active block sees it, on the network's device or in a memory-mapped file.

    Attributes:
        stream: Γ before the active block, [B, |G|, d+n].
        labels: Labels in {−1, 0, 1}, [B, |G|, n].
        folds: The fold of each row, [B]; None where rows have none.
        present: Numbers [P] of the pairs (row, location) that exist; None if all do, and P is B·|G|.
        rows: Numbers of the rows in the training table, [B], of chunks that are fitted; else None.
        features: The active block's features [P, q] where they are kept, in what they are computed in, else None.
        buffer: Memory for features, None where there was none left.
    """

    stream: Tensor
    labels: Tensor
    folds: Tensor | None = None
    present: Tensor | None = None
    rows: Tensor | None = None
    features: Tensor | None = None
    buffer: Tensor | None = None

    @property
    def n_pairs(self) -> int:
        """Rows times locations, without those that do not exist."""
        return self.labels[..., 0].numel() if self.present is None else len(self.present)

    def n_pairs_without(self, fold: int | None) -> int:
        """Count the pairs of the rows that are not in a fold."""
        return self.n_pairs if fold is None or self.folds is None else int((self.folds_of_pairs != fold).sum())

    @property
    def folds_of_pairs(self) -> Tensor:
        """The fold of each pair, [P]."""
        assert self.folds is not None
        return self.pairs(self.folds[:, None, None].expand(-1, self.labels.shape[1], 1))[:, 0]

    def pairs(self, values: Tensor) -> Tensor:
        """Values [P, C] of the pairs that exist, of values [B, |G|, C]."""
        flat = values.flatten(0, -2)
        return flat if self.present is None else flat[self.present]

    def locations(self, values: Tensor) -> Tensor:
        """Values [B, |G|, C] of values [P, C] of the pairs, 0 where there is none."""
        if self.present is not None:
            flat = values.new_zeros(self.labels[..., 0].numel(), values.shape[-1])
            values = flat.index_copy_(0, self.present, values)
        return values.view(*self.labels.shape[:2], values.shape[-1])


class Tile(NamedTuple):
    """Pairs (row, location) of a chunk, in the precision of the weights.

    Attributes:
        features: The block's centred features, without the constant one, [P, q].
        scores: ŷ before the block, [P, n].
        labels: [P, n].
        folds: The fold of each pair, [P]; None where rows have none.
    """

    features: Tensor
    scores: Tensor
    labels: Tensor
    folds: Tensor | None
