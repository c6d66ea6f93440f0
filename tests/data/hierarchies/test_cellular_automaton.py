from __future__ import annotations

import hashlib

import pytest
import torch

from hierlit.data import CellularAutomaton


def ready(**kwargs) -> CellularAutomaton:
    data = CellularAutomaton(**kwargs)
    data.setup()
    return data


def step(cells: list[int], rule: int) -> list[int]:
    n = len(cells)
    digits = f"{rule:08b}"[::-1]
    return [int(digits[int(f"{cells[i - 1]}{cells[i]}{cells[(i + 1) % n]}", 2)]) for i in range(n)]


@pytest.mark.parametrize("rule", [0, 1, 22, 30, 54, 60, 90, 105, 110, 150, 170, 184, 204, 255, *range(7, 250, 23)])
def test_labels_are_the_automaton(rule: int) -> None:
    data = ready(rule=rule, n_levels=5, n_cells=11, n_train=20, n_val=5, n_test=5)
    for table in data.tables.values():
        for state, labels in zip(table.inputs[:5, :, 0], table.labels[:5], strict=True):
            cells = [int(cell > 0) for cell in state]
            for level in range(5):
                cells = step(cells, rule)
                assert labels[:, level].tolist() == [2 * cell - 1 for cell in cells]


def test_shapes_and_properties() -> None:
    data = CellularAutomaton(n_levels=3, n_cells=9, n_train=30, n_val=7, n_test=6, batch_size=10)
    assert (data.n_inputs, data.n_labels, data.n_locations, data.levels) == (1, 3, 9, [1, 2, 3])
    data.setup()
    assert {split: tuple(table.labels.shape) for split, table in data.tables.items()} == {
        "train": (30, 9, 3),
        "val": (7, 9, 3),
        "test": (6, 9, 3),
    }
    assert data.tables["train"].inputs.shape == (30, 9, 1)
    for table in data.tables.values():
        assert table.inputs.abs().eq(1).all() and table.labels.abs().eq(1).all()


@pytest.mark.parametrize(("n_cells", "sizes"), [(64, (300, 100, 100)), (10, (500, 24, 500)), (10, (300, 50, 50))])
def test_splits_never_share_a_ring(n_cells: int, sizes: tuple[int, int, int]) -> None:
    data = ready(n_cells=n_cells, n_levels=1, n_train=sizes[0], n_val=sizes[1], n_test=sizes[2])
    rings = torch.cat([table.inputs[:, :, 0] for table in data.tables.values()])
    assert len(rings.unique(dim=0)) == sum(sizes)
    assert rings.mean().abs() < 0.05


def test_too_few_rings_repeat_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="12 rows were asked for, but 3 bits have only 8 states"):
        data = ready(n_cells=3, n_levels=1, n_train=10, n_val=1, n_test=1)
    assert len(data.tables["train"]) == 10


def test_same_data_on_every_machine() -> None:
    table = ready(n_train=20, n_val=1, n_test=1).tables["train"]
    content = (table.inputs > 0).numpy().tobytes() + (table.labels > 0).numpy().tobytes()
    assert hashlib.sha256(content).hexdigest()[:16] == "ae8788716b464974"
    assert table.inputs[0, :16, 0].tolist() == [1, 1, 1, 1, 1, -1, 1, 1, 1, 1, 1, 1, -1, -1, -1, 1]


def test_seed_decides() -> None:
    first, again, other = (ready(data_seed=seed).tables["train"].inputs for seed in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": 300}, r"^rule must be an integer in 0..255, got 300$"),
        ({"rule": -1}, r"^rule must be an integer in 0..255, got -1$"),
        ({"rule": 1.5}, r"^rule must be an integer in 0..255, got 1.5$"),
        ({"n_cells": 2}, r"^n_cells must be an integer >= 3, got 2$"),
        ({"n_levels": 0, "n_test": 0}, r"^n_levels must be an integer >= 1, got 0; n_test must be .* got 0$"),
        ({"n_train": 1}, r"^acceptance_fraction must leave a training row to fit, got 0.2 of 1 rows$"),
        ({"rule": 256, "batch_size": 0}, r"^rule .* got 256; batch_size must be an integer >= 1, got 0$"),
    ],
)
def test_bad_arguments_are_refused(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CellularAutomaton(**change)
