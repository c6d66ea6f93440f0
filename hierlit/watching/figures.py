"""Pictures of a run: which block learned which level, how margins spread, each label's way."""

from collections.abc import Sequence
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

DPI = 150
"""Dots an inch of a picture in a file."""
MOST_NUMBERS = 120
"""Cells of the staircase up to which each has its number written in it."""
MOST_LINES = 60
"""Labels up to which each has a line of its own; more are drawn as a map."""
LEFT, BOTTOM, TOP, RIGHT, BAR = 0.75, 0.5, 0.35, 0.15, 0.15
"""Inches around the axes for names and titles, and the width of a bar of colours."""
MOST_NAMES = 24
"""Labels whose names are written beside their points."""
BAR_NAMES = 0.6
"""Inches for what is written beside a bar."""


def draw_staircase(accuracy: NDArray[np.float64], levels: list[int], rows: str = "held-out rows") -> Figure:
    """Return a heat map of accuracy [blocks, levels] on some rows: a step up for each block that learned a level."""
    values = accuracy.T
    n_levels, n_blocks = values.shape
    size = (min(1.6 + 0.55 * n_blocks, 9.0), min(1.5 + 0.45 * n_levels, 8.0))
    figure, axes, bar = framed(*size, has_bar=True)
    image = axes.imshow(values, origin="lower", aspect="auto", vmin=0.5, vmax=1.0, cmap="viridis")
    name_ticks(axes.xaxis, range(1, n_blocks + 1))
    name_ticks(axes.yaxis, levels)
    axes.set(xlabel="blocks trained", ylabel="level", title=f"Accuracy of {rows}")
    if values.size <= MOST_NUMBERS:
        for (level, block), value in np.ndenumerate(values):
            colour = "black" if value > 0.8 else "white"
            axes.text(block, level, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, cax=bar, label="accuracy")
    return figure


def draw_precision(values: NDArray[np.float64], names: Sequence[str], rows: str) -> Figure:
    """Return the average precision of each label on some rows beside its share of positives: `values` [2, n]."""
    precision, shares = values
    figure, axes, _ = framed(6.5, 4.5)
    axes.plot(shares, precision, "o", markersize=4, alpha=0.6)
    chance = np.geomspace(shares[shares > 0].min(initial=0.5), 1.0)
    axes.plot(chance, chance, "--", color="grey", label="by chance")
    if len(names) <= MOST_NAMES:
        for name, share, value in zip(names, shares, precision, strict=True):
            axes.annotate(name, (share, value), (4, 3), textcoords="offset points", fontsize=7)
    axes.set(xscale="log", xlabel="share of positives", ylabel="average precision", ylim=(-0.02, 1.02))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_title(f"Each label's average precision, {rows}")
    axes.legend(loc="upper left")
    return figure


def draw_margins(counts: NDArray[np.int64], edges: NDArray[np.float64], levels: Sequence[int], block: int) -> Figure:
    """Return how the held-out margins of each level spread after a block, a row a level.

    Args:
        counts: Pairs [levels, bins].
        edges: Of the bins [bins + 1].
        levels: Names of the rows.
        block: The block.
    """
    figure, axes, _ = framed(6.5, min(1.5 + 0.4 * len(levels), 8.0))
    shares = counts / np.maximum(counts.max(1, keepdims=True), 1)
    extent = (float(edges[0]), float(edges[-1]), -0.5, len(levels) - 0.5)
    axes.imshow(shares, origin="lower", aspect="auto", extent=extent, vmin=0, vmax=1, cmap="Blues")
    for margin, style in ((0.0, "--"), (1.0, ":")):
        axes.axvline(margin, color="black", linestyle=style, linewidth=1)
    name_ticks(axes.yaxis, levels)
    axes.set(xlabel="margin y·ŷ (dashed: sign, dotted: target)", ylabel="level", title=f"Margins after block {block}")
    return figure


def draw_labels(accuracy: NDArray[np.float64], levels: Sequence[int]) -> Figure:
    """Return each label's held-out accuracy [blocks, labels] by block, coloured by its level."""
    n_blocks, n_labels = accuracy.shape
    figure, axes, bar = framed(7, 4.5, has_bar=n_labels > MOST_LINES)
    order = np.argsort(levels, kind="stable")
    if n_labels <= MOST_LINES:
        colours = plt.get_cmap("viridis")(np.linspace(0, 0.95, len(set(levels))))
        for level, colour in zip(sorted(set(levels)), colours, strict=True):
            own = accuracy[:, [label for label in order if levels[label] == level]]
            lines = axes.plot(range(1, n_blocks + 1), own, ".-", color=colour, linewidth=1, markersize=4)
            lines[0].set_label(f"level {level}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="blocks trained", ylabel="held-out accuracy", title="Label by label")
        axes.legend(fontsize=7, ncols=1 + len(set(levels)) // 12)
        return figure
    image = axes.imshow(accuracy[:, order].T, origin="lower", aspect="auto", vmin=0.5, vmax=1.0, cmap="viridis")
    name_ticks(axes.xaxis, range(1, n_blocks + 1))
    axes.set(xlabel="blocks trained", ylabel="label, by level", title="Label by label")
    figure.colorbar(image, cax=bar, label="held-out accuracy")
    return figure


def framed(width: float, height: float, has_bar: bool = False) -> tuple[Figure, Axes, Axes | None]:
    """Return a figure of some inches, its axes, and axes for a bar beside them.

    What stands around them has the same room in every figure: to look for the room takes longer than to draw.
    """
    figure, inner = plt.figure(figsize=(width, height)), height - BOTTOM - TOP
    right = RIGHT + (BAR + BAR_NAMES if has_bar else 0)
    axes = figure.add_axes((LEFT / width, BOTTOM / height, 1 - (LEFT + right) / width, inner / height))
    if not has_bar:
        return figure, axes, None
    return figure, axes, figure.add_axes((1 - (right - RIGHT) / width, BOTTOM / height, BAR / width, inner / height))


def name_ticks(axis: Axis, names: Sequence[int]) -> None:
    """Give the rows or columns of a map their names, as many as there is room for."""
    axis.set_major_locator(MaxNLocator(16, integer=True, min_n_ticks=1))
    axis.set_major_formatter(FuncFormatter(partial(tick_name, names)))


def tick_name(names: Sequence[int], place: float, _: int | None) -> str:
    """Return the name of the row or column at a place of the figure."""
    return str(names[int(place)]) if 0 <= place < len(names) and place == int(place) else ""
