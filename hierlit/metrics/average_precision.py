"""Average precision of all label–location pairs together: the area under one precision–recall curve."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

SORTED = 2**16
"""Values that are worth a thread."""


def average_precision(scores: Tensor, labels: Tensor) -> float:
    """Σ (R_k − R_{k−1}) P_k over the distinct scores of all observed pairs, the highest first; NaN without a positive.

    Args:
        scores: Scores of any shape.
        labels: Labels in {−1, 0, 1} of the same shape; 0, not observed, is left out.
    """
    observed = labels != 0
    if not observed.all():
        scores, labels = scores[observed], labels[observed]
    ranked, hits = (part.detach().flatten().cpu().numpy() for part in (scores, scores[labels > 0]))
    if not len(hits):
        return float("nan")
    hits = np.sort(hits)
    # at each positive, how many positives and how many pairs have at least its score: few are positive
    return float(np.mean((len(hits) - np.searchsorted(hits, hits)) / at_least(hits, ranked)))


def at_least(limits: NDArray[Any], values: NDArray[Any]) -> NDArray[np.int64]:
    """Count the values [N] that are no less than each of some ascending limits, by a thread for each part of them."""
    parts = np.array_split(values, max(1, min(torch.get_num_threads(), len(values) // SORTED)))
    with ThreadPoolExecutor(len(parts)) as threads:
        counts = threads.map(lambda part: len(part) - np.searchsorted(np.sort(part), limits), parts)
        total: NDArray[np.int64] = np.sum(list(counts), 0)
    return total


class AveragePrecision(Metric):
    """`average_precision` of the batches of all processes; it keeps the scores of all pairs with an observed label."""

    full_state_update = False
    is_differentiable = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")
        self.scores: list[Tensor]
        self.labels: list[Tensor]

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Add a batch of scores and of labels in {−1, 0, 1}, both [..., n]."""
        observed = (labels != 0).any(-1)
        self.scores.append(scores[observed])
        self.labels.append(labels[observed].to(torch.int8))

    def compute(self) -> Tensor:
        """Return the average precision, a scalar float64."""
        if not len(self.scores):
            return torch.tensor(torch.nan, dtype=torch.float64)
        found = average_precision(dim_zero_cat(self.scores), dim_zero_cat(self.labels))
        return torch.tensor(found, dtype=torch.float64)

    def of_labels(self) -> Tensor:
        """Return that of each label by itself, [n] float64; NaN unless both signs are observed."""
        with self.sync_context():
            scores, labels = dim_zero_cat(self.scores), dim_zero_cat(self.labels)
        found = [average_precision(scores[:, label], labels[:, label]) for label in range(labels.shape[1])]
        return torch.tensor(found, dtype=torch.float64).where((labels < 0).any(0).cpu(), torch.nan)

    def shares(self) -> Tensor:
        """Return each label's share of positives among the pairs where it is observed, [n] float64."""
        with self.sync_context():
            labels = dim_zero_cat(self.labels).cpu()
        return (labels > 0).sum(0).double() / (labels != 0).sum(0)

    def of_kinds(self, kinds: Sequence[str]) -> dict[str, float]:
        """Return the mean of each kind over its labels with both signs; `kinds` has that of each label."""
        found = self.of_labels()
        owned = {kind: torch.tensor([each == kind for each in kinds]) for kind in dict.fromkeys(kinds)}
        return {kind: float(found[own].nanmean()) for kind, own in owned.items()}
