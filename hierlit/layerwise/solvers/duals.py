"""Kernel machines with a unit around each pair, solved for the pairs' own coefficients: nothing is whitened (ours)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierlit.layerwise.gather import first_rows
from hierlit.layerwise.solvers.accelerated import full_gradient
from hierlit.layerwise.solvers.base import Certificate, State
from hierlit.layerwise.solvers.exact import ExactSolver, own_penalties
from hierlit.layerwise.solvers.ridge import RidgePath
from hierlit.models.radial_units import DualUnits, RadialUnits

if TYPE_CHECKING:
    from hierlit.layerwise.pairs import Pairs
    from hierlit.layerwise.problem import BlockProblem, Evaluation

STEPS_COST = 60.0
"""Operations in all steps of a label, over P²: labels have no factors of their own that take more. Measured: at 44 P²
(617 labels seen at 27% of 6,900 pairs) such factors took a third of the steps' time, at 100 P² (499, half of 2,476)
more than they."""
FLOAT32_STEPS = 10
"""Steps after which the metric's factors are float64: tox21, a sixth of whose labels are missing, takes seven."""


class DualSolver(ExactSolver):
    """Solve blocks of `DualUnits` by the products of all pairs, and others from sums over them as `ExactSolver` does.

    A weight combines the pairs' white features by coefficients D, and so does a gradient: of F_k at D it is
    ℓ'/m + λD, and ‖g‖² = g(K + 1)gᵀ. Gradients are kept as such combinations, with the sum of their coefficients last.
    """

    def resume(self, problem: BlockProblem) -> BlockProblem:
        """Return a block that is open already in the coordinates that it is solved in."""
        return in_duals(problem)

    def path(self, problem: BlockProblem) -> RidgePath:
        """Return the factors of the labels' λ."""
        return DualPath(problem) if is_dual(problem) else super().path(problem)

    def metric(self, problem: BlockProblem, state: State) -> RidgePath:
        """Return the factors of the metric of a step: of float64 after some steps.

        Those of float32 may lie below G + λ, where rows are alike for example: steps then lead away.
        """
        if not is_dual(problem) or state.steps < FLOAT32_STEPS:
            return super().metric(problem, state)
        return problem.keep("metric", lambda: DualPath(problem, torch.float64))  # type: ignore[no-any-return]

    def start(self, problem: BlockProblem) -> State:
        """Return the ridge solution; coefficients of pairs are float64."""
        state = super().start(problem)
        return replace(state, weight=state.weight.double()) if is_dual(problem) else state

    def visit(self, problem: BlockProblem, state: State) -> Evaluation:
        """Evaluate F_k at the weight."""
        if is_dual(problem):
            return problem.evaluate_duals(state.weight, state.penalty, state.passes)
        return super().visit(problem, state)

    def certify(self, problem: BlockProblem, state: State, at: Evaluation) -> Certificate | None:
        """Return the certificate of the weight."""
        if not is_dual(problem):
            return super().certify(problem, state, at)
        gradient = full_gradient(state, at.gradient)
        squared = (gradient * problem.pairs().metric(gradient)).sum(1)
        return Certificate(at.terms, squared.clamp(min=0).sqrt(), state.penalty.double())

    def steepness(self, problem: BlockProblem, gradient: Tensor) -> Tensor:
        """Return the gradient [n, q+1] as what a change of the weight is multiplied by."""
        return problem.pairs().metric(gradient) if is_dual(problem) else gradient


class DualPath(RidgePath):
    """Ridge solutions and steps as weights of `DualUnits`.

    Args:
        problem: The problem, whose labels have their λ.
        dtype: Of the factors; that of the pairs' products when None.
    """

    def __init__(self, problem: BlockProblem, dtype: torch.dtype | None = None) -> None:
        self.pairs: Pairs = problem.pairs()
        self.wanted, self.counts = self.pairs.residual(problem.loss)
        cross = (self.wanted * self.counts).T / len(self.wanted)
        super().__init__(self.pairs.gram.to(dtype or self.pairs.gram.dtype), cross, own_penalties(problem))

    def minimisers(self, index: Tensor) -> Tensor:
        """Return the minimisers [n, q+1], row j with the penalty number `index[j]`.

        Labels that are not observed everywhere have them by factors of their own, which those share that are observed
        at the same pairs. Where such factors would cost more than steps, they have those for residuals of 0 where they
        are not observed: there steps start.
        """
        duals = super().solve(self.cross, index)
        partly = (self.counts != 1).any(0).nonzero()[:, 0]
        alike = torch.cat([self.counts[:, partly], index[None, partly].to(self.counts)])
        kinds, kind = torch.unique(alike, dim=1, return_inverse=True)
        cost = float((kinds[:-1] > 0).sum(0).double().pow(3).sum()) / 3
        if cost < STEPS_COST * len(self.counts) ** 2 * len(partly):
            for number in range(kinds.shape[1]):
                self._solve_alike(duals, partly[kind == number], index)
        return self.pairs.weight(duals)

    def _solve_alike(self, duals: Tensor, labels: Tensor, index: Tensor) -> None:
        """Write the coefficients of labels [n'] of one λ that are observed at the same pairs to all of them [n, P]."""
        counts = self.counts[:, labels[0]]
        seen = counts.nonzero()[:, 0]
        root = counts[seen].sqrt()
        gram = self.gram[seen[:, None], seen].mul_(root).mul_(root[:, None])
        cross = self.wanted[seen[:, None], labels].mul_(root[:, None]).T / len(self.wanted)
        path = RidgePath(gram, cross, [float(self.penalties[index[labels[0]]])])
        duals[labels] = 0
        duals[labels[:, None], seen] = path.minimisers(index.new_zeros(len(labels))).mul_(root)

    def solve(self, gradient: Tensor, index: Tensor) -> Tensor:
        """Return the step [n, q+1] of a gradient [n, q+1], row j with the penalty number `index[j]`."""
        return self.pairs.weight(super().solve(gradient[:, self.pairs.units], index))


def is_dual(problem: BlockProblem) -> bool:
    """Return whether a block is solved for the coefficients of pairs."""
    return isinstance(problem.block.features, DualUnits)


def in_duals(problem: BlockProblem) -> BlockProblem:
    """Return a block in the coordinates of `DualUnits` where each row has units at all its locations, else as it is."""
    units = problem.rows.net.block(problem.block.index).features
    n_places = first_rows(problem)[1] * problem.rows.net.n_locations
    if not isinstance(units, RadialUnits) or units.are_cosines or not units.n_features == n_places == problem.n_pairs:
        return problem
    return replace(problem, block=problem.block._replace(features=DualUnits(units)))
