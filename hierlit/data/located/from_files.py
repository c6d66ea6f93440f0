"""What data modules have in common whose rows stay in files and are read when they are asked for."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from hierlit.data.base import BatchLoader, HierarchyDataModule
from hierlit.data.fitted import FITTED, NO_TRAINING_FILES, Fitted, refuse_other_rows, source_problems
from hierlit.data.rows import RowDataset
from hierlit.data.tables.files import File, open_each
from hierlit.data.tables.roles import Names, as_names
from hierlit.models.checks import listed

FILE_SPLITS = ("train", "val", "test", "predict")


class FileHierarchy(HierarchyDataModule):
    """Rows of files: whatever is fitted to them is fitted when it is first asked for, in passes over the files.

    A subclass opens the files of each split, says which rows a split has and what is fitted.
    """

    _files: Mapping[str, Sequence[Any]]

    @property
    @abstractmethod
    def fitted(self) -> Fitted:
        """What predictions need of the training rows."""

    @abstractmethod
    def split_rows(self, split: str) -> RowDataset:
        """Return the rows of "train", "val", "test" or "predict", the same object each time.

        Raises:
            ValueError: If a row cannot be read; one line names the file and the row.
        """

    @property
    def predicted_split(self) -> str | None:
        """The split, "predict" or "test", whose files `predict` reads; None where there are none."""
        return next((split for split in ("predict", "test") if self._files[split]), None)

    @property
    def n_labels(self) -> int:  # type: ignore[override]
        """Labels of the training files."""
        return len(self.label_names or ())

    def make_tables(self) -> Mapping[str, RowDataset]:
        """Return the rows of the splits; those of validation are for testing too where there are no others."""
        tables = {split: self.split_rows(split) for split in ("train", "val", "test")}
        if not len(tables["test"]):
            tables["test"] = tables["val"]
        return tables

    def setup(self, stage: str | None = None) -> None:
        """Go through the rows, once; to predict those of files, find no more than how their inputs are made.

        Args:
            stage: What is to be run.

        Raises:
            ValueError: If a value cannot be read, or no row is left to fit.
        """
        if stage == "predict" and self.predicted_split:
            _ = self.fitted
        elif not self._files["train"]:
            raise ValueError(NO_TRAINING_FILES)
        else:
            super().setup(stage)

    def predict_dataloader(self) -> BatchLoader:
        """Batches of the rows of `predict_files`, of `test_files`, or else of the test table, in their order."""
        if self.predicted_split is None:
            return super().predict_dataloader()
        return self._load(self.split_rows(self.predicted_split), by_length=False)

    def state_dict(self) -> dict[str, Any]:
        """Return what predictions need of the training rows, for checkpoints."""
        return {FITTED: self.fitted.to_json()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare it with that of a checkpoint.

        Raises:
            ValueError: If the training rows are not those of the checkpoint.
        """
        saved = self.fitted.of_json(state_dict[FITTED])
        refuse_other_rows(self.fitted.difference(saved, values=not self.takes_other_rows))


def open_located(
    given: Mapping[str, Names], ckpt_path: str | None, open_file: Callable[[Path, str], File]
) -> tuple[dict[str, list[File]], list[str]]:
    """Open the files of splits; there must be some to train on, or a checkpoint. See `open_each`."""
    files, problems = open_each(given, open_file)
    return files, source_problems(as_names(given["train"]), ckpt_path) + problems


def warn_of_left_out(split: str, what: list[str]) -> None:
    """Name what rows of a split have that training rows have not."""
    if what:
        rank_zero_warn(f"{split} rows: labels that no training row has are left out: {listed(what)}")
