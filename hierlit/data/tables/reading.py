"""Reading whole files: those to train on twice, first for what their columns are; others as fitted to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hierlit.data.tables.features import FeatureSurvey, FittedFeatures, RawFeatures, fit_features
from hierlit.data.tables.fitted import FittedTable
from hierlit.data.tables.labels import Labels, Signs
from hierlit.data.tables.roles import ColumnRoles, listed
from hierlit.data.tables.rows import TableFile

Inputs = NDArray[np.float32]
Table = tuple[Inputs, Signs]

FEW_CATEGORIES = 20


@dataclass(frozen=True)
class TrainingFiles:
    """What was read of the files to train on.

    Attributes:
        fitted: How inputs are made of columns, and what the labels are.
        labels: How labels are made of columns.
        tables: Inputs [rows, d] and labels [rows, n] of "train", "val" and "test".
    """

    fitted: FittedTable
    labels: Labels
    tables: dict[str, Table]


def read_training(
    files: Sequence[TableFile],
    roles: ColumnRoles,
    labels: Labels,
    split: Callable[[int], dict[str, NDArray[np.int64]]],
    impute: str,
    scale: str,
) -> TrainingFiles:
    """Read the files to train on, and fit inputs to the rows for training alone.

    Numbers are kept in double precision until they are scaled: 12 bytes each at most.

    Args:
        files: The files.
        roles: Their columns by what they are.
        labels: What their labels are is found.
        split: Gives the rows of each split by their number.
        impute: How missing numbers are filled.
        scale: How inputs are scaled.

    Raises:
        ValueError: If a value is not what its column holds; one line names the file, the line and the column.
    """
    features = FeatureSurvey(files, roles.features, roles.categorical)
    columns = roles.features + roles.label_columns
    for file in files:
        for rows in file.rows(features.columns + labels.columns):
            features.see(rows)
            labels.see(rows)
    kinds = features.kinds()
    labels.settle()
    texts: list[dict[str, int]] = [{} for _ in kinds.categories]
    parts: list[RawFeatures] = []
    signs: list[Signs] = []
    for file in files:
        for rows in file.rows(columns):
            parts.append(kinds.read(rows, texts))
            signs.append(labels.read(rows))
    answers, rows_of = np.concatenate(signs), split(sum(map(len, parts)))
    del signs
    in_training = np.zeros(len(answers), bool)
    in_training[rows_of["train"]] = True
    fitted = fit_features(kinds, _chosen(parts, in_training), impute, scale)
    inputs = _encode_all(fitted, parts)
    tables = {name: (inputs[rows], answers[rows]) for name, rows in rows_of.items()}
    hierarchy = labels.hierarchy
    given = (None, None) if hierarchy is None else (hierarchy.parents, hierarchy.depths)
    return TrainingFiles(FittedTable(fitted, labels.names, *given), labels, tables)


def _chosen(parts: list[RawFeatures], rows: NDArray[np.bool_]) -> list[RawFeatures]:
    """Return the chosen ones of all rows, part by part; views where a part's are all chosen."""
    bounds = np.cumsum([0, *map(len, parts)])
    masks = [rows[first:last] for first, last in pairwise(bounds.tolist())]
    return [part if mask.all() else part[mask] for part, mask in zip(parts, masks, strict=True)]


def _encode_all(fitted: FittedFeatures, parts: list[RawFeatures]) -> Inputs:
    """Return the inputs of all parts, each of which is let go once it is encoded."""
    inputs = np.empty((sum(map(len, parts)), len(fitted.input_names)), np.float32)
    first = 0
    while parts:
        part = parts.pop(0)
        inputs[first : first + len(part)] = fitted.encode(part)
        first += len(part)
    return inputs


def read_fitted(files: Sequence[TableFile], features: FittedFeatures, labels: Labels) -> Table:
    """Read files of the columns that inputs were fitted to.

    Returns:
        Inputs [rows, d] and labels [rows, n].

    Raises:
        ValueError: If a value is not what its column holds; one line names the file, the line and the column.
    """
    kinds = features.kinds
    parts = [
        (features.encode(kinds.read(rows)), labels.read(rows))
        for file in files
        for rows in file.rows(features.columns + labels.columns)
    ]
    inputs, signs = zip(*parts, strict=True)
    return np.concatenate(inputs), np.concatenate(signs)


def unknown_warnings(source: str, features: FittedFeatures, labels: Labels | None) -> list[str]:
    """Names the categories and labels of rows just read that are not among those fitted to, and forgets them.

    Args:
        source: Where the rows came from.
        features: How their inputs were made.
        labels: How their labels were, if they were read.
    """
    warnings = []
    if features.unseen:
        unseen = listed(list(features.unseen))
        warnings.append(f"{source}: categories that no training row has become zeros: {unseen}")
        features.unseen.clear()
    if labels is not None and labels.unknown:
        unknown = listed(list(labels.unknown))
        warnings.append(f"{source}: labels that train_files do not have are left out: {unknown}")
        labels.unknown.clear()
    return warnings


def training_warnings(training: TrainingFiles) -> list[str]:
    """Return what a person may not know of the rows for training: what has one value alone, and what has one a row."""
    inputs, signs = training.tables["train"]
    same = inputs.min(axis=0) == inputs.max(axis=0)
    constant = [name for name, is_same in zip(training.fitted.features.input_names, same, strict=True) if is_same]
    warnings = unknown_warnings("train_files, in rows set apart", training.fitted.features, training.labels)
    if constant:
        warnings.append(f"{len(constant)} of {len(same)} inputs are the same in all training rows: {listed(constant)}")
    kinds = training.fitted.features.categories
    unique = [fit.name for fit in kinds if len(fit.categories) > max(FEW_CATEGORIES, len(inputs) / 2)]
    if unique:
        warnings.append(
            f"most training rows have a text of their own in {listed(unique)}, each an input: name what is no input in "
            "ignore_columns, and write numbers with a point"
        )
    names, n_labels = np.array(training.labels.names), signs.shape[1]
    for has_one, is_it in (("never", ~(signs == 1).any(0)), ("always", ~(signs == -1).any(0) & (signs == 1).any(0))):
        if is_it.any():
            chosen = listed(names[is_it].tolist())
            warnings.append(f"{is_it.sum()} of {n_labels} labels are {has_one} positive in the training rows: {chosen}")
    return warnings
