"""What the experiments' figures share: grids of axes, and means over seeds with their intervals."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from hierlit.experiments.statistics import means


def panels(n_rows: int, n_columns: int, width: float = 4, height: float = 3.4, **options: Any) -> tuple[Figure, Any]:
    """Return a figure and its axes [n_rows, n_columns], each of `width` by `height` inches."""
    size = (width * n_columns, height * n_rows)
    return plt.subplots(n_rows, n_columns, figsize=size, layout="constrained", squeeze=False, **options)


def draw_lines(
    axes: Axes, results: pd.DataFrame, by: str, values: Sequence[Any], x: str, column: str, prefix: str = ""
) -> None:
    """Means of a column over seeds against another, in bands of their intervals, a line for each value of a third."""
    for number, value in enumerate(values):
        table = means(results[results[by] == value], [x], column).sort_values(x)
        if len(table):
            axes.plot(table[x], table["mean"], "o-", markersize=4, color=f"C{number}", label=f"{prefix}{value}")
            axes.fill_between(table[x], table["low"], table["high"], alpha=0.2, color=f"C{number}")


def draw_points(axes: Axes, places: ArrayLike, table: pd.DataFrame, **style: Any) -> None:
    """Means at places of an axis, with bars of their intervals; `table` is one of `statistics.means`."""
    half = np.asarray((table["high"] - table["mean"]).fillna(0))
    axes.errorbar(np.asarray(places), table["mean"], half, markersize=4, capsize=2, **style)
