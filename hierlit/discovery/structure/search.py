"""The search for the simplest function of few other labels that explains a label (ours)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierlit.discovery.structure.functions import LabelFunction, Signs, named, saved_bits
from hierlit.discovery.structure.options import allowed

Counts = NDArray[np.float32]
KEPT = 8
"""Sets of variables that a larger one is looked for around, and functions of a label that are kept."""
SEARCHED = 1000
"""Rows that tables are looked for in, up to half of them of either sign."""
GROWTH = 1.25
"""Of the bits that fewer variables save: what more must save. Where entries are wrong, related labels help a little."""
LEAST_SHARE = 0.5
"""Of the bits that the best function saves: what another one of its size must."""


@dataclass(frozen=True)
class Explanation:
    """A function that explains a label.

    Attributes:
        function: Of the variables that were offered.
        bits: Saved by it, less those it takes to say it. A shuffled label has one that saves b with probability 2^−b.
        exceptions: Fitted rows that differ.
        rows: Fitted rows where it is known.
        held_exceptions: Those of the rows left out.
        held_rows: Those of the rows left out.
    """

    function: LabelFunction
    bits: float
    exceptions: int
    rows: int
    held_exceptions: int
    held_rows: int


@dataclass(frozen=True)
class FunctionSearch:
    """Rows, and what counts as an explanation.

    Attributes:
        signs: Variables [R, V] in {−1, 0, 1}, 0 = not observed.
        held: Which rows are left out, [R].
        weight: Independent rows a row.
        exceptions: Share of entries that may be wrong: a function of k labels may have k + 1 times as many exceptions.
        least_bits: That a function must save.
    """

    signs: Signs
    held: NDArray[np.bool_]
    weight: float
    exceptions: float
    least_bits: float

    def explain(self, labels: Signs, candidates: list[int], most: int, given: list[LabelFunction]) -> list[Explanation]:
        """Return the functions that explain a label, the best first, of the smallest size; none if none does.

        Args:
            labels: [R] in {−1, 0, 1}.
            candidates: Variables to look among for tables.
            most: Variables of a table at most.
            given: Functions to try first; if one has no exception, tables are not looked for.
        """
        tried = [self.judge(labels, function) for function in given]
        found = [own for own in tried if own is not None]
        best = max((own.bits for own in found), default=0.0)
        if any(not own.exceptions and not own.held_exceptions for own in found):
            most = 0
        most_bits = saved_bits(labels[~self.held], labels[~self.held], self.weight)[0]
        if most_bits < self.least_bits:
            return []
        of_sign = [np.flatnonzero(~self.held & (labels == sign)) for sign in (-1, 1)]
        fitted = np.sort(np.concatenate([own[: SEARCHED // 2] for own in of_sign]))
        tables = TableSearch(self.signs[fitted][:, candidates], labels[fitted])
        for size in range(1, min(most, len(candidates)) + 1):
            most_wrong = int(allowed(self.exceptions, size + 1, tables.n_rows))
            sets = tables.best(size, most_wrong / max(tables.n_rows, 1))
            functions = [self._table(labels, [candidates[v] for v in own]) for own in sets]
            judged = [self.judge(labels, function) for function in functions if function is not None]
            own = [explanation for explanation in judged if explanation is not None]
            if own and max(explanation.bits for explanation in own) > GROWTH * best + np.log2(len(candidates)):
                best, found = max(explanation.bits for explanation in own), own
            elif found and size > min(len(own.function.variables) for own in found):
                break
        found = [own for own in found if own.bits >= LEAST_SHARE * best]
        return sorted(found, key=lambda own: -own.bits)[:KEPT]

    def judge(self, labels: Signs, function: LabelFunction) -> Explanation | None:
        """Return what a function explains on all rows; None if chance might, or there are too many exceptions."""
        values = function(self.signs)
        bits, wrong, rows = saved_bits(labels[~self.held], values[~self.held], self.weight)
        bits -= function.cost(self.signs.shape[1])
        _, held_wrong, held_rows = saved_bits(labels[self.held], values[self.held], self.weight)
        most = allowed(self.exceptions, len(function.variables) + 1, self.weight * (rows + held_rows))
        if bits < self.least_bits or self.weight * (wrong + held_wrong) > most:
            return None
        return Explanation(function, bits, wrong, rows, held_wrong, held_rows)

    def _table(self, labels: Signs, variables: list[int]) -> LabelFunction | None:
        """Return the function that is most often right on the fitted rows; None if a variable does not matter to it."""
        fitted, size = np.flatnonzero(~self.held)[: 4 * SEARCHED], len(variables)
        own, label = self.signs[fitted][:, variables], labels[fitted]
        known = (own != 0).all(1) & (label != 0)
        places = ((own[known] > 0) << np.arange(size)).sum(1)
        table = np.sign(np.bincount(places, label[known], minlength=2**size)).astype(int)
        if any((np.diff(table.reshape(-1, 2, 2**number), axis=1) == 0).all() for number in range(size)):
            return None
        return named(tuple(variables), tuple(table.tolist()))


class TableSearch:
    """The sets of variables whose truth tables have the fewest exceptions.

    Args:
        signs: [R, V] in {−1, 0, 1}.
        labels: [R] in {−1, 1}.

    Attributes:
        n_rows: R.
    """

    def __init__(self, signs: Signs, labels: Signs) -> None:
        self._halves = np.concatenate([signs > 0, signs < 0], 1).astype(np.float32)
        self._labels, self._n, self.n_rows = labels, signs.shape[1], len(labels)
        self._best: dict[int, list[tuple[int, ...]]] = {0: [()]}
        self._of_pairs = self._rates(())

    def best(self, size: int, most: float) -> list[tuple[int, ...]]:
        """Return the best sets of a size: of up to three variables among all, of more around the best with two less.

        Args:
            size: Variables of a set.
            most: Share of exceptions in the rows that none of them may exceed; twice as many, as rows are few.
        """
        if size < 3:
            bases: list[tuple[int, ...]] = [()]
        elif size == 3:
            bases = [(v,) for v in range(self._n)]
        else:
            bases = self._best[size - 2]
        first, second = np.diag_indices(self._n) if size == 1 else np.triu_indices(self._n, 1)
        scored: dict[tuple[int, ...], float] = {}
        for base in bases:
            values = (self._rates(base) if base else self._of_pairs)[first, second]
            few = np.argpartition(values, 2 * KEPT)[: 2 * KEPT] if len(values) > 2 * KEPT else np.arange(len(values))
            for place in few.tolist():
                own = tuple(sorted({*base, int(first[place]), int(second[place])}))
                if len(own) == size:
                    scored[own] = float(values[place])
        self._best[size] = sorted(scored, key=lambda own: scored[own])[: 2 * KEPT]
        return [own for own in self._best[size] if scored[own] <= 2 * most]

    def _rates(self, base: tuple[int, ...]) -> Counts:
        """Share of exceptions [V, V] of the tables of a base and each two variables, where all are known."""
        n, shape = self._n, (self._n, self._n)
        wrong, rows = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for cell in range(2 ** len(base)):
            inside = np.ones(len(self._labels), bool)
            for number, variable in enumerate(base):
                inside &= self._halves[:, variable + (0 if cell >> number & 1 else n)] > 0
            of_sign = [self._halves[inside & (self._labels == sign)] for sign in (-1, 1)]
            less, more = (own.T @ own for own in of_sign)
            for first in (0, n):
                for second in (0, n):
                    part = np.s_[first : first + n, second : second + n]
                    wrong += np.minimum(less[part], more[part])
                    rows += less[part] + more[part]
        return np.asarray(wrong / np.maximum(rows, np.float32(1)))
