"""What a person is told of rows just read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from hierlit.data.tables.cells import LEADING_ZERO, Floats
from hierlit.data.tables.encoder import TableEncoder
from hierlit.data.tables.features import float32_notices
from hierlit.data.tables.fitted import FittedTable
from hierlit.data.tables.labels import Labels, Signs
from hierlit.data.tables.table_file import TableFile, likewise, place_of
from hierlit.models.checks import listed

if TYPE_CHECKING:
    from pandas import DataFrame

FEW_CATEGORIES = 20
LIKE_NUMBERS = re.compile(r"[-+]?\s*[$€£¥]?\s*[-+]?[\d.,'_]*\d[\d.,'_]*(\s*[%$€£¥]|\s[a-zA-Z°µ]{1,3})?")
"""Texts that people write for numbers."""
LIKE_TIMES = re.compile(r"(\d{4}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d{1,2}:\d\d).*", re.S)
PLAIN_NUMBERS = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.I)
LIKE = (
    (PLAIN_NUMBERS, "store numbers as numbers"),
    (LIKE_TIMES, "write times as numbers, or name dates that are no input in ignore_columns"),
    (LIKE_NUMBERS, "write numbers with a point"),
)
"""Texts that seem to be no categories, and what is better."""

CODES = (
    "class_columns if it holds codes",
    "categorical_columns if it holds codes, ignore_columns if it identifies rows",
)
"""Where a label, and where an input, is to be named that looks like a number and is none."""


def warn_of_rows(source: str, encoder: TableEncoder, files: Sequence[TableFile], labels: Labels | None = None) -> None:
    """Say what of rows just read is not taken as the files have it, and forget it.

    Args:
        source: Where the rows came from.
        encoder: What made their inputs.
        files: Which they were read from.
        labels: How their labels were, if they were read.
    """
    texts = {**encoder.table.categories, **(dict.fromkeys(labels.texts) | labels.class_labels if labels else {})}
    for file in files:
        words = [f"{name}={word}" for name in texts for word in file.words.get(name, ())]
        n_cells = sum(file.words[name].total() for name in texts if name in file.words)
        if words and file.words_are_ours:
            what = f"{n_cells:,} cells with a word are taken for missing: {listed(words)}"
            rank_zero_warn(f"{file.path}: {what}; set missing to [''] to take words as they are")
        if file.blanks:
            what = f"{file.blanks.total():,} cells with a blank text are taken for missing: {counted(file.blanks)}"
            is_input = not file.blanks.keys().isdisjoint(encoder.table.categories)
            rank_zero_warn(f"{file.path}: {what}" + "; write a word where that is a category" * is_input)
        of_numbers = [*encoder.table.numbers, *(labels.columns if labels else ())]
        taken = "is taken for numbers, without the leading zero of"
        remedies = {name: CODES[name in encoder.table.numbers] for name in of_numbers if name in file.codes}
        coded = (
            (name, remedy, f"{file.path}: column {name!r} {taken} {file.codes[name]!r}; name it in {remedy}")
            for name, remedy in remedies.items()
        )
        for notice in (*likewise(coded), *file.notices):
            rank_zero_warn(notice)
        file.forget()
        file.notices.clear()
    if encoder.unseen:
        rank_zero_warn(f"{source}: categories not seen in training are coded as zeros: {counted(encoder.unseen)}")
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


def warn_of_inputs(table: FittedTable, values: Floats, inputs: NDArray[np.float32], undeclared: Sequence[str]) -> None:
    """Say what a person may not know of the inputs of the rows for training: which tell nothing, or too much.

    Args:
        table: As found in them.
        values: Their numbers.
        inputs: Made of these and of categories.
        undeclared: Columns that neither a header nor an argument says to be categories.
    """
    least, largest = np.fmin.reduce(values), np.fmax.reduce(values)
    empty = [name for name, value in zip(table.numbers, least, strict=True) if np.isnan(value)]
    empty += [name for name, found in table.categories.items() if not found]
    if empty:
        what = f"{len(empty)} of {len(table.columns)} input columns have no value in any training row"
        rank_zero_warn(f"{what}: {listed(empty)}; name them in ignore_columns")
    same = inputs.min(axis=0) == inputs.max(axis=0)
    same[: len(least)] &= (least == largest) | (table.unit & ~np.isnan(least))  # not those that are rounded
    constant = [name for name, is_same in zip(table.input_names, same, strict=True) if is_same]
    if constant:
        rank_zero_warn(f"{len(constant)} of {len(same)} inputs are the same in all training rows: {listed(constant)}")
    least, largest = ((each - table.shifts) / table.scales for each in (least, largest))
    for notice in float32_notices(least, largest, table.numbers, "columns of numbers", "set scale to standard"):
        rank_zero_warn(notice)
    if unique := [name for name, found in table.categories.items() if len(found) > most_texts(len(inputs))]:
        rank_zero_warn(
            f"most training rows have a text of their own in {listed(unique)}, each an input: name what is no input in "
            "ignore_columns, and write numbers with a point"
        )
    better = {name: like_numbers(table.categories.get(name, [])) for name in undeclared}
    what = "is taken for categories, but has texts such as"
    for notice in likewise(
        (name, remedy, f"column {name!r} {what} {text!r}: {remedy}, or name the column in categorical_columns")
        for name, (text, remedy) in better.items()
        if remedy
    ):
        rank_zero_warn(notice)


def like_numbers(texts: Sequence[str]) -> tuple[str, str]:
    """Return the first of texts that are no categories, as most seem to be, and what is better; or nothing."""
    if not any(re.match(LEADING_ZERO, text) for text in texts):
        for pattern, remedy in LIKE:
            like = list(filter(pattern.fullmatch, texts))
            if 2 * len(like) > len(texts):
                return like[0], remedy
    return "", ""


def warn_of_labels(table: FittedTable, signs: Signs) -> None:
    """Say which labels of the rows for training have one value alone, or none.

    Args:
        table: As found in them.
        signs: Theirs.

    Raises:
        ValueError: If no label has any.
    """
    is_seen, has_one, has_others = ((signs == sign).any(0) if sign else (signs != 0).any(0) for sign in (0, 1, -1))
    if not is_seen.any():
        raise ValueError(f"labels must have values in training rows, got none for {listed(table.label_names)}")
    for what, is_it, remedy in (
        ("have no value in any training row", ~is_seen, "; leave them out of label_columns"),
        ("are never positive in the training rows", is_seen & ~has_one, ""),
        ("are always positive in the training rows", has_one & ~has_others, ""),
    ):
        if is_it.any():
            chosen = listed([name for name, is_one in zip(table.label_names, is_it, strict=True) if is_one])
            rank_zero_warn(f"{is_it.sum()} of {len(is_it)} labels {what}: {chosen}{remedy}")
    many = most_texts(len(signs))
    if of_their_own := [name for name, own in table.class_labels.items() if len(own) > many]:
        rank_zero_warn(f"most training rows have a class of their own in {listed(of_their_own)}, each a label")


def most_texts(n_rows: int) -> float:
    """Return how many different texts a column of so many rows may have before it is no column of categories."""
    return max(FEW_CATEGORIES, n_rows / 2)


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
