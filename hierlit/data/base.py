"""What every data module of hierlit has: batches, tables and set-aside rows."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, TensorDataset

from hierlit.data.checks import loader_problems, n_set_aside, set_aside_problems, table_problems
from hierlit.draws import Draws
from hierlit.models.checks import at_least, raise_problems
from hierlit.theory import cube

SPLITS = ("train", "val", "test")


class Batch(NamedTuple):
    """Examples that travel together.

    Attributes:
        inputs: Float32 [B, |G|, d].
        labels: Float32 [B, |G|, n] in {-1, 0, 1}, 0 = not observed.
        index: Long [B], the rows in their split's table; for fit and set-aside batches, in the training table.
    """

    inputs: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]


class ArrayDataset(Dataset[Batch]):
    """A table in memory, read a batch at a time.

    Args:
        inputs: Float [N, |G|, d].
        labels: Float [N, |G|, n].
    """

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.inputs = inputs
        self.labels = labels

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: Tensor | int) -> Batch:
        """Return the rows ``index``, a long tensor [B] (an int counts as a tensor of one row)."""
        rows = torch.as_tensor(index, dtype=torch.long).reshape(-1)
        return Batch(self.inputs[rows], self.labels[rows], rows)


class FixedBatches(DistributedSampler[Tensor]):
    """Rows grouped into batches once, whatever the number of processes.

    Each epoch yields every row exactly once: one index tensor a batch, of which a process gets its fixed slice,
    perhaps an empty one. The order derives from the seed and from the epoch alone. It is a ``DistributedSampler`` so
    that Lightning leaves it in place.

    Args:
        rows: Long [N], the rows to go through.
        batch_size: Rows in a batch over all processes; the last batch may be smaller.
        seed: Seed of the grouping and of the order.
        shuffle: Group at random and take the batches in a new order each epoch; otherwise keep the order of ``rows``.
        num_replicas: Number of processes.
        rank: This process, 0..num_replicas-1.

    Attributes:
        leading: Number of batches that come first in every epoch, all of them if None: where Lightning's
            ``limit_train_batches`` cuts an epoch short, every epoch has the same rows.
    """

    def __init__(
        self, rows: Tensor, batch_size: int, seed: int, shuffle: bool, num_replicas: int = 1, rank: int = 0
    ) -> None:
        super().__init__(TensorDataset(rows), num_replicas, rank, shuffle, seed)
        if shuffle:
            rows = rows[torch.from_numpy(Draws(seed, "batches").permutation(len(rows)))]
        batches = torch.split(rows, batch_size) if len(rows) else ()
        self.leading: int | None = None
        self.batches = [batch.tensor_split(num_replicas)[rank] for batch in batches]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield this process's rows of each batch of the epoch, which is looked up when the first is asked for."""
        order = np.arange(len(self.batches))
        if self.shuffle:
            draws = Draws(self.seed, "batch order", 0, self.epoch)
            order[: self.leading] = draws.permutation(len(order[: self.leading]))
        for number in order:
            yield self.batches[number]


class BatchLoader(DataLoader[Batch]):
    """A loader of ``FixedBatches``."""

    sampler: FixedBatches


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
    """Locations |G| of an example."""
    masked: bool = False
    """Whether input channel 0 says where an example has a location, 1, or is padded, 0."""
    levels: list[int] | None = None
    """The true level of each label, from 1, or None if unknown."""
    label_names: list[str] | None = None
    """Names of the labels; None where they have numbers alone."""
    class_labels: Mapping[str, Sequence[int]] = {}
    """Of each column of classes, by its name, the labels that are these classes: a row has one of them."""
    parent_labels: list[list[int]] | None = None
    """The labels that each label is a function of, none where it is one of inputs; None if unknown."""
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
        self.batch_size = batch_size
        self.acceptance_fraction = acceptance_fraction
        self.data_seed = data_seed
        self.pass_numbers: Iterable[int] | None = None
        self.tables: dict[str, ArrayDataset] = {}
        self.fit_rows = torch.empty(0, dtype=torch.long)
        self.held_rows = torch.empty(0, dtype=torch.long)

    @property
    def top_level(self) -> int | None:
        """r, the highest level of a label; None if levels are unknown. Labels of no level, 0, do not raise it."""
        return None if self.levels is None else max(self.levels)

    @property
    def n_pairs(self) -> int:
        """m|G|, the training rows, set-aside ones included, times the locations."""
        return self.n_rows["train"] * self.n_locations

    @property
    def n_rows(self) -> dict[str, int]:
        """Rows of each table; the tables are made for it only where `sizes` does not tell."""
        if self.sizes:
            return dict(zip(SPLITS, self.sizes, strict=True))
        self.setup()
        return {split: len(table) for split, table in self.tables.items()}

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

    @abstractmethod
    def make_tables(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return inputs [N, |G|, d] and labels [N, |G|, n] of "train", "val" and "test"."""

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
        shape = (self.n_locations, self.n_inputs, self.n_labels)
        raise_problems([problem for split in SPLITS for problem in table_problems(split, *tables[split], shape)])
        n_train = len(tables["train"][0])
        raise_problems(set_aside_problems(n_train, self.acceptance_fraction))
        order = torch.from_numpy(Draws(self.data_seed, "acceptance").permutation(n_train))
        n_held = n_set_aside(n_train, self.acceptance_fraction)
        self.held_rows, self.fit_rows = order[:n_held].sort().values, order[n_held:].sort().values
        self.tables = {split: ArrayDataset(*(table.float() for table in tables[split])) for split in SPLITS}

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
        """Batches of the training rows that were set aside, in order; none if ``acceptance_fraction`` is 0."""
        return self._loader("train", self.held_rows)

    def val_dataloader(self) -> BatchLoader:
        """Batches of the validation table, in order."""
        return self._loader("val")

    def test_dataloader(self) -> BatchLoader:
        """Batches of the test table, in order."""
        return self._loader("test")

    predict_dataloader = test_dataloader

    def _loader(self, split: str, rows: Tensor | None = None, shuffle: bool = False) -> BatchLoader:
        if not self.tables:
            raise RuntimeError(f"{type(self).__name__} has no tables yet: call setup() first")
        table = self.tables[split]
        rows = torch.arange(len(table)) if rows is None else rows
        replicas, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        batches = FixedBatches(rows, self.batch_size, self.data_seed, shuffle, replicas, rank)
        return BatchLoader(table, batch_size=None, sampler=batches)
