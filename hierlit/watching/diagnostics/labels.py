"""What is known of the data's labels: their polynomials, and which labels they depend on."""

import time
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from hierlit.data import HierarchyDataModule, Supervision
from hierlit.theory import KernelExpansion, Polynomial, least_norm_ptf, threshold_degree, width_scaling

LARGEST = 2**9
"""Rows of a truth table up to which its polynomial is looked for."""
SECONDS = 1.0
"""Time after which no further polynomial is looked for."""
PRODUCT = Polynomial([(0, 1)], torch.ones(1).numpy())
"""What a label whose polynomial is not known is compared to: a product of two coordinates, M = 1."""


def polynomials(data: HierarchyDataModule) -> list[Polynomial | None]:
    """Return each label's threshold polynomial of least degree and norm; None where it is not known or not found.

    None of the rest once the first have taken `SECONDS`.
    """
    found: list[Polynomial | None] = [None] * data.n_labels
    start = time.monotonic()
    for label in range(data.n_labels):
        table = data.truth_table(label)
        function = None if table is not None and len(table) > LARGEST else data.label_function(label)
        if function is None:
            continue
        points, values = function
        found[label] = least_norm(tuple(map(tuple, points.tolist())), tuple(values.tolist()))
        if time.monotonic() - start > SECONDS:
            break
    return found


@cache
def least_norm(points: tuple[tuple[float, ...], ...], values: tuple[float, ...]) -> Polynomial:
    """Polynomial threshold function of least degree and, at that degree, least norm of a function's values."""
    return least_norm_ptf(values, threshold_degree(values, points), points=points).polynomial


def needed_square(polynomial: Polynomial | None, kernel: KernelExpansion, live: float) -> float:
    """Squared norm in the kernel's space of a label's polynomial, about q‖W²_j‖² of the block that learns it (ours).

    A function of the window is a mean of q features with coefficients of q·W², so q‖W²_j‖² is the mean square of those;
    the least that a polynomial of coefficients c needs is Σ_S c_S²·f^|S|/(κ_|S|·|S|!).

    Args:
        polynomial: Of margin 1; a product of two coordinates when None.
        kernel: Of the block's features.
        live: f, the squared norm of a window: coordinates of it that vary.
    """
    return width_scaling(polynomial or PRODUCT, kernel, live, 1.0) / kernel.total  # type: ignore[arg-type]


def parents_of(data: HierarchyDataModule) -> list[list[int]]:
    """Labels that each label depends on: as the data tells, else all of the level before, if levels are known."""
    levels, inner = data.levels, data.data if isinstance(data, Supervision) else data
    if levels is None:
        return [[] for _ in range(data.n_labels)]
    told = inner.parent_labels or []
    below = [[other for other, own in enumerate(levels) if 0 < own == level - 1] for level in levels]
    return [*told, *below[len(told) :]]


def stuck(
    accuracy: Sequence[Tensor], chance: Tensor, levels: Sequence[int] | None, learned_accuracy: float, blocks: int = 2
) -> list[int]:
    """Labels at chance for some blocks though all labels of lower levels were learned before those.

    Args:
        accuracy: Of each block so far, [n].
        chance: The accuracy up to which a label is at chance, [n].
        levels: Each label's level; none is found where it is unknown.
        learned_accuracy: Accuracy from which a label counts as learned.
        blocks: For how many blocks.
    """
    if levels is None or len(accuracy) < blocks:
        return []
    before = accuracy[-blocks - 1] if len(accuracy) > blocks else torch.zeros_like(chance)
    unlearned = [
        level for level, value in zip(levels, before, strict=True) if level > 0 and not value >= learned_accuracy
    ]
    lowest = min(unlearned, default=0)
    still = torch.stack([values <= chance for values in accuracy[-blocks:]]).all(0)
    return [label for label, level in enumerate(levels) if level == lowest > 0 and bool(still[label])]
