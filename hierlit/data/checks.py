"""Checks of tables, and of arguments that all data modules have: each gives the lines that say what is wrong."""

from typing import Any

from torch import Tensor

from hierlit.models.checks import at_least, within

LABELS_RULE = "labels must be in {-1, 0, 1} (0 = not observed)"


def table_problems(split: str, inputs: Tensor, labels: Tensor, shape: tuple[int, int, int]) -> list[str]:
    """Say what is wrong with a table.

    Args:
        split: Its name.
        inputs: Should be finite, [N, |G|, d].
        labels: Should be in {-1, 0, 1}, [N, |G|, n].
        shape: |G|, d and n.

    Returns:
        One line for each problem.
    """
    n_locations, n_inputs, n_labels = shape
    for name, table, channels in (("inputs", inputs, n_inputs), ("labels", labels, n_labels)):
        if list(table.shape[1:]) != [n_locations, channels] or table.ndim != 3:
            return [f"{split} {name} must have shape [rows, {n_locations}, {channels}], got {list(table.shape)}"]
    if len(inputs) != len(labels):
        return [f"{split} inputs and labels must have equally many rows, got {len(inputs)} and {len(labels)}"]
    if split == "train" and len(inputs) == 0:
        return ["train must have at least 1 row, got 0"]
    problems = []
    unlike = (labels != -1) & (labels != 0) & (labels != 1)
    for rule, table, wrong in (("inputs must be finite", inputs, ~inputs.isfinite()), (LABELS_RULE, labels, unlike)):
        if len(places := wrong.nonzero()):
            row, location, channel = places[0].tolist()
            at = f"row {row}, location {location}, {'label' if rule == LABELS_RULE else 'input'} {channel}"
            problems.append(f"{split} {rule}, got {table[row, location, channel].item()} at {at}")
    return problems


def loader_problems(batch_size: Any, acceptance_fraction: Any, data_seed: Any) -> list[str]:
    """Say what is wrong with the arguments that every data module has."""
    problems = at_least(1, batch_size=batch_size) + at_least(0, data_seed=data_seed)
    return problems + within("acceptance_fraction", acceptance_fraction, "[0, 1)")


def set_aside_problems(n_train: int, fraction: float) -> list[str]:
    """Say whether setting rows aside leaves none to fit."""
    if n_set_aside(n_train, fraction) < n_train:
        return []
    return [f"acceptance_fraction must leave a training row to fit, got {fraction} of {n_train} rows"]


def n_set_aside(n_train: int, fraction: float) -> int:
    """Return how many rows a fraction sets aside: it is rounded, and at least one unless it is 0."""
    return max(1, round(fraction * n_train)) if fraction > 0 else 0
