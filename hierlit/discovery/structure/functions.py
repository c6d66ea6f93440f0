"""Boolean functions of a few labels: tables, and counts of how many are 1 (ours)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import comb, gammaln

from hierlit.theory import cube, least_norm_ptf, threshold_degree

Signs = NDArray[np.int8]


@dataclass(frozen=True)
class LabelFunction:
    """A function of variables, which are labels or, where there are locations, labels in a window.

    Attributes:
        variables: Which it reads, ascending.
        negated: Which of them it reads as their negation; none in a table.
        at_least: How many of them must be 1: an or of all for 1, an and for all. None for a table.
        table: [2^k] values in {−1, 0, 1}: entry Σ_j 2^j [variable j is 1], 0 where no row shows it.
    """

    variables: tuple[int, ...]
    negated: tuple[bool, ...]
    at_least: int | None = None
    table: tuple[int, ...] = ()

    def __call__(self, signs: Signs) -> Signs:
        """Values [R] in {−1, 0, 1} at variables [R, V]; 0 where what is not observed decides."""
        own = signs[:, list(self.variables)]
        if self.at_least is None:
            places = ((own > 0) << np.arange(own.shape[1])).sum(1)
            values = np.array(self.table, np.int8)[places]
            return np.asarray(np.where((own != 0).all(1), values, np.int8(0)))
        literals = own * np.where(self.negated, -1, 1).astype(np.int8)
        surely, maybe = (literals > 0).sum(1), (literals >= 0).sum(1)
        return np.asarray((surely >= self.at_least).astype(np.int8) - (maybe < self.at_least).astype(np.int8))

    @property
    def kind(self) -> str:
        """What it is called."""
        size = len(self.variables)
        if self.at_least is None:
            return "parity" if is_parity(self.table) else "table"
        if size == 1:
            return "not" if self.negated[0] else "same"
        if self.at_least in (1, size):
            return "or" if self.at_least == 1 else "and"
        return "majority" if 2 * self.at_least == size + 1 else "count"

    @property
    def constants(self) -> tuple[int, float]:
        """The paper's K and M: the least degree of a PTF of the function, and the least norm of one, at margin 1.

        A count of literals is the sign of their sum less what is midway between the two sums that it tells apart. Of a
        table, only what rows show matters.
        """
        size = len(self.variables)
        if self.at_least is not None:
            return 1, float(np.hypot(np.sqrt(size), 2 * self.at_least - 1 - size))
        return table_constants(self.table)

    def cost(self, n_variables: int) -> float:
        """Bits that it takes to say which function it is, among those of so many variables."""
        size = len(self.variables)
        own = 2.0**size if self.at_least is None else size + np.log2(size)
        return float(np.log2(comb(n_variables, size)) + own + 2 * np.log2(size + 1))

    def text(self, name: Callable[[int], str]) -> str:
        """Write it, with the names of variables."""
        names = [f"not {name(v)}" if no else name(v) for v, no in zip(self.variables, self.negated, strict=True)]
        if self.kind in ("same", "not"):
            return names[0]
        if self.kind in ("or", "and"):
            return f" {self.kind} ".join(names)
        if self.kind == "parity":
            # an odd number of variables that are 1, where the table is 1 at a single one
            return ("" if self.table[1] > 0 or self.table[0] < 0 else "not ") + f"({' xor '.join(names)})"
        if self.at_least is not None:
            return f"at least {self.at_least} of {', '.join(names)}"
        ones = [place for place, value in enumerate(self.table) if value > 0]
        rows = ["".join(str(place >> number & 1) for number in range(len(names))) for place in ones]
        return f"({', '.join(names)}) is {' or '.join(rows)}"


def named(variables: tuple[int, ...], table: tuple[int, ...]) -> LabelFunction:
    """Return the function of a table, as a count of literals where it is one; entries of 0 may be either."""
    values, size = np.array(table), len(variables)
    bits = np.arange(2**size)[:, None] >> np.arange(size) & 1
    for at_least in sorted({1, size, (size + 1) // 2, *range(1, size + 1)}, key=lambda k: (k not in (1, size), k)):
        for signs in range(2**size):
            negated = (signs >> np.arange(size) & 1).astype(bool)
            count = np.where((bits ^ negated).sum(1) >= at_least, 1, -1)
            if ((values == count) | (values == 0)).all():
                return LabelFunction(variables, tuple(negated.tolist()), at_least)
    return LabelFunction(variables, (False,) * size, None, table)


@cache
def table_constants(table: tuple[int, ...]) -> tuple[int, float]:
    """Return K and M of a table, where rows show it."""
    values = np.array(table, float)
    points, values = cube(len(table).bit_length() - 1)[values != 0], values[values != 0]
    degree = threshold_degree(values, points)
    return degree, least_norm_ptf(values, degree, points=points).norm


def is_parity(table: tuple[int, ...]) -> bool:
    """Return whether a table may be the parity of all its variables, or its negation."""
    odd = np.array([bin(place).count("1") % 2 for place in range(len(table))])
    agrees = np.array(table) * np.where(odd, 1, -1)
    return len(table) > 2 and (bool((agrees >= 0).all()) or bool((agrees <= 0).all()))


def saved_bits(labels: Signs, values: Signs, weight: float) -> tuple[float, int, int]:
    """Bits that knowing a function saves in writing down labels, before it is itself written down.

    Written down are how many rows are exceptions, and which; otherwise which rows are 1. No code saves b bits
    with a probability of more than 2^−b where labels have been shuffled among the rows.

    Args:
        labels: [R] in {−1, 0, 1}.
        values: [R], of the function.
        weight: Independent rows a row.

    Returns:
        Bits, exceptions, and rows where both are known.
    """
    known = (labels != 0) & (values != 0)
    rows, ones = int(known.sum()), int((labels[known] > 0).sum())
    exceptions = int((labels[known] != values[known]).sum())
    bits = weight * (log2_choose(rows, ones) - log2_choose(rows, exceptions)) - np.log2(rows + 1)
    return float(bits), exceptions, rows


def log2_choose(n: int, k: int) -> float:
    """Return the base-2 logarithm of the binomial coefficient."""
    return float((gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)) / np.log(2))
