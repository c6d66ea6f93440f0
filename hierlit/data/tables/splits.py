"""Which rows of the files to train on are for training, validation and testing."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierlit.data.checks import n_set_aside
from hierlit.draws import Draws
from hierlit.models.checks import at_least, integers, within


@dataclass(frozen=True)
class Splits:
    """How rows are split.

    Attributes:
        val_fraction: Share for validation, in [0, 1).
        test_fraction: Share for testing, in [0, 1).
        n_folds: Parts of which one is for testing; None for no cross-validation.
        fold: That part, from 0.
        seed: Of the random order.
    """

    val_fraction: float
    test_fraction: float
    n_folds: int | None
    fold: int
    seed: int

    def problems(self) -> list[str]:
        """Return what is wrong with the values."""
        problems = within("val_fraction", self.val_fraction, "[0, 1)")
        problems += within("test_fraction", self.test_fraction, "[0, 1)")
        if self.n_folds is None:
            return problems if self.fold == 0 else [*problems, f"fold must be 0 without n_folds, got {self.fold!r}"]
        problems += at_least(2, n_folds=self.n_folds) or at_least(0, fold=self.fold)
        problems = problems or integers(0, self.n_folds - 1, fold=self.fold)
        if self.test_fraction:
            problems.append(f"test_fraction must be 0 with n_folds, got {self.test_fraction!r}")
        return problems

    def rows(self, n_rows: int) -> dict[str, NDArray[np.int64]]:
        """Return the rows of "train", "val" and "test", each ascending.

        Raises:
            ValueError: If there are too few rows.
        """
        if self.n_folds is not None and self.n_folds > n_rows:
            raise ValueError(f"n_folds must be at most the {n_rows} rows of train_files, got {self.n_folds}")
        order = Draws(self.seed, "test rows").permutation(n_rows)
        n_test = n_set_aside(n_rows, self.test_fraction)
        test = order[:n_test] if self.n_folds is None else order[self.fold :: self.n_folds]
        rest = np.delete(np.arange(n_rows), test)
        order = rest[Draws(self.seed, "validation").permutation(len(rest))]
        n_val = n_set_aside(n_rows, self.val_fraction)
        if n_val >= len(rest):
            shares = f"val_fraction {self.val_fraction} and {len(test)} rows to test on"
            raise ValueError(f"{shares} leave none of the {n_rows} rows of train_files to train on")
        return {"train": np.sort(order[n_val:]), "val": np.sort(order[:n_val]), "test": np.sort(test)}
