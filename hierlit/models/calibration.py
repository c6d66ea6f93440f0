"""Probabilities of a network's scores, as frozen tensors: they travel with the network, and into exported graphs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hierlit.models.first_layer import take_shape

SLOPE = 2.0
"""Of the log-odds of (1 + ŷ)/2, which ŷ would be the squared loss's best guess of, at ŷ = 0."""


class Calibration(nn.Module):
    """Log-odds of each label's scores (ours): one curve for all labels, and for some a straight line of its log-odds.

    The curve increases: straight lines between knots, `SLOPE` beyond. So a label's own order of rows is that of its
    scores, unless labels imply one another: then log-odds are the mean of the smallest consistent log-odds above them
    and the largest below. Until it is fitted the log-odds are `SLOPE`·ŷ. A state dict may hold another number of
    knots, class columns or implications; one without a calibration makes it such a one.

    Args:
        n_labels: Labels n.

    Attributes:
        knots: Scores and log-odds [2, k], both ascending, k of 2 or more.
        slopes: Of the labels' own lines [n], positive; 1 where there is none.
        intercepts: Of the labels' own lines [n]; 0 where there is none.
        membership: Which labels are the classes of which column [n, c], 1 or 0.
        implications: Pairs of labels of which the first implies the second, [2, e], with all that follows from them.
    """

    knots: Tensor
    slopes: Tensor
    intercepts: Tensor
    membership: Tensor
    implications: Tensor

    def __init__(self, n_labels: int) -> None:
        super().__init__()
        self.register_buffer("knots", torch.tensor([[0.0, 1.0], [0.0, SLOPE]]))
        self.register_buffer("slopes", torch.ones(n_labels))
        self.register_buffer("intercepts", torch.zeros(n_labels))
        self.register_buffer("membership", torch.zeros(n_labels, 0))
        self.register_buffer("implications", torch.zeros(2, 0, dtype=torch.long))

    def set_classes(self, columns: Sequence[Sequence[int]]) -> None:
        """Say which labels are the classes of one column each: their probabilities have the sum 1."""
        membership = self.membership.new_zeros(len(self.slopes), len(columns))
        for column, labels in enumerate(columns):
            membership[list(labels), column] = 1
        self.membership = membership

    def forward(self, scores: Tensor) -> Tensor:
        """Probabilities [..., n] of scores ŷ [..., n]."""
        probabilities = torch.sigmoid(self.log_odds(scores))
        if not self.membership.shape[1]:
            return probabilities
        membership = self.membership.to(probabilities)
        return probabilities / (probabilities @ membership @ membership.T + 1 - membership.sum(1))

    def log_odds(self, scores: Tensor) -> Tensor:
        """Log-odds [..., n] of scores ŷ [..., n], before those of classes are made to agree; in float32 or more."""
        dtype = torch.promote_types(self.knots.dtype, torch.float32)
        scores, points, values = scores.to(dtype), *self.knots.to(dtype)
        clipped, last = scores.clamp(points[0], points[-1]), len(points) - 2
        place = torch.zeros_like(scores, dtype=torch.long)
        for power in reversed(range(last.bit_length())):  # bisection: ONNX has no searchsorted
            ahead = (place + 2**power).clamp(max=last)
            place = torch.where(points[ahead] <= clipped, ahead, place)
        low, width = points[place], points[place + 1] - points[place]
        share = (clipped - low) / width.clamp(min=torch.finfo(dtype).tiny)
        curve: Tensor = values[place] + share * (values[place + 1] - values[place]) + SLOPE * (scores - clipped)
        return self._consistent(self.slopes.to(dtype) * curve + self.intercepts.to(dtype))

    def _consistent(self, log_odds: Tensor) -> Tensor:
        """Log-odds [..., n] that are nowhere lower than those of a label that implies them."""
        if not self.implications.shape[1]:
            return log_odds
        above, below = log_odds.clone(), log_odds.clone()
        for first, second in torch.split(self.implications, len(self.slopes), 1):  # all at once take much memory
            shape = (*log_odds.shape[:-1], len(first))
            above.scatter_reduce_(-1, second.expand(shape), log_odds[..., first], "amax")
            below.scatter_reduce_(-1, first.expand(shape), log_odds[..., second], "amin")
        return (above + below) / 2

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        unfitted = Calibration(len(self.slopes)).state_dict()
        for name, own in self.named_buffers():
            loaded = state_dict.setdefault(f"{prefix}{name}", unfitted[name])
            size = loaded.shape[-1:] if isinstance(loaded, Tensor) else ()
            if name in ("knots", "membership", "implications") and size:
                take_shape(own, loaded, (len(own), *size))
        super()._load_from_state_dict(state_dict, prefix, *others)
