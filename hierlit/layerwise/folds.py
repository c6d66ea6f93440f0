"""Cross-fitting: rows go on to the next block with the scores of fits that left them out (ours)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierlit.draws import Draws
from hierlit.layerwise.solve import solve

if TYPE_CHECKING:
    from hierlit.layerwise.problem import BlockProblem
    from hierlit.layerwise.solvers.base import Solver, State
    from hierlit.layerwise.stopping import Stopping


@dataclass(frozen=True)
class Folds:
    """Folds of the training rows, drawn at random, whatever the number of processes.

    A block's scores are better on the rows that it was fitted to than on others, and a later block would trust them too
    much. With folds, a row that is fitted goes on with the scores of a fit to the other folds, and any other row with
    those of the fit to all.

    Args:
        number: Folds K, 2 or more.
        n_rows: Rows of the training table.
        seed: Seed of the draw.
    """

    number: int
    n_rows: int
    seed: int = 0

    def of(self, rows: Tensor) -> Tensor:
        """The fold of each of some rows of the training table, [B]."""
        order = torch.from_numpy(Draws(self.seed, "folds").permutation(self.n_rows))
        return (order % self.number)[rows.cpu()]


def cross_fit(problem: BlockProblem, solver: Solver, state: State, stopping: Stopping) -> Tensor:
    """The weights [K, n, q+1] of fits without one fold each, with the λ of the fit to all rows."""
    assert problem.rows.folds is not None
    whole, own = problem.with_penalty(state.penalty), solver.at_fixed_penalty()
    weights = []
    for fold in range(problem.rows.folds.number):
        *_, last = solve(whole.without(fold), own, stopping)
        weights.append(last.state.weight)
    return torch.stack(weights)
