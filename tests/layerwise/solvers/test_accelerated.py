import math
from collections.abc import Callable

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from torch import Tensor

from hierlit.layerwise.solvers.accelerated import accelerate, full_gradient
from hierlit.layerwise.solvers.base import State

Gradient = Callable[[Tensor], Tensor]


def state_at(point: Tensor, penalty: float = 0.0) -> State:
    return State(point.clone(), torch.full((len(point),), penalty).to(point))


def minimise(
    gradient: Gradient,
    start: Tensor,
    n_steps: int,
    step: float,
    strong_convexity: float,
    precondition: Gradient | None = None,
) -> Tensor:
    """The iterate after a number of steps; `gradient` maps the rows of a point to the rows of its gradient."""
    state = state_at(start)
    for _ in range(n_steps):
        slope = gradient(state.weight)
        direction = None if precondition is None else precondition(slope)
        accelerate(state, slope, step, strong_convexity, direction)
    assert state.steps == n_steps
    return state.extra["iterate"]


def quadratic(seed: int, size: int, condition: float) -> tuple[np.ndarray, np.ndarray]:
    """A random matrix with eigenvalues from 1 to `condition`, and two right-hand sides."""
    draw = np.random.default_rng(seed)
    vectors = np.linalg.qr(draw.standard_normal((size, size)))[0]
    return (vectors * np.geomspace(1, condition, size)) @ vectors.T, draw.standard_normal((2, size))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(2, 12), st.floats(1, 1e3))
def test_a_strongly_convex_quadratic_is_minimised_at_the_accelerated_rate(
    seed: int, size: int, condition: float
) -> None:
    matrix, right = quadratic(seed, size, condition)
    hessian, slope = torch.from_numpy(matrix), torch.from_numpy(right)
    # Nesterov's rate (1 − 1/√κ)^t on F − min F would ask for √κ·log(1e18) steps; measured: 0.53 of that
    n_steps = math.ceil(0.6 * math.sqrt(condition) * math.log(1e18)) + 20
    found = minimise(lambda x: x @ hessian - slope, torch.zeros(2, size).double(), n_steps, 1 / condition, 1.0)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, right.T).T, rtol=0, atol=1e-8 * np.abs(right).max())


def test_acceleration_beats_plain_gradient_steps_by_orders_of_magnitude() -> None:
    matrix, right = quadratic(0, 10, 1e4)
    hessian, slope = torch.from_numpy(matrix), torch.from_numpy(right)
    exact = torch.from_numpy(np.linalg.solve(matrix, right.T).T)
    found = minimise(lambda x: x @ hessian - slope, torch.zeros(2, 10).double(), 2000, 1e-4, 1.0)
    plain = torch.zeros(2, 10).double()
    for _ in range(2000):
        plain = plain - 1e-4 * (plain @ hessian - slope)
    assert float((found - exact).norm()) < 1e-6 * float((plain - exact).norm())


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10_000), st.floats(1e-2, 1))
def test_a_penalised_logistic_loss_is_minimised_as_by_scipy(seed: int, penalty: float) -> None:
    draw = np.random.default_rng(seed)
    rows, signs = draw.standard_normal((30, 4)), draw.choice([-1.0, 1.0], 30)

    def gradient(x: np.ndarray) -> np.ndarray:
        return -(signs / (1 + np.exp(signs * (rows @ x)))) @ rows / 30 + penalty * x

    reference = optimize.root(gradient, np.zeros(4), tol=1e-14).x
    lipschitz = np.linalg.eigvalsh(rows.T @ rows / 30)[-1] / 4 + penalty
    found = minimise(
        lambda x: torch.from_numpy(gradient(x[0].numpy()))[None],
        torch.zeros(1, 4).double(),
        500,
        1 / lipschitz,
        penalty,
    )
    np.testing.assert_allclose(found[0], reference, rtol=0, atol=1e-8 * max(1, np.abs(reference).max()))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 60), st.sampled_from([0.0, 0.01, 1.0]))
def test_rows_are_independent_problems(seed: int, n_steps: int, strong_convexity: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    diagonal = 10 ** (2 * torch.rand(3, 5, generator=draw))
    target, start = torch.randn(3, 5, generator=draw), torch.randn(3, 5, generator=draw)
    together = minimise(lambda x: diagonal * (x - target), start, n_steps, 0.01, strong_convexity)
    for row in range(3):
        own = slice(row, row + 1)
        alone = minimise(
            lambda x, own=own: diagonal[own] * (x - target[own]), start[own], n_steps, 0.01, strong_convexity
        )
        assert torch.equal(together[own], alone)


def test_the_first_step_is_a_plain_gradient_step() -> None:
    state = state_at(torch.tensor([[1.0, -2.0]]))
    accelerate(state, torch.tensor([[4.0, 2.0]]), 0.25, 0.1)
    assert torch.equal(state.weight, torch.tensor([[0.0, -2.5]]))
    assert torch.equal(state.extra["iterate"], state.weight)


def test_where_the_gradient_is_zero_the_point_stays() -> None:
    state = state_at(torch.ones(2, 2))
    for _ in range(3):
        accelerate(state, torch.zeros(2, 2), 0.1)
    assert torch.equal(state.weight, torch.ones(2, 2))


def test_in_the_metric_of_its_hessian_a_quadratic_of_any_condition_is_minimised_in_one_step() -> None:
    matrix, right = quadratic(0, 10, 1e6)
    hessian, slope = torch.from_numpy(matrix), torch.from_numpy(right)
    inverse = torch.from_numpy(np.linalg.inv(matrix))
    start = torch.zeros(2, 10).double()
    for n_steps in (1, 5):
        found = minimise(lambda x: x @ hessian - slope, start, n_steps, 1.0, 0.0, lambda g: g @ inverse)
        np.testing.assert_allclose(found, np.linalg.solve(matrix, right.T).T, rtol=0, atol=1e-8 * np.abs(right).max())


def test_what_it_remembers_is_all_it_needs() -> None:
    matrix, right = quadratic(3, 6, 100.0)
    hessian, slope = torch.from_numpy(matrix), torch.from_numpy(right)
    whole = state_at(torch.zeros(2, 6).double())
    for _ in range(9):
        parts = State(whole.weight.clone(), whole.penalty.clone(), whole.passes, whole.steps, dict(whole.extra))
        parts.extra = {name: value.clone() for name, value in whole.extra.items()}
        for state in (whole, parts):
            accelerate(state, state.weight @ hessian - slope, 0.01, 1.0)
        assert torch.equal(whole.weight, parts.weight)


def test_the_full_gradient_has_the_penaltys_part_in_the_precision_of_the_weight() -> None:
    state = State(torch.tensor([[1.0, -2.0], [3.0, 4.0]]), torch.tensor([0.5, 2.0]))
    found = full_gradient(state, torch.ones(2, 2, dtype=torch.float64))
    assert torch.equal(found, torch.tensor([[1.5, 0.0], [7.0, 9.0]]))


def test_strong_convexity_caps_the_momentum_at_nothing_where_plain_steps_are_best() -> None:
    slope, start = torch.tensor([[3.0, 1.0, -2.0]]), torch.tensor([[1.0, -2.0, 0.5]])
    plain = start
    for _ in range(5):
        plain = plain - 0.25 * (plain - slope)
    assert torch.equal(minimise(lambda x: x - slope, start, 5, 0.25, 4.0), plain)
    assert not torch.equal(minimise(lambda x: x - slope, start, 5, 0.25, 1.0), plain)
