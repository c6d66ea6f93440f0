"""Kernels of random neurons: k(x, y) = E[σ(w·x + b)σ(w·y + b)] for the β-Xavier draw, by degree.

Closed forms: ReLU's is the arc-cosine kernel of degree 1 (Cho and Saul, "Kernel methods for deep learning", NeurIPS
2009), erf's the arcsine kernel (Williams, "Computing with infinite networks", NeurIPS 1996), that of cosines of uniform
phase the Gaussian kernel (Rahimi and Recht, "Random features for large-scale kernel machines", NeurIPS 2007). Elsewhere
the kernel is Mehler's: E[σ(u)σ(v)] = Σ a_i²ρ^i for unit normals u, v of correlation ρ and Hermite coefficients a_i.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from hierlit.models.checks import one_of, raise_problems
from hierlit.models.random_features import ACTIVATIONS

Array = NDArray[np.float64]
DEGREES = 200
"""Hermite coefficients that are taken."""
REACH, NODES = 14.0, 600
"""Half-width of the interval that stands for the line under N(0, 1), and nodes on either side of the kink at 0."""


def checked(activation: str, beta: float = 0.0) -> str:
    """Return an activation's name.

    Raises:
        ValueError: If it is unknown, or β is not in [0, 1).
    """
    beta_problems = [] if 0 <= beta < 1 else [f"beta must be in [0, 1), got {beta}"]
    raise_problems(one_of(tuple(ACTIVATIONS), activation=activation) + beta_problems)
    return activation


def read_only(array: Array) -> Array:
    """Return the same array, which many callers will share."""
    array.setflags(write=False)
    return array


@cache
def quadrature() -> tuple[Array, Array]:
    """Nodes and weights of N(0, 1), Gauss–Legendre on either side of 0, where activations may have a kink."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    right = REACH / 2 * (nodes + 1)
    at = np.concatenate([-right[::-1], right])
    both = REACH / 2 * np.concatenate([weights[::-1], weights])
    return read_only(at), read_only(both * np.exp(-at * at / 2) / math.sqrt(2 * math.pi))


def activation_values(activation: str, at: Array) -> Array:
    """σ at points, in double precision."""
    values: Array = ACTIVATIONS[checked(activation)](torch.tensor(at)).numpy()
    return values


def moment(activation: str, power: int = 2) -> float:
    """E[σ(t)^power] for t ~ N(0, 1). The kernel is valid if it is finite for power 2, as for every σ of hierlit."""
    at, weights = quadrature()
    return float(weights @ activation_values(activation, at) ** power)


@cache
def hermite_coefficients(activation: str, n: int = DEGREES) -> Array:
    """a_0..a_n of σ(t) = Σ a_i h_i(t), h_i the normalised Hermite polynomials: E[σ(t)·h_i(t)], by quadrature."""
    at, weights = quadrature()
    weighted = weights * activation_values(activation, at)
    previous, current = np.zeros_like(at), np.ones_like(at)
    found = []
    for degree in range(n + 1):
        found.append(float(weighted @ current))
        previous, current = current, (at * current - math.sqrt(degree) * previous) / math.sqrt(degree + 1)
    return read_only(np.array(found))


@dataclass(frozen=True)
class KernelExpansion:
    """k = Σ_j κ_j s^j in s = ⟨x, y⟩/fan_in, for windows of square norm fan_in.

    Attributes:
        by_degree: κ_0, κ_1, …; what is missing of `total` lies at higher degrees.
        total: k at s = 1, E[σ²].
    """

    by_degree: Array
    total: float

    @property
    def shares(self) -> Array:
        """κ_j/E[σ²], the share of each degree."""
        return self.by_degree / self.total

    @property
    def effective_degree(self) -> float:
        """Mean degree, by share, of what depends on the input (ours); degrees beyond those taken count as the last."""
        rest = max(0.0, self.total - float(self.by_degree.sum()))
        weights = np.append(self.by_degree[1:], rest)
        degrees = np.append(np.arange(1, len(self.by_degree)), len(self.by_degree))
        return float(weights @ degrees / weights.sum())


@cache
def expansion(activation: str, beta: float, bias: str = "gaussian", n: int = DEGREES) -> KernelExpansion:
    """Return the kernel by degree: Σ a_i²ρ^i with ρ = (1−β²)s + β², multiplied out.

    Args:
        activation: σ, a key of `ACTIVATIONS`.
        beta: β in [0, 1).
        bias: `gaussian`, or `uniform_phase` with cos: then k = ½·exp(−(1−β²)(1−s)), a Gaussian kernel.
        n: Degrees taken.

    Raises:
        ValueError: If an argument is out of range.
    """
    checked(activation, beta)
    if bias == "uniform_phase" and activation == "cos":
        scale = 1 - beta**2
        factors = np.cumprod(np.append(1.0, scale / np.arange(1, n + 1)))
        return KernelExpansion(read_only(0.5 * math.exp(-scale) * factors), 0.5)
    if bias != "gaussian":
        raise ValueError(f"bias must be gaussian, or uniform_phase with cos, got {bias!r} with {activation!r}")
    squares = hermite_coefficients(activation, n) ** 2
    power, total = np.ones(1), np.zeros(n + 1)
    for square in squares:
        total[: len(power)] += square * power
        power = np.convolve(power, [beta**2, 1 - beta**2])
    return KernelExpansion(read_only(total), moment(activation))


def kernel(activation: str, beta: float, inner: ArrayLike, bias: str = "gaussian") -> Array:
    """Kernel at s = ⟨x, y⟩/fan_in in [−1, 1]: arc-cosine and arcsine kernels for relu and erf, else the series."""
    s = np.asarray(inner, dtype=float)
    rho = np.clip((1 - beta**2) * s + beta**2, -1, 1)
    if bias == "gaussian" and checked(activation, beta) == "relu":
        angle = np.arccos(rho)
        return np.asarray((np.sin(angle) + (math.pi - angle) * rho) / (2 * math.pi))
    if bias == "gaussian" and activation == "erf":
        return np.asarray(2 / math.pi * np.arcsin(2 * rho / 3))
    if bias == "gaussian":
        return np.asarray(np.polynomial.polynomial.polyval(rho, hermite_coefficients(activation) ** 2))
    return np.asarray(np.polynomial.polynomial.polyval(s, expansion(activation, beta, bias).by_degree))


def kernel_matrix(inputs: ArrayLike, activation: str, beta: float, bias: str = "gaussian") -> Array:
    """K of all pairs of windows [N, fan_in], each scaled to square norm fan_in; [N, N].

    Raises:
        ValueError: If a window is zero, or arguments are out of range.
    """
    rows = np.asarray(inputs, dtype=float)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not norms.all():
        raise ValueError(f"inputs must have no row of zeros, got one at row {int(norms.argmin())}")
    unit = rows / norms
    return kernel(activation, beta, unit @ unit.T, bias)


def width_for_error(activation: str, error: float, failure: float = 0.05, n_pairs: int = 1) -> int:
    """Features q after which the mean of σσ' is within `error` of k at each of n_pairs pairs, with chance 1 − failure.

    By Chebyshev's inequality and a union over the pairs (ours): the variance of a product is at most E[σ⁴], so
    q = n_pairs·E[σ⁴]/(failure·error²).
    """
    if not error > 0 or not 0 < failure < 1:
        raise ValueError(f"error must be positive and failure in (0, 1), got {error} and {failure}")
    return math.ceil(n_pairs * moment(activation, 4) / (failure * error**2))
