"""What a person is told of rows just read."""

from __future__ import annotations

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from hierlit.data.tables.encoder import TableEncoder
from hierlit.data.tables.fitted import FittedTable
from hierlit.data.tables.labels import Labels, Signs
from hierlit.data.tables.roles import listed

FEW_CATEGORIES = 20


def warn_of_unknown(source: str, encoder: TableEncoder, labels: Labels | None = None) -> None:
    """Name the categories and labels of rows just read that are not among those fitted to, and forget them.

    Args:
        source: Where the rows came from.
        encoder: What made their inputs.
        labels: How their labels were, if they were read.
    """
    if encoder.unseen:
        unseen = listed(list(encoder.unseen))
        rank_zero_warn(f"{source}: categories that no training row has become zeros: {unseen}")
        encoder.unseen.clear()
    if labels is not None and labels.unknown:
        unknown = listed(list(labels.unknown))
        rank_zero_warn(f"{source}: labels that train_files do not have are left out: {unknown}")
        labels.unknown.clear()


def warn_of_training(table: FittedTable, inputs: NDArray[np.float32], signs: Signs) -> None:
    """Say what a person may not know of the rows for training: what has one value alone, and what has one a row."""
    same, n_labels = inputs.min(axis=0) == inputs.max(axis=0), signs.shape[1]
    constant = [name for name, is_same in zip(table.input_names, same, strict=True) if is_same]
    if constant:
        rank_zero_warn(f"{len(constant)} of {len(same)} inputs are the same in all training rows: {listed(constant)}")
    few = max(FEW_CATEGORIES, len(inputs) / 2)
    unique = [name for name, found in table.categories.items() if len(found) > few]
    if unique:
        rank_zero_warn(
            f"most training rows have a text of their own in {listed(unique)}, each an input: name what is no input in "
            "ignore_columns, and write numbers with a point"
        )
    for has_one, is_it in (("never", ~(signs == 1).any(0)), ("always", ~(signs == -1).any(0) & (signs == 1).any(0))):
        if is_it.any():
            chosen = listed([name for name, is_one in zip(table.label_names, is_it, strict=True) if is_one])
            rank_zero_warn(f"{is_it.sum()} of {n_labels} labels are {has_one} positive in the training rows: {chosen}")
