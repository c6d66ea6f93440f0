"""How inputs are made of a table's columns, as a module: for training, and for models that run outside hierlit."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hierlit.data.tables.cells import codes_of, numbers
from hierlit.data.tables.features import check_numbers
from hierlit.data.tables.fitted import FittedTable

if TYPE_CHECKING:
    from pandas import DataFrame


class TableEncoder(nn.Module):
    """Columns filled, scaled and one-hot, as fitted to the rows to train on.

    Args:
        table: As found in the rows to train on; it has columns.

    Attributes:
        names: Of the arguments of `forward`.
        unseen: Categories of frames encoded that were not among those to train on, with how often.
    """

    fill: Tensor
    shift: Tensor
    scale: Tensor
    is_count: Tensor

    def __init__(self, table: FittedTable) -> None:
        super().__init__()
        self.table = table
        for name, values in (("fill", table.fills), ("shift", table.shifts), ("scale", table.scales)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64))
        self.register_buffer("is_count", torch.tensor(table.are_counts or [False] * len(table.fills), dtype=torch.bool))
        self.unit = table.unit
        self.sizes = [len(found) for found in table.categories.values()]
        self.fills = [
            -1 if text is None else found.index(text)
            for found, text in zip(table.categories.values(), table.frequent.values(), strict=True)
        ]
        self.names = ["numbers", "codes"][: 1 + bool(self.sizes)]
        self.unseen: Counter[str] = Counter()

    def forward(self, numbers: Tensor, codes: Tensor | None = None) -> Tensor:
        """Return inputs, float32 [B, d].

        Args:
            numbers: Float64 [B, columns of numbers]; NaN where missing.
            codes: Long [B, columns of categories], places among the categories; −1 where missing, and a number beyond
                them for a category that was not in the rows to train on.
        """
        filled = torch.where(torch.isnan(numbers), self.fill, numbers)
        if self.table.are_counts:
            filled = torch.where(self.is_count, filled.sign() * filled.abs().sqrt(), filled)
        parts = [((filled - self.shift) / self.scale).float()]
        if codes is not None:
            for place, (size, fill) in enumerate(zip(self.sizes, self.fills, strict=True)):
                code = codes[:, place, None]
                code = torch.where(code < 0, torch.full_like(code, fill), code)
                parts.append((code == torch.arange(size, device=code.device)).float())
        inputs = torch.cat(parts, 1)
        if self.unit:
            norms = inputs.double().square().mean(1, keepdim=True).sqrt()
            inputs = (inputs / torch.where(norms > 0, norms, 1.0)).float()
        return inputs

    def encode(self, frame: DataFrame) -> NDArray[np.float32]:
        """Return inputs [rows, d] of the columns as read; a category not fitted to is all zeros.

        Raises:
            TableError: If a column of numbers has something else, or an infinite one.
        """
        values = np.empty((len(frame), len(self.fill)))
        flags = set(self.table.numbers if self.table.flags is None else self.table.flags)
        for column, name in enumerate(self.table.numbers):
            values[:, column], wrong = numbers(frame[name], has_words=name in flags)
            check_numbers(frame, name, values[:, column], wrong)
        codes = np.empty((len(frame), len(self.sizes)), np.int64)
        for column, (name, categories) in enumerate(self.table.categories.items()):
            codes[:, column] = codes_of(frame[name], categories, self.unseen)
        inputs: NDArray[np.float32] = self(torch.from_numpy(values), torch.from_numpy(codes)).numpy()
        return inputs

    def examples(self) -> tuple[Tensor, ...]:
        """Arguments of `forward` for two rows."""
        numbers = torch.zeros(2, len(self.fill), dtype=torch.float64)
        return (numbers, torch.zeros(2, len(self.sizes), dtype=torch.long)) if self.sizes else (numbers,)

    def describe(self) -> dict[str, Any]:
        """Return what the arguments of `forward` and the labels are, as plain values."""
        table = self.table
        found: dict[str, Any] = {"numbers": table.numbers, "codes": table.categories, "labels": table.label_names}
        return found | {"classes": table.class_labels}
