"""Checks of tables, and of arguments that all data modules have: each gives the lines that say what is wrong."""

from typing import Any

from torch import Tensor

from hierlit.models.checks import at_least, within

LABELS_RULE = "labels must be in {-1, 0, 1} (0 = not observed)"
PADDING_RULE = "inputs and labels must be 0 where there is no location"


def table_problems(
    split: str,
    inputs: Tensor,
    labels: Tensor,
    shape: tuple[int | None, int, int],
    masked: bool = False,
    first_row: int = 0,
) -> list[str]:
    """Say what is wrong with a table, or with a chunk of its rows.

    Args:
        split: Its name.
        inputs: Should be finite, [N, |G|, d].
        labels: Should be in {-1, 0, 1}, [N, |G|, n].
        shape: |G|, None where any will do; d; and n.
        masked: Whether input channel 0 should be 0 or 1, and all else be 0 where it is 0.
        first_row: Number of the first row.

    Returns:
        One line for each problem.
    """
    n_locations, n_inputs, n_labels = shape
    for name, table, channels in (("inputs", inputs, n_inputs), ("labels", labels, n_labels)):
        wanted = table.shape[1] if n_locations is None and table.ndim == 3 else n_locations
        if table.ndim != 3 or list(table.shape[1:]) != [wanted, channels]:
            rule = f"[rows, {'locations' if n_locations is None else n_locations}, {channels}]"
            return [f"{split} {name} must have shape {rule}, got {list(table.shape)}"]
    if len(inputs) != len(labels):
        return [f"{split} inputs and labels must have equally many rows, got {len(inputs)} and {len(labels)}"]
    if inputs.shape[1] != labels.shape[1]:
        found = f"{inputs.shape[1]} and {labels.shape[1]}"
        return [f"{split} inputs and labels must have equally many locations, got {found}"]
    if split == "train" and len(inputs) == 0 and not first_row:
        return ["train must have at least 1 row, got 0"]
    unlike = (labels != -1) & (labels != 0) & (labels != 1)
    rules = [("inputs must be finite", inputs, ~inputs.isfinite()), (LABELS_RULE, labels, unlike)]
    if masked:
        presence = inputs[..., :1]
        padded = presence == 0
        rules.append(("input 0 must say where there is a location, 0 or 1", presence, ~padded & (presence != 1)))
        rules += [(PADDING_RULE, table, padded & (table != 0)) for table in (inputs, labels)]
    problems = []
    for rule, table, wrong in rules:
        if len(places := wrong.nonzero()):
            row, location, channel = places[0].tolist()
            at = f"row {first_row + row}, location {location}, {'label' if table is labels else 'input'} {channel}"
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
