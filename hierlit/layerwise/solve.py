"""Solve one block: passes over its rows until the gradient is within the tolerance; and again without each fold."""

from __future__ import annotations

import time
import warnings
from collections.abc import Generator
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from hierlit.layerwise.solvers.base import Certificate, Solver, State
from hierlit.layerwise.stopping import Stopping

if TYPE_CHECKING:
    from hierlit.layerwise.problem import BlockProblem

NO_GAIN = "no gain"
"""Why a run ends whose solver sees nothing to gain from another block."""


class Pass(NamedTuple):
    """A pass over the rows that is done: the moment to save, to log, to be stopped.

    Attributes:
        block: Number of the block, from 0.
        state: What the solver remembers; the next pass starts from it.
        certificate: What is known of the weight that the pass was made at; None if the pass moved it.
        tolerance: ε of the block; NaN without a certificate.
        reason: Why the block ends here; None if it does not.
        seconds: Since the start of the block.
        by_fold: Weights [n, q+1] of the fits without fold 0, 1, …, as far as they are done; see `cross_fit`.
        fold_state: What the solver remembers of the fit without the next fold; None between two fits.
    """

    block: int
    state: State
    certificate: Certificate | None = None
    tolerance: float = float("nan")
    reason: str | None = None
    seconds: float = 0.0
    by_fold: tuple[Tensor, ...] = ()
    fold_state: State | None = None

    def ends_block(self, n_folds: int) -> bool:
        """Return whether nothing of the block is left to solve; `n_folds` is 0 where the rows have no folds."""
        return self.reason == NO_GAIN or (self.reason is not None and len(self.by_fold) == n_folds)

    def progress(self) -> dict[str, float]:
        """Return objective, gradient norm and tolerance, sums over labels; nothing without a certificate."""
        if self.certificate is None:
            return {}
        objective, norm = float(self.certificate.objective.sum()), float(self.certificate.gradient_norm.norm())
        return {"objective": objective, "gradient_norm": norm, "gradient_tolerance": self.tolerance}


def solve(
    problem: BlockProblem,
    solver: Solver,
    stopping: Stopping,
    resume_after: Pass | None = None,
    start: float | None = None,
) -> Generator[Pass, None, Pass]:
    """Minimise F_k until the norm of its full gradient is within the tolerance.

    Args:
        problem: The block.
        solver: Minimises it.
        stopping: The tolerance.
        resume_after: A pass of this block; None to start.
        start: Time at which the block began, of `time.perf_counter`; now when None.

    Yields:
        Each pass, and returns the last.
    """
    start = time.perf_counter() if start is None else start
    if resume_after is not None:
        problem = problem.with_penalty(resume_after.state.penalty)
    last = resume_after or Pass(problem.block.index, solver.start(problem))
    state = last.state
    while last.reason is None:
        evaluation = solver.visit(problem, state)
        certificate = solver.certify(problem, state, evaluation)
        tolerance, reason = float("nan"), None
        if certificate is not None:
            tolerance = stopping.tolerance(problem, certificate)
            reason = stopping.reason(problem, certificate, state.passes + 1)
        if reason is None:
            solver.step(problem, state, evaluation)
        state.passes += 1
        last = Pass(last.block, state, certificate, tolerance, reason, time.perf_counter() - start)
        yield last
    return last


def cross_fit(problem: BlockProblem, solver: Solver, last: Pass, stopping: Stopping) -> Generator[Pass, None, Pass]:
    """Solve a block again without each fold of the rows, with the λ of the fit to all of them.

    Args:
        problem: The block.
        solver: Solved it.
        last: The last pass of the fit to all rows, perhaps with some of these weights, and the state of one more fit.
        stopping: The tolerance.

    Yields:
        After each pass of these fits, `last` with the weights found so far, and returns the last of them.
    """
    assert problem.rows.folds is not None
    whole, own = problem.with_penalty(last.state.penalty), solver.at_fixed_penalty()
    start = time.perf_counter() - last.seconds
    for fold in range(len(last.by_fold), problem.rows.folds.number):
        under_way = None if last.fold_state is None else Pass(last.block, last.fold_state)
        for fit in solve(whole.without(fold), own, stopping, under_way):
            if fit.reason == "max epochs" and problem.processes.rank == 0:
                text = f"block {last.block + 1} stopped at max epochs in its fit without fold {fold + 1}"
                warnings.warn(text, stacklevel=2)
            is_done = fit.reason is not None
            by_fold = (*last.by_fold, fit.state.weight.to(problem.penalty)) if is_done else last.by_fold
            fold_state = None if is_done else fit.state
            last = last._replace(by_fold=by_fold, fold_state=fold_state, seconds=time.perf_counter() - start)
            yield last
    return last
