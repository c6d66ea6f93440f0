"""What is chosen before a block is solved, on rows left out: its kernel, and each label's λ (ours)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from hierlit.layerwise.solvers.left_out import LeftOut
from hierlit.metrics.average_precision import average_precision
from hierlit.models.radial_units import Kernel

HELD = 0
"""The fold that no fit has seen, nor any before it, wherever later blocks are judged."""
SMALLER, LARGER = 2, 4
"""How far from the common λ a label's own may be, in steps among the candidates."""
WORTH = 1e-3
"""Average precision that a block must add, and labels' own λs: each is a further fit."""
LEAST_DIAGONAL = 1e-4
"""Of a kernel that is 1 at its centre: rows that are all alike leave nothing to measure λ by."""


@dataclass(frozen=True)
class Candidates:
    """What is chosen among, each ascending.

    Attributes:
        powers: Powers of the kernel.
        spheres: Whether it is one of directions alone.
        bandwidths: Its bandwidths.
        alphas: λ, as multiples of the kernel's mean diagonal over the rows.
    """

    powers: Sequence[float]
    spheres: Sequence[bool]
    bandwidths: Sequence[float]
    alphas: Sequence[float]


class JudgedRows(NamedTuple):
    """Rows that choices are judged on, P pairs (row, location) of them, fold after fold.

    Attributes:
        folds: The fold of each pair, [P], ascending.
        scores: Their scores before the block, of fits that left out their fold and `HELD`, [P, n].
        labels: What scores are judged by, in {−1, 0, 1}, [P, n].
        residual: What the block is fitted to, [P, n]; 0 where a label is not observed: it keeps its score.
    """

    folds: Tensor
    scores: Tensor
    labels: Tensor
    residual: Tensor


class Choice(NamedTuple):
    """What is best on rows left out.

    Attributes:
        kernel: The kernel.
        penalties: λ of ‖R − ΦA‖² + λ‖A‖² for each label, [n].
        change: What fits without the rows' own fold and `HELD` add to the scores of the judged rows, [P, n].
    """

    kernel: Kernel
    penalties: Tensor
    change: Tensor


class Trials:
    """Average precisions that a kernel and a λ reach on rows left out.

    Args:
        rows: The rows.
        is_first: Whether it is the first block, judged on every fold in turn; others are on `HELD`.
        gram: Makes the Gram matrix [P, P] of the rows' centred features by a kernel.
    """

    def __init__(self, rows: JudgedRows, is_first: bool, gram: Callable[[Kernel], Tensor]) -> None:
        self.rows, self._is_first, self._make = rows, is_first, gram
        self._sizes = rows.folds.bincount(minlength=HELD + 1).tolist()
        self._held, self._fitted = slice(0, self._sizes[HELD]), slice(self._sizes[HELD], None)
        self._judged = slice(None) if is_first else self._held
        self._tried: dict[tuple[Kernel, float], float] = {}
        self._last: tuple[Kernel | None, Tensor] = (None, rows.residual)

    def gram(self, kernel: Kernel) -> Tensor:
        """Return the Gram matrix, kept until another kernel's is asked for."""
        if self._last[0] != kernel:
            self._last = kernel, self._make(kernel)
        return self._last[1]

    def penalty(self, kernel: Kernel, alpha: float) -> float:
        """Return λ of an alpha."""
        return penalty_of(self.gram(kernel), alpha)

    def fit(self, kernel: Kernel, alpha: float, rows: slice) -> tuple[LeftOut, Tensor]:
        """Return the fit to some rows, and the intercept that comes to it."""
        residual = self.rows.residual[rows]
        offset = residual.mean(0)
        return LeftOut(self.gram(kernel)[rows, rows], self.penalty(kernel, alpha), residual - offset), offset

    def start(self) -> float:
        """Return the average precision without the block."""
        return average_precision(self.rows.scores[self._judged], self.rows.labels[self._judged])

    def precision(self, kernel: Kernel, alpha: float) -> float:
        """Return the average precision with one λ for all labels."""
        if (kernel, alpha) not in self._tried:
            judge = self._every_fold_precision if self._is_first else self.held_precision
            self._tried[kernel, alpha] = judge(kernel, alpha)
        return self._tried[kernel, alpha]

    def _every_fold_precision(self, kernel: Kernel, alpha: float) -> float:
        fit, offset = self.fit(kernel, alpha, slice(None))
        return average_precision(self.rows.scores + fit.by_fold(self._sizes) + offset, self.rows.labels)

    def held_precision(self, kernel: Kernel, alpha: float) -> float:
        """Return the average precision on `HELD` of the fit to the other folds."""
        fit, offset = self.fit(kernel, alpha, self._fitted)
        change = fit.others(self.gram(kernel)[self._held, self._fitted])
        return average_precision(self.rows.scores[self._held] + change + offset, self.rows.labels[self._held])

    def search(self, among: Candidates) -> tuple[Kernel, float]:
        """Return the best kernel and alpha that climbs from one candidate to the next find.

        The first of `among.spheres` is tried with each power, the others with the best.
        """

        def height(power: float, on_sphere: bool, bandwidth: float) -> float:
            start = self._best()[1] if self._tried else middle(among.alphas)
            return climb(among.alphas, start, partial(self.precision, Kernel(power, bandwidth, on_sphere)))[0]

        def try_all(power: float, on_sphere: bool) -> None:
            climb(among.bandwidths, middle(among.bandwidths), partial(height, power, on_sphere))

        for power in among.powers:
            try_all(power, among.spheres[0])
        for on_sphere in among.spheres[1:]:
            try_all(self._best()[0].power, on_sphere)
        return self._best()

    def _best(self) -> tuple[Kernel, float]:
        return max(self._tried, key=self._tried.__getitem__)

    def change(self, kernel: Kernel, alpha: float) -> Tensor:
        """Predict each row by fits without its own fold and `HELD`, [P, n]."""
        fit, offset = self.fit(kernel, alpha, self._fitted)
        held = fit.others(self.gram(kernel)[self._held, self._fitted])
        return torch.cat([held, fit.by_fold(self._sizes[HELD + 1 :])]) + offset

    def by_label(self, kernel: Kernel, common: float, alphas: Sequence[float]) -> Choice:
        """Choose each label's λ.

        A label has another λ than the others where its squared error on the folds beside `HELD` is smaller by more than
        its standard error. All have the common one unless these add `WORTH` to the average precision on `HELD`.
        """
        rows, held, fitted = self.rows, self._held, self._fitted
        shared, seen = self.change(kernel, common), rows.labels[fitted] != 0
        chosen, own = shared.clone(), torch.full_like(shared[0], common)
        least, place = torch.zeros_like(own), alphas.index(common)
        for alpha in (*alphas[max(0, place - SMALLER) : place], *alphas[place + 1 : place + 1 + LARGER]):
            change = self.change(kernel, alpha)
            more = (change - rows.residual).square() - (shared - rows.residual).square()
            highest = upper_mean(more[fitted], seen)
            better = highest < least
            least[better], own[better], chosen[:, better] = highest[better], alpha, change[:, better]
        labels = rows.labels[held]
        alone, together = (average_precision(rows.scores[held] + change[held], labels) for change in (chosen, shared))
        if not alone > together + WORTH:
            own, chosen = torch.full_like(own, common), shared
        return Choice(kernel, own * self.penalty(kernel, 1.0), chosen)


def choose(judged: Trials, few: Trials, among: Candidates) -> tuple[Kernel, float] | None:
    """Return the best kernel and alpha, None if they are not worth a block.

    Args:
        judged: Trials of all rows that judge; the kernel, once chosen, has its alpha from these.
        few: Trials of some of them, which choose the kernel.
        among: The candidates.
    """
    kernel, alpha = few.search(among)
    precision, alpha = climb(among.alphas, alpha, partial(judged.precision, kernel))
    return (kernel, alpha) if precision > judged.start() + WORTH else None


def penalty_of(gram: Tensor, alpha: float) -> float:
    """Return λ of an alpha, by the mean diagonal of a Gram matrix."""
    return alpha * max(float(gram.diagonal().mean()), LEAST_DIAGONAL)


def upper_mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean plus standard error [n] of those values [P, n] that are counted."""
    counts = counted.sum(0).clamp(min=2)
    mean = (values * counted).sum(0) / counts
    variance = ((values - mean) * counted).square().sum(0) / (counts - 1)
    return mean + (variance / counts).sqrt()


def middle(values: Sequence[float]) -> float:
    """Return the candidate to start from."""
    return values[len(values) // 2]


def climb(values: Sequence[float], start: float, height: Callable[[float], float]) -> tuple[float, float]:
    """Return the height and the value where it is highest: up from `start` to one side, or else to the other.

    Args:
        values: Candidates, ascending.
        start: One of them.
        height: Of a value; taken to have one peak.
    """
    place, top = values.index(start), height(start)
    for step in (-1, 1):
        moved = False
        while 0 <= place + step < len(values) and (there := height(values[place + step])) > top:
            place, top, moved = place + step, there, True
        if moved:
            break
    return top, values[place]
