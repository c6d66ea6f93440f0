"""What every data module of hierlit has: batches, tables and set-aside rows."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierlit.data.batches import BatchLoader, FixedBatches
from hierlit.data.checks import loader_problems, n_set_aside, set_aside_problems, table_problems
from hierlit.data.rows import ArrayDataset, Batch, RowDataset, last_locations
from hierlit.draws import Draws
from hierlit.models.checks import at_least, raise_problems
from hierlit.theory import cube

__all__ = [
    "SPLITS",
    "ArrayDataset",
    "Batch",
    "BatchLoader",
    "FixedBatches",
    "HierarchyDataModule",
    "RowDataset",
    "Table",
]

SPLITS = ("train", "val", "test")
Table: TypeAlias = tuple[Tensor, Tensor] | RowDataset
"""A split: inputs and labels in memory, or rows that are read when they are asked for."""


def numbered_names(n_labels: int) -> list[str]:
    """Return y0, y1, …, the names of labels that have none of their own."""
    return [f"y{label}" for label in range(n_labels)]


def names_of(data: object, n_labels: int) -> list[str]:
    """Return what the labels of a data module are called."""
    return list(getattr(data, "label_names", None) or numbered_names(n_labels))


class HierarchyDataModule(L.LightningDataModule, ABC):
    """Splits with labels that form a hierarchy; subclasses say how the tables are made.

    A subclass sets the sizes of an example, as attributes in its constructor or as properties.

    After ``setup``, ``tables`` holds the datasets "train", "val" and "test", and ``fit_rows`` and ``held_rows`` the
    rows of the training table, long and ascending, that are fitted on and set aside.

    Args:
        batch_size: Examples in a batch, over all processes.
        acceptance_fraction: Share of the training rows, in [0, 1), that is set aside for acceptance decisions and
            never used to fit.
        data_seed: Seed of all the randomness in the data.
        sizes: Rows of the train, val and test tables, where a subclass knows them; its arguments are kept in
            checkpoints then.
        problems: What is wrong with the arguments of a subclass.

    Raises:
        ValueError: If arguments are out of range; one line names them all.
    """

    n_inputs: int
    """Input channels d of a location."""
    n_labels: int
    """Labels n of a location."""
    n_locations: int = 1
    """Locations |G| of an example; where `masked`, of the longest one of the training files."""
    masked: bool = False
    """Whether input channel 0 says where an example has a location, 1, or is padded, 0.

    Examples may then differ in their number of locations |G|, batches are padded to their longest example, and inputs
    and labels are all 0 where there is no location. `n_inputs` counts channel 0.
    """
    pooled: bool = False
    """Whether labels are those of examples: every location of an example has the same ones."""
    grid: tuple[int, ...] | None = None
    """The shape of the locations: (T,) of sequences, (H, W) of images; None if unknown."""
    label_kinds: list[str] | None = None
    """What each label is about, such as `character` or `word`; None where that is not told."""
    levels: list[int] | None = None
    """The true level of each label, from 1, or None if unknown."""
    label_names: list[str] | None = None
    """Names of the labels; None where they have none of their own, and are called y0, y1, …"""
    class_labels: Mapping[str, Sequence[int]] = {}
    """Of each column of classes, by its name, the labels that are these classes: a row has one of them."""
    parent_labels: list[list[int]] | None = None
    """The labels that each label is a function of, none where it is one of inputs; None if unknown."""
    takes_other_rows: bool = False
    """Whether a checkpoint may be of other training rows, in a module that remembers its own in checkpoints."""
    sizes: tuple[int, ...] = ()
    """Rows of the train, val and test tables, in a module that knows them before it makes the tables."""

    def __init__(
        self,
        batch_size: int = 64,
        acceptance_fraction: float = 0.2,
        data_seed: int = 0,
        sizes: tuple[int, ...] = (),
        problems: Sequence[str] = (),
    ) -> None:
        n_rows = {f"n_{split}": size for split, size in zip(SPLITS, sizes, strict=False)}
        found = [*problems, *at_least(1, **n_rows), *loader_problems(batch_size, acceptance_fraction, data_seed)]
        raise_problems(found or (set_aside_problems(sizes[0], acceptance_fraction) if sizes else []))
        super().__init__()
        if sizes:
            self.sizes = sizes
            self.save_hyperparameters(ignore=["sizes", "problems"], logger=False)
        self.batch_size = int(batch_size)
        self.acceptance_fraction = float(acceptance_fraction)
        self.data_seed = int(data_seed)
        self.pass_numbers: Iterable[int] | None = None
        self.tables: dict[str, RowDataset] = {}
        self.fit_rows = torch.empty(0, dtype=torch.long)
        self.held_rows = torch.empty(0, dtype=torch.long)

    @property
    def top_level(self) -> int | None:
        """r, the highest level of a label; None if levels are unknown. Labels of no level, 0, do not raise it."""
        return None if self.levels is None else max(self.levels)

    @property
    def n_pairs(self) -> int:
        """m|G|, the locations of all training rows, set-aside ones included."""
        n_rows = self.n_rows["train"]
        lengths = self.tables["train"].lengths if "train" in self.tables else None
        return n_rows * self.n_locations if lengths is None else int(lengths.sum())

    @property
    def n_rows(self) -> dict[str, int]:
        """Rows of each table; the tables are made for it only where `sizes` does not tell."""
        if self.sizes:
            return dict(zip(SPLITS, self.sizes, strict=True))
        self.setup()
        return {split: len(table) for split, table in self.tables.items()}

    def digests(self) -> dict[str, str]:
        """Return digests of the training rows by what of them: inputs and labels."""
        own = self.input_digest()
        return self.tables["train"].digests() | ({} if own is None else {"inputs": own})

    def input_digest(self) -> str | None:
        """Return a digest of the training rows' inputs as they are read, in a module that scales them; else None."""
        return None

    def truth_table(self, label: int) -> tuple[int, ...] | None:
        """Return a label's 2^k values in {-1, 1} as a function of k inputs or labels of earlier levels.

        Entry Σ_j 2^j [argument j is 1]. None where it is no function of a few of them, or not known to be.
        """
        return None

    def label_function(self, label: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return a label as a function of k inputs or labels of earlier levels: points [N, k] and values [N], all ±1.

        By default all 2^k points, with the values of `truth_table`; None where that is.
        """
        table = self.truth_table(label)
        return None if table is None else (cube(len(table).bit_length() - 1), np.array(table, dtype=float))

    def location_texts(self, split: str, rows: Sequence[int]) -> list[list[str]] | None:
        """Return the text of each location of some rows; None where locations are no text.

        Args:
            split: "train", "val" or "test", or "predict" for the rows that `predict_dataloader` has.
            rows: As in `Batch.index`.
        """
        return None

    @abstractmethod
    def make_tables(self) -> Mapping[str, Table]:
        """Return "train", "val" and "test": inputs [N, |G|, d] and labels [N, |G|, n], or a `RowDataset`."""

    def setup(self, stage: str | None = None) -> None:
        """Make the tables and set rows aside, once.

        Args:
            stage: Ignored: every stage needs the same tables.

        Raises:
            ValueError: If a table is missing, misshapen, or has labels outside {-1, 0, 1} or inputs that are not
                finite, or if no row is left to fit.
        """
        if self.tables:
            return
        tables = self.make_tables()
        if missing := [split for split in SPLITS if split not in tables]:
            raise ValueError(f"make_tables must return {', '.join(SPLITS)}, missing {', '.join(missing)}")
        raise_problems([problem for split in SPLITS for problem in self._table_problems(split, tables[split])])
        rows = {split: self.rows_of(tables[split]) for split in SPLITS}
        n_train = len(rows["train"])
        raise_problems(set_aside_problems(n_train, self.acceptance_fraction))
        order = torch.from_numpy(Draws(self.data_seed, "acceptance").permutation(n_train))
        n_held = n_set_aside(n_train, self.acceptance_fraction)
        self.held_rows, self.fit_rows = order[:n_held].sort().values, order[n_held:].sort().values
        self.tables = rows

    def _table_problems(self, split: str, table: Table) -> list[str]:
        shape = (None if self.masked else self.n_locations, self.n_inputs, self.n_labels)
        if isinstance(table, RowDataset):
            return table.problems(split, shape)
        return table_problems(split, *table, shape, self.masked)

    def rows_of(self, table: Table) -> RowDataset:
        """Return a table's rows; where they are masked, and no image, cut to their own lengths."""
        if isinstance(table, RowDataset):
            return table
        inputs, labels = (part.float() for part in table)
        is_cut = self.masked and len(self.grid or (1,)) == 1
        return ArrayDataset(inputs, labels, self.masked, last_locations(inputs[..., 0]) if is_cut else None)

    def train_dataloader(self) -> Iterable[Any]:
        """Batches of the rows to fit, for any loop over batches; while a layerwise loop lasts, what it goes through."""
        if self.pass_numbers is not None:
            return self.pass_numbers
        return self.fit_dataloader(self.trainer.limit_train_batches if self.trainer else 1.0)

    def fit_dataloader(self, limit: float = 1.0) -> BatchLoader:
        """Batches of the rows to fit, the same batches every epoch, in a new order.

        Args:
            limit: Number of batches, an int, or their share, whose order changes among themselves; others follow.
        """
        loader = self._loader("train", self.fit_rows, shuffle=True)
        loader.sampler.leading = limit if isinstance(limit, int) else int(limit * len(loader))
        return loader

    def acceptance_dataloader(self) -> BatchLoader:
        """Batches of the training rows that were set aside; none if ``acceptance_fraction`` is 0.

        Here, and of the tables below, rows are in order; where they have lengths, a batch has rows of similar length.
        """
        return self._loader("train", self.held_rows)

    def val_dataloader(self) -> BatchLoader:
        """Batches of the validation table, in order."""
        return self._loader("val")

    def test_dataloader(self) -> BatchLoader:
        """Batches of the test table, in order."""
        return self._loader("test")

    def predict_dataloader(self) -> BatchLoader:
        """Batches of the test table, in the order of its rows, whatever their lengths."""
        return self._loader("test", by_length=False)

    def _loader(
        self, split: str, rows: Tensor | None = None, shuffle: bool = False, by_length: bool = True
    ) -> BatchLoader:
        if not self.tables:
            raise RuntimeError(f"{type(self).__name__} has no tables yet: call setup() first")
        return self._load(self.tables[split], rows, shuffle, by_length)

    def _load(
        self, table: RowDataset, rows: Tensor | None = None, shuffle: bool = False, by_length: bool = True
    ) -> BatchLoader:
        rows = torch.arange(len(table)) if rows is None else rows
        lengths = table.lengths[rows.numpy()] if by_length and table.lengths is not None else None
        replicas, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        batches = FixedBatches(rows, self.batch_size, self.data_seed, shuffle, replicas, rank, lengths)
        return BatchLoader(table, batch_size=None, sampler=batches)
