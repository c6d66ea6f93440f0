"""The options of a search in a table of labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from hierlit.models.checks import at_least, one_of, raise_problems, within

MARGINS = ("columns", "both")
MOST_EXCEPTIONS = 0.25
"""Of the rows: what no relation may exceed."""
CONFIDENCE = 0.99
"""Of there being no more exceptions than are allowed."""


@dataclass(frozen=True)
class StructureOptions:
    """How the structure of labels is looked for.

    Args:
        exceptions: Share of a label's rows, in [0, .25), that may be wrong: an implication may have as many exceptions,
            a function of k labels (k + 1) times as many. People's labels are noisy; 0 asks for none.
        rate: False discovery rate over all pairs of labels, in (0, 1).
        margins: What chance keeps, in the p-values of implications and exclusions: the frequency of each label,
            `columns`, or also the number of labels of each row, `both`. Where some rows have many labels and others
            few, labels occur together without any relation.
        resamples: Bootstrap resamples of the rows, 0 for none, that edges are looked for in.
        null: Whether a table made by such chance is searched too.
        seed: Of resamples and shuffling.

    Raises:
        ValueError: One line naming each argument out of range.
    """

    exceptions: float = 0.0
    rate: float = 0.05
    margins: str = "columns"
    resamples: int = 10
    null: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        problems = within("exceptions", self.exceptions, "[0, 0.25)") + within("rate", self.rate, "(0, 1)")
        problems += one_of(MARGINS, margins=self.margins)
        raise_problems(problems + at_least(0, resamples=self.resamples, seed=self.seed))


def allowed(exceptions: float, n_labels: ArrayLike, n_rows: float) -> NDArray[np.int64]:
    """Rows in which a relation of labels may not hold: as many as chance makes of a share of wrong entries.

    Args:
        exceptions: The share.
        n_labels: Entries of a row that the relation reads, of each relation.
        n_rows: Independent rows.
    """
    rate = np.minimum(MOST_EXCEPTIONS, exceptions * np.asarray(n_labels))
    if not exceptions:  # which needs no distribution, as slow as that is
        return np.zeros(rate.shape, np.int64)
    most: NDArray[np.int64] = binom.ppf(CONFIDENCE, int(n_rows), rate).astype(np.int64)
    return most
