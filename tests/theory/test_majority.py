"""Random majorities: α against enumeration and simulation, neurons recovered."""

import re
from itertools import product

import numpy as np
import pytest

from hierlit.draws import Draws
from hierlit.theory import (
    alpha,
    alpha_by_enumeration,
    alpha_by_simulation,
    labels_for_error,
    random_majorities,
    reconstruct,
    reconstruction_error,
)

SIZES = [(d, k) for d in range(1, 8) for k in range(1, d + 1, 2)]


def alpha_of_all(d: int, k: int, state: tuple[int, ...]) -> np.ndarray:
    """The mean of w·sign⟨w, z⟩ over every w of {−1, 0, 1}^d with k nonzeros, coordinate by coordinate."""
    weights = np.array([w for w in product((-1, 0, 1), repeat=d) if np.count_nonzero(w) == k])
    return (weights * np.sign(weights @ np.array(state))[:, None]).mean(0)


@pytest.mark.parametrize(("d", "k"), SIZES)
def test_alpha_is_the_mean_over_all_majorities(d: int, k: int) -> None:
    assert alpha(d, k) == pytest.approx(alpha_by_enumeration(d, k))
    state = tuple(np.random.default_rng(d).choice([-1, 1], d).tolist())
    assert alpha_of_all(d, k, state) == pytest.approx(alpha(d, k) * np.array(state))


@pytest.mark.parametrize(("d", "k"), [(16, 3), (40, 9)])
def test_alpha_is_what_simulation_finds(d: int, k: int) -> None:
    assert alpha_by_simulation(d, k) == pytest.approx(alpha(d, k), rel=0.02)


def test_majorities_have_k_weights_each_as_likely() -> None:
    weights = random_majorities(20_000, 10, 3, Draws(0, "test"))
    assert (np.count_nonzero(weights, axis=1) == 3).all()
    assert np.abs(weights.mean(0)).max() < 0.02
    assert np.abs((weights != 0).mean(0) - 0.3).max() < 0.02


@pytest.mark.parametrize("n", [50, 500])
def test_neurons_are_recovered_with_the_predicted_error(n: int) -> None:
    d, k, squares = 16, 3, []
    for seed in range(200):
        weights = random_majorities(n, d, k, Draws(seed, "test"))
        states = Draws(seed, "states").bits(5, d) * 2.0 - 1
        estimates = reconstruct(weights, np.sign(states @ weights.T))
        squares.append(float(((estimates - states) ** 2).mean()))
    assert np.sqrt(np.mean(squares)) == pytest.approx(reconstruction_error(n, d, k), rel=0.05)


def test_labels_for_an_error_are_enough_of_them() -> None:
    n = labels_for_error(0.2, 16, 3)
    assert reconstruction_error(n, 16, 3) <= 0.2 < reconstruction_error(n - 1, 16, 3)


@pytest.mark.parametrize(("d", "k"), [(4, 2), (4, 5), (4, 0)])
def test_wrong_sizes_are_named(d: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"k must be odd and in 1..{d}, the number of neurons, got {k}"):
        alpha(d, k)


def test_wrong_numbers_are_named() -> None:
    with pytest.raises(ValueError, match=r"^error must be positive, got 0$"):
        labels_for_error(0, 16, 3)
    with pytest.raises(ValueError, match=r"^n must be an integer >= 1, got 0$"):
        reconstruction_error(0, 16, 3)
    for weights, sizes in (([[1, 1, 1], [1, 0, 0]], "[1, 3]"), (np.zeros((0, 3)), "[]")):
        with pytest.raises(
            ValueError, match=f"^weights must have rows of equally many nonzeros, got {re.escape(sizes)}$"
        ):
            reconstruct(np.array(weights), np.ones((4, len(weights))))
