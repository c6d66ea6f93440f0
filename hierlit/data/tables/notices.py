"""What a person is told of rows just read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from hierlit.data.tables.encoder import TableEncoder
from hierlit.data.tables.fitted import FittedTable
from hierlit.data.tables.labels import Labels, Signs
from hierlit.data.tables.roles import listed
from hierlit.data.tables.table_file import TableFile, place_of

if TYPE_CHECKING:
    from pandas import DataFrame

FEW_CATEGORIES = 20
LIKE_NUMBERS = re.compile(r"[-+]?\s*[$€£¥]?\s*[-+]?[\d.,'_]*\d[\d.,'_]*(\s*[%$€£¥]|\s[a-zA-Z°µ]{1,3})?")
"""Texts that people write for numbers."""
LIKE_TIMES = re.compile(r"(\d{4}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d{1,2}:\d\d).*", re.S)


def warn_of_rows(source: str, encoder: TableEncoder, files: Sequence[TableFile], labels: Labels | None = None) -> None:
    """Say what of rows just read is not taken as the files have it, and forget it.

    Args:
        source: Where the rows came from.
        encoder: What made their inputs.
        files: Which they were read from.
        labels: How their labels were, if they were read.
    """
    texts = [*encoder.table.categories, *(labels.texts if labels else ())]
    for file in files:
        words = [f"{name}={word}" for name in texts for word in file.words.get(name, ())]
        n_cells = sum(file.words[name].total() for name in texts if name in file.words)
        if words and file.words_are_ours:
            what = f"{n_cells:,} cells with a word are taken for missing: {listed(words)}"
            rank_zero_warn(f"{file.path}: {what}; set missing to [''] to take words as they are")
        for notice in file.notices:
            rank_zero_warn(notice)
        file.words.clear()
        file.notices.clear()
    if encoder.unseen:
        rank_zero_warn(f"{source}: categories that no training row has become zeros: {counted(encoder.unseen)}")
        encoder.unseen.clear()
    if labels is not None:
        if labels.unknown:
            rank_zero_warn(f"{source}: labels that train_files do not have are left out: {counted(labels.unknown)}")
            labels.unknown.clear()
        if labels.empty:
            what = f"rows without a path: {labels.empty.total():,}, the first in {next(iter(labels.empty))}"
            remedy = "set empty_paths to negative if they have no label, or to not_observed"
            rank_zero_warn(f"{what}: they are not observed; {remedy}")
            labels.empty.clear()
        for notice in labels.notices:
            rank_zero_warn(notice)
        labels.notices.clear()


def warn_of_empty_rows(frame: DataFrame) -> None:
    """Say how many rows have no value in any column."""
    if (is_empty := frame.isna().all(axis=1).to_numpy()).any():
        first = place_of(int(frame.index[is_empty.argmax()]))
        rank_zero_warn(f"rows without any value: {is_empty.sum():,}, the first in {first}: remove them")


def counted(found: Mapping[str, int]) -> str:
    """Return the first of some names, with the cells of those that there are more than once, and how many more."""
    return listed([f"{name} ({count:,} cells)" if count > 1 else name for name, count in found.items()])


def warn_of_training(
    table: FittedTable, inputs: NDArray[np.float32], signs: Signs, undeclared: Sequence[str] = ()
) -> None:
    """Say what a person may not know of the rows for training: what has one value alone, and what has one a row.

    Args:
        table: As found in them.
        inputs: Theirs.
        signs: Their labels.
        undeclared: Columns that neither a header nor an argument says to be categories.
    """
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
    of_their_own = [name for name, own in table.class_labels.items() if len(own) > few]
    if of_their_own:
        rank_zero_warn(f"most training rows have a class of their own in {listed(of_their_own)}, each a label")
    for name in undeclared:
        texts = table.categories.get(name, [])
        for pattern, remedy in ((LIKE_TIMES, "write times as numbers"), (LIKE_NUMBERS, "write numbers with a point")):
            like = list(filter(pattern.fullmatch, texts))
            if 2 * len(like) > len(texts):
                what = f"column {name!r} is taken for categories, but has texts such as {like[0]!r}"
                rank_zero_warn(f"{what}: {remedy}, or name the column in categorical_columns")
                break
    for has_one, is_it in (("never", ~(signs == 1).any(0)), ("always", ~(signs == -1).any(0) & (signs == 1).any(0))):
        if is_it.any():
            chosen = listed([name for name, is_one in zip(table.label_names, is_it, strict=True) if is_one])
            rank_zero_warn(f"{is_it.sum()} of {n_labels} labels are {has_one} positive in the training rows: {chosen}")


def warn_of_violations(names: Sequence[str], parents: Sequence[Sequence[int]], signs: Signs) -> None:
    """Say how many rows of train_files have a label without its parent."""
    lacks = [
        (row, label, parent)
        for label, own in enumerate(parents)
        for parent in own
        for row in np.flatnonzero((signs[:, label] == 1) & (signs[:, parent] == -1)).tolist()
    ]
    if lacks:
        n_rows, (row, label, parent) = len({row for row, _, _ in lacks}), min(lacks)
        rank_zero_warn(
            f"{n_rows:,} rows of train_files have a label without its parent in the hierarchy, the first, row {row}, "
            f"{names[label]} without {names[parent]}; `hierlit discover` lists them"
        )
