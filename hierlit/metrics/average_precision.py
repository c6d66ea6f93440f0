"""Average precision of all label–location pairs together: the area under one precision–recall curve."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


def average_precision(scores: Tensor, labels: Tensor) -> float:
    """Σ (R_k − R_{k−1}) P_k over the distinct scores of all observed pairs, the highest first; NaN without a positive.

    Args:
        scores: Scores of any shape.
        labels: Labels in {−1, 0, 1} of the same shape; 0, not observed, is left out.
    """
    observed = labels != 0
    ordered, order = scores[observed].sort(descending=True)
    found = (labels[observed][order] > 0).double().cumsum(0)
    last_of_score = torch.ones_like(ordered, dtype=torch.bool)
    last_of_score[:-1] = ordered[1:] != ordered[:-1]
    ranks = last_of_score.nonzero()[:, 0]
    if not len(ranks) or found[-1] == 0:
        return float("nan")
    steps = found[ranks].diff(prepend=found.new_zeros(1))
    return float((steps * found[ranks] / (ranks + 1)).sum() / found[-1])


class AveragePrecision(Metric):
    """`average_precision` of the batches of all processes; it keeps every score."""

    full_state_update = False
    is_differentiable = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")
        self.scores: list[Tensor]
        self.labels: list[Tensor]

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Add a batch of scores and of labels in {−1, 0, 1}, of one shape."""
        self.scores.append(scores.flatten())
        self.labels.append(labels.flatten().to(torch.int8))

    def compute(self) -> Tensor:
        """Return the average precision, a scalar float64."""
        scores, labels = (
            torch.cat(list(parts)) if len(parts) else torch.zeros(0) for parts in (self.scores, self.labels)
        )
        return torch.tensor(average_precision(scores, labels), dtype=torch.float64)
