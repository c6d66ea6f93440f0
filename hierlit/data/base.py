"""What every data module of hierlit has: batches, tables, set-aside rows, and a user's own arrays as one."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple, TypeAlias

import lightning as L
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, TensorDataset

from hierlit.data.draws import Draws

SPLITS = ("train", "val", "test")
LABELS_RULE = "labels must be in {-1, 0, 1} (0 = not observed)"
Arrays: TypeAlias = tuple[ArrayLike | Tensor, ArrayLike | Tensor]


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
    perhaps an empty one. It is a ``DistributedSampler`` so that Lightning leaves it in place.

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
        """Yield this process's rows of each batch, in the order of the epoch given to ``set_epoch``."""
        order = np.arange(len(self.batches))
        if self.shuffle:
            order[: self.leading] = Draws(self.seed, "batch order", self.epoch).permutation(len(order[: self.leading]))
        return (self.batches[i] for i in order)


class HierarchyDataModule(L.LightningDataModule, ABC):
    """Splits with labels that form a hierarchy; subclasses say how the tables are made.

    After ``setup``, ``tables`` holds the datasets "train", "val" and "test", and ``fit_rows`` and ``held_rows`` the
    rows of the training table, long and ascending, that are fitted on and set aside.

    Args:
        batch_size: Examples in a batch, over all processes.
        acceptance_fraction: Share of the training rows, in [0, 1), that is set aside for acceptance decisions and
            never used to fit.
        data_seed: Seed of all the randomness in the data.

    Raises:
        ValueError: If arguments are out of range; one line names them all.
    """

    def __init__(self, batch_size: int = 64, acceptance_fraction: float = 0.2, data_seed: int = 0) -> None:
        raise_problems(loader_problems(batch_size, acceptance_fraction, data_seed))
        super().__init__()
        self.batch_size = batch_size
        self.acceptance_fraction = acceptance_fraction
        self.data_seed = data_seed
        self.tables: dict[str, ArrayDataset] = {}
        self.fit_rows = torch.empty(0, dtype=torch.long)
        self.held_rows = torch.empty(0, dtype=torch.long)

    @property
    @abstractmethod
    def n_inputs(self) -> int:
        """Input channels d of a location."""

    @property
    @abstractmethod
    def n_labels(self) -> int:
        """Labels n of a location."""

    @property
    @abstractmethod
    def n_locations(self) -> int:
        """Locations |G| of an example."""

    @property
    @abstractmethod
    def levels(self) -> list[int] | None:
        """The true level of each label, from 1, or None if unknown."""

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
        missing = [split for split in SPLITS if split not in tables]
        raise_problems(
            [f"make_tables must return {', '.join(SPLITS)}, missing {', '.join(missing)}"] if missing else []
        )
        shape = (self.n_locations, self.n_inputs, self.n_labels)
        raise_problems([problem for split in SPLITS for problem in table_problems(split, *tables[split], shape)])
        n_train = len(tables["train"][0])
        raise_problems(set_aside_problems(n_train, self.acceptance_fraction))
        order = torch.from_numpy(Draws(self.data_seed, "acceptance").permutation(n_train))
        n_held = n_set_aside(n_train, self.acceptance_fraction)
        self.held_rows, self.fit_rows = order[:n_held].sort().values, order[n_held:].sort().values
        self.tables = {split: ArrayDataset(*(table.float() for table in tables[split])) for split in SPLITS}

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of the rows to fit, the same batches every epoch, in a new order."""
        loader = self._loader("train", self.fit_rows, shuffle=True)
        limit = self.trainer.limit_train_batches if self.trainer else 1.0
        loader.sampler.leading = limit if isinstance(limit, int) else int(limit * len(loader))  # type: ignore[attr-defined]
        return loader

    def acceptance_dataloader(self) -> DataLoader[Batch]:
        """Batches of the training rows that were set aside, in order; none if ``acceptance_fraction`` is 0."""
        return self._loader("train", self.held_rows)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches of the validation table, in order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Batches of the test table, in order."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Batches of the test table, in order."""
        return self._loader("test")

    def _loader(self, split: str, rows: Tensor | None = None, shuffle: bool = False) -> DataLoader[Batch]:
        if not self.tables:
            raise RuntimeError(f"{type(self).__name__} has no tables yet: call setup() first")
        table = self.tables[split]
        rows = torch.arange(len(table)) if rows is None else rows
        replicas, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        batches = FixedBatches(rows, self.batch_size, self.data_seed, shuffle, replicas, rank)
        return DataLoader(table, batch_size=None, sampler=batches)


class ArrayHierarchy(HierarchyDataModule):
    """A user's own arrays, NumPy or torch, checked when given.

    Args:
        inputs: [N, d] or [N, |G|, d]; two dimensions mean |G| = 1.
        labels: [N, n] or [N, |G|, n] in {-1, 0, 1}, 0 = not observed.
        val: Inputs and labels to validate on; None splits ``val_fraction`` off the rows above.
        test: Inputs and labels to test on; None means the validation rows.
        levels: The true level of each label, from 1, if known.
        val_fraction: Share of the rows, in (0, 1), to validate on; ignored if ``val`` is given.
        batch_size: Examples in a batch, over all processes.
        acceptance_fraction: Share of the training rows set aside for acceptance decisions, in [0, 1).
        data_seed: Seed of the splits and of the batches.

    Raises:
        ValueError: If arrays or arguments do not fit the above, or labels are coded 0/1 instead of -1/1: training
            labels hold both values but no -1 at all, or every val or test label does.
    """

    def __init__(
        self,
        inputs: ArrayLike | Tensor,
        labels: ArrayLike | Tensor,
        val: Arrays | None = None,
        test: Arrays | None = None,
        levels: Sequence[int] | None = None,
        val_fraction: float = 0.1,
        batch_size: int = 64,
        acceptance_fraction: float = 0.2,
        data_seed: int = 0,
    ) -> None:
        given = {"train": (inputs, labels), "val": val, "test": test}
        tables = {split: (_table(pair[0]), _table(pair[1])) for split, pair in given.items() if pair is not None}
        problems = loader_problems(batch_size, acceptance_fraction, data_seed)
        problems += within("val_fraction", val_fraction, "(0, 1)")
        problems += _array_problems(tables, levels)
        raise_problems(problems)
        if val is None:
            tables.update(_split_off(*tables["train"], val_fraction, data_seed))
        tables.setdefault("test", tables["val"])
        raise_problems(set_aside_problems(len(tables["train"][0]), acceptance_fraction))
        super().__init__(batch_size, acceptance_fraction, data_seed)
        self._given = tables
        self._levels = None if levels is None else [int(level) for level in levels]

    @property
    def n_inputs(self) -> int:
        """Input channels d, read from the arrays."""
        return self._given["train"][0].shape[2]

    @property
    def n_labels(self) -> int:
        """Labels n, read from the arrays."""
        return self._given["train"][1].shape[2]

    @property
    def n_locations(self) -> int:
        """Locations |G|, read from the arrays."""
        return self._given["train"][0].shape[1]

    @property
    def levels(self) -> list[int] | None:
        """The levels as given."""
        return self._levels

    def make_tables(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the arrays as float32 tables."""
        return self._given


def _table(array: ArrayLike | Tensor) -> Tensor:
    """Copy an array to float32, two dimensions [N, d] becoming [N, 1, d]."""
    if isinstance(array, Tensor):
        table = array.detach().to("cpu", torch.float32, copy=True)
    else:
        table = torch.tensor(np.asarray(array, dtype=np.float32))
    return table.unsqueeze(1) if table.ndim == 2 else table


def _array_problems(tables: dict[str, tuple[Tensor, Tensor]], levels: Sequence[int] | None) -> list[str]:
    inputs, labels = tables["train"]
    if inputs.ndim != 3 or labels.ndim != 3:
        shapes = f"{list(inputs.shape)} and {list(labels.shape)}"
        return [f"inputs and labels must have 2 or 3 dimensions, [N, d] or [N, locations, d], got shapes {shapes}"]
    n_labels = labels.shape[2]
    shape = (inputs.shape[1], inputs.shape[2], n_labels)
    problems = [problem for split in tables for problem in table_problems(split, *tables[split], shape)]
    problems = problems or [problem for split in tables for problem in _coding_problems(split, tables[split][1])]
    if levels is not None and (
        len(levels) != n_labels or at_least(1, **{f"level {j}": v for j, v in enumerate(levels)})
    ):
        problems.append(f"levels must be {n_labels} integers >= 1, one for each label, got {levels!r}")
    return problems


def _coding_problems(split: str, labels: Tensor) -> list[str]:
    """Recognise labels coded 0/1: no -1 anywhere, but both 0 and 1 in a column (in every column of val and test)."""
    columns = labels.flatten(0, 1)
    both = (columns == 0).any(0) & (columns == 1).any(0)
    if (columns == -1).any() or not (both.any() if split == "train" else len(both) and both.all()):
        return []
    return [f"{split} {LABELS_RULE}, got values [0, 1] and no -1 at all: convert 0/1 labels y with 2*y-1"]


def _split_off(inputs: Tensor, labels: Tensor, fraction: float, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Move a random share of the rows from train to val, each split keeping the rows' order."""
    n_val = max(1, round(fraction * len(inputs)))
    if n_val == len(inputs):
        raise ValueError(f"val_fraction must leave a row to train on, got {fraction} of {len(inputs)} rows")
    order = torch.from_numpy(Draws(seed, "validation").permutation(len(inputs)))
    val, train = order[:n_val].sort().values, order[n_val:].sort().values
    return {"train": (inputs[train], labels[train]), "val": (inputs[val], labels[val])}


def table_problems(split: str, inputs: Tensor, labels: Tensor, shape: tuple[int, int, int]) -> list[str]:
    """Say what is wrong with a table.

    Args:
        split: Its name.
        inputs: Should be finite, [N, |G|, d].
        labels: Should be in {-1, 0, 1}, [N, |G|, n].
        shape: |G|, d and n.

    Returns:
        One line for each problem.
    """
    n_locations, n_inputs, n_labels = shape
    for name, table, channels in (("inputs", inputs, n_inputs), ("labels", labels, n_labels)):
        if list(table.shape[1:]) != [n_locations, channels] or table.ndim != 3:
            return [f"{split} {name} must have shape [rows, {n_locations}, {channels}], got {list(table.shape)}"]
    if len(inputs) != len(labels):
        return [f"{split} inputs and labels must have equally many rows, got {len(inputs)} and {len(labels)}"]
    if split == "train" and len(inputs) == 0:
        return ["train must have at least 1 row, got 0"]
    problems = []
    if len(wrong := (~inputs.isfinite()).nonzero()):
        row, location, channel = wrong[0].tolist()
        value = inputs[row, location, channel].item()
        problems.append(
            f"{split} inputs must be finite, got {value} at row {row}, location {location}, input {channel}"
        )
    if len(wrong := ((labels != -1) & (labels != 0) & (labels != 1)).nonzero()):
        row, location, label = wrong[0].tolist()
        value = labels[row, location, label].item()
        problems.append(f"{split} {LABELS_RULE}, got {value} at row {row}, location {location}, label {label}")
    return problems


def at_least(minimum: int, **arguments: Any) -> list[str]:
    """Name the arguments that are not integers of at least ``minimum``."""
    return [
        f"{name} must be an integer >= {minimum}, got {value!r}"
        for name, value in arguments.items()
        if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < minimum
    ]


def within(name: str, value: Any, interval: str) -> list[str]:
    """Say whether a number is outside an interval, written as in "[0, 1)"."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    inside = isinstance(value, Real) and low <= float(value) <= high
    if inside and not (value == low and interval[0] == "(") and not (value == high and interval[-1] == ")"):
        return []
    return [f"{name} must be a number in {interval}, got {value!r}"]


def loader_problems(batch_size: Any, acceptance_fraction: Any, data_seed: Any) -> list[str]:
    """Say what is wrong with the arguments that every data module has."""
    problems = at_least(1, batch_size=batch_size) + at_least(0, data_seed=data_seed)
    return problems + within("acceptance_fraction", acceptance_fraction, "[0, 1)")


def set_aside_problems(n_train: int, fraction: float) -> list[str]:
    """Say whether setting rows aside leaves none to fit."""
    if n_set_aside(n_train, fraction) < n_train:
        return []
    return [f"acceptance_fraction must leave a training row to fit, got {fraction} of {n_train} rows"]


def n_set_aside(n_train: int, fraction: float) -> int:
    """Return how many training rows are set aside: the fraction, rounded, and at least one unless it is 0."""
    return max(1, round(fraction * n_train)) if fraction > 0 else 0


def raise_problems(problems: Sequence[str]) -> None:
    """Raise one ValueError that names all problems, if there are any."""
    if problems:
        raise ValueError("; ".join(problems))
