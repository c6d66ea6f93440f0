"""`describe`: a hierarchy's constants in the paper's terms, and the depth, width and rows that the theory asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from torch import Tensor

from hierlit.data import HierarchyDataModule
from hierlit.plan.options import Run
from hierlit.theory import (
    KernelExpansion,
    Polynomial,
    ThresholdConstants,
    depth_bound,
    expansion,
    least_norm_ptf,
    margin_growth_needed,
    sample_scaling,
    threshold_constants,
    threshold_degree,
    width_scaling,
)

FEATURES_ERROR = 0.5
"""Root mean square error up to which a margin of 1 keeps its sign, and half of it."""


@dataclass
class DescribeOptions:
    """Options of `describe`.

    Args:
        margin_growth: γ, for the depth bound: what it is in a run is printed by the run.
    """

    margin_growth: float | None = None

    def __post_init__(self) -> None:
        if self.margin_growth is not None and not self.margin_growth > 0:
            raise ValueError(f"describe.margin_growth must be positive, got {self.margin_growth}")


@dataclass(frozen=True)
class LevelConstants:
    """A level's labels.

    Attributes:
        level: The level; 0 for labels of no level.
        n_labels: Labels.
        ones: Least and largest share of 1 among a label's observed training values; None if there are none.
        observed: Share of the training values that is observed.
        constants: The largest of K, M, B and the least of ξ over the labels, each label's of the PTF of least norm and
            degree; None where the data does not tell its labels as functions of a few others.
    """

    level: int
    n_labels: int
    ones: tuple[float, float] | None
    observed: float
    constants: ThresholdConstants | None


class Needs(NamedTuple):
    """What a label asks for, in order.

    Attributes:
        width: Features.
        rows: Pairs.
        window: Coordinates of its window that vary: inputs, and labels of earlier levels.
    """

    width: float
    rows: float
    window: int

    @classmethod
    def of(cls, polynomial: Polynomial, kernel: KernelExpansion, window: int) -> Needs:
        """Return the needs of a label's PTF."""
        arguments = (polynomial, kernel, window, FEATURES_ERROR)
        return cls(width_scaling(*arguments), sample_scaling(*arguments), window)


@dataclass(frozen=True)
class Description:
    """A hierarchy as the paper sees it, and the network it is to be learned by.

    Attributes:
        name: The data's class.
        n_levels: r, None if the data does not tell.
        n_pairs: m|G|.
        n_blocks: D − 1.
        robustness: ξ: what the run asks of margins, or the least of the levels if that is smaller.
        levels: By level.
        needs: Those of the label that needs most features; None without constants, or without a kernel.
        margin_growth: γ, None if not given.
    """

    name: str
    n_levels: int | None
    n_pairs: int
    n_blocks: int
    robustness: float
    levels: list[LevelConstants]
    needs: Needs | None
    margin_growth: float | None

    @classmethod
    def of(cls, run: Run, options: DescribeOptions) -> Description:
        """Describe the hierarchy of a config; make its tables."""
        data, net = run.data, run.task.net
        data.setup()
        kernel = net.features.kernel()
        found = [least_ptf(data, label) for label in range(data.n_labels)]
        level_of = data.levels or [1] * data.n_labels
        levels = level_constants(data.tables["train"].counts(), level_of, [ptf and ptf.constants for ptf in found])
        radii = [row.constants.robustness for row in levels if row.constants is not None]
        places, n_inputs = net.windows.size, data.n_inputs
        needs = [
            Needs.of(ptf.polynomial, expansion(*kernel), places * (n_inputs + sum(0 < own < level for own in level_of)))
            for level, ptf in zip(level_of, found, strict=True)
            if ptf is not None and kernel is not None
        ]
        return cls(
            name=type(getattr(data, "data", data)).__name__,
            n_levels=data.top_level,
            n_pairs=data.n_pairs,
            n_blocks=run.n_blocks,
            robustness=min(run.task.robustness, *radii, 1.0),
            levels=levels,
            needs=max(needs, default=None),
            margin_growth=options.margin_growth,
        )


class LabelPtf(NamedTuple):
    """A label's PTF of least degree and, at that degree, least norm, with its constants."""

    polynomial: Polynomial
    constants: ThresholdConstants


def least_ptf(data: HierarchyDataModule, label: int) -> LabelPtf | None:
    """Return a label's PTF; None if the label is not known as a function of a few others."""
    function = data.label_function(label)
    if function is None:
        return None
    points, values = function
    return _least_ptf(tuple(map(tuple, points.tolist())), tuple(values.tolist()))


@cache
def _least_ptf(points: tuple[tuple[float, ...], ...], values: tuple[float, ...]) -> LabelPtf:
    polynomial = least_norm_ptf(values, threshold_degree(values, points), points=points).polynomial
    return LabelPtf(polynomial, threshold_constants(polynomial, points, values))


def level_constants(
    counts: Tensor, level_of: Sequence[int], found: Sequence[ThresholdConstants | None]
) -> list[LevelConstants]:
    """Return the rows of the table, of how often training labels are −1, 0 and 1 [3, n], their levels and constants."""
    negative, _, positive = counts.double()
    observed, ones = (negative + positive) / counts.sum(0), positive / (negative + positive)
    rows = []
    for level in sorted(set(level_of)):
        members = [label for label, own in enumerate(level_of) if own == level]
        shares = [float(ones[label]) for label in members if observed[label] > 0]
        constants = [own for label in members if (own := found[label]) is not None]
        ends, share = (min(shares), max(shares)) if shares else None, float(observed[members].mean())
        rows.append(LevelConstants(level, len(members), ends, share, hardest(constants)))
    return rows


def hardest(constants: Sequence[ThresholdConstants]) -> ThresholdConstants | None:
    """Return the worst of each constant."""
    if not constants:
        return None
    return ThresholdConstants(
        max(c.degree for c in constants),
        max(c.norm for c in constants),
        min(c.margin for c in constants),
        max(c.bound for c in constants),
        min(c.robustness for c in constants),
    )


def print_description(description: Description) -> None:
    """Print the table and what the theory asks for."""
    console = Console(highlight=False)
    table = Table(title=f"{description.name}: its levels in the paper's terms", title_justify="left")
    for name in ("level", "labels", "share of 1", "observed", "K", "M", "B", "ξ"):
        table.add_column(name, justify="right")
    for row in description.levels:
        ends = sorted({f"{share:.3f}" for share in row.ones or ()})
        share = "–".join(ends) or "–"
        c = row.constants
        numbers = ["?"] * 4 if c is None else [str(c.degree), *(f"{x:.3g}" for x in (c.norm, c.bound, c.robustness))]
        table.add_row(str(row.level), str(row.n_labels), share, f"{row.observed:.0%}", *numbers)
    console.print(table)
    for line in (*constant_lines(description), depth_line(description)):
        console.print(f"- {line}", soft_wrap=True)


def constant_lines(description: Description) -> list[str]:
    """Return what the columns are, and the width and rows they ask for."""
    lines = ["K, M, B, ξ: degree, coefficient norm, bound, robustness of the PTFs of least degree and norm, the worst"]
    needs = description.needs
    if all(level.constants is None for level in description.levels):
        return ["K, M, B, ξ: not known, as this data does not tell its labels as functions of a few others"]
    if needs is None:
        return [*lines, "width, rows: not known, as model.features tells of no kernel"]
    if math.isinf(needs.width):
        return [*lines, "width, rows: the kernel lacks a degree that a label has: change model.features"]
    asks = f"width: of the order of {needs.width:.2g} features and {needs.rows:.2g} pairs, where {needs.window} of a"
    return [*lines, f"{asks} window's coordinates vary (ours: squared norm in the kernel's space over error²)"]


def depth_line(description: Description) -> str:
    """Return the paper's depth bound for these rows."""
    r, depth = description.n_levels, description.n_blocks + 1
    formula = "D ≥ r·(⌈log(8m|G|/ξ)/γ⌉ + 1)"
    if not r:
        return f"depth: the network has D = {depth}; {formula} needs levels, which this data does not tell"
    known = f"r = {r}, m|G| = {description.n_pairs:,}, ξ = {description.robustness:.3g}"
    needed = margin_growth_needed(description.n_blocks, r, description.n_pairs, description.robustness)
    meets = f"D = {depth} meets it from γ = {needed:.3g} on" if math.isfinite(needed) else f"D = {depth} is too small"
    line = f"depth: the paper's {formula} with {known}: {meets}"
    if description.margin_growth is None:
        return line
    least = depth_bound(r, description.n_pairs, description.robustness, description.margin_growth)
    return f"{line}; at γ = {description.margin_growth:g} it asks for D ≥ {least}"
