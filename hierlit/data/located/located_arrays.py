"""LocatedArrays: a person's own sequences and images as a data module."""

from __future__ import annotations

import math
from functools import cached_property
from itertools import chain
from pathlib import Path

from hierlit.data.checks import loader_problems
from hierlit.data.located.array_file import LAYOUTS, ArrayFile, ArrayNames
from hierlit.data.located.array_rows import ArrayRows, FittedArrays, fit_arrays
from hierlit.data.located.from_files import FILE_SPLITS, FileHierarchy, open_located, warn_of_left_out
from hierlit.data.located.label_values import FoundValues
from hierlit.data.tables.labels import ZEROS
from hierlit.data.tables.splits import Splits
from hierlit.data.tables.table_file import TableError
from hierlit.models.checks import at_least, one_of, raise_problems

Names = list[str] | str | None
SCALES = ("standard", "none")


class LocatedArrays(FileHierarchy):
    """A person's own sequences [N, T, d] and images [N, H, W, C], read from files while they are used.

    Files are archives of `np.savez`, folders with a `.npy` file for each array, `.npy` files of inputs with the others
    beside them (`train_inputs.npy`, `train_labels.npy`), or Parquet with a row an example and its arrays as columns of
    lists. Arrays are memory-mapped where they are; those of `np.savez_compressed` and of Parquet are first unpacked to
    a temporary file without a name, which takes room on the disk.

    Labels are those of locations, [N, T, n] or [N, H, W, n], or those of examples, [N, n]; every location of an example
    then has them. Values are −1, 0, 1, true or false; NaN is not observed. One column of other whole numbers, [N],
    [N, 1], [N, T, 1] or [N, H, W], holds classes, each of which becomes a label; a negative one is not observed.

    Sequences may differ in length: by `lengths` or `mask`, or in Parquet by the lengths of their lists. Input channel 0
    then says where there is a location. A mask may have holes, and one of images any form.

    Attributes:
        label_names: Of the labels.

    Args:
        train_files: Path, or paths, of the rows to train on; relative ones are taken from the working directory.
        val_files: Rows to validate on.
        test_files: Rows to test on.
        predict_files: Rows to predict; they need no labels.
        inputs: Name of the array, or column, of the inputs.
        labels: Name of the array, or column, of the labels.
        mask: Name of an array [N, T] or [N, H, W] that is true where an example has a location.
        lengths: Name of an array [N] of how many locations an example has.
        layout: sequences ([N, T] is then one channel), images ([N, H, W] is then one channel) or channels_first, images
            [N, C, H, W]; by the number of dimensions when None, where [N, H, W] are images if labels are [N, H, W, n].
        zero_labels: What 0 means in labels: negative, not_observed, or auto: not observed in columns that have −1 as
            well.
        classes: Whether the one column of labels holds classes; None to see whether it holds other numbers than labels.
        label_names: Names of the labels; `labels_0`, …, or `labels=class`, when None.
        scale: standard (each channel to mean 0 and variance 1 over the locations of the training rows) or none.
        levels: The true level of each label, from 1, if known.
        val_fraction: Share, in [0, 1), of the rows of `train_files`; not used where there are `val_files`.
        test_fraction: Share, in [0, 1), of the rows of `train_files`.
        ckpt_path: A checkpoint of a model of such rows, in place of `train_files`; for `predict`.
        batch_size: Rows in a batch.
        acceptance_fraction: Share of the training rows set aside for acceptance decisions, in [0, 1).
        data_seed: Seed of the splits and of the batches.

    Raises:
        ValueError: If arguments are out of range, or files cannot be opened or lack an array; one line names them all.
            When sizes or rows are first asked for: the first value that is wrong, by file and row.
        ImportError: If pyarrow is needed and not installed.
    """

    def __init__(
        self,
        train_files: Names = None,
        val_files: Names = None,
        test_files: Names = None,
        predict_files: Names = None,
        inputs: str = "inputs",
        labels: str = "labels",
        mask: str | None = None,
        lengths: str | None = None,
        layout: str | None = None,
        zero_labels: str = "auto",
        classes: bool | None = None,
        label_names: list[str] | None = None,
        scale: str = "standard",
        levels: list[int] | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.0,
        ckpt_path: str | None = None,
        batch_size: int = 64,
        acceptance_fraction: float = 0.2,
        data_seed: int = 0,
    ) -> None:
        self._splits = Splits(0.0 if val_files else val_fraction, test_fraction, None, 0, data_seed)
        problems = one_of(LAYOUTS, layout=layout) + one_of(ZEROS, zero_labels=zero_labels) + one_of(SCALES, scale=scale)
        problems += self._splits.problems() + loader_problems(batch_size, acceptance_fraction, data_seed)
        if mask and lengths:
            problems.append(f"mask and lengths exclude each other, got {mask!r} and {lengths!r}")
        if test_files and test_fraction:
            problems.append("test_files must be left out with test_fraction")
        problems += at_least(1, **{f"level {label}": level for label, level in enumerate(levels or ())})
        names = ArrayNames(inputs, labels, mask, lengths, layout)
        given = dict(zip(FILE_SPLITS, (train_files, val_files, test_files, predict_files), strict=True))

        def open_file(path: Path, split: str) -> ArrayFile:
            return ArrayFile(path, names, split != "predict")

        self._files, unopened = open_located(given, ckpt_path, open_file)
        raise_problems(problems + unopened)
        super().__init__(batch_size, acceptance_fraction, data_seed)
        self.save_hyperparameters(ignore=["levels"])
        self._names, self._zero, self._classes, self._scale = names, zero_labels, classes, scale
        self._given_names, self._given_levels = label_names, levels
        self._rows: dict[str, ArrayRows] = {}
        self._restored = None if ckpt_path is None else FittedArrays.of_checkpoint(ckpt_path)

    @cached_property
    def fitted(self) -> FittedArrays:
        """What predictions need of the training rows, found in a pass over the training files, or in a checkpoint."""
        fitted = self._restored or self._fit()
        for file in chain(*self._files.values()):
            check_places(file, fitted)
        return fitted

    def _fit(self) -> FittedArrays:
        for file in chain(*self._files.values()):
            self._check_agreement(file)
        files = self._files["train"]
        rows = self._splits.rows(sum(file.n_rows for file in files))["train"]
        found = FoundValues(self._names.labels, self._zero, self._classes)
        fitted = fit_arrays(files, rows, found, self._given_names, self._scale)
        if self._given_levels is not None and len(self._given_levels) != len(fitted.coding.names):
            n_labels = len(fitted.coding.names)
            raise ValueError(f"levels must be {n_labels} integers, one for each label, got {self._given_levels}")
        return fitted

    def _check_agreement(self, file: ArrayFile) -> None:
        """See that a file has what the first training file has.

        Raises:
            TableError: If it has not.
        """
        first = self._files["train"][0]
        check_channels(file, first.n_inputs, first.grid if first.is_image else (), str(first.path))
        here, there = ([each.n_columns, each.is_pooled] for each in (file, first))
        if here != there and file not in self._files["predict"]:
            kinds = [f"{n} labels of {'examples' if pooled else 'locations'}" for n, pooled in (there, here)]
            raise TableError(f"{file.path}: labels must be as in {first.path}, {kinds[0]}, got {kinds[1]}")

    def split_rows(self, split: str) -> ArrayRows:
        """Return the rows of "train", "val", "test" or "predict"."""
        if split not in self._rows:
            fitted, files = self.fitted, self._files[split]
            rows = None
            if not files and split != "predict":
                files = self._files["train"]
                rows = self._splits.rows(sum(file.n_rows for file in files))[split]
            elif split == "train":
                rows = self._splits.rows(sum(file.n_rows for file in files))["train"]
            self._rows[split] = ArrayRows(files, rows, fitted, split != "predict")
        return self._rows[split]

    def setup(self, stage: str | None = None) -> None:
        """Go through the rows, once; to predict those of files, find no more than how their inputs are made.

        Args:
            stage: What is to be run.

        Raises:
            ValueError: If a value cannot be read, or no row is left to fit.
        """
        super().setup(stage)
        for split, rows in self._rows.items():
            warn_of_left_out(split, [f"{self._names.labels}={each}" for each in rows.unknown])
            rows.unknown.clear()

    @property
    def label_names(self) -> list[str]:  # type: ignore[override]
        """Of the labels."""
        return self.fitted.coding.names

    @property
    def class_labels(self) -> dict[str, list[int]]:  # type: ignore[override]
        """Of the column of classes, by its name, the labels that are its classes; none where columns are labels."""
        if self.fitted.coding.classes is None:
            return {}
        return {self._names.labels: list(range(self.n_labels))}

    @property
    def n_inputs(self) -> int:  # type: ignore[override]
        """Channels, and where examples differ in their locations the one that says where there is one."""
        return len(self.fitted.shifts) + self.fitted.masked

    @property
    def n_locations(self) -> int:  # type: ignore[override]
        """Locations of the longest example of the training files."""
        return math.prod(self.fitted.grid)

    @property
    def levels(self) -> list[int] | None:  # type: ignore[override]
        """As given."""
        return self._given_levels

    @property
    def masked(self) -> bool:  # type: ignore[override]
        """Whether examples differ in their locations."""
        return self.fitted.masked

    @property
    def pooled(self) -> bool:  # type: ignore[override]
        """Whether labels are those of examples."""
        return self.fitted.pooled

    @property
    def grid(self) -> tuple[int, ...] | None:  # type: ignore[override]
        """(H, W) of images, (T,) of sequences, with the T of the longest one."""
        return self.fitted.grid


def check_places(file: ArrayFile, fitted: FittedArrays) -> None:
    """See that a file has the channels and locations of the training files.

    Raises:
        TableError: If it has others.
    """
    check_channels(file, len(fitted.shifts), fitted.grid if len(fitted.grid) > 1 else (), "the training files")
    if not fitted.masked and (file.is_masked or file.grid != fitted.grid):
        rule = f"examples must have the {fitted.grid[0]} locations of the training files"
        raise TableError(f"{file.path}: {rule}, got others: name a mask or lengths")


def check_channels(file: ArrayFile, n_inputs: int, grid: tuple[int, ...], of: str) -> None:
    """See that a file has as many channels as others, and images of their height and width.

    Args:
        file: The file.
        n_inputs: Channels of the others.
        grid: Height and width of their images; empty for sequences.
        of: What the others are called.

    Raises:
        TableError: If it has others.
    """
    here, there = [file.n_inputs, *(file.grid if file.is_image else ())], [n_inputs, *grid]
    if here != there:
        rule = f"the channels, and the height and width of images, must be those of {of}"
        raise TableError(f"{file.path}: {rule}, {there}, got {here}")
