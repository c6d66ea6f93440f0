"""`describe`: a hierarchy's constants in the paper's terms, and the depth, width and rows that the theory asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from rich.console import Console
from rich.table import Table
from torch import Tensor

from hierlit.data import HierarchyDataModule
from hierlit.plan.options import Run
from hierlit.theory import (
    KernelExpansion,
    LeastNorm,
    ThresholdConstants,
    cube,
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
        ones: Least and largest share of 1 among a label's observed training values.
        observed: Share of the training values that is observed.
        constants: The largest of K, M, B and the least of ξ over the labels, each label's of the PTF of least norm and
            degree; None where the data tells no truth tables.
    """

    level: int
    n_labels: int
    ones: tuple[float, float]
    observed: float
    constants: ThresholdConstants | None


@dataclass(frozen=True)
class Description:
    """A hierarchy as the paper sees it, and the network it is to be learned by.

    Attributes:
        name: The data's class.
        n_levels: r, None if the data does not tell.
        n_pairs: m|G| of the rows that are fitted.
        n_blocks: D − 1.
        robustness: ξ that the run asks of margins.
        window: Coordinates of a window.
        levels: By level.
        width: Features that the hardest label asks for, in order; None without constants.
        rows: Pairs that it asks for, in order.
        margin_growth: γ, None if not given.
    """

    name: str
    n_levels: int | None
    n_pairs: int
    n_blocks: int
    robustness: float
    window: int
    levels: list[LevelConstants]
    width: float | None
    rows: float | None
    margin_growth: float | None

    @classmethod
    def of(cls, run: Run, options: DescribeOptions) -> Description:
        """Describes the hierarchy of a config; makes its tables.

        Raises:
            ImportError: If scipy is missing.
        """
        data, net = run.data, run.task.net
        data.setup()
        parameters = run.task.hparams
        kernel = expansion(net.activation, float(parameters["beta"]), str(parameters["bias"]))
        found = [least_ptf(data, label) for label in range(data.n_labels)]
        window = net.windows.size * net.n_inputs  # what of a window varies before the labels are learned
        scaling = [needs(ptf, kernel, window) for ptf in found if ptf is not None]
        of_level = data.levels
        return cls(
            name=type(getattr(data, "data", data)).__name__,
            n_levels=None if of_level is None else len(set(of_level) - {0}),
            n_pairs=len(data.fit_rows) * data.n_locations,
            n_blocks=run.n_blocks,
            robustness=float(parameters["robustness"]),
            window=window,
            levels=level_constants(data.tables["train"].labels, of_level, found),
            width=max((width for width, _ in scaling), default=None),
            rows=max((rows for _, rows in scaling), default=None),
            margin_growth=options.margin_growth,
        )


@cache
def _least_ptf(table: tuple[int, ...]) -> LeastNorm:
    return least_norm_ptf(table, threshold_degree(table))


def least_ptf(data: HierarchyDataModule, label: int) -> LeastNorm | None:
    """A label's PTF of least degree and, at that degree, least norm; None if its truth table is not known."""
    table = data.truth_table(label)
    return None if table is None else _least_ptf(tuple(table))


def needs(ptf: LeastNorm, kernel: KernelExpansion, window: int) -> tuple[float, float]:
    """Features and pairs that a PTF asks for, in order."""
    width = width_scaling(ptf.polynomial, kernel, window, FEATURES_ERROR)
    return width, sample_scaling(ptf.polynomial, kernel, window, FEATURES_ERROR)


def level_constants(
    labels: Tensor, of_level: Sequence[int] | None, found: Sequence[LeastNorm | None]
) -> list[LevelConstants]:
    """The rows of the table, of training labels [m, |G|, n] and each label's PTF."""
    level_of = [1] * labels.shape[2] if of_level is None else list(of_level)
    observed = (labels != 0).double().mean((0, 1))
    ones = (labels > 0).double().mean((0, 1)) / observed
    rows = []
    for level in sorted(set(level_of)):
        members = [label for label, own in enumerate(level_of) if own == level]
        shares = [float(ones[label]) for label in members]
        constants = [constants_of(ptf) for label in members if (ptf := found[label]) is not None]
        share = float(observed[members].mean())
        rows.append(LevelConstants(level, len(members), (min(shares), max(shares)), share, hardest(constants)))
    return rows


def constants_of(ptf: LeastNorm) -> ThresholdConstants:
    """Its K, M, B and ξ on the whole cube."""
    points = cube(max((max(chosen, default=-1) for chosen in ptf.polynomial.sets), default=-1) + 1)
    values = ptf.polynomial(points)
    return threshold_constants(ptf.polynomial, points, values / abs(values))


def hardest(constants: Sequence[ThresholdConstants]) -> ThresholdConstants | None:
    """The worst of each constant."""
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
    """Prints the table and what the theory asks for."""
    console = Console(highlight=False)
    table = Table(title=f"{description.name}: its levels in the paper's terms", title_justify="left")
    for name in ("level", "labels", "share of 1", "observed", "K", "M", "B", "ξ"):
        table.add_column(name, justify="right")
    for row in description.levels:
        low, high = row.ones
        share = f"{low:.3f}" if round(low, 3) == round(high, 3) else f"{low:.3f}–{high:.3f}"
        c = row.constants
        numbers = ["?"] * 4 if c is None else [str(c.degree), *(f"{x:.3g}" for x in (c.norm, c.bound, c.robustness))]
        table.add_row(str(row.level), str(row.n_labels), share, f"{row.observed:.0%}", *numbers)
    console.print(table)
    for line in (*constant_lines(description), depth_line(description)):
        console.print(f"- {line}", soft_wrap=True)


def constant_lines(description: Description) -> list[str]:
    """What the columns are, and the width and rows they ask for."""
    lines = ["K, M, B, ξ: degree, coefficient norm, bound, robustness of the PTFs of least degree and norm, the worst"]
    if description.width is None:
        return ["K, M, B, ξ: not known, since these labels are no functions of a few labels of the level before"]
    if math.isinf(description.width):
        return [*lines, "width, rows: the kernel lacks a degree that a label has: raise beta, or change activation"]
    width, rows = (f"{value:.2g}" for value in (description.width, description.rows or 0))
    asks = f"width: of the order of {width} features, and {rows} pairs, for windows of {description.window} inputs"
    return [*lines, f"{asks} (ours: squared norm in the kernel's space over error²; an upper bound, far from tight)"]


def depth_line(description: Description) -> str:
    """The paper's depth bound for these rows."""
    r, depth = description.n_levels, description.n_blocks + 1
    formula = "D ≥ r·(⌈log(8m|G|/ξ)/γ⌉ + 1)"
    if not r:
        return f"depth: the network has D = {depth}; {formula} needs levels, which this data does not tell"
    known = f"r = {r}, m|G| = {description.n_pairs:,}, ξ = {description.robustness:g}"
    needed = margin_growth_needed(description.n_blocks, r, description.n_pairs, description.robustness)
    meets = f"D = {depth} meets it from γ = {needed:.3g} on" if math.isfinite(needed) else f"D = {depth} is too small"
    line = f"depth: the paper's {formula} with {known}: {meets}"
    if description.margin_growth is None:
        return line
    least = depth_bound(r, description.n_pairs, description.robustness, description.margin_growth)
    return f"{line}; at γ = {description.margin_growth:g} it asks for D ≥ {least}"
