"""Polynomials and least norms against brute force."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from hierlit.theory import (
    Polynomial,
    cube,
    least_norm_ptf,
    multilinear_extension,
    threshold_constants,
    threshold_degree,
)

ALL_OF_3 = [tuple(2 * (code >> bit & 1) - 1 for bit in range(8)) for code in range(128)]
"""Up to sign: a polynomial of −f is that of f times −1."""
DEGREES = [(2, ALL_OF_3[::5]), *(pytest.param(degree, ALL_OF_3, marks=pytest.mark.slow) for degree in (1, 2, 3))]
every_function = pytest.mark.parametrize(("degree", "tables"), DEGREES, ids=["2, some", "1", "2", "3"])
tables = st.integers(1, 5).flatmap(lambda k: st.lists(st.sampled_from([-1, 1]), min_size=2**k, max_size=2**k))


@given(tables)
@settings(deadline=None)
def test_the_extension_equals_the_function_and_has_norm_one(table: list[int]) -> None:
    polynomial = multilinear_extension(table)
    k = len(table).bit_length() - 1
    for code, bits in enumerate(product((-1, 1), repeat=k)):
        point = bits[::-1]  # the first argument is the least significant
        by_hand = sum(
            c * np.prod([point[j] for j in chosen])
            for chosen, c in zip(polynomial.sets, polynomial.coefficients, strict=True)
        )
        assert by_hand == pytest.approx(table[code])
    assert polynomial.norm() == pytest.approx(1)  # Parseval
    assert polynomial(cube(k)).tolist() == pytest.approx(table)


def test_degrees_of_known_functions() -> None:
    points = cube(3)
    assert multilinear_extension(points.prod(1)).degree == 3
    assert multilinear_extension(points[:, 1]).degree == 1
    assert multilinear_extension(np.ones(8)).degree == 0
    assert threshold_degree(points.prod(1)) == 3  # parity
    assert threshold_degree(np.sign(points.sum(1))) == 1  # majority
    assert threshold_degree(points[:, 0] * points[:, 1]) == 2


def rows_of(table: tuple[int, ...], degree: int) -> np.ndarray:
    points = cube(3)
    sets = [chosen for size in range(degree + 1) for chosen in combinations(range(3), size)]
    return np.array(table)[:, None] * np.stack([points[:, list(s)].prod(1) for s in sets], 1)


def least_l2_by_faces(rows: np.ndarray) -> float:
    """The least ‖c‖ with rows·c ≥ 1, over every set of rows that could be the active ones."""
    best = np.inf
    for size in range(1, 9):
        for active in combinations(range(8), size):
            face = rows[list(active)]
            c = np.linalg.pinv(face) @ np.ones(size)
            if (rows @ c).min() >= 1 - 1e-9:
                best = min(best, float(np.linalg.norm(c)))
    return best


def least_l1_by_vertices(rows: np.ndarray) -> float:
    """The least ‖c‖₁ with rows·c ≥ 1: some optimum has as many tight rows as nonzero coefficients."""
    best, n = np.inf, rows.shape[1]
    for size in range(1, n + 1):
        supports = np.array(list(combinations(range(n), size)))[:, None, None, :]
        actives = np.array(list(combinations(range(8), size)))[None, :, :, None]
        squares = rows[actives, supports]
        support, active = np.nonzero(np.abs(np.linalg.det(squares)) > 1e-9)
        found = np.linalg.solve(squares[support, active], np.ones((len(support), size, 1)))[..., 0]
        c = np.zeros((len(support), n))
        np.put_along_axis(c, supports[support, 0, 0], found, axis=1)
        feasible = (c @ rows.T).min(1) >= 1 - 1e-9
        best = min(best, float(np.abs(c[feasible]).sum(1).min(initial=np.inf)))
    return best


@every_function
def test_least_l2_norms_of_all_functions_of_three_variables(degree: int, tables: list[tuple[int, ...]]) -> None:
    for table in tables:
        expected = least_l2_by_faces(rows_of(table, degree))
        if expected == np.inf:
            with pytest.raises(ValueError, match=f"degree must be larger for this function, got {degree}"):
                least_norm_ptf(table, degree)
            continue
        found = least_norm_ptf(table, degree)
        assert found.norm == pytest.approx(expected, rel=1e-6)
        assert (found.dual >= 0).all() and abs(found.gap) < 1e-6
        assert (np.array(table) * found.polynomial(cube(3))).min() >= 1 - 1e-9


@every_function
def test_least_l1_norms_of_all_functions_of_three_variables(degree: int, tables: list[tuple[int, ...]]) -> None:
    for table in tables:
        expected = least_l1_by_vertices(rows_of(table, degree))
        if expected == np.inf:
            with pytest.raises(ValueError, match="degree must be larger"):
                least_norm_ptf(table, degree, "l1")
            continue
        found = least_norm_ptf(table, degree, "l1")
        assert found.norm == pytest.approx(expected, rel=1e-6)
        assert (found.dual >= -1e-12).all() and abs(found.gap) < 1e-6


def test_a_domain_that_is_not_the_cube() -> None:
    points = np.array([[1, 1, 1], [1, -1, 1], [-1, -1, -1]])
    found = least_norm_ptf([1, 1, -1], 1, points=points)
    assert found.norm == pytest.approx(1 / np.sqrt(2))  # z_1 and z_3 alike, half each
    rows = np.array([1, 1, -1])[:, None] * np.column_stack([np.ones(3), points])
    loose = minimize(
        lambda c: c @ c, np.ones(4), constraints={"type": "ineq", "fun": lambda c: rows @ c - 1}, tol=1e-12
    )
    assert found.norm == pytest.approx(np.linalg.norm(loose.x), rel=1e-6)


def test_constants_of_the_majority_and_of_xor() -> None:
    points = cube(3)
    majority = threshold_constants(Polynomial([(0,), (1,), (2,)], 2 * np.ones(3)), points, np.sign(points.sum(1)))
    assert (majority.degree, majority.margin, majority.bound) == (1, 2, pytest.approx(3))
    assert majority.norm == pytest.approx(np.sqrt(3))
    # two for, one against: (1−ξ) + (1−ξ) − (1+ξ) = 1 − 3ξ = ½
    assert majority.robustness == pytest.approx(1 / 6)
    xor = threshold_constants(Polynomial([(0, 1)], np.ones(1)), cube(2), cube(2).prod(1))
    assert (xor.degree, xor.norm, xor.bound) == (2, 1, 1)
    assert xor.robustness == pytest.approx(1 - np.sqrt(0.5))  # (1−ξ)² = ½


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_robustness_is_what_random_perturbations_allow(seed: int) -> None:
    draw = np.random.default_rng(seed)
    polynomial = least_norm_ptf(draw.choice([-1, 1], 8)).polynomial
    points = cube(3)
    values = np.sign(polynomial(points))
    radius = threshold_constants(polynomial, points, values).robustness
    for point, value in zip(points, values, strict=True):
        nearby = point + draw.uniform(-radius, radius, (200, 3))
        assert (value * polynomial(nearby)).min() >= 0.5 - 1e-6
    corners = points[:, None] + 1.02 * radius * cube(3)[None]
    if radius < 0.98:
        assert (values[:, None] * polynomial(corners.reshape(-1, 3)).reshape(8, 8)).min() < 0.5


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"table must be 2\^k values in \{-1, 1\}, got an array of shape \[3\]"):
        multilinear_extension([1, 1, -1])
    with pytest.raises(ValueError, match="norm must be one of l2, l1, got 'l0'"):
        least_norm_ptf([1, -1], norm="l0")
    with pytest.raises(ValueError, match=r"degree must be in 0\.\.1, got 2"):
        least_norm_ptf([1, -1], 2)
    with pytest.raises(ValueError, match=r"table must be a value .* for each point .* of shape \[3\] and \[2, 1\]"):
        least_norm_ptf([1, -1, 1], 1, points=[[1], [-1]])
    with pytest.raises(ValueError, match="points must have one value each, got one that is there with both"):
        least_norm_ptf([1, 1, -1], 1, points=[[1, 1], [-1, 1], [1, 1]])
    with pytest.raises(ValueError, match="polynomial must have the function's sign on the whole domain, got margin -1"):
        threshold_constants(Polynomial([(0,)], np.ones(1)), cube(1), [1, 1])
