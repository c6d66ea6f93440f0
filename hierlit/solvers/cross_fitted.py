"""The cross-fitted solver: blocks whose every choice, and whose every training score, is of rows left out (ours)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer

from hierlit.metrics.average_precision import average_precision
from hierlit.models.resnet import is_count
from hierlit.solvers.accelerated import AcceleratedGradient
from hierlit.solvers.base import Certificate, EpochSums, Solver
from hierlit.solvers.chains import Chain, Draw, Kernel
from hierlit.solvers.fold_ridge import FoldRidge

if TYPE_CHECKING:
    from hierlit.task import LayerwiseTask

BANDWIDTHS = (0.5, 0.7, 1.0)
TAILS = ("normal", "cauchy")
ALPHAS = (0.01, 0.1, 1.0, 3.0, 10.0, 30.0)
MOST_PAIRS = 32768
"""Pairs whose Gram matrix is still held: 4 GiB in float32."""


class CrossFittedSolver(Solver):
    """Solves F_k for the squared loss, and chooses what else would have to be set by hand (ours).

    A block's scores are better on the rows that it was fitted to than on others, and a later block would learn to trust
    them too much. Here the rows are divided into folds, and the training rows go on with the scores that a fit to the
    other folds gives them; all other rows, with those of the fit to all. These fits come from one inverse of the
    rows' Gram matrix, so that wide blocks cost little where rows are few.

    W¹ is the block's draw, read by one of a few kernels: of bandwidth s, in units of the standard deviation of all
    that the block reads, and of rows that are normal, or Cauchy, each divided by |N(0, 1)|. The first block reads the
    inputs, later ones the scores. Kernel and λ, one for all labels, are those of the highest average precision on rows
    left out: on every fold in turn in the first block, on fold 0 in later ones, where no fit that is judged, nor any
    before it, has seen that fold. A block that does not raise it stays at zero and ends the run. The intercept bears no
    penalty. Cosine features with phases of all sizes are meant: activation cos, bias uniform_phase, beta 0.

    Args:
        bandwidths: Candidates for s.
        tails: Candidates for the rows of W¹: normal, cauchy or both.
        alphas: Candidates for λ, as multiples of the mean squared norm of a row's features.
        n_folds: Folds of the training rows.
        choice_rows: Rows that choices are made on, drawn at random; the fit is to all rows.

    Attributes:
        choices: Tail, bandwidth and alpha of each block that was accepted.

    Raises:
        ValueError: One line naming each argument out of range.
    """

    reads_gram = False

    def __init__(
        self,
        bandwidths: list[float] | None = None,
        tails: list[str] | None = None,
        alphas: list[float] | None = None,
        n_folds: int = 5,
        choice_rows: int = 2000,
    ) -> None:
        self.bandwidths, self.tails = sorted(bandwidths or BANDWIDTHS), tails or list(TAILS)
        self.alphas = sorted(alphas or ALPHAS)
        problems = [
            f"{name} must all be positive, got {values}"
            for name, values in (("bandwidths", self.bandwidths), ("alphas", self.alphas))
            if any(not value > 0 for value in values)
        ]
        if any(tail not in TAILS for tail in self.tails):
            problems.append(f"tails must be some of {', '.join(TAILS)}, got {self.tails}")
        if not is_count(n_folds) or n_folds < 2:
            problems.append(f"n_folds must be 2 or more, got {n_folds}")
        if not is_count(choice_rows) or choice_rows < 2:
            problems.append(f"choice_rows must be 2 or more, got {choice_rows}")
        if problems:
            raise ValueError("; ".join(problems))
        self.n_folds, self.choice_rows = n_folds, choice_rows
        self.choices: list[tuple[Draw, float]] = []

    def blocks_to_calibrate(self, task: LayerwiseTask) -> Sequence[int]:
        """None: scale and mean come with the choice."""
        return ()

    def start_block(self, task: LayerwiseTask) -> None:
        """Chooses kernel and λ on rows left out, and goes to the solution on all rows.

        Raises:
            ValueError: If the run goes on from a checkpoint, has more than one process, too many pairs, too few rows or
                another loss.
        """
        if task.block == 0:
            self._begin(task)
        elif len(self.choices) < task.block:
            raise ValueError("a cross-fitted run goes from its first block to its last: start it without ckpt_path")
        features = task.net.block(task.block).features
        base = task.net.split_coordinates(features.weight).clone()

        def kernel(chain: Chain, draw: Draw) -> Kernel:
            return Kernel(task.net, task.block, base, chain, draw, task.weight_seed)

        chosen = self._choose(task, kernel)
        self.is_finished = chosen is None
        if chosen is None:
            return
        self.choices.append(chosen)
        draw, alpha = chosen
        self._kernel = kernel(self._fitted, draw)
        gram, self._means = self._kernel.gram()
        features.weight.copy_(task.net.stream_coordinates(self._kernel.weight))
        features.scale.fill_(self._kernel.scale)
        features.mean.copy_(self._means)
        self._ridge = FoldRidge(gram, alpha)
        residual = self._residual(task, self._fitted)
        offset = residual.mean(0)
        self._change = self._ridge.left_out(residual - offset, self._fitted.folds) + offset
        task.objective.regularization.fill_(self._ridge.penalty / len(residual))
        slopes = self._kernel.weights(self._ridge.inverse @ (residual - offset), self._means)
        task.active.data.copy_(torch.cat([slopes, offset[:, None]], 1))
        task.streams.keep_features("train", task.block)

    def _begin(self, task: LayerwiseTask) -> None:
        """Takes the training rows out of the stream."""
        if task.trainer.world_size > 1:
            raise ValueError(f"CrossFittedSolver runs in one process, got {task.trainer.world_size}: set devices to 1")
        if not task.loss.margin_loss.is_squared:
            raise ValueError(f"CrossFittedSolver needs SquaredLoss, got {type(task.loss.margin_loss).__name__}")
        if task.moments.n_pairs > MOST_PAIRS:
            raise ValueError(
                f"CrossFittedSolver takes {MOST_PAIRS} rows times locations at most, got {task.moments.n_pairs}: "
                "use ExactSolver, or fewer rows"
            )
        self.choices, self.is_finished = [], False
        self._fitted = Chain.of_rows(task.net, task.streams, self.n_folds, task.weight_seed)
        if len(self._fitted.labels) < self.n_folds:
            raise ValueError(
                f"n_folds must be at most the {len(self._fitted.labels)} training rows, got {self.n_folds}"
            )
        self._judged = self._fitted.some(self.choice_rows, task.weight_seed)

    def _choose(self, task: LayerwiseTask, kernel: Callable[[Chain, Draw], Kernel]) -> tuple[Draw, float] | None:
        """The best kernel and alpha, None if none raises the average precision; moves the judged rows on."""
        chain, is_first = self._judged, task.block == 0
        residual, labels = self._residual(task, chain), chain.labels.flatten(0, 1)
        scores = chain.stream[..., task.net.n_inputs :].flatten(0, 1)
        judged = torch.ones_like(chain.folds, dtype=torch.bool) if is_first else chain.folds == 0
        without = None if is_first else 0
        offset = residual[judged if is_first else ~judged].mean(0)
        tried: dict[tuple[Draw, float], float] = {}
        grams: dict[Draw, Tensor] = {}

        def precision(draw: Draw, alpha: float) -> float:
            if (draw, alpha) not in tried:
                if draw not in grams:
                    grams.clear()
                    grams[draw] = kernel(chain, draw).gram()[0]
                ridge = FoldRidge(grams[draw], alpha)
                change = ridge.left_out(residual - offset, chain.folds, without, judged) + offset
                tried[draw, alpha] = average_precision((scores + change)[judged], labels[judged])
            return tried[draw, alpha]

        def best_precision(tail: str, bandwidth: float) -> float:
            draw = Draw(tail, bandwidth)
            start = max(tried, key=tried.__getitem__)[1] if tried else self.alphas[len(self.alphas) // 2]
            return climb(self.alphas, start, partial(precision, draw))[0]

        for tail in self.tails:
            climb(self.bandwidths, self.bandwidths[-1], partial(best_precision, tail))
        (draw, alpha), best = max(tried.items(), key=lambda item: item[1])
        if not best > average_precision(scores[judged], labels[judged]):
            return None
        offset = residual[chain.folds != 0].mean(0)
        ridge = FoldRidge(kernel(chain, draw).gram()[0], alpha)
        self._judged_change = ridge.left_out(residual - offset, chain.folds, 0) + offset
        return draw, alpha

    def _residual(self, task: LayerwiseTask, chain: Chain) -> Tensor:
        """Residuals y − ŷ [m·|G|, n], by weight."""
        targets, weights = task.loss.targets(chain.labels)
        return ((targets - chain.stream[..., task.net.n_inputs :]) * weights).flatten(0, 1)

    def end_block(self, task: LayerwiseTask) -> None:
        """Has the training rows go on with the scores of the fits that left them out."""
        if self.is_finished:
            return
        self._judged.advance(self._judged_change)
        self._fitted.advance(self._change)
        first = 0
        for chunk in task.streams.chunks("train"):
            scores = self._fitted.stream[first : first + len(chunk.stream), :, task.net.n_inputs :]
            chunk.stream.copy_(task.net.add_scores(chunk.stream, scores - task.net.scores(chunk.stream)))
            first += len(scores)

    def configure_optimizers(self, task: LayerwiseTask) -> Optimizer:
        """Accelerated steps in the metric G + λ, for labels that are not observed."""
        return AcceleratedGradient([task.active], 1.0, precondition=self._solve)

    def _solve(self, gradient: Tensor) -> Tensor:
        """g(G + λ)⁻¹ [n, q+1], by the rows: (g − gΦᵀ(K + mλ)⁻¹Φ)/λ, and g itself for the intercept."""
        slopes, kernel = gradient[:, :-1], self._kernel
        across = self._ridge.inverse @ kernel.scores(slopes, self._means)
        solved = (slopes - kernel.weights(across, self._means)) * len(across) / self._ridge.penalty
        return torch.cat([solved, gradient[:, -1:]], 1)

    def certify(self, task: LayerwiseTask, sums: EpochSums, epoch: int) -> Certificate:
        """The certificate of F_k with no penalty of the intercept, which centred features leave a curvature of 1."""
        penalty, slopes = task.objective.regularization.double(), self._slopes(task).double()
        norm = (sums.gradient + penalty[:, None] * slopes).norm(dim=1)
        return Certificate(sums.terms + penalty / 2 * slopes.square().sum(1), norm, penalty.clamp(max=1.0))

    @torch.no_grad()
    def step(self, task: LayerwiseTask, sums: EpochSums, epoch: int) -> None:
        """Takes a step with the full gradient."""
        task.active.grad = sums.gradient.to(task.active) + task.objective.regularization[:, None] * self._slopes(task)
        task.optimizers().step()  # type: ignore[union-attr]
        task.active.grad = None

    def _slopes(self, task: LayerwiseTask) -> Tensor:
        """The active weight with 0 for its intercept."""
        return torch.nn.functional.pad(task.active.detach()[:, :-1], (0, 1))


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
