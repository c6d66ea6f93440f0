"""What is known of a block when it is frozen."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class BlockReport:
    """One row of `blocks.csv`, and what the other tables are made of.

    `suboptimality` bounds F_k − min F_k over all labels, and so over the accepted ones, F_k being a sum over labels.

    Attributes:
        block: Number of the block, from 1.
        epochs: Passes over the rows.
        steps: Steps of the weight.
        seconds: From the start of the block to its end.
        objective: F_k, the sum over labels.
        gradient_norm: Norm of its full gradient.
        suboptimality: ‖∇F_k‖²/(2λ).
        accepted: Labels that the block changes; none where it is left out for no gain.
        stop_reason: `gradient norm`, `max epochs`, `no gain` or `joint training`.
        initial_objective: F_k at W² = 0.
        gradient_tolerance: ε.
        features: Features q.
        channels: Channels of the stream, inputs and labels, that it reads.
        accepted_labels: Whether the block changes a label, [n].
        train: Metrics [n] of all training rows, set-aside ones included, after the block.
        is_last: Whether no block follows.
        is_logged: Whether the run's tables have the block, or will have it in whatever run resumes from here.
    """

    block: int
    epochs: int
    steps: int
    seconds: float
    objective: float
    gradient_norm: float
    suboptimality: float
    accepted: int
    stop_reason: str
    initial_objective: float
    gradient_tolerance: float
    features: int
    channels: int
    accepted_labels: list[bool] = field(repr=False)
    train: dict[str, Tensor] = field(repr=False)
    is_last: bool = field(default=False, repr=False)
    is_logged: bool = field(default=False, repr=False)
