"""How the margins of each label spread."""

from typing import Any

import torch
from torch import Tensor

from hierlit.metrics.margins import LabelMetric

LOW, HIGH, BINS = -1.5, 2.5, 80
"""Ends of the histogram, whose outer bins also take what lies beyond, and number of its bins."""
EDGES = torch.linspace(LOW, HIGH, BINS + 1)


class MarginHistogram(LabelMetric):
    """Observed pairs by label and margin y·ŷ, in bins between `EDGES`; `compute` gives counts [n, bins].

    Args:
        n_labels: Labels n.
        **kwargs: Options of `torchmetrics.Metric`.
    """

    counts: Tensor

    def __init__(self, n_labels: int, **kwargs: Any) -> None:
        super().__init__(n_labels, **kwargs)
        self.add_state("counts", torch.zeros(n_labels, BINS, dtype=torch.long), dist_reduce_fx="sum")

    def _add(self, margins: Tensor, observed: Tensor) -> None:
        place = ((margins - LOW) * (BINS / (HIGH - LOW))).nan_to_num(0).clamp(0, BINS - 1).long()
        flat = place + BINS * torch.arange(self.n_labels, device=place.device)
        self.counts += torch.bincount(flat[observed], minlength=self.counts.numel()).view_as(self.counts)

    def compute(self) -> Tensor:
        """Return counts [n, bins]."""
        return self.counts
