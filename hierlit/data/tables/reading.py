"""Reading whole files: those to train on, to which inputs are fitted, and others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from hierlit.data.tables.column_labels import ColumnLabels, Signs
from hierlit.data.tables.encoder import TableEncoder
from hierlit.data.tables.features import fit_categories, fit_numbers, take_numbers
from hierlit.data.tables.fitted import FittedTable
from hierlit.data.tables.path_labels import PathLabels
from hierlit.data.tables.roles import ColumnRoles, listed
from hierlit.data.tables.table_file import TableFile

Labels = ColumnLabels | PathLabels
Table = tuple[NDArray[np.float32], Signs]

FEW_CATEGORIES = 20


def read_training(
    files: Sequence[TableFile],
    roles: ColumnRoles,
    labels: Labels,
    split: Callable[[int], dict[str, NDArray[np.int64]]],
    impute: str,
    scale: str,
) -> tuple[TableEncoder, dict[str, Table]]:
    """Read the files to train on, and fit inputs to the rows for training alone.

    Args:
        files: The files.
        roles: Their columns by what they are.
        labels: What their labels are is found.
        split: Gives the rows of each split by their number.
        impute: How missing numbers are filled.
        scale: How inputs are scaled.

    Returns:
        How inputs are made of columns; and inputs [rows, d] and labels [rows, n] of "train", "val" and "test".

    Raises:
        ValueError: If a value is not what its column holds; one line names the file, the line and the column.
    """
    from pandas import concat

    columns = roles.features + roles.label_columns
    frame = concat([frame for file in files for frame in file.chunks(columns)])
    numbers = take_numbers(frame, roles, files)
    labels.find(frame)
    answers = labels.read(frame, [entry for file in files for entry in file.classes])
    rows_of = split(len(frame))
    train = frame.iloc[rows_of["train"]]
    found = {name: fit_categories(train[name]) for name in roles.features if name not in numbers}
    hierarchy = labels.hierarchy
    table = FittedTable(
        numbers,
        **fit_numbers(train[numbers], impute, scale),
        categories={name: categories for name, (categories, _) in found.items()},
        frequent={name: text for name, (_, text) in found.items()},
        unit=scale == "unit",
        label_names=labels.names,
        parents=None if hierarchy is None else hierarchy.parents,
        depths=None if hierarchy is None else hierarchy.depths,
    )
    encoder = TableEncoder(table)
    inputs = encoder.encode(frame)
    tables = {name: (inputs[rows], answers[rows]) for name, rows in rows_of.items()}
    warn_of_unknown("train_files, in rows set apart", encoder, labels)
    warn_of_training(encoder.table, *tables["train"])
    return encoder, tables


def read_fitted(files: Sequence[TableFile], encoder: TableEncoder, labels: Labels) -> Table:
    """Read files of the columns that inputs were fitted to.

    Returns:
        Inputs [rows, d] and labels [rows, n].

    Raises:
        ValueError: If a value is not what its column holds; one line names the file, the line and the column.
    """
    parts = [
        (encoder.encode(frame), labels.read(frame, file.classes))
        for file in files
        for frame in file.chunks(encoder.table.columns + labels.columns)
    ]
    inputs, signs = zip(*parts, strict=True)
    return np.concatenate(inputs), np.concatenate(signs)


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
