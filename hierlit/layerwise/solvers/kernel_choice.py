"""Which kernel a block of radial units has, and each label's λ: chosen on rows left out (ours)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from hierlit.layerwise.solvers.chains import Chain, Kernel
from hierlit.layerwise.solvers.fold_ridge import FoldRidge, held_out
from hierlit.metrics.average_precision import average_precision

HELD = 0
"""The fold that no fit has seen, nor any before it, wherever later blocks are judged."""
SMALLER, LARGER = 2, 4
"""How far from the common λ a label's own may be, in steps among the candidates."""
WORTH = 1e-3
"""Average precision that a block must add, and labels' own λs: each is a further fit."""


class Choice(NamedTuple):
    """A kernel, and λ of each label, in units of the kernel's mean diagonal, [n]."""

    kernel: Kernel
    alphas: Tensor


class Trials:
    """Average precisions that a block's kernel and λ reach on rows left out.

    Args:
        chain: The rows.
        labels: What their scores are judged by, in {−1, 0, 1}, [m·|G|, n].
        residual: What the block is fitted to, [m·|G|, n].
        n_inputs: Channels of the stream before the scores.
        is_first: Whether it is the first block, judged on every fold in turn; others are on `HELD`.
        gram: Makes the Gram matrix of the chain's pairs by a kernel.
    """

    def __init__(
        self,
        chain: Chain,
        labels: Tensor,
        residual: Tensor,
        n_inputs: int,
        is_first: bool,
        gram: Callable[[Kernel], Tensor],
    ) -> None:
        self.chain, self.residual, self._gram = chain, residual, gram
        self.labels, self.scores = labels, chain.stream[..., n_inputs:].flatten(0, 1)
        self.held = chain.folds == HELD
        self._is_first, self._judged = is_first, torch.ones_like(self.held) if is_first else self.held
        self._offset = residual[self._judged if is_first else ~self.held].mean(0)
        self._tried: dict[tuple[Kernel, float], float] = {}
        self._last: tuple[Kernel | None, Tensor] = (None, residual)

    def gram(self, kernel: Kernel) -> Tensor:
        """The Gram matrix, kept until another kernel's is asked for."""
        if self._last[0] != kernel:
            self._last = kernel, self._gram(kernel)
        return self._last[1]

    def start(self) -> float:
        """Average precision without the block."""
        return average_precision(self.scores[self._judged], self.labels[self._judged])

    def precision(self, kernel: Kernel, alpha: float) -> float:
        """Average precision with one λ for all labels."""
        if (kernel, alpha) not in self._tried:
            gram, residual = self.gram(kernel), self.residual - self._offset
            if self._is_first:
                change = FoldRidge(gram, alpha).left_out(residual, self.chain.folds)
            else:
                change = held_out(gram, residual, self.held, alpha)
            scores = self.scores[self._judged] + change + self._offset
            self._tried[kernel, alpha] = average_precision(scores, self.labels[self._judged])
        return self._tried[kernel, alpha]

    def search(
        self, powers: Sequence[float], bandwidths: Sequence[float], alphas: Sequence[float]
    ) -> tuple[Kernel, float]:
        """The best kernel and λ that climbs from one candidate to the next find."""

        def height(power: float, bandwidth: float) -> float:
            start = max(self._tried, key=self._tried.__getitem__)[1] if self._tried else middle(alphas)
            return climb(alphas, start, partial(self.precision, Kernel(power, bandwidth)))[0]

        for power in powers:
            climb(bandwidths, middle(bandwidths), partial(height, power))
        return max(self._tried, key=self._tried.__getitem__)

    def by_label(self, kernel: Kernel, common: float, alphas: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Each label's λ [n], and what fits without the rows' own fold and `HELD` predict, [m·|G|, n].

        A label has another λ than the others where its squared error on the folds beside `HELD` is smaller by more than
        its standard error. All have the common one unless these add `WORTH` to the average precision on `HELD`.
        """
        offset = self.residual[~self.held].mean(0)

        def change_of(alpha: float) -> Tensor:
            return FoldRidge(self.gram(kernel), alpha).left_out(self.residual - offset, self.chain.folds, HELD) + offset

        def judge(change: Tensor) -> float:
            return average_precision((self.scores + change)[self.held], self.labels[self.held])

        shared = change_of(common)
        rows = ~self.held[:, None] & (self.labels != 0)
        counts = rows.sum(0).clamp(min=2)
        chosen, own = shared.clone(), torch.full_like(offset, common)
        least = torch.zeros_like(offset)
        place = alphas.index(common)
        for alpha in (*alphas[max(0, place - SMALLER) : place], *alphas[place + 1 : place + 1 + LARGER]):
            change = change_of(alpha)
            more = ((change - self.residual).square() - (shared - self.residual).square()) * rows
            mean = more.sum(0) / counts
            deviation = ((more - mean) * rows).square().sum(0) / (counts - 1)
            highest = mean + (deviation / counts).sqrt()
            better = highest < least
            least[better], own[better], chosen[:, better] = highest[better], alpha, change[:, better]
        if judge(chosen) > judge(shared) + WORTH:
            return own, chosen
        return torch.full_like(own, common), shared


def middle(values: Sequence[float]) -> float:
    """The candidate to start from."""
    return values[len(values) // 2]


def climb(values: Sequence[float], start: float, height: Callable[[float], float]) -> tuple[float, float]:
    """The height and the value where it is highest: up from `start` to one side, or else to the other.

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
