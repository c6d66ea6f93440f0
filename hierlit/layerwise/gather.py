"""Rows of all processes on each of them: what units are placed at, and choices are made on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierlit.draws import Draws

if TYPE_CHECKING:
    from hierlit.layerwise.chunk import Chunk
    from hierlit.layerwise.problem import BlockProblem

View = Callable[["Chunk", Tensor, Tensor], Tensor]
"""Maps a chunk, rows of it [B] and their places among those gathered [B] to [B, ...]."""


def first_rows(problem: BlockProblem, splits: Sequence[str] = ("fit",)) -> tuple[list[int], int]:
    """Return the number of the first row of each chunk of this process, and how many rows all processes have.

    Rows are numbered by chunks, and within a chunk from process to process: as one process would have them.
    """
    sizes = torch.tensor([len(chunk.labels) for chunk in chunks_of(problem, splits)], dtype=torch.long)
    sizes = sizes.to(problem.penalty.device)
    parts = problem.processes.all_gather(sizes).T
    ends = parts.flatten().cumsum(0).view_as(parts)
    return (ends - parts)[:, problem.processes.rank].tolist(), int(parts.sum())


def chunks_of(problem: BlockProblem, splits: Sequence[str]) -> Iterator[Chunk]:
    """Return the chunks of some splits that this process holds, one split after another."""
    return (chunk for split in splits for chunk in problem.chunks(split))


def gather_rows(problem: BlockProblem, rows: Tensor, view: View, splits: Sequence[str] = ("fit",)) -> Tensor:
    """Return what `view` sees of some rows of all processes, on each of them, to the bit: [R, ...].

    Args:
        problem: The problem.
        rows: Their numbers [R], see `first_rows`.
        view: What is wanted of them.
        splits: Those that the rows are of; the rows fitted by default.
    """
    rows, total = rows.to(problem.penalty.device), None
    for chunk, first in zip(chunks_of(problem, splits), first_rows(problem, splits)[0], strict=True):
        places = ((rows >= first) & (rows < first + len(chunk.labels))).nonzero()[:, 0]
        seen = view(chunk, rows[places] - first, places)
        total = seen.new_zeros(len(rows), *seen.shape[1:]) if total is None else total
        total[places] = seen
    assert total is not None
    return problem.processes.sum(total)


def drawn(seed: int, what: str, part: int, number: int, of: int) -> Tensor:
    """At most so many numbers below `of`, drawn at random; see `Draws`."""
    return torch.from_numpy(Draws(seed, what, part).permutation(of)[:number].copy())


@torch.no_grad()
def drawn_windows(problem: BlockProblem, number: int) -> Tensor:
    """Windows [q, fan_in] of [x, scores] of fitted pairs drawn at random, at most so many."""
    return drawn_pairs(
        problem, number, lambda chunk, rows: problem.block.windows(problem.rows.net.split(chunk.stream[rows]))
    )


def drawn_pairs(problem: BlockProblem, number: int, view: Callable[[Chunk, Tensor], Tensor]) -> Tensor:
    """Return what is seen of fitted pairs drawn at random for the units, at most so many, [q, ...].

    Args:
        problem: The problem.
        number: Most of them.
        view: Maps a chunk and rows of it [B] to what is seen at each location, [B, |G|, ...].
    """
    n_locations = problem.rows.net.n_locations
    pairs = drawn(problem.seed, "units", problem.block.index, number, first_rows(problem)[1] * n_locations)
    locations = (pairs % n_locations).to(problem.penalty.device)

    def at_locations(chunk: Chunk, rows: Tensor, places: Tensor) -> Tensor:
        seen = view(chunk, rows)
        return seen[torch.arange(len(rows), device=seen.device), locations[places]]

    return gather_rows(problem, pairs // n_locations, at_locations)
