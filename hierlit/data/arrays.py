"""A user's own arrays as a data module."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hierlit.data.base import HierarchyDataModule
from hierlit.data.checks import LABELS_RULE, loader_problems, set_aside_problems, table_problems
from hierlit.draws import Draws
from hierlit.models.checks import at_least, raise_problems, within

Arrays: TypeAlias = tuple[ArrayLike | Tensor, ArrayLike | Tensor]


class ArrayHierarchy(HierarchyDataModule):
    """A user's own arrays, NumPy or torch, checked when given.

    Args:
        inputs: [N, d] or [N, |G|, d]; two dimensions mean |G| = 1.
        labels: [N, n] or [N, |G|, n] in {-1, 0, 1}, 0 = not observed.
        val: Inputs and labels to validate on; None splits ``val_fraction`` off the rows above.
        test: Inputs and labels to test on; None means the validation rows.
        levels: The true level of each label, from 1, if known.
        val_fraction: Share of the rows, in [0, 1), to validate on; ignored if ``val`` is given.
        batch_size: Examples in a batch, over all processes.
        acceptance_fraction: Share of the training rows set aside for acceptance decisions, in [0, 1).
        data_seed: Seed of the splits and of the batches.
        positives_only: Whether training labels may well be 1 or 0 = not observed and never -1.

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
        positives_only: bool = False,
    ) -> None:
        given = {"train": (inputs, labels), "val": val, "test": test}
        tables = {split: (_table(pair[0]), _table(pair[1])) for split, pair in given.items() if pair is not None}
        problems = loader_problems(batch_size, acceptance_fraction, data_seed)
        problems += within("val_fraction", val_fraction, "[0, 1)")
        problems += _array_problems(tables, levels, positives_only)
        raise_problems(problems)
        if val is None:
            tables.update(_split_off(*tables["train"], val_fraction, data_seed))
        tables.setdefault("test", tables["val"])
        raise_problems(set_aside_problems(len(tables["train"][0]), acceptance_fraction))
        super().__init__(batch_size, acceptance_fraction, data_seed)
        self._given = tables
        (_, self.n_locations, self.n_inputs), self.n_labels = tables["train"][0].shape, tables["train"][1].shape[2]
        self.levels = None if levels is None else [int(level) for level in levels]

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


def _array_problems(
    tables: dict[str, tuple[Tensor, Tensor]], levels: Sequence[int] | None, positives_only: bool
) -> list[str]:
    inputs, labels = tables["train"]
    if inputs.ndim != 3 or labels.ndim != 3:
        shapes = f"{list(inputs.shape)} and {list(labels.shape)}"
        return [f"inputs and labels must have 2 or 3 dimensions, [N, d] or [N, locations, d], got shapes {shapes}"]
    n_labels = labels.shape[2]
    shape = (inputs.shape[1], inputs.shape[2], n_labels)
    problems = [problem for split in tables for problem in table_problems(split, *tables[split], shape)]
    if not positives_only:
        problems = problems or [problem for split in tables for problem in _coding_problems(split, tables[split][1])]
    if levels is not None and (
        np.shape(levels) != (n_labels,) or at_least(1, **{f"level {j}": v for j, v in enumerate(levels)})
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
    n_val = max(1, round(fraction * len(inputs))) if fraction else 0
    if n_val == len(inputs):
        raise ValueError(f"val_fraction must leave a row to train on, got {fraction} of {len(inputs)} rows")
    order = torch.from_numpy(Draws(seed, "validation").permutation(len(inputs)))
    val, train = order[:n_val].sort().values, order[n_val:].sort().values
    return {"train": (inputs[train], labels[train]), "val": (inputs[val], labels[val])}
