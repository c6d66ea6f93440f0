"""The cross-fitted solver: blocks whose every choice, and whose every training score, is of rows left out (ours)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer

from hierlit.layerwise.solvers.accelerated import AcceleratedGradient
from hierlit.layerwise.solvers.base import Certificate, EpochSums, Solver
from hierlit.layerwise.solvers.chains import Chain, Kernel, RowKernel
from hierlit.layerwise.solvers.fold_ridge import FoldRidge
from hierlit.layerwise.solvers.kernel_choice import WORTH, Choice, Trials, climb
from hierlit.models.first_layer import FirstLayer
from hierlit.models.radial_units import RadialUnits
from hierlit.models.resnet import is_count

if TYPE_CHECKING:
    from hierlit.training.task import LayerwiseTask

BANDWIDTHS = (0.35, 0.5, 0.7, 1.0, 1.5)
POWERS = (2.0, 1.0)
ALPHAS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
MOST_PAIRS = 20000
"""Pairs whose Gram matrix is still held, which takes five such matrices at the peak: 8 GB in float32."""
ACCURACY = 1e-3
"""Suboptimality of a direct solution, relative to F_k at W² = 0."""


class CrossFittedSolver(Solver):
    """Solves F_k of radial units for the squared loss, and chooses what else would have to be set by hand (ours).

    A block's scores are better on the rows that it was fitted to than on others, and a later block would learn to trust
    them too much. Here the rows are divided into folds, and the training rows go on with the scores that a fit to the
    other folds gives them; all other rows, with those of the fit to all. The fits of a λ come from one inverse of
    the rows' Gram matrix.

    A block's W¹ are windows of the training rows (`RadialUnits`), all of them if there are units enough. Its kernel
    has a power and a bandwidth, in units of the standard deviation of all that the block reads. The first block reads
    the inputs, later ones the scores. The penalty is (λ/2)‖f‖², with the norm of f as a function of that kernel, and
    without its intercept. Kernel and λ are those of the highest average precision on rows left out: on every fold in
    turn in the first block, on fold 0 in later ones, where no fit that is judged, nor any before it, has seen that
    fold. They are found by climbing from one candidate to the next, with one λ for all labels; a label then has another
    where its squared error on rows left out says so (`Trials.by_label`). A block that does not raise the average
    precision by `WORTH` stays at zero and ends the run. The rows that judge it have chosen its kernel too, so that a
    small table of noise may get a block too many.

    Labels that are not observed count as the scores before the block in the choices and in the scores that rows go on
    with; the block itself is then solved by steps, as it should be, and no other follows.

    Args:
        bandwidths: Candidates for the bandwidth.
        powers: Candidates for the power: 2, Gaussian, or 1, Laplace's kernel, or both.
        alphas: Candidates for λ, as multiples of the kernel's mean diagonal over the rows.
        n_folds: Folds of the training rows.
        choice_rows: Pairs that λ is chosen on, of rows drawn at random; half of the rows are for the kernel. The fit is
            to all of them.

    Attributes:
        choices: Kernel and alphas of each block that was accepted.

    Raises:
        ValueError: One line naming each argument out of range.
    """

    reads_gram = False
    is_radial = True

    def __init__(
        self,
        bandwidths: list[float] | None = None,
        powers: list[float] | None = None,
        alphas: list[float] | None = None,
        n_folds: int = 5,
        choice_rows: int = 2500,
    ) -> None:
        self.bandwidths, self.powers = sorted(bandwidths or BANDWIDTHS), powers or list(POWERS)
        self.alphas = sorted(alphas or ALPHAS)
        problems = [
            f"{name} must all be positive, got {values}"
            for name, values in (("bandwidths", self.bandwidths), ("alphas", self.alphas))
            if any(not value > 0 for value in values)
        ]
        if any(power not in POWERS for power in self.powers):
            problems.append(f"powers must be 1, 2 or both, got {self.powers}")
        if not is_count(n_folds) or n_folds < 2:
            problems.append(f"n_folds must be 2 or more, got {n_folds}")
        if not is_count(choice_rows) or choice_rows < 2:
            problems.append(f"choice_rows must be 2 or more, got {choice_rows}")
        if problems:
            raise ValueError("; ".join(problems))
        self.n_folds, self.choice_rows = n_folds, choice_rows
        self.choices: list[Choice] = []

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
        chosen = None if task.block and not self._is_observed else self._choose(task)
        self.is_finished = chosen is None
        if chosen is None:
            if task.block == 0:
                text = "no kernel ranks rows left out better than at random: every score is its label's mean"
                warnings.warn(text, stacklevel=2)
                task.active.data[:, -1] = self._residual(task, self._fitted).mean(0)
            return
        self.choices.append(chosen)
        self._kernel = self._make(task, self._fitted, chosen.kernel)
        self._fill(task.net.block(task.block).features)
        self._solve_rows(task, chosen.alphas)
        task.streams.keep_features("train", task.block)

    def _solve_rows(self, task: LayerwiseTask, alphas: Tensor) -> None:
        """Goes to the minimum of F_k, where every label is observed; keeps what fits that left rows out predict."""
        residual = self._residual(task, self._fitted)
        offset, gram = residual.mean(0), self._kernel.gram()
        residual -= offset
        self._change, duals = torch.empty_like(residual), torch.empty_like(residual)
        norm, length = residual.new_zeros(2, len(offset), dtype=torch.float64)
        for alpha in alphas.unique().tolist():  # type: ignore[no-untyped-call]
            own = alphas == alpha
            self._ridge, (duals[:, own], norm[own], length[own]) = solve_accurately(gram, residual[:, own], alpha)
            self._change[:, own] = self._ridge.left_out(residual[:, own], self._fitted.folds) + offset[own]
            task.objective.regularization[own] = self._ridge.penalty / len(residual)
        slopes = self._kernel.weights(duals)
        task.active.data[:, : slopes.shape[1]], task.active.data[:, -1] = slopes, offset
        self._direct = (norm, length / len(residual)) if self._is_observed and self._kernel.is_whole else None

    def _fill(self, features: FirstLayer) -> None:
        """Gives a block the units; those beyond the rows stay out of use, with weights of zero."""
        assert isinstance(features, RadialUnits)
        features.n_used = n_units = len(self._kernel.units)
        features.weight[:n_units], features.mean[:n_units] = self._kernel.units, self._kernel.means
        features.coordinates.copy_(self._kernel.coordinates)
        features.power.fill_(self._kernel.power)
        features.scale.fill_(self._kernel.scale)

    def _make(self, task: LayerwiseTask, chain: Chain, kernel: Kernel) -> RowKernel:
        n_units = task.net.block(task.block).features.n_features
        return RowKernel(task.net, task.block, chain, kernel, n_units, task.weight_seed)

    def _gram(self, task: LayerwiseTask, chain: Chain, kernel: Kernel) -> Tensor:
        return self._make(task, chain, kernel).gram()

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
        self._is_observed = bool((task.loss.targets(self._fitted.labels)[1] == 1).all())
        n_rows = max(self.n_folds, self.choice_rows // task.net.n_locations)
        self._judged = self._fitted.some(n_rows, task.weight_seed)

    def _choose(self, task: LayerwiseTask) -> Choice | None:
        """The best kernel and λs, None if they are not worth a block; keeps what they predict of the judged rows."""

        def trials(chain: Chain) -> Trials:
            targets, weights = task.loss.targets(chain.labels)
            labels = (targets.sign() * (weights > 0)).flatten(0, 1)
            residual, is_first = self._residual(task, chain), task.block == 0
            gram = partial(self._gram, task, chain)
            return Trials(chain, labels, residual, task.net.n_inputs, is_first, gram)

        few = trials(self._judged.some(max(self.n_folds, len(self._judged.labels) // 2), task.weight_seed))
        kernel, alpha = few.search(self.powers, self.bandwidths, self.alphas)
        judged = trials(self._judged)
        precision, alpha = climb(self.alphas, alpha, partial(judged.precision, kernel))
        if not precision > judged.start() + WORTH:
            return None
        alphas, self._judged_change = judged.by_label(kernel, alpha, self.alphas)
        return Choice(kernel, alphas)

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
        """The step of a gradient [n, q+1], by the rows and the largest λ; the intercept's is the gradient itself.

        In white coordinates it is g(ΨᵀΨ/m + λ)⁻¹ = (g − gΨᵀ(K + mλ)⁻¹Ψ)/λ.
        """
        kernel, solved = self._kernel, torch.zeros_like(gradient)
        white = kernel.whiten(gradient[:, : len(kernel.units)])
        within = (white @ kernel.white.T) @ self._ridge.inverse @ kernel.white
        step = kernel.unwhiten(white - within) * len(kernel.table) / self._ridge.penalty
        solved[:, : step.shape[1]], solved[:, -1] = step, gradient[:, -1]
        return solved

    def _gradient(self, task: LayerwiseTask, sums: EpochSums) -> tuple[Tensor, Tensor]:
        """F_k's gradient [n, q+1], zero at units out of use, and the penalised squared norm of each label [n]."""
        n_units = len(self._kernel.units)
        white = task.active.detach()[:, :n_units] @ self._kernel.factor
        gradient = sums.gradient.to(white)
        gradient[:, :n_units] += task.objective.regularization[:, None] * (white @ self._kernel.factor.T)
        gradient[:, n_units:-1] = 0
        return gradient, white.square().sum(1)

    def certify(self, task: LayerwiseTask, sums: EpochSums, epoch: int) -> Certificate | None:
        """The certificate of F_k with the norm of the function that the units make, and none of the intercept.

        The gradient's norm is the one in white coordinates. Centred features leave the intercept a curvature of 1.
        """
        if self.is_finished:
            return super().certify(task, sums, epoch)
        if self._direct is not None:
            norm, length = self._direct
        else:
            gradient, norm = self._gradient(task, sums)
            length = self._kernel.whiten(gradient[:, : len(self._kernel.units)]).double().norm(dim=1)
        length = torch.hypot(length, sums.gradient[:, -1])
        penalty = task.objective.regularization.double()
        return Certificate(sums.terms + penalty / 2 * norm, length, penalty.clamp(max=1.0))

    @torch.no_grad()
    def step(self, task: LayerwiseTask, sums: EpochSums, epoch: int) -> None:
        """Takes a step with the full gradient."""
        self._direct = None
        task.active.grad = self._gradient(task, sums)[0]
        task.optimizers().step()  # type: ignore[union-attr]
        task.active.grad = None


def solve_accurately(gram: Tensor, residual: Tensor, alpha: float) -> tuple[FoldRidge, tuple[Tensor, Tensor, Tensor]]:
    """The ridge of an alpha, and what its `solve` returns; ten times the alpha where rounding leaves it inaccurate."""
    ridge = FoldRidge(gram, alpha)
    duals, norm, length = ridge.solve(residual)
    least = ACCURACY * ridge.penalty * float(residual.double().square().sum())
    if not float(length.square().sum()) <= least and alpha < 1e6:
        return solve_accurately(gram, residual, 10 * alpha)
    return ridge, (duals, norm, length)
