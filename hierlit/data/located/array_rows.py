"""Rows of array files as a dataset, and what is fitted to those for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierlit.data.fitted import Fitted, other_names, other_values
from hierlit.data.located.array_file import ArrayFile, Examples
from hierlit.data.located.label_values import FoundValues, LabelCoding, Place
from hierlit.data.rows import Batch, RowDataset, by_file


@dataclass(frozen=True)
class FittedArrays(Fitted):
    """What predictions need of the training rows.

    Attributes:
        coding: What labels mean.
        shifts: Of each channel.
        scales: Of each channel, of which x becomes (x − shift) / scale.
        masked: Whether channel 0 of inputs says where there is a location.
        pooled: Whether labels are those of examples.
        grid: The shape of the locations; of sequences, of the longest one.
    """

    coding: LabelCoding
    shifts: list[float]
    scales: list[float]
    masked: bool
    pooled: bool
    grid: tuple[int, ...]

    @classmethod
    def _of(cls, values: dict[str, Any]) -> FittedArrays:
        return cls(**values | {"coding": LabelCoding(**values["coding"]), "grid": tuple(values["grid"])})

    def difference(self, other: FittedArrays, values: bool = True) -> str:
        """Say in what a checkpoint's are others, by more than rounding; nothing if they are not. See `Fitted`."""
        if names := other_names("label", self.coding.names, other.coding.names):
            return names
        sizes, others = ((" × ".join(map(str, each.grid)), len(each.shifts)) for each in (self, other))
        means = values and sizes == others and other_values(self.shifts, other.shifts, self.scales)
        spreads = values and sizes == others and other_values(self.scales, other.scales, self.scales)
        found = {
            "0 means another thing in labels": self.coding != other.coding,
            "one of them alone has lengths or a mask": self.masked != other.masked,
            f"labels are those of {'examples' if self.pooled else 'locations'}": self.pooled != other.pooled,
            f"{sizes[0]} locations in place of {others[0]}": sizes[0] != others[0],
            f"{sizes[1]} channels in place of {others[1]}": sizes[1] != others[1],
            "input channels have other means": means,
            "input channels have other standard deviations": spreads,
        }
        return next((what for what, is_so in found.items() if is_so), "")


class ArrayRows(RowDataset):
    """Rows of array files, read when they are asked for.

    Args:
        files: The files.
        rows: Which of their rows, counted through all files, [N]; all when None.
        fitted: How inputs and labels are made.
        has_labels: Whether labels are read; they are 0 otherwise.
    """

    def __init__(
        self,
        files: Sequence[ArrayFile],
        rows: NDArray[np.int64] | None,
        fitted: FittedArrays,
        has_labels: bool = True,
    ) -> None:
        self._files, self._fitted, self._has_labels = files, fitted, has_labels
        self._firsts = np.concatenate([[0], np.cumsum([file.n_rows for file in files])]).astype(np.int64)
        self._rows = np.arange(self._firsts[-1]) if rows is None else rows
        self.masked = fitted.masked
        self.unknown: dict[int, None] = {}
        if self.masked and len(fitted.grid) == 1:
            lengths = [file.lengths for file in files]
            self.lengths = np.concatenate(lengths)[self._rows] if lengths else np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Tensor | int) -> Batch:
        """Return the rows ``index``, a long tensor [B] (an int counts as a tensor of one row).

        Raises:
            TableError: If a value cannot be read.
        """
        own = torch.as_tensor(index, dtype=torch.long).reshape(-1)
        rows = self._rows[own.numpy()]
        longest = int(np.prod(self._fitted.grid)) if self.lengths is None else int(self.lengths[own].max(initial=1))
        n_inputs, n_labels = len(self._fitted.shifts) + self.masked, len(self._fitted.coding.names)
        inputs, labels = torch.zeros(len(rows), longest, n_inputs), torch.zeros(len(rows), longest, n_labels)
        for number, chosen, of_file in by_file(self._firsts, rows):
            file = self._files[number]
            examples = file.take(of_file)
            n_locations = examples.inputs.shape[1]
            inputs[chosen, :n_locations] = self._scaled(examples)
            if self._has_labels:
                signs = self._signs(file, of_file, examples)
                labels[chosen, :n_locations] = torch.from_numpy(signs).float()
        return Batch(inputs, labels, own)

    def _scaled(self, examples: Examples) -> Tensor:
        """Return inputs [B, |G|, d], with the channel of presence if there is one."""
        shifts, scales = np.array(self._fitted.shifts), np.array(self._fitted.scales)
        scaled = (((examples.inputs - shifts) / scales) * examples.present[..., None]).astype(np.float32)
        if self.masked:
            scaled = np.concatenate([examples.present[..., None].astype(np.float32), scaled], 2)
        return torch.from_numpy(scaled)

    def _signs(self, file: ArrayFile, rows: NDArray[np.int64], examples: Examples) -> NDArray[np.int8]:
        if examples.labels is None:
            return np.zeros((*examples.present.shape, len(self._fitted.coding.names)), np.int8)
        coding = self._fitted.coding
        return coding.read(examples.labels, examples.present, place_of(file, rows), self.unknown)


def place_of(file: ArrayFile, rows: NDArray[np.int64]) -> Place:
    """Return what says where a person finds each of some rows."""
    return lambda row: file.place(int(rows[row]))


def fit_arrays(
    files: Sequence[ArrayFile], rows: NDArray[np.int64], found: FoundValues, names: list[str] | None, scale: str
) -> FittedArrays:
    """Go through the training files once: what labels mean is found in all rows, scales in those for training.

    Args:
        files: The training files.
        rows: Their rows for training, ascending, counted through all files.
        found: Gathers labels.
        names: Of the labels, if given.
        scale: standard or none.

    Raises:
        ValueError: If a value cannot be read, or files do not agree; one line names the file and the row.
    """
    from sklearn.preprocessing import StandardScaler

    scaler, first = StandardScaler(), 0
    for file in files:
        for of_file, examples in file.chunks():
            if examples.labels is not None:
                found.gather(examples.labels, examples.present, place_of(file, of_file))
            own = np.isin(first + of_file, rows)
            values = examples.inputs[own][examples.present[own]]
            if scale == "standard" and len(values):
                scaler.partial_fit(values.astype(np.float64))
        first += file.n_rows
    n_inputs = files[0].n_inputs
    lengths = np.concatenate([file.lengths for file in files])
    return FittedArrays(
        found.coding(names),
        scaler.mean_.tolist() if scale == "standard" else [0.0] * n_inputs,
        scaler.scale_.tolist() if scale == "standard" else [1.0] * n_inputs,
        any(file.is_masked for file in files),
        files[0].is_pooled,
        files[0].grid if files[0].is_image else (int(lengths.max()),),
    )
