"""Explicit threshold functions against sums written out."""

from itertools import product

import numpy as np
import pytest
import torch

from hierlit.data import ThresholdHierarchy
from hierlit.theory import least_norm_ptf

SIZES = {"n_train": 300, "n_val": 30, "n_test": 30}


def polynomial_at(data: ThresholdHierarchy, label: int, arguments: list[float]) -> float:
    terms = zip(data.monomials, data.coefficients[label], strict=True)
    return sum(c * np.prod([arguments[j] for j in chosen]) for chosen, c in terms)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"fan_in": 4, "degree": 3, "coefficient_norm": 5.0}, {"wiring": "tree", "n_inputs": 27}, {"degree": 1}],
    ids=str,
)
def test_labels_are_the_signs_of_the_polynomials(arguments: dict) -> None:
    data = ThresholdHierarchy(**arguments, **SIZES)
    data.setup()
    for inputs, labels in zip(data.tables["train"].inputs[:30, 0], data.tables["train"].labels[:30, 0], strict=True):
        values: list[float] = []
        for label, parents in enumerate(data.parents):
            source = inputs.tolist() if data.levels[label] == 1 else values
            values.append(float(np.sign(polynomial_at(data, label, [source[parent] for parent in parents]))))
            if data.levels[label] > 1:
                assert {data.levels[parent] for parent in parents} == {data.levels[label] - 1}
        assert values == labels.tolist()


@pytest.mark.parametrize(("norm", "degree"), [(1.8, 1), (2.0, 2), (3.5, 2), (10.0, 3)])
def test_norms_are_as_prescribed_at_margin_one(norm: float, degree: int) -> None:
    data = ThresholdHierarchy(coefficient_norm=norm, degree=degree, **SIZES)
    assert data.n_labels == 48
    for label, (bound, radius) in enumerate(zip(data.bounds, data.robustness, strict=True)):
        values = [polynomial_at(data, label, list(point)) for point in product((-1.0, 1.0), repeat=3)]
        assert min(map(abs, values)) == pytest.approx(1)
        assert max(map(abs, values)) == pytest.approx(bound)
        corners = product((-1 - radius, -1 + radius, 1 - radius, 1 + radius), repeat=3)
        assert min(abs(polynomial_at(data, label, list(corner))) for corner in corners) == pytest.approx(0.5, abs=1e-6)
        assert float(np.linalg.norm(data.coefficients[label])) == pytest.approx(norm, rel=1e-6)
        assert least_norm_ptf(data.truth_table(label), degree).norm <= norm * (1 + 1e-6)


def test_labels_differ_are_balanced_and_depend_on_their_parents() -> None:
    data = ThresholdHierarchy(**{**SIZES, "n_train": 4000})
    data.setup()
    table = data.tables["train"].labels[:, 0]
    assert ((table > 0).float().mean(0) - 0.5).abs().max() < 0.17
    for level in (1, 2, 3):
        own = table[:, [label for label, its in enumerate(data.levels) if its == level]]
        overlap = (own.T @ own / len(own)).fill_diagonal_(0)
        assert overlap.abs().max() < 1


def test_a_tree_has_disjoint_parents() -> None:
    data = ThresholdHierarchy(27, 3, fan_in=3, wiring="tree", **SIZES)
    assert data.level_sizes == [9, 3, 1] and data.levels == [1] * 9 + [2] * 3 + [3]
    firsts = [0, 9, 12, 13]
    for first, last, n in zip(firsts[:-1], firsts[1:], (27, 9, 3), strict=True):
        parents = sorted(parent for label in range(first, last) for parent in data.parents[label])
        assert len(parents) == n == len(set(parents))


def test_the_seed_decides() -> None:
    one, same, other = (ThresholdHierarchy(data_seed=seed, **SIZES) for seed in (1, 1, 2))
    for data in (one, same, other):
        data.setup()
    assert torch.equal(one.tables["val"].labels, same.tables["val"].labels)
    assert not torch.equal(one.tables["val"].labels, other.tables["val"].labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fan_in": 9}, r"^fan_in must be an integer in 2..8, got 9$"),
        (
            {"degree": 4, "n_levels": 0},
            r"^n_levels must be an integer >= 1, got 0; degree must be an integer in 1..3 for fan_in = 3, got 4$",
        ),
        (
            {"wiring": "tree", "n_inputs": 28},
            r"^n_inputs must be a multiple of .* = 27 for a tree, got 28$",
        ),
        ({"labels_per_level": 2}, r"^labels_per_level must be an integer >= fan_in = 3, got 2$"),
        ({"wiring": "ring"}, r"^wiring must be one of random, tree, got 'ring'$"),
        ({"fan_in": 2, "degree": 1}, r"^degree must be an integer in 2..2 for fan_in = 2, got 1$"),
        (
            {"fan_in": 4, "degree": 1},
            r"^coefficient_norm must be larger, the least of 500 polynomials drawn with fan_in = 4, degree = 1 has \d",
        ),
        (
            {"fan_in": 2, "labels_per_level": 2, "coefficient_norm": 1.0},  # of two labels there is one XOR
            r"^labels_per_level must be small enough for level 2 to be filled, got 2: lower it, or raise n_inputs = 16",
        ),
    ],
)
def test_bad_arguments_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ThresholdHierarchy(**change)
