"""Life-like automata against plain Python and against patterns that everyone knows."""

import numpy as np
import pytest
import torch

from hierlit.data import LifeAutomaton

SIZES = {"n_train": 12, "n_val": 3, "n_test": 3}


def by_hand(board: list[list[int]], births: set[int], survivals: set[int]) -> list[list[int]]:
    rows, columns = len(board), len(board[0])
    after = []
    for i in range(rows):
        line = []
        for j in range(columns):
            living = -board[i][j]
            for di in (-1, 0, 1):
                for dj in (-1, 0, 1):
                    living += board[(i + di) % rows][(j + dj) % columns]
            line.append(int(living in (survivals if board[i][j] else births)))
        after.append(line)
    return after


@pytest.mark.parametrize(
    ("rule", "births", "survivals"),
    [("B3/S23", {3}, {2, 3}), ("B36/S23", {3, 6}, {2, 3}), ("B2/S", {2}, set()), ("B0/S8", {0}, {8})],
)
def test_labels_are_the_automaton(rule: str, births: set[int], survivals: set[int]) -> None:
    data = LifeAutomaton(rule, 3, rows=5, columns=7, **SIZES)
    data.setup()
    for table in data.tables.values():
        for cells, labels in zip(table.inputs[..., 0], table.labels, strict=True):
            board = (cells.view(5, 7) > 0).int().tolist()
            for level in range(3):
                board = by_hand(board, births, survivals)
                assert (labels[:, level].view(5, 7) > 0).int().tolist() == board


def run(pattern: str, steps: int) -> np.ndarray:
    """A pattern of #s on a torus after so many steps."""
    board = np.array([[cell == "#" for cell in line] for line in pattern.split()], dtype=np.uint8)[None]
    data = LifeAutomaton()
    for _ in range(steps):
        board = data._step(board)
    return board[0]


def test_a_blinker_blinks_a_block_stays_and_a_glider_glides() -> None:
    blinker, block = "..... ..#.. ..#.. ..#.. .....", ".... .##. .##. ...."
    assert not np.array_equal(run(blinker, 1), run(blinker, 0)) and np.array_equal(run(blinker, 2), run(blinker, 0))
    assert np.array_equal(run(block, 3), run(block, 0))
    glider = ".#.... ..#... ###... ...... ...... ......"
    assert np.array_equal(run(glider, 4), np.roll(run(glider, 0), (1, 1), (0, 1)))
    assert np.array_equal(run(glider, 24), run(glider, 0))


def test_shapes_balance_and_seeds() -> None:
    data, again, other = (LifeAutomaton(data_seed=seed, **SIZES) for seed in (1, 1, 2))
    for each in (data, again, other):
        each.setup()
    assert (data.n_inputs, data.n_labels, data.n_locations, data.levels) == (1, 4, 256, [1, 2, 3, 4])
    assert tuple(data.tables["train"].labels.shape) == (12, 256, 4)
    assert torch.equal(data.tables["val"].labels, again.tables["val"].labels)
    assert not torch.equal(data.tables["val"].labels, other.tables["val"].labels)
    assert float((data.tables["train"].inputs > 0).float().mean()) == pytest.approx(0.4, abs=0.03)


def test_boards_are_distinct_and_drawn_alike() -> None:
    sparse = LifeAutomaton(rows=4, columns=4, density=0.2, n_train=2000, n_val=100, n_test=100)
    sparse.setup()
    boards = torch.cat([table.inputs[..., 0] for table in sparse.tables.values()])
    assert len(boards.unique(dim=0)) == 2200
    assert float((boards[:100] > 0).float().mean()) == pytest.approx(0.2, abs=0.04)


def test_boards_repeat_with_a_warning_where_there_are_too_few() -> None:
    data = LifeAutomaton(rows=3, columns=3, n_train=600, n_val=20, n_test=20)  # of 512
    with pytest.warns(
        UserWarning, match=r"640 boards were asked for, but 100 draws found \d+ at density = 0.4: boards"
    ):
        data.setup()
    assert sum(len(table) for table in data.tables.values()) == 640


def test_the_truth_table_is_the_rule() -> None:
    data = LifeAutomaton(n_levels=1, **SIZES)
    data.setup()
    table = data.truth_table(0)
    board = (data.tables["train"].inputs[0, :, 0] > 0).int().view(16, 16)
    after = data.tables["train"].labels[0, :, 0].view(16, 16)
    for i in range(16):
        for j in range(16):
            window = [int(board[(i + di) % 16, (j + dj) % 16]) for di in (-1, 0, 1) for dj in (-1, 0, 1)]
            assert table[sum(bit << place for place, bit in enumerate(window))] == after[i, j]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "B9/S2"}, r"^rule must be like B3/S23, births and survivals of 0..8, got 'B9/S2'$"),
        ({"rows": 2, "density": 1}, r"^rows must be an integer >= 3, got 2; density must be .* got 1$"),
    ],
)
def test_bad_arguments_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LifeAutomaton(**change)
