from __future__ import annotations

import hashlib
import json
from itertools import combinations, product

import pytest
import torch

from hierlit.data import JuntaHierarchy

SMALL = {"n_inputs": 8, "n_levels": 3, "labels_per_level": 4, "n_train": 100, "n_val": 50, "n_test": 50}


def values_on(data: JuntaHierarchy, row: tuple[int, ...]) -> list[int]:
    """All labels of one input, from the public graph alone."""
    labels: list[int] = []
    for level, parents, table in zip(data.levels, data.parents, data.truth_tables, strict=True):
        arguments = [row[p] if level == 1 else labels[p] for p in parents]
        labels.append(table[sum(2**j for j, argument in enumerate(arguments) if argument == 1)])
    return labels


def is_function(values: tuple[int, ...], parents: tuple[tuple[int, ...], ...]) -> bool:
    seen: dict[tuple[int, ...], int] = {}
    return all(
        seen.setdefault(key, value) == value for key, value in zip(zip(*parents, strict=True), values, strict=True)
    )


CASES = [
    SMALL | {"degree": 2},
    SMALL | {"degree": 3},
    SMALL | {"degree": 2, "table": "parity"},
    SMALL | {"degree": 3, "table": "parity", "n_inputs": 12, "labels_per_level": 6},
    SMALL | {"degree": 3, "table": "majority"},
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_levels_are_true(case, seed: int) -> None:
    data = JuntaHierarchy(**case, data_seed=seed)
    space = list(product([-1, 1], repeat=case["n_inputs"]))
    inputs = list(zip(*space, strict=True))
    labels = list(zip(*(values_on(data, row) for row in space), strict=True))
    keys = [min(column, tuple(-value for value in column)) for column in inputs + labels]
    assert len(set(keys)) == len(keys) and all(len(set(column)) == 2 for column in labels)
    for label, level in enumerate(data.levels):
        simpler = inputs + labels[: case["labels_per_level"] * (level - 2)] if level > 1 else []
        assert not any(is_function(labels[label], parents) for parents in combinations(simpler, case["degree"]))


@pytest.mark.parametrize("case", CASES)
def test_graph_is_as_documented(case) -> None:
    data = JuntaHierarchy(**case)
    n_inputs, width, degree = case["n_inputs"], case["labels_per_level"], case["degree"]
    assert data.levels == [1] * width + [2] * width + [3] * width
    for level, parents, values in zip(data.levels, data.parents, data.truth_tables, strict=True):
        assert len(set(parents)) == len(parents) == degree
        assert all(0 <= parent < (n_inputs if level == 1 else width * (level - 1)) for parent in parents)
        assert level == 1 or any(data.levels[parent] == level - 1 for parent in parents)
        assert len(values) == 2**degree and sum(values) == 0
        for j in range(degree):
            assert any(values[code] != values[code ^ 2**j] for code in range(2**degree))
        if case.get("table") == "parity":
            assert len({value * (-1) ** bin(code).count("1") for code, value in enumerate(values)}) == 1


@pytest.mark.parametrize("case", CASES)
def test_tables_follow_the_graph(case) -> None:
    data = JuntaHierarchy(**case)
    data.setup()
    assert (data.n_inputs, data.n_labels, data.n_locations) == (case["n_inputs"], 3 * case["labels_per_level"], 1)
    for split, n in (("train", 100), ("val", 50), ("test", 50)):
        inputs, labels = data.tables[split].inputs, data.tables[split].labels
        assert inputs.shape == (n, 1, data.n_inputs) and labels.shape == (n, 1, data.n_labels)
        for row, answer in zip(inputs[:, 0].tolist(), labels[:, 0].tolist(), strict=True):
            assert answer == values_on(data, tuple(int(value) for value in row))


def test_splits_never_share_a_row() -> None:
    data = JuntaHierarchy(**SMALL)
    data.setup()
    rows = torch.cat([table.inputs[:, 0] for table in data.tables.values()])
    assert len(rows.unique(dim=0)) == 200


def test_seed_decides() -> None:
    first, again, other = (JuntaHierarchy(data_seed=seed) for seed in (5, 5, 6))
    assert first.parents == again.parents and first.truth_tables == again.truth_tables
    assert first.parents != other.parents
    for data in (first, again, other):
        data.setup()
    assert torch.equal(first.tables["train"].inputs, again.tables["train"].inputs)
    assert not torch.equal(first.tables["train"].inputs, other.tables["train"].inputs)


@pytest.mark.parametrize(("degree", "pin"), [(2, "47b6301e0a07b5cb"), (3, "8213fa1d7002c035")])
def test_same_data_on_every_machine(degree: int, pin: str) -> None:
    data = JuntaHierarchy(degree=degree, n_train=50, n_val=1, n_test=1)
    data.setup()
    table = data.tables["train"]
    content = json.dumps([data.parents, data.truth_tables, table.inputs.int().tolist(), table.labels.int().tolist()])
    assert hashlib.sha256(content.encode()).hexdigest()[:16] == pin


def test_many_inputs_are_checked_on_a_sample() -> None:
    data = JuntaHierarchy(n_inputs=100, n_train=500, n_val=10, n_test=10, degree=3, table="majority")
    data.setup()
    row = tuple(int(value) for value in data.tables["val"].inputs[0, 0])
    assert data.tables["val"].labels[0, 0].tolist() == values_on(data, row)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"degree": 1}, r"^degree must be an integer in 2..10, got 1$"),
        ({"table": "and"}, r"^table must be one of random, parity, majority, got 'and'$"),
        ({"table": "majority"}, r"^degree must be odd for table='majority', got 2$"),
        ({"n_inputs": 2, "degree": 3}, r"^n_inputs must be an integer >= degree = 3, got 2$"),
        ({"labels_per_level": 2, "degree": 3}, r"^labels_per_level must be an integer >= degree = 3, got 2$"),
        ({"n_inputs": 4, "labels_per_level": 7}, r"^labels_per_level must be at most 6, .* got 7$"),
        (
            {"n_inputs": 4, "degree": 3, "table": "parity", "labels_per_level": 5},
            r"^labels_per_level must be at most 4,",
        ),
        ({"n_inputs": 3, "degree": 3, "labels_per_level": 30}, r"^labels_per_level must be at most 29, "),
        ({"n_inputs": 5, "labels_per_level": 4}, r"^labels_per_level must be small enough for level 2 .* got 4: "),
        ({"degree": 6}, r"^degree must leave at most 1000000 parent sets to rule out, got 12271512 sets"),
        ({"wiring": "ring"}, r"^wiring must be one of random, tree, got 'ring'$"),
        (
            {"wiring": "tree", "n_inputs": 24},
            r"^n_inputs must be a multiple of .* = 16 for a tree, got 24$",
        ),
        ({"n_levels": 0, "data_seed": 0.5}, r"^n_levels must be .* got 0; data_seed must be .* got 0.5$"),
        ({"acceptance_fraction": 1}, r"^acceptance_fraction must be a number in \[0, 1\), got 1$"),
        ({"n_train": 1}, r"^acceptance_fraction must leave a training row to fit, got 0.2 of 1 rows$"),
    ],
)
def test_bad_arguments_are_refused(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JuntaHierarchy(**change)


@pytest.mark.parametrize(("degree", "table"), [(2, "random"), (3, "majority"), (3, "parity")])
def test_a_tree_has_disjoint_parents(degree: int, table: str) -> None:
    n_inputs = degree**3 * 2
    data = JuntaHierarchy(n_inputs, 3, degree=degree, table=table, wiring="tree", n_train=100, n_val=10, n_test=10)
    data.setup()
    assert data.levels == [1] * (2 * degree**2) + [2] * (2 * degree) + [3] * 2
    first, n_earlier = 0, n_inputs
    for level in (1, 2, 3):
        labels = [label for label, own in enumerate(data.levels) if own == level]
        parents = sorted(parent for label in labels for parent in data.parents[label])
        assert parents == list(range(first, first + n_earlier))
        first, n_earlier = (0 if level == 1 else first + n_earlier), len(labels)
    for inputs, labels in zip(data.tables["val"].inputs[:, 0], data.tables["val"].labels[:, 0], strict=True):
        assert labels.tolist() == values_on(data, tuple(int(value) for value in inputs))
