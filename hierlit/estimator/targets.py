"""What a person's targets are as labels in {−1, 0, 1}, and predictions as such targets again."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor

from hierlit.layerwise.memory import free_memory

ZERO_LABELS = ("auto", "negative", "not_observed")
LABELS_RULE = "Unknown label type: y must be in {-1, 1} or {0, 1}, NaN = not observed"
LABEL_SETS = (list, tuple, set, frozenset)


@dataclass(frozen=True)
class ClassTargets:
    """One class a row: a label for each class, or for two classes one label, that of the second.

    Attributes:
        classes: Sorted.
    """

    classes: NDArray[Any]

    @classmethod
    def of(cls, y: NDArray[Any]) -> ClassTargets:
        """Find the classes.

        Args:
            y: Classes [N]; NaN or None where not observed.

        Raises:
            ValueError: There are not two classes, or the values are no classes.
        """
        observed = y[~missing(y)]
        if not len(observed):
            raise ValueError("Input y contains NaN alone: a target must have an observed entry")
        check_classification_targets(observed)
        classes = np.unique(observed)
        if len(classes) == 1:
            raise ValueError(f"y must have at least 2 classes, got 1 class: {classes[0]}")
        return cls(classes)

    def encode(self, y: NDArray[Any]) -> NDArray[np.int8]:
        """Labels [N, n] of classes [N]; 0 where the class is not observed."""
        labels = np.where(y[:, None] == self.classes, 1, -1)
        labels[missing(y)] = 0
        return labels[:, -1:].astype(np.int8) if len(self.classes) == 2 else labels.astype(np.int8)

    def decode(self, log_odds: NDArray[np.float64]) -> NDArray[Any]:
        """Return the most probable classes [N] at log-odds [N] or [N, n]."""
        found: NDArray[Any] = self.classes[(log_odds > 0).astype(int) if log_odds.ndim == 1 else log_odds.argmax(1)]
        return found

    def score(self, y: NDArray[Any], predictions: NDArray[Any]) -> float:
        """Share of the rows with an observed class that have it predicted."""
        observed = ~missing(y)
        return float(np.mean(predictions[observed] == y[observed]))


@dataclass(frozen=True)
class LabelTargets:
    """Any number of labels a row.

    Attributes:
        names: Of the labels [n]: columns of a data frame, or numbers.
        negative: How a negative label is coded, 0 or −1; if it is −1, 0 is not observed.
        dtype: Of predictions.
    """

    names: NDArray[Any]
    negative: int
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, y: NDArray[Any], names: NDArray[Any], zero_labels: str) -> LabelTargets:
        """Find the coding.

        Args:
            y: Labels [N, n] or [N, |G|, n] in {0, 1} or {−1, 0, 1}; NaN where not observed.
            names: Of the labels.
            zero_labels: What 0 means. `auto`: negative if there is no −1 at all; not observed if every label with a 0
                has a −1 too, and there is no NaN.

        Raises:
            ValueError: Another value, or one line that says why `auto` cannot tell.
        """
        columns = y.reshape(-1, y.shape[-1])
        has_zero, has_minus = (columns == 0).any(0), (columns == -1).any(0)
        if zero_labels == "auto":
            doubtful = names[has_zero & ~has_minus & (columns == 1).any(0)].tolist()
            problem = f"label {doubtful[0]!r} has 0 and 1 alone" if doubtful else ""
            if has_zero.any() and missing(columns).any():
                problem = "some are NaN"
            if has_minus.any() and problem:
                raise ValueError(
                    "zero_labels must be negative or not_observed for these y, got 'auto': "
                    f"other labels are -1, 0 would not be observed, but {problem}"
                )
        elif zero_labels == "negative" and has_minus.any():
            raise ValueError("zero_labels must be not_observed or auto where y has -1, got 'negative'")
        is_negative = zero_labels == "negative" or (zero_labels == "auto" and not has_minus.any())
        return cls(names, 0 if is_negative else -1, y.dtype)

    def encode(self, y: NDArray[Any]) -> NDArray[np.int8]:
        """Labels in {−1, 0, 1} in the shape of y.

        Raises:
            ValueError: y is not coded as in `fit`.
        """
        observed = ~missing(y)
        valid = np.isin(y, (0, 1) if self.negative == 0 else (-1, 0, 1)) | ~observed
        if not valid.all():
            coding = "{0, 1}" if self.negative == 0 else "{-1, 0, 1} (0 = not observed)"
            raise ValueError(f"{LABELS_RULE}; these are coded {coding}, got {y[~valid][0]}")
        labels = np.where(observed, y, 0).astype(np.int8)
        return np.where(observed, 2 * labels - 1, 0).astype(np.int8) if self.negative == 0 else labels

    def decode(self, log_odds: NDArray[np.float64]) -> NDArray[Any]:
        """Predictions, coded as y, in the shape of the log-odds."""
        return np.where(log_odds > 0, 1, self.negative).astype(self.dtype)

    def score(self, y: NDArray[Any], predictions: NDArray[Any]) -> float:
        """Share of the observed labels that are predicted right.

        Raises:
            ValueError: y has another shape than the predictions, or nothing of it is observed.
        """
        if y.shape != predictions.shape:
            raise ValueError(f"y must have shape {list(predictions.shape)} for this X, got {list(y.shape)}")
        labels = self.encode(y)
        if not labels.any():
            raise ValueError("y must have an observed label, got none")
        return float((labels == self.encode(predictions))[labels != 0].mean())


def as_array(y: ArrayLike | Tensor) -> NDArray[Any]:
    """Targets as a dense array: a column of classes as [N], as scikit-learn has it, with its warning.

    Raises:
        ValueError: y is missing, has no or more than 3 dimensions, holds label sets, or is too large for memory.
    """
    if y is None:
        raise ValueError("HierarchicalClassifier requires y to be passed, but the target y is None")
    given: Any = as_dense(y, "y") if issparse(y) else y
    try:
        table = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise not_labels(next(iter(given))) from None
    if table.ndim not in (1, 2, 3):
        raise ValueError(f"y must have 1, 2 or 3 dimensions, got {table.ndim}")
    if table.ndim == 1 and (sets := [row for row in table.tolist() if isinstance(row, LABEL_SETS)]):
        raise not_labels(sets[0])
    if table.ndim == 1:
        return table
    if table.dtype == object:
        table = np.where(missing(table), np.nan, table)
        table = table.astype(float) if is_label(table).all() else table
    if table.ndim == 2 and table.shape[1] == 1 and not is_label(table).all():
        hint = "A column-vector y was passed when a 1d array was expected: its values are classes, none of -1, 0 and 1"
        warnings.warn(hint, DataConversionWarning, stacklevel=3)
        return table[:, 0]
    if not is_label(table).all():
        raise not_labels(table[~is_label(table)].tolist()[0])
    return table


def not_labels(value: Any) -> ValueError:
    """Make the error for a y that holds this value, or has it as a row."""
    hint = "; lists of names become such labels by sklearn.preprocessing.MultiLabelBinarizer().fit_transform(y)"
    hint += f", columns of texts by y == {value!r}" if isinstance(value, str) else ""
    return ValueError(f"{LABELS_RULE}, got {value!r}{hint if isinstance(value, (str, *LABEL_SETS)) else ''}")


def as_dense(table: Any, name: str) -> NDArray[Any]:
    """Make an array of one of scipy's sparse ones.

    Args:
        table: The sparse array or matrix.
        name: What the caller calls it.

    Raises:
        ValueError: The array is larger than the available memory.
    """
    size, free = math.prod(table.shape) * table.dtype.itemsize, free_memory(torch.device("cpu"))
    if size > free:
        raise ValueError(
            f"{name} must fit into memory as a dense array, got shape {list(table.shape)}: "
            f"{size / 2**30:,.1f} GiB in {table.dtype}, and {free / 2**30:,.1f} GiB are available"
        )
    dense: NDArray[Any] = table.toarray()
    return dense


def is_label(table: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which entries are −1, 0, 1 or missing."""
    return np.isin(table, (-1, 0, 1)) | missing(table)


def missing(table: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which entries are NaN, or None, or pandas' NA."""
    if table.dtype != object:
        return np.asarray(table != table)
    found = [value is None or type(value).__name__ == "NAType" or value != value for value in table.flat]
    return np.array(found, bool).reshape(table.shape)
