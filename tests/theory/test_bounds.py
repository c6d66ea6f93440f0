"""The paper's bounds: depth, certificates, widths and samples."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import minimize

from hierlit.theory import (
    Polynomial,
    certificate,
    depth_bound,
    expansion,
    margin_growth_needed,
    meets_depth_bound,
    sample_scaling,
    width_scaling,
)


@pytest.mark.parametrize(
    ("r", "pairs", "xi", "gamma"), [(1, 1, 1.0, 0.5), (4, 25_600, 0.5, 1.0), (8, 10**7, 0.01, 2.5)]
)
def test_the_depth_is_the_formula(r: int, pairs: int, xi: float, gamma: float) -> None:
    depth = depth_bound(r, pairs, xi, gamma)
    assert depth == r * (math.ceil(math.log(8 * pairs / xi) / gamma) + 1)
    assert meets_depth_bound(depth - 1, r, pairs, xi, gamma)
    assert not meets_depth_bound(depth - 2, r, pairs, xi, gamma)


@pytest.mark.parametrize("n_blocks", [7, 20, 39])
def test_the_growth_that_a_depth_needs(n_blocks: int) -> None:
    gamma = margin_growth_needed(n_blocks, 4, 5000, 0.5)
    assert meets_depth_bound(n_blocks, 4, 5000, 0.5, gamma * (1 + 1e-9))
    assert not meets_depth_bound(n_blocks, 4, 5000, 0.5, gamma * 0.99)
    assert margin_growth_needed(3, 4, 5000, 0.5) == math.inf


def test_the_certificate_is_never_below_the_gap_of_a_thousand_problems() -> None:
    draw = np.random.default_rng(0)
    ratios = []
    for number in range(1000):
        n, p = int(draw.integers(5, 40)), int(draw.integers(1, 8))
        z, y = draw.standard_normal((n, p)), draw.choice([-1.0, 1.0], n)
        penalty = float(10 ** draw.uniform(-3, 0))

        if number % 2:

            def value(a, z=z, y=y, penalty=penalty):
                left = np.exp(-y * (z @ a))
                slope = -(z * (y * left / (1 + left))[:, None]).mean(0) + penalty * a
                return np.log1p(left).mean() + penalty / 2 * a @ a, slope

            best = minimize(value, np.zeros(p), jac=True, tol=1e-12).fun
        else:

            def value(a, z=z, y=y, penalty=penalty):
                left = z @ a - y
                return (left @ left) / (2 * len(y)) + penalty / 2 * a @ a, z.T @ left / len(y) + penalty * a

            best = value(np.linalg.solve(z.T @ z / n + penalty * np.eye(p), z.T @ y / n))[0]
        at, slope = value(draw.standard_normal(p))
        ratios.append(certificate(float(np.linalg.norm(slope)), penalty) / (at - best))
    assert min(ratios) >= 1 - 1e-9
    assert 1 < np.median(ratios) < 1e4


def test_widths_and_samples_scale_with_the_square_of_the_norm() -> None:
    kernel = expansion("relu", 0.5)
    xor = Polynomial([(0, 1)], np.ones(1))
    one, twice = (width_scaling(xor.scaled(factor), kernel, 9, 0.1) for factor in (1, 2))
    assert twice == pytest.approx(4 * one)
    assert width_scaling(xor, kernel, 9, 0.05) == pytest.approx(4 * one)
    assert sample_scaling(xor, kernel, 9, 0.1) == pytest.approx(one)
    # κ_2 s² holds 2κ_2/f² of every product of two coordinates
    assert one == pytest.approx(9**2 / (2 * kernel.by_degree[2]) * kernel.total / 0.01)


def test_a_degree_that_the_kernel_lacks_needs_infinite_width() -> None:
    assert width_scaling(Polynomial([(0, 1, 2)], np.ones(1)), expansion("relu", 0.0), 3, 0.1) == math.inf
    assert width_scaling(Polynomial([(0, 1, 2)], np.ones(1)), expansion("relu", 0.5), 3, 0.1) < math.inf


XOR, RELU = Polynomial([(0, 1)], np.ones(1)), expansion("relu", 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: depth_bound(0, 10, 1.5, -1.0),
            r"^n_levels must be positive, got 0; robustness must be in \(0, 1\], got 1.5; margin_growth must .* -1.0$",
        ),
        (lambda: margin_growth_needed(3, 0, 10, 0.5), "^n_levels must be positive, got 0$"),
        (lambda: margin_growth_needed(3, 1, 10, math.nan), r"^robustness must be in \(0, 1\], got nan$"),
        (lambda: certificate(1.0, 0.0), "^regularization must be positive, got 0.0$"),
        (lambda: width_scaling(XOR, RELU, 9, 0.0), "^error must be positive, got 0.0$"),
        (lambda: sample_scaling(XOR, RELU, 9, -1.0), "^error must be positive, got -1.0$"),
    ],
)
def test_wrong_arguments_are_named(call: Callable[[], float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
