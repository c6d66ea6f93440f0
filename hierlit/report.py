"""What a run reports: a block when it is frozen, and the levels as they stand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from hierlit.metrics import by_level


@dataclass
class BlockReport:
    """What is known of a block when it is frozen; `levels.csv` and `labels.csv` add what its scores reach.

    `suboptimality` bounds F_k − min F_k over all labels, and so over the accepted ones, F_k being a sum over labels.
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


def level_rows(
    metrics: Mapping[str, Tensor], levels: Sequence[int] | None, learned_accuracy: float
) -> list[dict[str, float]]:
    """One row a level of metrics given label by label.

    Args:
        metrics: `accuracy`, `min_margin`, `mean_margin` and `margin_error`, each [n].
        levels: Level of each label; every label counts as level 1 when None.
        learned_accuracy: Accuracy from which a label counts as learned.

    Returns:
        Rows with the keys level, n_labels, accuracy, min_margin, mean_margin, margin_error, learned.
    """
    accuracy = metrics["accuracy"]
    level_of = [1] * len(accuracy) if levels is None else list(levels)
    by_name = {
        name: by_level(values, level_of, "min" if name == "min_margin" else "mean") for name, values in metrics.items()
    }
    rows = []
    for level in sorted(set(level_of)):
        labels = [label for label, own in enumerate(level_of) if own == level]
        learned = sum(bool(accuracy[label] >= learned_accuracy) for label in labels)
        values = {name: by_name[name].get(level, float("nan")) for name in metrics}
        rows.append({"level": level, "n_labels": len(labels), **values, "learned": learned})
    return rows
