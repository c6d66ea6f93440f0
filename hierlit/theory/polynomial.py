"""Polynomials over {−1, 1}^k: multilinear extensions, and the polynomial threshold functions (PTFs) of least norm."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, linprog, lsq_linear

from hierlit.models.checks import one_of, raise_problems

Array = NDArray[np.float64]
NORMS = ("l2", "l1")


def cube(k: int) -> Array:
    """Return all of {−1, 1}^k, [2^k, k]: row Σ_j 2^j [coordinate j is 1]."""
    points: Array = 2 * (np.arange(2**k)[:, None] >> np.arange(k) & 1).astype(np.float64) - 1
    return points


def monomials(k: int, degree: int) -> list[tuple[int, ...]]:
    """Return the sets S of at most `degree` of k variables, by size; S stands for the monomial Π_{j∈S} z_j."""
    return [chosen for size in range(min(k, degree) + 1) for chosen in combinations(range(k), size)]


def monomial_values(points: Array, sets: list[tuple[int, ...]]) -> Array:
    """Values [N, len(sets)] of monomials at points [N, k]."""
    return np.stack([points[:, list(chosen)].prod(1) for chosen in sets], 1)


@dataclass(frozen=True)
class Polynomial:
    """p(z) = Σ_S c_S Π_{j∈S} z_j, multilinear.

    Attributes:
        sets: The sets S.
        coefficients: c [len(sets)].
    """

    sets: list[tuple[int, ...]]
    coefficients: Array

    def __call__(self, points: ArrayLike) -> Array:
        """Values [N] at points [N, k], which need not be ±1."""
        return monomial_values(np.asarray(points, dtype=float), self.sets) @ self.coefficients

    @property
    def degree(self) -> int:
        """K, the largest number of variables that are multiplied; coefficients below 1e-9 of the largest are none."""
        least = 1e-9 * np.abs(self.coefficients).max(initial=0)
        return max((len(s) for s, c in zip(self.sets, self.coefficients, strict=True) if abs(c) > least), default=0)

    def norm(self, kind: str = "l2") -> float:
        """Return the coefficient norm M, l2 (the paper's, in our reading) or l1."""
        raise_problems(one_of(NORMS, norm=kind))
        return float(np.linalg.norm(self.coefficients, 2 if kind == "l2" else 1))

    def scaled(self, factor: float) -> Polynomial:
        """factor·p."""
        return Polynomial(self.sets, factor * self.coefficients)


def truth_values(table: ArrayLike) -> Array:
    """Return a truth table of 2^k values in {−1, 1}, checked.

    Raises:
        ValueError: If it is not one.
    """
    values = np.asarray(table, dtype=float)
    if values.ndim != 1 or not len(values) or len(values) & (len(values) - 1) or not (np.abs(values) == 1).all():
        raise ValueError(f"table must be 2^k values in {{-1, 1}}, got an array of shape {list(values.shape)}")
    return values


def multilinear_extension(table: ArrayLike) -> Polynomial:
    """Return the multilinear polynomial that equals a function on {−1, 1}^k, by the fast Walsh–Hadamard transform.

    Its coefficients are the Fourier coefficients (O'Donnell, Analysis of Boolean Functions, 2014, chapter 1).

    Args:
        table: The function's 2^k values in {−1, 1}; entry Σ_j 2^j [argument j is 1].

    Raises:
        ValueError: If the table is not one.
    """
    values = truth_values(table)
    k = len(values).bit_length() - 1
    # a Fourier transform of length 2 takes the first value plus and minus the second: here that is where z_j = 1
    transformed = np.fft.fftn(values[::-1].reshape((2,) * k)).real.ravel() / len(values)
    sets = monomials(k, k)
    return Polynomial(sets, transformed[[sum(1 << j for j in chosen) for chosen in sets]])


@dataclass(frozen=True)
class ThresholdConstants:
    """A PTF's constants in the paper's (r, K, M, B, ξ), for the polynomial scaled to margin 1: 1 ≤ y·p(z) ≤ B.

    Attributes:
        degree: K.
        norm: M, ‖c‖₂ at margin 1 (our reading).
        margin: min y·p(z) before scaling; not positive if p is no PTF of the function.
        bound: B, max |p(z)| at margin 1.
        robustness: ξ in (0, 1] (our reading): the largest ξ such that y·p(z̃) ≥ ½ wherever every z̃_j is within ξ of
            z_j, at margin 1.
    """

    degree: int
    norm: float
    margin: float
    bound: float
    robustness: float


def threshold_constants(polynomial: Polynomial, points: ArrayLike, values: ArrayLike) -> ThresholdConstants:
    """Return the constants of a polynomial as a PTF of a function given on a domain.

    Args:
        polynomial: p.
        points: The domain [N, k] in {−1, 1}.
        values: The function there, [N] in {−1, 1}.

    Raises:
        ValueError: If p has the wrong sign somewhere on the domain.
    """
    domain, signs = np.asarray(points, dtype=float), np.asarray(values, dtype=float)
    margin = float((signs * polynomial(domain)).min())
    if not margin > 0:
        raise ValueError(f"polynomial must have the function's sign on the whole domain, got margin {margin:.3g}")
    unit = polynomial.scaled(1 / margin)
    bound = float(np.abs(unit(domain)).max())
    return ThresholdConstants(polynomial.degree, unit.norm(), margin, bound, robustness(unit, domain, signs))


def robustness(polynomial: Polynomial, points: Array, values: Array) -> float:
    """ξ of `ThresholdConstants`, a root; over a box, a multilinear polynomial is least at one of its corners.

    At the corner of signs e it is Σ_t ξ^t Σ_{|T|=t} e_T Σ_{S⊇T} c_S z_S, sums that are taken once for every t.
    """
    k, largest = points.shape[1], max(map(len, polynomial.sets))
    parts = monomials(k, largest)
    outer, inner = ([sum(1 << j for j in chosen) for chosen in sets] for sets in (polynomial.sets, parts))
    contained = np.array(inner) & ~np.array(outer)[:, None] == 0
    signed = values[:, None] * monomial_values(points, polynomial.sets) * polynomial.coefficients @ contained
    corners, sizes = monomial_values(cube(k), parts).T, np.array([len(part) for part in parts])
    terms = [signed[:, sizes == size] @ corners[sizes == size] for size in range(largest + 1)]

    def slack(radius: float) -> float:
        total = terms[-1]
        for term in terms[-2::-1]:
            total = total * radius + term
        return float(total.min()) - 0.5 + 1e-12

    return 1.0 if slack(1.0) >= 0 else float(brentq(slack, 0, 1, xtol=1e-9))


@dataclass(frozen=True)
class LeastNorm:
    """A PTF of least coefficient norm, and the proof that it is.

    Attributes:
        polynomial: p, of margin 1.
        norm: ‖c‖.
        dual: α ≥ 0 [N], a weight for each point of the domain.
        dual_bound: What the dual proves every PTF's norm to be at least: Σα/‖Σ_i α_i y_i φ(z_i)‖*, with the dual norm.
    """

    polynomial: Polynomial
    norm: float
    dual: Array
    dual_bound: float

    @property
    def gap(self) -> float:
        """Norm − dual_bound, 0 to rounding."""
        return self.norm - self.dual_bound


def least_norm_ptf(
    table: ArrayLike, degree: int | None = None, norm: str = "l2", points: ArrayLike | None = None
) -> LeastNorm:
    """Return the polynomial of at most a degree with least coefficient norm among those with y·p(z) ≥ 1 on the domain.

    The l2 problem is a convex quadratic program, solved as a problem of least distance by non-negative least squares
    (Lawson and Hanson 1974, chapter 23); the l1 problem is a linear program, solved by HiGHS.

    Args:
        table: The function's values in {−1, 1}: 2^k of them, or [N] at `points`.
        degree: K; k when None.
        norm: l2 or l1.
        points: The domain [N, k]; all of {−1, 1}^k when None.

    Raises:
        ValueError: If no polynomial of that degree has the function's sign everywhere, or arguments are wrong.
    """
    raise_problems(one_of(NORMS, norm=norm))
    if points is None:
        signs = truth_values(table)
        domain = cube(len(signs).bit_length() - 1)
    else:
        domain, signs = np.asarray(points, dtype=float), np.asarray(table, dtype=float)
        check_function(domain, signs)
    k = domain.shape[1]
    if degree is not None and not 0 <= degree <= k:
        raise ValueError(f"degree must be in 0..{k}, got {degree}")
    sets = monomials(k, k if degree is None else degree)
    rows = signs[:, None] * monomial_values(domain, sets)
    coefficients, dual = (least_l2 if norm == "l2" else least_l1)(rows)
    if coefficients is None:
        raise ValueError(f"degree must be larger for this function, got {degree}: no PTF of that degree exists")
    order = 2 if norm == "l2" else np.inf
    bound = float(dual.sum() / np.linalg.norm(rows.T @ dual, order))
    polynomial = Polynomial(sets, coefficients)
    return LeastNorm(polynomial, polynomial.norm(norm), dual, bound)


def check_function(points: Array, values: Array) -> None:
    """Raise ValueError unless values [N] in {−1, 1} are those of a function of points [N, k]."""
    if points.ndim != 2 or values.shape != (len(points),) or not (np.abs(values) == 1).all():
        shapes = f"{list(values.shape)} and {list(points.shape)}"
        raise ValueError(f"table must be a value in {{-1, 1}} for each point [N, k], got arrays of shape {shapes}")
    if len(np.unique(np.column_stack([points, values]), axis=0)) > len(np.unique(points, axis=0)):
        raise ValueError("points must have one value each, got one that is there with both")


def least_l2(rows: Array) -> tuple[Array | None, Array]:
    """Min ‖c‖₂ subject to rows·c ≥ 1, and α; None where that is infeasible."""
    stacked = np.vstack([rows.T, np.ones(len(rows))])
    target = np.append(np.zeros(rows.shape[1]), 1.0)
    # bvls: nnls of scipy 1.17 stops short of the minimum for two functions of three variables at degree 2
    solution = lsq_linear(stacked, target, (0, np.inf), "bvls", tol=1e-14, max_iter=10_000).x
    residual = stacked @ solution - target
    if -residual[-1] < 1e-9:
        return None, solution
    coefficients = residual[:-1] / -residual[-1]
    return coefficients / (rows @ coefficients).min(), solution


def least_l1(rows: Array) -> tuple[Array | None, Array]:
    """Min ‖c‖₁ subject to rows·c ≥ 1, and α; None where that is infeasible."""
    n = rows.shape[1]
    found = linprog(np.ones(2 * n), A_ub=np.hstack([-rows, rows]), b_ub=-np.ones(len(rows)), method="highs")
    if not found.success:
        return None, np.zeros(len(rows))
    return found.x[:n] - found.x[n:], -np.asarray(found.ineqlin.marginals)


def threshold_degree(table: ArrayLike, points: ArrayLike | None = None) -> int:
    """Return the least degree of a PTF of a function, given as for `least_norm_ptf`."""
    k = len(truth_values(table)).bit_length() - 1 if points is None else np.shape(points)[1]
    for degree in range(k):
        try:
            least_norm_ptf(table, degree, points=points)
        except ValueError:
            continue
        return degree
    return k
