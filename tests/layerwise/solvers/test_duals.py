"""Kernel machines with a unit around each pair: in the pairs' coefficients as in white features."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import Table, hide, network, stream
from torch import Tensor

from hierlit.layerwise import BlockProblem, Folds, LabelLoss, LogisticLoss, MarginLoss, Pass, SquaredLoss, Stopping
from hierlit.layerwise.gather import drawn_windows
from hierlit.layerwise.solve import cross_fit, solve
from hierlit.layerwise.solvers import ExactSolver, State
from hierlit.layerwise.solvers.duals import DualSolver, in_duals, is_dual
from hierlit.models import RadialFeatures
from hierlit.models.radial_units import Kernel


def opened(seed: int, loss: MarginLoss, missing: float = 0.0, n_locations: int = 1, n_units: int = 40) -> BlockProblem:
    """A block whose units are placed, in white features."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(40 // n_locations, n_locations, 3, dtype=torch.float64, generator=draw)
    noise = torch.randn(*x.shape[:2], 3, dtype=torch.float64, generator=draw)
    labels = hide((x * x.roll(1, -1) + 0.3 * noise).sign(), missing, seed)
    rows = Table(x, labels, batch_size=7)
    net = network(rows, 1, n_units, features=RadialFeatures()).double()
    cache = stream(net, rows, folds=Folds(4, len(x)))
    penalty = torch.tensor([1e-2, 1e-2, 3e-2], dtype=torch.float64)
    problem = BlockProblem(net.frozen_block(0), cache, LabelLoss(loss), penalty)
    problem.block.features.place(drawn_windows(problem, n_units), Kernel(1.0), None, 0.5)
    return problem


def fitted(problem: BlockProblem, solver: ExactSolver) -> tuple[Pass, list[Tensor]]:
    """The last pass of the fit to all rows, and settled weights of it and of those without a fold."""
    stopping, events = Stopping(relative_suboptimality=1e-12), []
    fits = solve(problem, solver, stopping)
    events.extend(fits)
    last = list(cross_fit(problem, solver, events[-1], stopping))[-1]
    settled = [problem.block.features.settled(weight.clone()) for weight in (last.state.weight, *last.by_fold)]
    return last, settled


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 2**16), st.sampled_from([SquaredLoss(), LogisticLoss()]), st.sampled_from([0.0, 0.3]))
@pytest.mark.parametrize("n_locations", [1, 4])
def test_it_finds_what_white_features_find(n_locations: int, seed: int, loss: MarginLoss, missing: float) -> None:
    white = opened(seed, loss, missing, n_locations)
    dual = in_duals(white)
    assert is_dual(dual)
    expected, weights = fitted(white, ExactSolver([]))
    found, own = fitted(dual, DualSolver([]))
    block, windows = (
        white.rows.net.block(0),
        torch.cat([white.rows.windows(each, white.block) for each in white.chunks()]),
    )
    for weight, other in zip(own, weights, strict=True):
        torch.testing.assert_close(block.change(windows, weight), block.change(windows, other), rtol=0, atol=1e-4)
    torch.testing.assert_close(found.certificate.objective, expected.certificate.objective, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("treatment", [LabelLoss(SquaredLoss()), LabelLoss(SquaredLoss(), -1.0, 0.5)])
@pytest.mark.parametrize("missing", [0.0, 0.6, 1.0])
def test_labels_that_are_missing_need_no_steps(missing: float, treatment: LabelLoss) -> None:
    dual = replace(in_duals(opened(0, SquaredLoss(), missing)), label_loss=treatment)
    for problem in (dual, dual.without(1)):
        (only,) = solve(problem, DualSolver([]), Stopping(relative_suboptimality=1e-9))
        assert only.certificate is not None and only.certificate.gradient_norm.max() < 1e-6


@pytest.mark.parametrize("fold", [None, 1])
def test_its_certificate_is_that_of_white_features_at_any_weight(fold: int | None) -> None:
    white = opened(0, SquaredLoss(), 0.2)
    windows, dual = drawn_windows(white, 40), in_duals(white)
    whole = torch.cat([white.block.features(windows), torch.ones(40, 1)], 1)
    white, dual = (each if fold is None else each.without(fold) for each in (white, dual))
    units = dual.pairs().units
    coefficients = torch.randn(3, len(units), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = []
    for solver, problem, weight in (
        (ExactSolver([]), white, coefficients @ whole[units]),
        (DualSolver([]), dual, dual.pairs().weight(coefficients)),
    ):
        state = State(weight, problem.penalty)
        found.append(solver.certify(problem, state, solver.visit(problem, state)))
    for part in ("objective", "gradient_norm", "modulus"):
        torch.testing.assert_close(*(getattr(each, part) for each in found), rtol=1e-6, atol=1e-7)


def test_units_of_a_part_of_the_pairs_stay_white() -> None:
    problem = opened(0, SquaredLoss(), n_units=39)
    assert in_duals(problem) is problem
