"""How inputs are made of a table's columns, as a module: for models that run outside hierlit."""

from typing import Any

import torch
from torch import Tensor, nn

from hierlit.data.tables.fitted import FittedTable


class TableEncoder(nn.Module):
    """`FittedFeatures.encode` as a module: columns filled, scaled and one-hot, as in training.

    Args:
        table: As found in the rows to train on; it has columns.

    Attributes:
        names: Of the arguments of `forward`.
    """

    fill: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, table: FittedTable) -> None:
        super().__init__()
        self.table, features = table, table.features
        for name in ("fill", "shift", "scale"):
            values = [getattr(fit, name) for fit in features.numbers]
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64))
        self.unit = features.unit
        self.sizes = [len(fit.categories) for fit in features.categories]
        self.fills = [-1 if fit.fill is None else fit.categories.index(fit.fill) for fit in features.categories]
        self.names = ["numbers", "codes"][: 1 + bool(self.sizes)]

    def forward(self, numbers: Tensor, codes: Tensor | None = None) -> Tensor:
        """Return inputs, float32 [B, d].

        Args:
            numbers: Float64 [B, columns of numbers]; NaN where missing.
            codes: Long [B, columns of categories], places among the categories; −1 where missing, and a number beyond
                them for a category that was not in the rows to train on.
        """
        filled = torch.where(torch.isnan(numbers), self.fill, numbers)
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

    def examples(self) -> tuple[Tensor, ...]:
        """Arguments of `forward` for two rows."""
        numbers = torch.zeros(2, len(self.fill), dtype=torch.float64)
        return (numbers, torch.zeros(2, len(self.sizes), dtype=torch.long)) if self.sizes else (numbers,)

    def describe(self) -> dict[str, Any]:
        """Return what the arguments of `forward` and the labels are, as plain values."""
        features = self.table.features
        codes = {fit.name: fit.categories for fit in features.categories}
        return {"numbers": features.kinds.numbers, "codes": codes, "labels": self.table.label_names}
