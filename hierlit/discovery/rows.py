"""The rows that a hierarchy is looked for in, how they are split, and their shuffled copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierlit.data.base import HierarchyDataModule
from hierlit.discovery.structure.columns import LabelColumns
from hierlit.draws import Draws
from hierlit.models.proximity import Proximity, windows_of

ASIDE = 0.2
"""Share of the rows not held out that regularisation and the number of parents are chosen on."""
FEWEST = 10
"""Rows below which there is nothing to split."""


@dataclass(frozen=True)
class LabelledRows:
    """Inputs and labels, and no more.

    Attributes:
        inputs: [N, |G|, d].
        labels: [N, |G|, n] in {−1, 0, 1}, 0 = not observed.
        proximity: Windows E_g; each location sees itself alone when None.
        masked: Whether input channel 0 says where a row has a location; all rows are padded to one length.
        pooled: Whether labels are those of rows, the same at all locations.
        grid: The shape of the locations, None if unknown.
        place: Of each row among those of the data module, those for training first.
    """

    inputs: Tensor
    labels: Tensor
    proximity: Proximity | None = None
    masked: bool = False
    pooled: bool = False
    grid: tuple[int, ...] | None = None
    place: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, data: HierarchyDataModule, proximity: Proximity | None, n_rows: int | None) -> LabelledRows:
        """Return the training and validation rows of a data module, or so many of them; its test rows are left alone.

        Raises:
            ValueError: If there are too few.
        """
        data.setup()
        tables = [data.tables[split] for split in ("train", "val") if len(data.tables[split])]
        total = sum(map(len, tables))
        if total < FEWEST:
            raise ValueError(f"data must have at least {FEWEST} training and validation rows, got {total}")
        order = torch.from_numpy(Draws(data.data_seed, "discovery rows").permutation(total))[:n_rows]
        firsts = [0, *(len(table) for table in tables[:-1])]
        owns = [(order >= first) & (order < first + len(table)) for first, table in zip(firsts, tables, strict=True)]
        parts = [table[order[own] - first] for first, own, table in zip(firsts, owns, tables, strict=True)]
        longest = max(part.labels.shape[1] for part in parts)
        inputs, labels = (torch.zeros(len(order), longest, size) for size in (data.n_inputs, data.n_labels))
        for own, part in zip(owns, parts, strict=True):
            inputs[own, : part.inputs.shape[1]], labels[own, : part.labels.shape[1]] = part.inputs, part.labels
        seen = proximity or windows_of(data.grid)
        return cls(inputs, labels, seen, data.masked, data.pooled, data.grid, order.numpy())

    @property
    def exists(self) -> Tensor:
        """Where rows have locations, 1, and where not, 0, [N, |G|, 1]."""
        return (self.inputs[..., :1] != 0).float() if self.masked else torch.ones(*self.labels.shape[:2], 1)

    @property
    def n_labels(self) -> int:
        """Labels n."""
        return self.labels.shape[2]

    def split(self, seed: int, held_fraction: float) -> tuple[Tensor, Tensor, Tensor]:
        """Rows to fit, rows set aside and rows held out: long, disjoint, at random.

        Seeds take turns: those of a round hold out each row once, in as many parts as `held_fraction` makes.
        """
        n_parts = max(2, round(1 / held_fraction))
        turn, part = divmod(seed, n_parts)
        order = torch.from_numpy(Draws(turn, "discovery split").permutation(len(self.inputs)))
        is_held = torch.arange(len(order)) % n_parts == part
        rest = order[~is_held]
        n_aside = max(1, round(ASIDE * len(rest)))
        return rest[n_aside:], rest[:n_aside], order[is_held]

    def columns(
        self, names: Sequence[str], numbers: NDArray[np.int64] | None = None
    ) -> tuple[LabelColumns, NDArray[np.int64] | None]:
        """Return the labels alone, a row a location, and which rows' labels a row sees [R, w]; None for its own.

        Args:
            names: Of the labels.
            numbers: Of all rows of the data module, by which examples are called and sorted; their places when None.
        """
        if self.place is not None:
            own = self.place if numbers is None else numbers[self.place]
            ordered = torch.from_numpy(np.argsort(own))
            rows = replace(self, inputs=self.inputs[ordered], labels=self.labels[ordered], place=None)
            columns, seen = rows.columns(names)
            return replace(columns, example=np.sort(own)[columns.example]), seen
        n_rows, n_locations = self.labels.shape[:2]
        if self.pooled:  # labels of examples, the same at all locations
            first = self.exists[..., 0].argmax(1)
            return LabelColumns.of_signs(self.labels[torch.arange(n_rows), first].numpy(), names), None
        exists = self.exists[..., 0].numpy() > 0
        columns = LabelColumns.of_signs(self.labels.numpy(), names, exists)
        if self.proximity is None:
            return columns, None
        number = np.where(exists, np.cumsum(exists).reshape(exists.shape) - 1, -1)
        table = self.proximity.table(n_locations).numpy()
        seen = np.where(table < 0, -1, number[:, np.maximum(table, 0)])
        return columns, seen[exists]

    def with_shuffled_rows(self, seed: int) -> LabelledRows:
        """Whole label rows permuted against the inputs: no label is predictable, and all keep their dependences."""
        order = torch.from_numpy(Draws(seed, "discovery null of levels").permutation(len(self.labels)))
        return replace(self, labels=self.labels[order] * self.exists)

    def with_shuffled_labels(self, seed: int) -> LabelledRows:
        """Return each label permuted across rows by itself: no label depends on another."""
        columns = [
            self.labels[torch.from_numpy(Draws(seed, "discovery null of edges", label).permutation(len(self.labels)))][
                ..., label
            ]
            for label in range(self.n_labels)
        ]
        return replace(self, labels=torch.stack(columns, 2) * self.exists)
