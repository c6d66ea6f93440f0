"""One block as a problem: F_k as a function of the block's weight, over the rows of all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierlit.layerwise.acceptance import SetAsideSums
from hierlit.layerwise.chunk import Chunk, Tile
from hierlit.layerwise.losses import SquaredLoss
from hierlit.layerwise.moments import (
    Moments,
    SetAsideErrors,
    calibrate,
    held_errors,
    leading_chunks,
    rough_errors,
    take_moments,
)
from hierlit.layerwise.pairs import Pairs, take_pairs
from hierlit.layerwise.processes import ALONE, Processes
from hierlit.layerwise.stream import StreamCache
from hierlit.layerwise.unobserved import LabelLoss
from hierlit.models.block import Block


class Evaluation(NamedTuple):
    """The data terms of F_k at a fixed weight: of a pass over the rows of all processes, or of one batch on this one.

    Attributes:
        terms: [n].
        gradient: [n, q+1].
    """

    terms: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class BlockProblem:
    """F_k(A) = 1/(m|G|) Σ ℓ(y·(ŷ_{k−1} + Aφ)) + Σ_j (λ_j/2)‖A_j‖², to be minimised over A (the paper's F_k).

    A is [n, q+1]: a row for each label, its last column the weight of a constant feature. F_k is a sum over labels j,
    and λ_j-strongly convex in A_j.

    Attributes:
        block: The frozen features φ, their windows, and the number of the block.
        rows: The stream Γ_{k−1} and the labels of this process's rows: `fit` is minimised over, `held` is set aside.
        label_loss: ℓ as configured.
        penalty: λ [n], in the weights' precision; a solver may choose its own.
        seed: Seed of draws.
        processes: Those that share the rows.
        n_chunks: Only so many leading chunks of the rows count; all when None.
        left_out: Number of a fold of the rows that does not count; none when None.
        whole: The same problem with that fold; None if none is left out.
    """

    block: Block
    rows: StreamCache
    label_loss: LabelLoss
    penalty: Tensor
    seed: int = 0
    processes: Processes = ALONE
    n_chunks: int | None = None
    left_out: int | None = None
    whole: BlockProblem | None = None

    @property
    def n_labels(self) -> int:
        """Labels n, those that the block may change."""
        return len(self.penalty)

    @cached_property
    def n_pairs(self) -> int:
        """m|G|, rows times locations over all processes, whatever is observed."""
        pairs = sum(self.rows.n_pairs(self.n_chunks, self.left_out))
        return int(self.processes.sum(torch.tensor(pairs, dtype=torch.float64, device=self.penalty.device)))

    @cached_property
    def loss(self) -> LabelLoss:
        """ℓ of scores and labels, its constants filled in for m|G|."""
        return self.label_loss.for_data(self.n_pairs)

    @cached_property
    def _kept(self) -> dict[Any, Any]:
        return {}

    @cached_property
    def _taken(self) -> dict[Any, Any]:
        return {}

    def keep(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what `make` makes, made when it is first asked for: a solver's factors, never saved."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def zeros(self) -> Tensor:
        """Return A = 0, [n, q+1]."""
        return self.penalty.new_zeros(self.n_labels, self.block.features.n_features + 1)

    def chunks(self, split: str = "fit") -> Iterator[Chunk]:
        """Return the chunks of a split that this process holds."""
        return self.rows.chunks(split, self.n_chunks if split == "fit" else None)

    def tiles(self, split: str = "fit") -> Iterator[Tile]:
        """Return the pairs (row, location) of a split that this process holds, by tiles."""
        return (tile for chunk in self.chunks(split) for tile in self.rows.tiles(chunk, self.block))

    def batches(self, number: int) -> Iterator[Callable[[Tensor], Evaluation]]:
        """Batches of pass `number`, in its order: each maps a weight [n, q+1] to this process's part of F_k."""
        return (partial(self._part, chunk) for chunk in self.rows.visit(self.block.index, number, self.n_chunks))

    @torch.no_grad()
    def _part(self, chunk: Chunk, weight: Tensor) -> Evaluation:
        slopes, intercept = weight[:, :-1].T, weight[:, -1]
        terms, gradient = weight.new_zeros(len(weight)), torch.zeros_like(weight)
        for tile in self.rows.tiles(chunk, self.block):
            scores = torch.addmm(tile.scores + intercept, tile.features, slopes)
            losses, rise = self.loss(scores, tile.labels), self.loss.derivative(scores, tile.labels)
            if self.left_out is not None and tile.folds is not None:
                counts = (tile.folds != self.left_out).to(rise)[:, None]
                losses, rise = losses * counts, rise * counts
            terms += losses.sum(0)
            gradient[:, :-1].addmm_(rise.T, tile.features)
            gradient[:, -1] += rise.sum(0)
        return Evaluation(terms / self.n_pairs, gradient.div_(self.n_pairs))

    def evaluate(self, weight: Tensor, number: int = 0) -> Evaluation:
        """Evaluate F_k in a pass at a fixed weight [n, q+1], over the rows of all processes, in float64.

        Args:
            weight: A.
            number: Number of the pass within the block, which decides the order of its batches.

        Raises:
            FloatingPointError: If a loss or a gradient is not finite; one line names the first batch.
        """
        sums = self.sums(number)
        for batch in self.batches(number):
            sums.add(batch(weight))
        return sums.evaluation()

    @torch.no_grad()
    def evaluate_duals(self, weight: Tensor, penalty: Tensor, number: int = 0) -> Evaluation:
        """Evaluate all of F_k at a weight of `DualUnits`, on the first process; of its gradient see `DualSolver`."""
        sums, nothing = self.sums(number), torch.zeros_like(weight)
        is_first = self.processes.rank == 0
        own = self.pairs().evaluate(self.loss, weight, penalty) if is_first else (nothing[:, -1], nothing)
        sums.add(Evaluation(*own))
        return sums.evaluation()

    def sums(self, number: int) -> PassSums:
        """Return what a solver adds the batches of pass `number` up in."""
        return PassSums(self, number)

    @cached_property
    def power(self) -> Tensor:
        """Mean squared residuals y − ŷ before the block, weighted by `LabelLoss.targets`, [n] float64."""
        return self._before[0]

    @cached_property
    def initial_objective(self) -> Tensor:
        """F_k at A = 0, [n] float64."""
        return self._before[1]

    @cached_property
    def offset(self) -> Tensor:
        """Mean residuals y − ŷ before the block, weighted likewise, [n] float64."""
        return self._before[2]

    @cached_property
    def _before(self) -> Tensor:
        sums = torch.zeros(3, self.n_labels, dtype=torch.float64, device=self.penalty.device)
        for chunk in self.chunks():
            for scores, labels, folds in self.rows.pairs(chunk, self.block):
                targets, weights = self.loss.targets(labels)
                residual = (targets - scores) * weights
                parts = [residual.square(), self.loss(scores, labels), residual]
                if self.left_out is not None and folds is not None:
                    counts = (folds != self.left_out).to(residual)[:, None]
                    parts = [part * counts for part in parts]
                sums += torch.stack([part.sum(0) for part in parts])
        return self.processes.sum(sums) / self.n_pairs

    def calibrate(self) -> None:
        """Set the input scale and the mean of the block's features from the rows."""
        calibrate(self)

    def moments(self, dtype: torch.dtype | None = None) -> Moments:
        """Return the features' Gram matrix and their products with the residuals: one pass, kept; unasked, unpaid.

        Args:
            dtype: See `moments.take_moments`.
        """
        if self.whole is None:
            return self.summed(dtype)[0]
        everything, folds = self.whole.summed(dtype)
        return self.keep(("moments", dtype), lambda: everything.without(folds[self.left_out or 0]))  # type: ignore[no-any-return]

    def summed(self, dtype: torch.dtype | None) -> tuple[Moments, list[Moments]]:
        """Return the moments of all rows, and of each fold's."""
        if dtype not in self._taken:
            folds = take_moments(self, dtype, 1 if self.rows.folds is None else self.rows.folds.number)
            self._taken[dtype] = folds[0] if len(folds) == 1 else Moments.together(folds), folds
        return self._taken[dtype]  # type: ignore[no-any-return]

    def pairs(self) -> Pairs:
        """Return the pairs of all processes on each of them, of a block of `DualUnits`: one pass, kept."""
        if self.whole is not None:
            everything = self.whole.pairs()
            return self.keep(Pairs, lambda: everything.without(self.left_out or 0))  # type: ignore[no-any-return]
        if Pairs not in self._taken:
            self._taken[Pairs] = take_pairs(self)
        return self._taken[Pairs]  # type: ignore[no-any-return]

    def held_errors(self, weights: Tensor) -> SetAsideErrors:
        """Return what candidate weights [A, n, q+1] leave of the residuals on the set-aside rows."""
        return held_errors(self, weights)

    def rough_errors(self, weights: Tensor) -> SetAsideErrors:
        """Estimate `held_errors` from products of features; see `moments.rough_errors`."""
        return rough_errors(self, weights)

    @torch.no_grad()
    def held_sums(self, weight: Tensor) -> SetAsideSums:
        """Return what a weight [n, q+1] would change on the set-aside rows of all processes, for acceptance."""
        totals = SetAsideSums.zeros(self.n_labels, self.penalty.device).stack()
        for chunk in self.chunks("held"):
            before, labels = (self.block.of_labels(each) for each in (self.rows.net.scores(chunk.stream), chunk.labels))
            after = before + self.rows.change(chunk, self.block, weight)
            totals += SetAsideSums.of(self.loss, before, after, labels).stack()
        return SetAsideSums(*self.processes.sum(totals))

    def leading(self, n_pairs: int) -> BlockProblem:
        """Return the same on as many leading chunks as hold about `n_pairs` pairs over all processes."""
        return replace(self, n_chunks=leading_chunks(self, n_pairs))

    def with_penalty(self, penalty: Tensor) -> BlockProblem:
        """Return the same under another λ [n]; what was taken from the rows is the same too."""
        changed = replace(self, penalty=penalty)
        changed._taken.update(self._taken)
        return changed

    def squared(self) -> BlockProblem:
        """Return the same under the squared loss."""
        return replace(self, label_loss=replace(self.label_loss, margin_loss=SquaredLoss()))

    def of_labels(self, labels: Tensor) -> BlockProblem:
        """Return the same for some of its labels [n'], by their numbers among these; others stay as they are."""
        own = self.block.labels
        block = self.block._replace(labels=labels if own is None else own[labels])
        return replace(self, block=block, penalty=self.penalty[labels])

    def without(self, fold: int) -> BlockProblem:
        """Return the same without the rows of a fold.

        Raises:
            ValueError: If no row is left.
        """
        others = replace(self, left_out=fold, whole=self)
        if not others.n_pairs:
            raise ValueError(f"fold {fold + 1} holds all rows that are fitted: there must be more of them for folds")
        return others


class PassSums:
    """The batches of a pass added up: on this process while the pass lasts, over all of them in the end.

    Args:
        problem: The problem.
        number: Number of the pass within the block.
    """

    def __init__(self, problem: BlockProblem, number: int) -> None:
        self.problem, self.number = problem, number
        n_labels, width = problem.n_labels, problem.block.features.n_features + 1
        self.values = torch.zeros(n_labels, width + 1, dtype=torch.float64, device=problem.penalty.device)
        self.signs: list[Tensor] = []

    def add(self, part: Evaluation) -> None:
        """Add this process's part of a batch."""
        self.values[:, :-1] += part.gradient
        self.values[:, -1] += part.terms
        self.signs.append(part.terms.sum() + part.gradient.sum())

    def evaluation(self) -> Evaluation:
        """Return the sums over all processes.

        Raises:
            FloatingPointError: If they are not finite; one line names the first batch that is not.
        """
        values = self.problem.processes.sum(self.values)
        if not values.isfinite().all():
            bad = self.problem.processes.sum((~torch.stack(self.signs).isfinite()).double())
            batch = int(bad.nonzero()[0]) + 1 if bad.any() else len(bad)
            where = f"block {self.problem.block.index + 1}, epoch {self.number + 1}, batch {batch}"
            raise FloatingPointError(
                f"loss or gradient is not finite in {where}: lower the solver's step or the inputs"
            )
        return Evaluation(values[:, -1], values[:, :-1])
