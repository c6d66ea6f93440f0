"""LabelTable: a person's own tables as a data module."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property, partial
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from hierlit.data.base import Batch, BatchLoader, HierarchyDataModule
from hierlit.data.checks import loader_problems
from hierlit.data.fitted import FITTED, NO_TRAINING_FILES, refuse_other_rows, source_problems
from hierlit.data.tables.cells import Floats, texts
from hierlit.data.tables.encoder import TableEncoder
from hierlit.data.tables.features import IMPUTATIONS, SCALES, fit_categories, fit_numbers, take_numbers
from hierlit.data.tables.files import open_each, open_table, text_problems
from hierlit.data.tables.fitted import FittedTable
from hierlit.data.tables.hierarchy import find_hierarchy, read_edges
from hierlit.data.tables.labels import EMPTY, ZEROS, ColumnLabels, Labels, PathLabels, Signs
from hierlit.data.tables.notices import (
    warn_of_empty_rows,
    warn_of_inputs,
    warn_of_labels,
    warn_of_rows,
    warn_of_violations,
)
from hierlit.data.tables.roles import ColumnRoles, as_names, column_problems, column_warnings
from hierlit.data.tables.splits import Splits
from hierlit.data.tables.streaming import StreamedRows
from hierlit.data.tables.table_file import Reading, TableFile
from hierlit.models.checks import one_of, raise_problems

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Names = list[str] | str | None
Table = tuple[NDArray[np.float32], Signs]


class LabelTable(HierarchyDataModule):
    """A person's own rows from CSV, TSV, Parquet, ARFF or NumPy files, inputs and labels by column.

    Which columns are what, how missing values are filled and how inputs are scaled is found in the training rows. An
    ARFF file with a hierarchical attribute, and an archive of `inputs` and `labels`, need no more than their paths. A
    hierarchy that comes with the labels is kept for reports: neither batches nor the model have any of it. A whole
    number is the same class or category however it is written, as 2 or 2.0.

    Validation rows are those of `val_files`, or else `val_fraction` of the rows of `train_files`. Test rows are those
    of `test_files`, or `test_fraction` of the rows of `train_files`, or one of `n_folds` parts of them; without any of
    these they are the validation rows. `predict` reads `predict_files`, or else `test_files`, chunk by chunk: memory
    does not grow with their rows. Training, validation and test rows are held in memory, in float32.

    Attributes:
        label_names: Of the labels.
        input_names: Of the inputs: `column`, or `column=category`.
        parents: Indices of each label's parents, if a hierarchy was given; else None.

    Args:
        train_files: Path, or paths, of the rows to train on; relative ones are taken from the working directory.
        val_files: Rows to validate on.
        test_files: Rows to test on.
        predict_files: Rows to predict; they need no labels.
        label_columns: Names of label columns, or prefixes followed by `*`. Values are 0 or -1, 1, true or false; a
            missing one is not observed. A column of other texts holds classes, and makes one label a class.
        class_columns: Label columns that hold classes even though some are called 0, 1 or -1.
        zero_labels: What 0 means in label columns: negative, not_observed, or auto: not observed in columns that have
            -1 as well.
        path_column: The column with slash paths, as in 01/03/02, whose beginnings are labels too.
        path_separator: Between the paths of a row; a row's paths may also be a list as in ['a', 'b'].
        empty_paths: What a row without a path has: negative, no label, or not_observed, all labels unknown; when None
            also not_observed, and a warning counts these rows.
        hierarchy_file: Edges of a graph of labels, a line parent/child each or a CSV or TSV file with columns parent
            and child, as `discover` writes. Of terms that `path_column` holds ancestors are labels too; label columns
            stay as they are, and a warning counts the rows that have a label without its parent.
        feature_columns: Names or prefixes of the inputs; all columns that are nothing else when None. An empty list is
            for `discover`, which can look at labels without inputs.
        ignore_columns: Names or prefixes of columns that are left out.
        categorical_columns: Names or prefixes of inputs that are categories even though they look like numbers.
        impute: What fills a missing number: mean or most_frequent. Categories are filled with the most frequent one.
        scale: standard (numbers to mean 0 and variance 1), auto (standard, except for counts: of columns of whole
            numbers from 0 to 255, more than half of them 0 and some above 1, square roots are taken, which share one
            scale), unit (standard, then each row to a mean square of 1) or none.
        levels: `given` for each label's depth in the hierarchy as its level, in tables and metrics alone; unknown when
            None.
        val_fraction: Share, in [0, 1), of the rows of `train_files`; not used where there are `val_files`.
        test_fraction: Share, in [0, 1), of the rows of `train_files`.
        n_folds: Parts of the rows of `train_files` for cross-validation.
        fold: The part to test on, from 0.
        separator: Between the values of a row of CSV; a comma when None, a tab in files called .tsv.
        missing: Texts that stand for a missing value in text files; nothing, ? and those of pandas, such as NA, #N/A,
            NaN, null and None, when None. In Parquet nulls and blank texts are missing, in NumPy NaN.
        encoding: Of text files.
        ckpt_path: A checkpoint of a model of such rows, in place of `train_files`; for `predict`.
        batch_size: Rows in a batch.
        acceptance_fraction: Share of the training rows set aside for acceptance decisions, in [0, 1).
        data_seed: Seed of the splits and of the batches.

    Raises:
        ValueError: If arguments are out of range, or files cannot be opened or have other columns than they should; one
            line names them all. When `n_inputs` or rows are first asked for: the first value that cannot be read, by
            file, line and column.
        ImportError: If pandas or pyarrow is needed and not installed.
    """

    def __init__(
        self,
        train_files: Names = None,
        val_files: Names = None,
        test_files: Names = None,
        predict_files: Names = None,
        label_columns: Names = None,
        class_columns: Names = None,
        zero_labels: str = "auto",
        path_column: str | None = None,
        path_separator: str = "@",
        empty_paths: str | None = None,
        hierarchy_file: str | None = None,
        feature_columns: Names = None,
        ignore_columns: Names = None,
        categorical_columns: Names = None,
        impute: str = "mean",
        scale: str = "standard",
        levels: str | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.0,
        n_folds: int | None = None,
        fold: int = 0,
        separator: str | None = None,
        missing: list[str] | None = None,
        encoding: str = "utf-8",
        ckpt_path: str | None = None,
        batch_size: int = 64,
        acceptance_fraction: float = 0.2,
        data_seed: int = 0,
    ) -> None:
        self._splits = Splits(0.0 if as_names(val_files) else val_fraction, test_fraction, n_folds, fold, data_seed)
        problems = one_of(IMPUTATIONS, impute=impute) + one_of(SCALES, scale=scale)
        problems += one_of(ZEROS, zero_labels=zero_labels) + one_of((None, "given"), levels=levels)
        problems += one_of(EMPTY, empty_paths=empty_paths)
        mark = "\t" if separator == r"\t" else separator  # as a person types it
        problems_of_text = text_problems(mark, path_separator, encoding)
        problems += problems_of_text + self._splits.problems()
        problems += loader_problems(batch_size, acceptance_fraction, data_seed)
        given = {"train": train_files, "val": val_files, "test": test_files, "predict": predict_files}
        problems += source_problems(as_names(train_files), ckpt_path)
        if as_names(test_files) and (test_fraction or n_folds):
            problems.append("test_files must be left out with test_fraction or n_folds")
        reading = Reading(mark, None if missing is None else frozenset(as_names(missing)), encoding)
        self._files, unopened = open_each({} if problems_of_text else given, lambda path, _: open_table(path, reading))
        raise_problems(problems + unopened)
        super().__init__(batch_size, acceptance_fraction, data_seed)
        self.save_hyperparameters(ignore=["levels"])
        self._impute, self._scale, self._has_levels = impute, scale, levels is not None
        self._labels: Labels | None = None
        self._restored: TableEncoder | None = None
        if ckpt_path is not None:
            self._restored = TableEncoder(FittedTable.of_checkpoint(ckpt_path))
            inputs, files = ColumnRoles(self.fitted.columns, []), self._files.values()
            raise_problems([problem for file in chain(*files) for problem in inputs.missing(file)])
            return
        wanted = {"class_columns": class_columns, "label_columns": label_columns, "path_column": path_column or None}
        wanted |= {"ignore_columns": ignore_columns, "feature_columns": feature_columns}
        roles = ColumnRoles.of(self._files["train"][0], wanted | {"categorical_columns": categorical_columns})
        problems = column_problems(roles, self._files)
        if roles.path is None and hierarchy_file is None and self._has_levels:
            problems.append("levels needs a hierarchy of the labels: path_column or hierarchy_file")
        raise_problems(problems)
        self._roles = roles
        if roles.path is None:
            declared = None if hierarchy_file is None else read_edges(Path(hierarchy_file), encoding)
            self._labels = ColumnLabels(
                roles.labels, roles.classes, zero_labels, declared, bool(as_names(class_columns))
            )
        else:
            for file in chain(*self._files.values()):
                file.as_written.append(roles.path)
            declared = find_hierarchy(hierarchy_file, encoding, roles.path, self._files["train"])
            self._labels = PathLabels(roles.path, path_separator, empty_paths, declared)
        for problem in column_warnings(roles, feature_columns is None, self._files):
            rank_zero_warn(problem)

    @cached_property
    def _training(self) -> tuple[Labels, TableEncoder, dict[str, Table]]:
        """Labels, how inputs are made of columns, and the splits of the files to train on, read when first asked for.

        Inputs are fitted to the rows for training alone.
        """
        labels, files = self._labels, self._files["train"]
        if labels is None:
            raise ValueError(NO_TRAINING_FILES)
        columns = self._roles.features + self._roles.label_columns
        frame = read_rows(files, columns, set(self._roles.features) - set(self._roles.categorical))
        warn_of_empty_rows(frame)
        frame, numbers, flags = take_numbers(frame, self._roles, files)
        labels.find(frame)
        answers = labels.read(frame, [entry for file in files for entry in file.classes])
        rows_of = self._splits.rows(len(frame))
        train = rows_of["train"]
        are_numbers = set(numbers)
        others = [name for name in self._roles.features if name not in are_numbers]
        found = {name: fit_categories(frame[name].iloc[train]) for name in others}
        values = frame[numbers].to_numpy(np.float64)[train]
        table = FittedTable(
            numbers,
            **fit_numbers(values, self._impute, self._scale),
            categories={name: categories for name, (categories, _) in found.items()},
            frequent={name: text for name, (_, text) in found.items()},
            unit=self._scale == "unit",
            label_names=labels.names,
            parents=labels.hierarchy.parents if labels.hierarchy else None,
            depths=labels.hierarchy.depths if labels.hierarchy else None,
            class_labels=labels.class_labels,
            flags=flags,
        )
        encoder = self._restored or TableEncoder(table)
        self._input_digest = digest_of(values, [frame[name].iloc[train] for name in found])
        inputs = encoder.encode(frame)
        warn_of_rows("train_files, in rows set apart", encoder, files, labels)
        declared = {*self._roles.categorical, *files[0].is_number.keys() - files[0].texts}
        warn_of_inputs(table, values, inputs[train], [name for name in found if name not in declared])
        warn_of_labels(table, answers[train])
        if table.parents is not None:
            warn_of_violations(table.label_names, table.parents, answers)
        return labels, encoder, {name: (inputs[rows], answers[rows]) for name, rows in rows_of.items()}

    @property
    def encoder(self) -> TableEncoder:
        """How inputs are made of columns; read from the training rows, or from what was saved of them."""
        return self._restored or self._training[1]

    @property
    def fitted(self) -> FittedTable:
        """What predictions need of the training rows."""
        return self.encoder.table

    @property
    def label_names(self) -> list[str]:  # type: ignore[override]
        """Of the labels: a column's, `column=class`, a path or a term."""
        return self.fitted.label_names

    @property
    def class_labels(self) -> dict[str, list[int]]:  # type: ignore[override]
        """Of each column of classes, by its name, the labels that are its classes."""
        return self.fitted.class_labels

    @property
    def input_names(self) -> list[str]:
        """Of the inputs: `column`, or `column=category`."""
        return self.fitted.input_names

    @property
    def parents(self) -> list[list[int]] | None:
        """Indices of each label's parents; None if no hierarchy was given. For reports: no model is told them."""
        return self.fitted.parents

    parent_labels = parents

    @property
    def n_inputs(self) -> int:  # type: ignore[override]
        """Numbers, and categories of the training rows."""
        return len(self.input_names)

    @property
    def n_labels(self) -> int:  # type: ignore[override]
        """Labels of the files to train on, of their headers if these list them."""
        return len(self.label_names)

    @property
    def levels(self) -> list[int] | None:  # type: ignore[override]
        """Depths in the hierarchy that was given, if they are asked for; else None, unknown."""
        return self.fitted.depths if self._has_levels else None

    @property
    def row_numbers(self) -> NDArray[np.int64]:
        """Numbers of the rows of the tables "train" and "val" in train_files and then val_files, from 0."""
        n_rows = sum(len(signs) for _, signs in self._training[2].values())
        own = self._splits.rows(n_rows)
        of_files = n_rows + np.arange(len(self.tables["val"])) if self._files["val"] else own["val"]
        return np.concatenate([own["train"], of_files])

    def make_tables(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return inputs [rows, 1, d] and labels [rows, 1, n] of the splits.

        Raises:
            ValueError: If a value cannot be read; one line names the file, the line and the column.
        """
        labels, _, read = self._training
        encoder, tables = self.encoder, dict(read)
        known = row_hashes(tables["train"][0])
        for split in ("val", "test"):
            if files := self._files[split]:
                columns = self.fitted.columns + labels.columns
                chunks = (
                    (frame, file.classes) for file in files for frame in file.chunks(columns, self.fitted.numbers)
                )
                parts = [(encoder.encode(frame), labels.read(frame, classes)) for frame, classes in chunks]
                inputs, signs = map(np.concatenate, zip(*parts, strict=True))
                tables[split] = inputs, signs
                warn_of_rows(f"{split}_files", encoder, files, labels)
            if n_rows := int(row_hashes(tables[split][0]).isin(known).sum()):
                total = len(tables[split][0])
                rank_zero_warn(f"{n_rows} of {total:,} {split} rows have the inputs of a training row")
        if not len(tables["test"][0]):
            tables["test"] = tables["val"]
        return {
            split: (torch.from_numpy(inputs)[:, None], torch.from_numpy(signs).float()[:, None])
            for split, (inputs, signs) in tables.items()
        }

    @property
    def streams_predictions(self) -> bool:
        """Whether there are files of rows to predict, which are then read while they are predicted."""
        return bool(self._files["predict"] or self._files["test"])

    def setup(self, stage: str | None = None) -> None:
        """Make the tables, once; to predict the rows of files, find no more than how their inputs are made.

        Args:
            stage: What is to be run.

        Raises:
            ValueError: If a value cannot be read, or no row is left to fit.
        """
        if stage == "predict" and self.streams_predictions:
            _ = self.fitted
        else:
            super().setup(stage)

    def predict_dataloader(self) -> BatchLoader | DataLoader[Batch]:  # type: ignore[override]
        """Batches of the rows of `predict_files`, or of `test_files`, read while they are predicted.

        Without such files, batches of the test table.
        """
        if not self.streams_predictions:
            return super().predict_dataloader()
        source = "predict" if self._files["predict"] else "test"
        processes = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        at_end = partial(warn_of_rows, f"{source}_files", self.encoder, self._files[source])
        rows = StreamedRows(self._files[source], self.encoder, self.batch_size, *processes, at_end)
        return DataLoader(rows, batch_size=None)

    def state_dict(self) -> dict[str, Any]:
        """Return what predictions need of the training rows, for checkpoints."""
        return {FITTED: self.fitted.to_json()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it from a checkpoint.

        Raises:
            ValueError: If the training rows are not those of the checkpoint.
        """
        saved = FittedTable.of_json(state_dict[FITTED])
        refuse_other_rows(self.fitted.difference(saved, values=not self.takes_other_rows))
        are_others = bool(self.fitted.difference(saved))
        self._restored = TableEncoder(saved)
        if are_others:  # other rows are filled and scaled as the checkpoint's were
            self.__dict__.pop("_training", None)
            if self.tables:
                self.tables = {}
                self.setup()

    def input_digest(self) -> str:
        """Return a digest of the training rows as they are read, before anything fills or scales them."""
        _ = self._training
        return self._input_digest


def digest_of(values: Floats, columns: Sequence[Series]) -> str:
    """Return a digest of numbers [rows, columns], and of columns of categories."""
    digest = blake2b(np.ascontiguousarray(values).data, digest_size=16)
    for column in columns:
        codes, own = texts(column)
        digest.update(codes.tobytes() + repr(own).encode())
    return digest.hexdigest()


def row_hashes(inputs: NDArray[np.float32]) -> Series:
    """Return 64-bit hashes of inputs [rows, d], the same for 0 and −0; none where there are no inputs."""
    from pandas import DataFrame, Series
    from pandas.util import hash_pandas_object

    if not inputs.shape[1]:
        return Series(dtype="uint64")
    return hash_pandas_object(DataFrame(inputs + np.float32(0)), index=False)


def read_rows(files: Sequence[TableFile], columns: Sequence[str], numeric: Collection[str]) -> DataFrame:
    """Return all rows of some files; a column is numbers throughout, or as its files have it.

    Args:
        files: The files.
        columns: Names of columns.
        numeric: Those of which numbers are not wanted as they are written.
    """
    from pandas import concat

    frames = [frame for file in files for frame in file.chunks(columns, numeric)]
    kinds = [{name for name, kind in frame.dtypes.items() if kind == np.float64} for frame in frames]
    if set.union(*kinds) - set.intersection(*kinds):  # a column's first rows had numbers alone, and a later one has not
        frames = [frame for file in files for frame in file.chunks(columns)]
    return concat(frames)
