"""The exact solver: one Cholesky factorisation of the Gram matrix a candidate, one regularisation per label."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierlit.layerwise.solvers.accelerated import accelerate, full_gradient
from hierlit.layerwise.solvers.base import Solver, State
from hierlit.layerwise.solvers.ridge import ALPHAS, RESOLUTION, RidgePath

if TYPE_CHECKING:
    from hierlit.layerwise.problem import BlockProblem, Evaluation

CHOICES = ("set_aside", "gcv")


class ExactSolver(Solver):
    """Solve F_k from sums taken in one pass over the rows, then certify it in another.

    For the squared loss with every label observed the ridge solution is the minimum, and the first pass shows it.
    For other losses, and where labels are missing, it is where the block starts, and ℓ''·G + λ, with G the Gram matrix
    of all rows, is above the Hessian everywhere: accelerated steps in that metric follow, one a pass, to the
    tolerance. Each label has its own λ_j, chosen for the squared loss and multiplied by the bound on ℓ''.

    Args:
        alphas: Candidates for λ_j, as multiples of the mean diagonal of G, raised to `RESOLUTION`, below which weights
            would depend on the order of summation; the problem's own λ when empty.
        choice: `set_aside` takes the candidate of least squared error on the set-aside rows (of least GCV score for a
            label that none of them observes), `gcv` that of least generalised cross-validation score.

    Raises:
        ValueError: If an alpha is not positive, or `choice` is not one of those.
    """

    def __init__(self, alphas: list[float] | None = None, choice: str = "set_aside") -> None:
        self.alphas = list(ALPHAS) if alphas is None else alphas
        if any(not alpha > 0 for alpha in self.alphas):
            raise ValueError(f"alphas must all be positive, got {self.alphas}")
        if choice not in CHOICES:
            raise ValueError(f"choice must be one of {', '.join(CHOICES)}, got {choice!r}")
        self.choice, self.reads_held_rows = choice, choice == "set_aside" and bool(self.alphas)

    def start(self, problem: BlockProblem) -> State:
        """Return the ridge solution, of each label with the λ chosen for it."""
        path = self._path(problem)
        chosen = self._choose(problem, path)
        if self.alphas:
            weight = path.weights[chosen, torch.arange(len(chosen), device=chosen.device)]
            penalty = (problem.loss.curvature * path.penalties[chosen]).to(problem.penalty)
        else:
            weight, penalty = path.minimisers(chosen), problem.penalty.clone()
        return State(weight.to(problem.penalty), penalty, extra={"chosen": chosen})

    def step(self, problem: BlockProblem, state: State, at: Evaluation) -> None:
        """Take an accelerated step with the full gradient, in the metric ℓ''·G + λ."""
        gradient = full_gradient(state, at.gradient)
        white = gradient / problem.loss.curvature
        direction = self.metric(problem, state).solve(white, state.extra["chosen"].to(white.device)).to(gradient)
        accelerate(state, self.steepness(problem, gradient), 1.0, direction=direction)

    def metric(self, problem: BlockProblem, state: State) -> RidgePath:
        """Return the factors of the metric of a step."""
        return self._path(problem)

    def steepness(self, problem: BlockProblem, gradient: Tensor) -> Tensor:
        """Return the gradient [n, q+1] as what a change of the weight is multiplied by."""
        return gradient

    def at_fixed_penalty(self) -> ExactSolver:
        """Return this solver without candidates."""
        plain = copy(self)
        plain.alphas, plain.reads_held_rows = [], False
        return plain

    def sum_dtype(self, problem: BlockProblem) -> torch.dtype | None:
        """Return what sums over rows and factors are computed in; the weights' own when None."""
        return torch.float64

    def path(self, problem: BlockProblem) -> RidgePath:
        """Return the candidates' factors; without candidates, those of the problem's own λ."""
        dtype = self.sum_dtype(problem)
        moments = problem.moments(dtype)
        gram = moments.gram.to(dtype or problem.penalty.dtype)
        if self.alphas:
            return RidgePath.of_alphas(gram, moments.cross, self.alphas, RESOLUTION[problem.penalty.dtype])
        return RidgePath(gram, moments.cross, own_penalties(problem))

    def _path(self, problem: BlockProblem) -> RidgePath:
        path: RidgePath = problem.keep((type(self), tuple(self.alphas)), lambda: self.path(problem))
        return path

    def _choose(self, problem: BlockProblem, path: RidgePath) -> Tensor:
        """Return each label's candidate [n]."""
        if not self.alphas:
            wanted = problem.penalty.double() / problem.loss.curvature
            return (path.penalties[:, None] - wanted).abs().argmin(0)
        if self.choice == "set_aside":
            errors = problem.held_errors(path.weights.to(problem.penalty))
            if (errors.observed > 0).all():
                return errors.after.argmin(0)
        by_gcv = path.gcv(problem.power, problem.n_pairs).argmin(0)
        return by_gcv if self.choice == "gcv" else errors.after.argmin(0).where(errors.observed > 0, by_gcv)


def own_penalties(problem: BlockProblem) -> list[float]:
    """Return the λ that a problem's labels have, for the squared loss."""
    return (problem.penalty.double() / problem.loss.curvature).unique().tolist()  # type: ignore[no-any-return, no-untyped-call]
