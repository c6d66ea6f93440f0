"""Kernels of random neurons against closed forms and simulation."""

import math

import numpy as np
import pytest
import torch

from hierlit.models import GaussianFeatures, RandomFeatures
from hierlit.models.random_features import ACTIVATIONS
from hierlit.theory import expansion, hermite_coefficients, kernel, kernel_matrix, moment, width_for_error
from hierlit.theory.kernel import checked

INNER = np.linspace(-1, 1, 9)


def pairs(inner: float, fan_in: int = 6) -> torch.Tensor:
    """Two windows of square norm fan_in whose inner product is inner·fan_in."""
    first = torch.zeros(fan_in)
    first[0] = math.sqrt(fan_in)
    second = torch.zeros(fan_in)
    second[0], second[1] = inner * math.sqrt(fan_in), math.sqrt(fan_in * (1 - inner**2))
    return torch.stack([first, second])


def features_of(activation: str, beta: float, q: int, seed: int = 0, bias: str = "gaussian") -> RandomFeatures:
    spec = GaussianFeatures(beta, activation, bias)
    return spec.first_layer(6, q, torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_kernels_are_the_means_over_neurons(activation: str, beta: float) -> None:
    for inner in (-0.8, 0.0, 0.6):
        seen = features_of(activation, beta, 400_000)(pairs(inner).double())
        products = (seen[0] * seen[1]).numpy()
        error = products.std() / math.sqrt(len(products))
        assert float(kernel(activation, beta, inner)) == pytest.approx(products.mean(), abs=5 * error)


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.8])
def test_kernels_with_closed_forms(beta: float) -> None:
    rho = (1 - beta**2) * INNER + beta**2
    angle = np.arccos(rho)
    arc_cosine = (np.sin(angle) + (math.pi - angle) * rho) / (2 * math.pi)
    arc_sine = 2 / math.pi * np.arcsin(2 * rho / 3)
    cosine = np.exp(-1.0) * np.cosh(rho)  # E[cos u cos v] for unit normals of correlation rho
    for activation, expected in (("relu", arc_cosine), ("erf", arc_sine), ("cos", cosine)):
        series = np.polynomial.polynomial.polyval(INNER, expansion(activation, beta).by_degree)
        assert series == pytest.approx(expected, abs=1e-3)
        assert kernel(activation, beta, INNER) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_kernels_are_those_of_monte_carlo_to_a_thousandth(activation: str, beta: float) -> None:
    uniform = torch.quasirandom.SobolEngine(2, scramble=True, seed=0).draw(2**18, dtype=torch.float64)
    one, other = torch.special.ndtri(uniform.clamp(1e-12, 1 - 1e-12)).T
    for inner in INNER:
        rho = (1 - beta**2) * inner + beta**2
        pair = (one, rho * one + math.sqrt(max(0.0, 1 - rho**2)) * other)
        first, second = (ACTIVATIONS[activation](normal.clone()) for normal in pair)
        assert float(kernel(activation, beta, inner)) == pytest.approx(float((first * second).mean()), abs=1e-3)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_coefficients_are_those_of_monte_carlo_to_a_thousandth(activation: str) -> None:
    n = 1_000_000
    strata = (np.arange(n) + np.random.default_rng(0).uniform(size=n)) / n
    t = torch.special.ndtri(torch.tensor(strata)).numpy()
    values = ACTIVATIONS[activation](torch.tensor(t)).numpy()
    hermite = [t**0, t, (t**2 - 1) / math.sqrt(2), (t**3 - 3 * t) / math.sqrt(6), (t**4 - 6 * t**2 + 3) / math.sqrt(24)]
    simulated = [float((values * h).mean()) for h in hermite]
    assert hermite_coefficients(activation)[:5] == pytest.approx(simulated, abs=1e-3)


def test_quadrature_finds_the_coefficients_with_closed_forms() -> None:
    # relu: 1/√(2π), ½, and (−1)^{i/2−1}(i−3)!!/√(2π i!) at even i ≥ 2
    relu = [1 / math.sqrt(2 * math.pi), 0.5, 1 / math.sqrt(4 * math.pi)]
    for i in range(3, 61):
        relu.append(0.0 if i % 2 else -relu[i - 2] * (i - 3) / math.sqrt(i * (i - 1)))
    # erf: their squares are the series of (2/π)·arcsin(2ρ/3)
    squares = [math.comb(2 * j, j) / 4**j / (2 * j + 1) * (2 / 3) ** (2 * j + 1) * 2 / math.pi for j in range(30)]
    erf = [0.0 if i % 2 == 0 else (-1) ** (i // 2) * math.sqrt(squares[i // 2]) for i in range(60)]
    assert hermite_coefficients("relu", 60) == pytest.approx(relu, abs=1e-12)
    assert hermite_coefficients("erf", 59) == pytest.approx(erf, abs=1e-12)
    # cos(t) = Σ_j (−1)^j e^(−1/2)/√(2j)! h_2j(t)
    cosine = [0.0 if i % 2 else (-1) ** (i // 2) * math.exp(-0.5) / math.sqrt(math.factorial(i)) for i in range(61)]
    assert hermite_coefficients("cos", 60) == pytest.approx(cosine, abs=1e-9)


def test_what_callers_share_cannot_be_changed() -> None:
    for shared in (hermite_coefficients("relu"), hermite_coefficients("tanh"), expansion("relu", 0.5).by_degree):
        with pytest.raises(ValueError, match="read-only"):
            shared[0] = 1.0


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_squares_of_the_coefficients_add_up_to_the_second_moment(activation: str) -> None:
    total = float((hermite_coefficients(activation) ** 2).sum())
    assert total == pytest.approx(moment(activation), abs=1e-3)
    assert expansion(activation, 0.4).by_degree.sum() == pytest.approx(total, rel=1e-9)
    draw = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(ACTIVATIONS[activation](draw).square().mean()) == pytest.approx(moment(activation), rel=1e-2)


def test_random_phases_make_the_gaussian_kernel() -> None:
    for inner in (-0.5, 0.3):
        seen = features_of("cos", 0.6, 400_000, bias="uniform_phase")(pairs(inner).double())
        assert float(kernel("cos", 0.6, inner, "uniform_phase")) == pytest.approx(
            float((seen[0] * seen[1]).mean()), abs=2e-3
        )
        assert float(kernel("cos", 0.6, inner, "uniform_phase")) == pytest.approx(0.5 * math.exp(-0.64 * (1 - inner)))


def test_shares_of_degree_three_of_relu_have_an_interior_optimum() -> None:
    """The figures of DESIGN.md."""
    shares = [float(expansion("relu", beta).shares[3]) for beta in (0.0, 0.3, 0.5, 0.7, 0.9)]
    assert shares == pytest.approx([0, 0.0036, 0.0062, 0.0052, 0.0015], abs=5e-5)
    degrees = [expansion("relu", beta).effective_degree for beta in (0.0, 0.3, 0.5, 0.7, 0.9)]
    assert degrees == sorted(degrees, reverse=True)


@pytest.mark.parametrize("activation", ["relu", pytest.param("softplus", marks=pytest.mark.slow)])
def test_the_empirical_kernel_converges_at_the_root_of_the_width(activation: str) -> None:
    windows = torch.nn.functional.normalize(torch.randn(20, 6, generator=torch.Generator().manual_seed(1)), dim=1)
    windows = windows.double() * math.sqrt(6)
    expected = kernel_matrix(windows.numpy(), activation, 0.5)
    widths, errors = [100, 400, 1600, 6400, 25600], []
    for q in widths:
        squares = []
        for seed in range(12):
            seen = features_of(activation, 0.5, q, seed)(windows).numpy()
            squares.append(float(((seen @ seen.T / q - expected) ** 2).mean()))
        errors.append(math.sqrt(np.mean(squares)))
    slope = np.polyfit(np.log(widths), np.log(errors), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.06)
    assert width_for_error(activation, errors[-1]) > widths[-1] * 0.5


def test_the_width_keeps_its_promise() -> None:
    q = width_for_error("relu", 0.05, failure=0.1)
    misses = 0
    for seed in range(100):
        seen = features_of("relu", 0.5, q, seed)(pairs(0.2).double())
        misses += abs(float((seen[0] * seen[1]).mean()) - float(kernel("relu", 0.5, 0.2))) > 0.05
    assert misses <= 10


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"activation must be one of relu, .*, got 'step'; beta must be in \[0, 1\), got 1"
    ):
        checked("step", 1.0)
    with pytest.raises(
        ValueError, match="bias must be gaussian, or uniform_phase with cos, got 'uniform_phase' with 'relu'"
    ):
        expansion("relu", 0.5, "uniform_phase")
    with pytest.raises(ValueError, match="error must be positive"):
        width_for_error("relu", 0.0)
    with pytest.raises(ValueError, match="inputs must have no row of zeros, got one at row 1"):
        kernel_matrix([[1.0, 2.0], [0.0, 0.0]], "relu", 0.5)
