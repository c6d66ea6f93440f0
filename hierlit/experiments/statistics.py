"""Means over seeds, and how sure they are."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t

LEVEL = 0.95


def means(results: pd.DataFrame, by: Sequence[str], column: str) -> pd.DataFrame:
    """Mean of a column over seeds, for each combination of others.

    Args:
        results: A row a run.
        by: Columns that tell settings apart.
        column: What is averaged; NaN is left out.

    Returns:
        The columns `by`, `mean`, `low` and `high`, the ends of its 95% interval by Student's t (NaN for one seed), and
        `n`.
    """
    groups = results.groupby(list(by), sort=False, dropna=False)[column]
    table = groups.agg(mean="mean", spread="std", n="count").reset_index()
    count = table["n"].to_numpy()
    half = table["spread"] / np.sqrt(count) * t.ppf((1 + LEVEL) / 2, np.maximum(count - 1, 1))
    table["low"], table["high"] = table["mean"] - half, table["mean"] + half
    return table.drop(columns="spread")


class Interval(NamedTuple):
    """A mean and the ends of its 95% interval, NaN for one value."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        ends = "" if math.isnan(self.low) else f" [{self.low:+.3f}, {self.high:+.3f}]"
        return f"{self.mean:+.3f}{ends}"


def interval(values: Iterable[float]) -> Interval:
    """Return the mean of values, one a seed, with its 95% interval by Student's t; NaN of no values."""
    values = list(values) or [math.nan]
    (row,) = means(pd.DataFrame({"value": values, "all": 0}), ["all"], "value").itertuples()
    return Interval(float(row.mean), float(row.low), float(row.high))
