"""What a block takes from its rows before it is solved: scale and mean of its features, moments, errors set aside."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierlit.layerwise.gather import drawn_windows
from hierlit.models.block import readout

if TYPE_CHECKING:
    from hierlit.layerwise.problem import BlockProblem

MEAN_PAIRS = 8192
"""Pairs that the features' mean is taken over: centring makes steps longer, it need not be exact."""
FLUSH_PAIRS = 8192
"""Pairs summed in the features' own precision before the sum joins the float64 total."""
FOLD_PAIRS = 1024
"""Pairs of a fold that are multiplied at a time: those of one tile alone would be few."""
PANELS = 4
"""Column panels of a symmetric product, of which those below the diagonal are not computed."""


@dataclass(frozen=True)
class Moments:
    """Means over the pairs (row, location) of all processes; features end in the constant one.

    They are in float64; with folds, products of features are in what they were summed in.

    Attributes:
        n_pairs: Number of pairs.
        gram: Mean outer product of the features, [q+1, q+1].
        cross: Mean product of the residuals y − ŷ (weighted by `LabelLoss.targets`) and features, [n, q+1].
    """

    n_pairs: int
    gram: Tensor
    cross: Tensor

    @cached_property
    def largest_eigenvalue(self) -> float:
        """That of the Gram matrix."""
        return float(torch.linalg.eigvalsh(self.gram)[-1])

    def of_few(self) -> tuple[Moments, Tensor] | None:
        """Return them along an orthonormal basis [q+1, r] of all pairs' features, and that; None unless r is small.

        Of few pairs, weights of ridge regressions are combinations of so few features.
        """
        if 2 * self.n_pairs > len(self.gram):
            return None
        basis = torch.linalg.eigh(self.gram).eigenvectors[:, -self.n_pairs :]
        return self.along(basis), basis

    def along(self, basis: Tensor) -> Moments:
        """Return the moments of features that are combinations [q+1, r] of these."""
        return Moments(self.n_pairs, basis.T @ self.gram @ basis, self.cross.to(basis) @ basis)

    @classmethod
    def together(cls, parts: list[Moments]) -> Moments:
        """Return the moments of all pairs, from the moments of parts of them."""
        n_pairs = sum(part.n_pairs for part in parts)
        gram, cross = torch.zeros_like(parts[0].gram), torch.zeros_like(parts[0].cross)
        for part in parts:
            gram.add_(part.gram, alpha=part.n_pairs / n_pairs)
            cross.add_(part.cross, alpha=part.n_pairs / n_pairs)
        return cls(n_pairs, gram, cross)

    def without(self, part: Moments) -> Moments:
        """Return the moments of the pairs that are not among a part of them."""
        left = self.n_pairs - part.n_pairs

        def rest(whole: Tensor, of_part: Tensor) -> Tensor:
            return (whole * (self.n_pairs / left)).sub_(of_part, alpha=part.n_pairs / left)

        return Moments(left, rest(self.gram, part.gram), rest(self.cross, part.cross))


@torch.no_grad()
def take_moments(problem: BlockProblem, dtype: torch.dtype | None = None, n_folds: int = 1) -> list[Moments]:
    """Return the moments of a calibrated block's rows, fold by fold, in one pass.

    Args:
        problem: The problem.
        dtype: What products of features are summed in, the weights' own when None. The float32 sums of two partitions
            of the rows differ by more than a solution can bear.
        n_folds: Folds of the rows; all rows together when 1.

    Raises:
        FloatingPointError: If a feature is not finite.
    """
    sums = [ProductSums(problem, dtype, n_folds > 1) for _ in range(n_folds)]
    for tile in problem.tiles():
        targets, weights = problem.loss.targets(tile.labels)
        residual = (targets - tile.scores) * weights
        if n_folds == 1 or tile.folds is None:
            sums[0].add(tile.features, residual)
            continue
        for fold, own in enumerate(sums):
            rows = (tile.folds == fold).nonzero()[:, 0]
            own.add(tile.features[rows], residual[rows])
    return [own.moments() for own in sums]


class ProductSums:
    """Sums of products of features over the pairs of this process.

    Args:
        problem: Whose pairs they are.
        dtype: See `take_moments`.
        is_fold: Whether memory is dear, and many pairs are multiplied at a time, of which one tile has few.
    """

    def __init__(self, problem: BlockProblem, dtype: torch.dtype | None = None, is_fold: bool = False) -> None:
        self.problem, self.at_least, self.n_pairs, self.summed = problem, FOLD_PAIRS if is_fold else 1, 0, 0
        self.waiting: list[tuple[Tensor, Tensor]] = []
        width = problem.block.features.n_features + 1
        self.partial = problem.penalty.new_zeros(width, width, dtype=dtype)
        self.gram = self.partial if is_fold else torch.zeros_like(self.partial, dtype=torch.float64)
        self.cross = problem.penalty.new_zeros(problem.n_labels, width, dtype=torch.float64)

    def add(self, features: Tensor, residual: Tensor) -> None:
        """Add pairs: features [P, q] and residuals [P, n]."""
        self.waiting.append((features, residual))
        if sum(len(part) for part, _ in self.waiting) >= self.at_least:
            self._multiply()

    def _multiply(self) -> None:
        if self.summed >= FLUSH_PAIRS:
            self._flush()
        parts = zip(*self.waiting, strict=True)
        seen, left = ((part[0] if len(part) == 1 else torch.cat(part)).to(self.partial) for part in parts)
        self.waiting = []
        add_product(self.partial[:-1, :-1], seen)
        self.partial[:-1, -1] += seen.sum(0)
        self.cross[:, :-1] += left.T @ seen
        self.cross[:, -1] += left.sum(0)
        self.summed, self.n_pairs = self.summed + len(seen), self.n_pairs + len(seen)

    def _flush(self) -> None:
        if self.gram is not self.partial:
            self.gram += self.partial
            self.partial.zero_()
        self.summed = 0

    def moments(self) -> Moments:
        """Return the moments of the pairs of all processes."""
        if self.waiting:
            self._multiply()
        self._flush()
        del self.partial
        count = torch.tensor(float(self.n_pairs), dtype=torch.float64, device=self.gram.device)
        gram, cross, count = (self.problem.processes.sum(total) for total in (self.gram, self.cross, count))
        gram, cross = (total.div_(count.clamp(min=1)) for total in (gram, cross))
        check_finite(self.problem, gram)
        gram[-1:, -1:] = 1.0
        mirror(gram)
        return Moments(int(count), gram, cross)


def check_finite(problem: BlockProblem, products: Tensor) -> None:
    """Raise a FloatingPointError unless products of features are finite: where one is not, its square is not."""
    if not products.diagonal().isfinite().all():
        block = problem.block.index + 1
        raise FloatingPointError(f"the features are not finite in block {block}: check the size of the inputs")


def mirror(products: Tensor) -> None:
    """Copy what is above the diagonal of a square matrix below it, in place."""
    products.triu_().add_(products.triu(1).T)


def add_product(total: Tensor, rows: Tensor) -> None:
    """Add rowsᵀ·rows [q, q] of rows [P, q] to a total, on and above the diagonal only (and in blocks on it)."""
    step = -(-len(total) // PANELS)
    for first in range(0, len(total), step):
        total[first : first + step, first:].addmm_(rows[:, first : first + step].T, rows[:, first:])


@dataclass(frozen=True)
class SetAsideErrors:
    """Mean squared residuals on the set-aside rows of all processes, over the pairs where a label is observed.

    Attributes:
        before: Those that the best constant leaves of the residuals before the block, [n].
        after: Those that each of A candidate weights leaves, [A, n].
        observed: Number of such pairs, by weight, [n].
    """

    before: Tensor
    after: Tensor
    observed: Tensor


@torch.no_grad()
def held_errors(problem: BlockProblem, weights: Tensor) -> SetAsideErrors:
    """Return what candidate weights [A, n, q+1] of a block leave of the residuals y − ŷ on the set-aside rows."""
    flat, shape = weights.flatten(0, 1), weights.shape[:2]
    totals = torch.zeros(shape[0] + 3, shape[1], dtype=torch.float64, device=weights.device)
    for tile in problem.tiles("held"):
        goals, seen = problem.label_loss.targets(tile.labels)
        residual, root = goals - tile.scores, seen.sqrt()
        changes = readout(tile.features, flat).view(-1, *shape)
        left = changes.sub_(residual[:, None]).mul_(root[:, None]).square_().sum(0)
        sums = [seen.sum(0), (residual * seen).sum(0), (residual.square() * seen).sum(0)]
        totals += torch.cat([left, torch.stack(sums)])
    *after, observed, total, power = problem.processes.sum(totals)
    count = observed.clamp(min=1)
    return SetAsideErrors((power - total.square() / count) / count, torch.stack(after) / count, observed)


@torch.no_grad()
def rough_errors(problem: BlockProblem, weights: Tensor) -> SetAsideErrors:
    """Return what `held_errors` does, from products of features: many candidates and labels cost little more than one.

    Equal where a label is observed at all pairs; elsewhere as if its observed pairs were like the others, and then what
    is left may seem negative.
    """
    products = ProductSums(problem)
    totals = torch.zeros(2, weights.shape[1], dtype=torch.float64, device=weights.device)
    for tile in problem.tiles("held"):
        goals, seen = problem.label_loss.targets(tile.labels)
        residual = goals.sub_(tile.scores)
        weighted = residual * seen
        products.add(tile.features, weighted)
        totals += torch.stack([seen.sum(0), residual.mul_(weighted).sum(0)])
    moments = products.moments()
    observed, power = problem.processes.sum(totals)
    count, share = observed.clamp(min=1), (observed / max(1, moments.n_pairs))[:, None]
    cross, candidates = moments.cross / share.clamp(min=1 / max(1, moments.n_pairs)), weights.to(moments.gram)
    power = power / count
    explained = ((2 * cross - candidates @ moments.gram) * candidates).sum(-1)
    return SetAsideErrors(power - cross[:, -1].square(), power - explained, observed)


@torch.no_grad()
def calibrate(problem: BlockProblem) -> None:
    """Set input scale and mean of a block's features, and what else they need, from the rows of all processes."""
    features = problem.block.features
    if features.n_centres:
        features.place(drawn_windows(problem, features.n_centres))
        return
    features.scale.fill_(input_scale(problem))
    features.mean.copy_(mean_features(problem))


def mean_features(problem: BlockProblem) -> Tensor:
    """Mean [q] of the block's features over the leading pairs."""
    features = problem.block.features
    features.mean.zero_()
    total = torch.zeros(features.n_features + 1, dtype=torch.float64, device=features.mean.device)
    few = replace(problem, n_chunks=leading_chunks(problem, MEAN_PAIRS))
    for chunk in few.chunks():
        for raw in features.tiles(problem.rows.windows(chunk, problem.block)):
            total[:-1] += raw.to(features.mean.dtype).sum(0)
            total[-1] += len(raw)
    total = problem.processes.sum(total)
    return total[:-1] / total[-1]


def leading_chunks(problem: BlockProblem, n_pairs: int) -> int:
    """Count the leading chunks, each as large as the largest over all processes, that would hold `n_pairs` pairs."""
    largest = max(problem.rows.n_pairs(), default=0)
    together = problem.processes.sum(torch.tensor(largest, dtype=torch.float64, device=problem.penalty.device))
    return math.ceil(n_pairs / max(1.0, float(together)))


def input_scale(problem: BlockProblem) -> float:
    """Factor that gives the block's windows squared norm fan_in, as the features' `input_scale` understands it.

    W¹ that was drawn for some channels has been scaled to them.
    """
    kind, net = problem.block.features.input_scale, problem.rows.net
    if kind == "fan_in" or problem.block.features.channels is not None:
        return 1.0
    width = net.n_inputs + net.n_scores
    sums = torch.zeros(3, width, dtype=torch.float64, device=problem.penalty.device)
    for chunk in problem.rows.chunks("fit"):
        stream = chunk.pairs(net.split(chunk.stream)).double()
        sums += torch.stack([torch.full((width,), len(stream)).to(sums), stream.sum(0), stream.square().sum(0)])
    count, total, power = problem.processes.sum(sums)
    if kind == "rms":
        norm = float((power / count).sum())
    else:
        variance = power / count - (total / count).square()
        norm = float((variance > 1e-9 * variance.max()).sum())
    return math.sqrt(width / norm) if norm > 0 else 1.0
