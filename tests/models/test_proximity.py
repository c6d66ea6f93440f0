import pickle

import pytest
import torch
from torch import Tensor

from hierlit.models import HierarchicalResNet
from hierlit.models.proximity import Identity, IndexTable, Proximity, Window1d, Window2d, Windows, windows_of

GRAPH = IndexTable([[0, 3], [2, -1], [-1, -1], [1, 0]])
CASES = [
    (Identity(), 5),
    (Window1d(1), 5),
    (Window1d(3), 7),
    (Window1d(5, periodic=False), 7),
    (Window1d(7), 7),
    (Window2d(3, 5), 15),
    (Window2d(5, 3, periodic=False), 15),
    (Window2d(5, 6, size=5), 30),
    (Window2d(1, 4, size=1), 4),
    (GRAPH, 4),
]
every_case = pytest.mark.parametrize(("proximity", "n_locations"), CASES, ids=repr)


def neighbours(proximity: Proximity, location: int, n_locations: int) -> list[int]:
    """The window of one location, spelled out."""
    if isinstance(proximity, IndexTable):
        return proximity.indices[location]
    if isinstance(proximity, Identity):
        return [location]
    if isinstance(proximity, Window1d):
        rows, columns, height = 1, n_locations, 1
    else:
        assert isinstance(proximity, Window2d)
        rows, columns, height = proximity.rows, proximity.columns, proximity.size
    row, column = divmod(location, columns)
    seen = []
    for down in range(-(height // 2), height // 2 + 1):
        for right in range(-(proximity.size // 2), proximity.size // 2 + 1):
            r, c = row + down, column + right
            inside = 0 <= r < rows and 0 <= c < columns
            seen.append(r % rows * columns + c % columns if inside or proximity.periodic else -1)
    return seen


def gathered(stream: Tensor, table: list[list[int]]) -> Tensor:
    zeros = torch.zeros_like(stream[:, 0])
    windows = [torch.cat([zeros if i < 0 else stream[:, i] for i in row], dim=-1) for row in table]
    return torch.stack(windows, dim=1)


@every_case
def test_table_and_windows_equal_the_loops(proximity: Proximity, n_locations: int) -> None:
    table = proximity.table(n_locations)
    expected = [neighbours(proximity, location, n_locations) for location in range(n_locations)]
    assert table.dtype == torch.long and table.tolist() == expected
    stream = torch.randn(2, n_locations, 3)
    windows = Windows(table)
    assert windows.size == len(expected[0])
    assert torch.equal(windows(stream), gathered(stream, expected))


@every_case
def test_pickle(proximity: Proximity, n_locations: int) -> None:
    assert pickle.loads(pickle.dumps(proximity)) == proximity
    windows = Windows(proximity.table(n_locations))
    stream = torch.randn(2, n_locations, 3)
    assert torch.equal(pickle.loads(pickle.dumps(windows))(stream), windows(stream))


@pytest.mark.parametrize("proximity", [Identity(), Window1d(1)])
def test_identity_copies_nothing(proximity: Proximity) -> None:
    stream = torch.randn(2, 6, 3)
    assert Windows(proximity.table(6))(stream) is stream


def test_one_location_that_is_not_the_own_is_no_identity() -> None:
    stream = torch.randn(2, 2, 3)
    assert torch.equal(Windows(torch.tensor([[1], [0]]))(stream), stream.flip(1))


def test_a_checkpoint_brings_its_table_along() -> None:
    stream = torch.randn(2, 4, 3)
    saved, fresh = Windows(GRAPH.table(4)), Windows(torch.zeros(4, 2, dtype=torch.long))
    assert list(saved.state_dict()) == ["table"]
    fresh.load_state_dict(saved.state_dict())
    assert torch.equal(fresh(stream), saved(stream))
    swapped = Windows(Identity().table(2))
    swapped.load_state_dict({"table": torch.tensor([[1], [-1]])})
    assert torch.equal(swapped(stream[:, :2])[:, 0], stream[:, 1])
    assert not swapped(stream[:, :2])[:, 1].any()


def test_empty_batch_and_gradient() -> None:
    windows = Windows(Window1d(3, periodic=False).table(4))
    assert windows(torch.zeros(0, 4, 2)).shape == (0, 4, 6)
    stream = torch.randn(1, 4, 2, requires_grad=True)
    windows(stream).sum().backward()
    assert stream.grad is not None
    assert stream.grad[0, :, 0].tolist() == [2, 3, 3, 2]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Window1d(4), "size must be a positive odd integer, got 4"),
        (lambda: Window1d(-1), "size must be a positive odd integer, got -1"),
        (lambda: Window1d(5).table(4), "size must be at most n_locations = 4, got 5: wider than the ring"),
        (lambda: Window2d(3, 3, 2), "size must be a positive odd integer, got 2"),
        (lambda: Window2d(2, 5), r"size must be at most min\(rows, columns\) of 2×5, got 3"),
        (lambda: Window2d(3, 4).table(13), "rows·columns must be n_locations = 13, got 3·4"),
        (lambda: IndexTable([]), r"indices must be non-empty rows of one length \(pad with -1\), got lengths \[\]"),
        (lambda: IndexTable([[]]), r"indices must be non-empty rows of one length .*, got lengths \[0\]"),
        (lambda: IndexTable([[0], [1, 0]]), r"indices must be non-empty rows of one length .*, got lengths \[1, 2\]"),
        (lambda: IndexTable([[-2]]), r"indices must be -1 \(zeros\) or a location, got -2"),
        (lambda: GRAPH.table(5), "indices must have one row for each of 5 locations, got 4"),
        (lambda: IndexTable([[0], [2]]).table(2), "indices must be at most 1, the last location, got 2"),
        (lambda: Windows(GRAPH.table(4))(torch.zeros(1, 5, 2)), "stream must have 4 locations, got 5"),
    ],
)
def test_bad_arguments(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        build()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        (None, Identity()),
        ((1,), Identity()),
        ((2,), Window1d(3, periodic=False)),
        ((50,), Window1d(7, periodic=False)),
        ((5, 4), Window2d(5, 4, 3, periodic=False)),
        ((1, 9), Window1d(7, periodic=False)),
        ((2, 9), Identity()),
        ((3, 3, 3), Identity()),
    ],
)
def test_windows_follow_from_the_shape_of_the_locations(grid: tuple[int, ...] | None, expected: Proximity) -> None:
    assert windows_of(grid) == expected


def test_windows_that_are_given_stay() -> None:
    net = HierarchicalResNet(2, 2, 20, Window2d(4, 5), 1, 10, grid=(20,))
    assert net.proximity == Window2d(4, 5)
    assert HierarchicalResNet(2, 2, 20, None, 1, 10, grid=(20,)).proximity == Window1d(7, periodic=False)


def test_lines_of_any_length_pass_windows_of_a_short_one() -> None:
    seen = Windows(windows_of((2,)).table(2))
    assert seen(torch.ones(1, 40, 2)).shape == (1, 40, 6)
