"""The paper's proximity mapping E_g: the window of w locations that location g sees, as a table of indices."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SEQUENCE_WINDOW = 7
"""Locations of the windows of sequences whose windows are not given: three to either side."""
IMAGE_WINDOW = 3
"""Rows, and columns, of those of images."""


class Proximity(ABC):
    """Which locations each location sees; immutable, and free of tensors."""

    def __init_subclass__(cls) -> None:
        """Let checkpoints, which hold a model's arguments, load with `weights_only`."""
        torch.serialization.add_safe_globals([cls])

    @abstractmethod
    def table(self, n_locations: int) -> Tensor:
        """Return the windows of all locations.

        Args:
            n_locations: Number |G| of locations.

        Returns:
            Long tensor [|G|, w]: the locations that each location sees, −1 for one that does not exist (zeros).

        Raises:
            ValueError: The windows do not fit that many locations.
        """


def check_odd(size: int) -> None:
    """Raise ValueError unless a window's `size` is odd, so that it has a centre."""
    if size < 1 or size % 2 == 0:
        raise ValueError(f"size must be a positive odd integer, got {size}")


def line_windows(length: int, size: int, periodic: bool, step: int = 1) -> Tensor:
    """Centred windows [length, size] on a line of `length` locations, or on a ring: every `step`-th neighbour."""
    windows = torch.arange(length)[:, None] + step * (torch.arange(size) - size // 2)
    if periodic:
        return windows % length
    return windows.where((windows >= 0) & (windows < length), -1)


@dataclass(frozen=True)
class Identity(Proximity):
    """Each location sees itself alone: w = 1."""

    def table(self, n_locations: int) -> Tensor:
        """Return the windows [|G|, 1]."""
        return torch.arange(n_locations)[:, None]


@dataclass(frozen=True)
class Window1d(Proximity):
    """Centred windows of w = `size` neighbours on a ring or a line.

    Args:
        size: Odd number of locations in a window.
        periodic: Whether the ends are joined; windows are padded with zeros otherwise, and lines may be of any length.
        step: Distance of two neighbours in a window.

    Raises:
        ValueError: `size` is not a positive odd integer, or `step` no positive one.
    """

    size: int = 3
    periodic: bool = True
    step: int = 1

    def __post_init__(self) -> None:
        check_odd(self.size)
        if self.step < 1:
            raise ValueError(f"step must be a positive integer, got {self.step}")

    def table(self, n_locations: int) -> Tensor:
        """Return the windows [|G|, size]; ValueError for a window wider than the ring."""
        if self.periodic and (reach := self.step * (self.size - 1) + 1) > n_locations:
            raise ValueError(f"size must be at most n_locations = {n_locations}, got {reach}: wider than the ring")
        return line_windows(n_locations, self.size, self.periodic, self.step)


@dataclass(frozen=True)
class Window2d(Proximity):
    """Centred windows of w = `size`² neighbours on a torus or a grid, whose rows follow one another.

    Args:
        rows: Rows of the grid.
        columns: Columns of the grid.
        size: Odd number of rows, and of columns, in a window.
        periodic: Whether opposite edges are joined; windows are padded with zeros otherwise.

    Raises:
        ValueError: `size` is not a positive odd integer, or exceeds the grid.
    """

    rows: int
    columns: int
    size: int = 3
    periodic: bool = True

    def __post_init__(self) -> None:
        check_odd(self.size)
        if self.size > min(self.rows, self.columns):
            raise ValueError(f"size must be at most min(rows, columns) of {self.rows}×{self.columns}, got {self.size}")

    def table(self, n_locations: int) -> Tensor:
        """Return the windows [|G|, size²], row after row; ValueError unless |G| = rows·columns."""
        if self.rows * self.columns != n_locations:
            raise ValueError(f"rows·columns must be n_locations = {n_locations}, got {self.rows}·{self.columns}")
        vertical = line_windows(self.rows, self.size, self.periodic)[:, None, :, None]
        horizontal = line_windows(self.columns, self.size, self.periodic)[None, :, None, :]
        windows = (vertical * self.columns + horizontal).where((vertical >= 0) & (horizontal >= 0), -1)
        return windows.reshape(n_locations, self.size**2)


@dataclass(frozen=True)
class IndexTable(Proximity):
    """Windows given one by one, for arbitrary graphs.

    Args:
        indices: One row a location: the locations it sees, −1 for zeros. All rows have the same length.

    Raises:
        ValueError: The rows are empty or differ in length, or an entry is below −1.
    """

    indices: list[list[int]]

    def __post_init__(self) -> None:
        lengths = sorted({len(row) for row in self.indices})
        if len(lengths) != 1 or lengths[0] == 0:
            raise ValueError(f"indices must be non-empty rows of one length (pad with -1), got lengths {lengths}")
        smallest = min(map(min, self.indices))
        if smallest < -1:
            raise ValueError(f"indices must be -1 (zeros) or a location, got {smallest}")

    def table(self, n_locations: int) -> Tensor:
        """Return the windows [|G|, w]; ValueError unless there are |G| rows of entries below |G|."""
        if len(self.indices) != n_locations:
            raise ValueError(f"indices must have one row for each of {n_locations} locations, got {len(self.indices)}")
        largest = max(map(max, self.indices))
        if largest >= n_locations:
            raise ValueError(f"indices must be at most {n_locations - 1}, the last location, got {largest}")
        return torch.tensor(self.indices)


def windows_of(grid: Sequence[int] | None) -> Proximity:
    """Return the windows of locations of a shape where none are given, padded with zeros.

    Args:
        grid: (T,) of sequences: windows of 7 locations, or 2T − 1 if that is less. (H, W) of images: of 3×3, or where
            a side has 1 as of sequences. When None, or another shape, each location sees itself alone.
    """
    sides = [size for size in grid or () if size > 1]
    if len(sides) == 1:
        return Window1d(min(SEQUENCE_WINDOW, 2 * sides[0] - 1), periodic=False)
    if len(sides) == 2 and min(sides) >= IMAGE_WINDOW:
        return Window2d(sides[0], sides[1], IMAGE_WINDOW, periodic=False)
    return Identity()


class Windows(nn.Module):
    """Gathers the windows E_g(Γ) of a stream Γ. What the table needs is settled here, not at every call.

    Args:
        table: Long tensor [|G|, w] of a `Proximity`; kept in checkpoints.
    """

    table: Tensor
    index: Tensor
    is_identity: bool
    is_padded: bool
    step: int

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.n_locations, self.size = table.shape
        self.register_buffer("table", table)
        self.register_load_state_dict_post_hook(inspect_table)  # type: ignore[no-untyped-call]
        inspect_table(self)

    def forward(self, stream: Tensor) -> Tensor:
        """Return the windows of all locations.

        Args:
            stream: [B, |G|, C].

        Returns:
            [B, |G|, w·C], the channels of a window's first location first; `stream` itself for identity windows.

        Raises:
            ValueError: The stream does not have the table's |G| locations, which are not those of a line.
        """
        if self.is_identity:
            return stream
        if self.step:
            return line_of_windows(stream, self.size, self.step)
        if stream.shape[1] != self.n_locations:
            raise ValueError(f"stream must have {self.n_locations} locations, got {stream.shape[1]}")
        if self.is_padded:
            stream = F.pad(stream, (0, 0, 0, 1))
        windows = stream.index_select(1, self.index)
        # not len(stream): an exported graph would take it for a constant
        return windows.view(stream.shape[0], self.n_locations, self.size * stream.shape[2])


def line_of_windows(stream: Tensor, size: int, step: int) -> Tensor:
    """Return the windows [B, |G|, size·C] on a line of any length, of a stream [B, |G|, C]."""
    reach = step * (size // 2)
    padded = F.pad(stream, (0, 0, reach, reach))
    return torch.cat([padded[:, step * place : step * place + stream.shape[1]] for place in range(size)], -1)


def step_on_line(table: Tensor) -> int:
    """Return the step of the windows of a line, which this table [|G|, w] is of; 0 if it is of none."""
    length, size = table.shape
    if size == 1 or size % 2 == 0 or length <= size // 2:
        return 0
    step = int(table[0, size // 2 + 1])
    is_line = step > 0 and torch.equal(table.cpu(), line_windows(length, size, False, step))
    return step if is_line else 0


def inspect_table(windows: Windows, _: object = None) -> None:
    """Derive from a `Windows` table its flags and its flat index, in which −1 is one more location, of zeros."""
    table = windows.table
    windows.is_padded = bool((table < 0).any())
    locations = torch.arange(windows.n_locations, device=table.device)
    windows.is_identity = windows.size == 1 and torch.equal(table[:, 0], locations)
    windows.step = step_on_line(table)
    windows.register_buffer("index", (table % (windows.n_locations + 1)).flatten(), persistent=False)
