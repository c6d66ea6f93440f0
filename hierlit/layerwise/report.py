"""What is known of a block when it is frozen."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class BlockReport:
    """What is known of a block when it is frozen; `levels.csv` and `labels.csv` add what its scores reach.

    `suboptimality` bounds F_k − min F_k over all labels, and so over the accepted ones, F_k being a sum over labels.
    `is_told` once the tables have the block, or will have it in whatever run goes on from here.
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
    accepted_labels: list[bool] = field(repr=False)
    train: dict[str, Tensor] = field(repr=False)
    is_told: bool = field(default=False, repr=False)
