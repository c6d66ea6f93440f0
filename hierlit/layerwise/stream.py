"""The residual stream before the active block, computed once per block and kept for every batch of every split."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import psutil
import torch
from torch import Tensor

from hierlit.models.resnet import HierarchicalResNet, readout

if TYPE_CHECKING:
    from hierlit.data.base import Batch

FREE_SHARE = 0.25
"""Share of a device's free memory that a cache takes without a stated budget."""


@dataclass
class Chunk:
    """One batch as the active block sees it, on the network's device or in a memory-mapped file.

    Attributes:
        stream: Γ before the active block, [B, |G|, d+n].
        labels: Labels in {−1, 0, 1}, [B, |G|, n].
        features: The active block's features [B·|G|, q] where they are kept, in what they are computed in, else None.
        buffer: Memory for features, None where there was none left.
    """

    stream: Tensor
    labels: Tensor
    features: Tensor | None = None
    buffer: Tensor | None = None


class Tile(NamedTuple):
    """Pairs (row, location) of a chunk: features [P, q], scores before the block [P, n] and labels [P, n].

    All have the precision of the weights.
    """

    features: Tensor
    scores: Tensor
    labels: Tensor


class StreamCache:
    """Chunks by split, in the order of their batches. A batch is known by its first row: rows are grouped once.

    Args:
        net: The network whose stream is kept.
        budget: Bytes of the network's device that may be taken; a share of what is free there when None. Streams and
            labels beyond it are memory-mapped to files without a name, which vanish with the process; features
            beyond it are recomputed.
    """

    def __init__(self, net: HierarchicalResNet, budget: float | None = None) -> None:
        self.net, self.budget, self.left = net, budget, 0.0
        self._chunks: dict[str, list[Chunk]] = {}
        self._position: dict[str, dict[int, int]] = {}

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.net.n_trained.device

    def open(self, n_processes: int = 1) -> None:
        """Empties the cache and settles its budget, where `n_processes` on this machine share the memory of a CPU."""
        self.clear()
        shared = n_processes if self.device.type == "cpu" else 1
        self.left = FREE_SHARE * free_memory(self.device) / shared if self.budget is None else self.budget

    def fill(self, split: str, batches: Iterable[Batch]) -> None:
        """Runs the trained blocks once over a split's batches."""
        self._chunks[split], self._position[split] = [], {}
        for batch in batches:
            if len(batch.index):
                self._position[split][int(batch.index[0])] = len(self._chunks[split])
            with memory_for("streams", batch.labels.nbytes + batch.inputs.nbytes):
                chunk = self.chunk(batch)
                self._chunks[split].append(Chunk(self._keep(chunk.stream), self._keep(chunk.labels)))

    def chunk(self, batch: Batch) -> Chunk:
        """A batch's chunk computed from its inputs."""
        return Chunk(self.net.stream(batch.inputs), batch.labels)

    def get(self, split: str, batch: Batch) -> Chunk:
        """A batch's chunk, from the cache if it is there."""
        position = self._position.get(split, {}).get(int(batch.index[0])) if len(batch.index) else None
        if position is not None and len(self._chunks[split][position].stream) == len(batch.index):
            return self._fetch(self._chunks[split][position])
        return self.chunk(batch)

    def chunks(self, split: str, leading: int | None = None) -> Iterator[Chunk]:
        """The chunks of a split that this process holds, or the `leading` ones alone."""
        return map(self._fetch, self._chunks.get(split, [])[:leading])

    def sample(self, n_pairs: int, without: Tensor | None = None, share: float = 1.0) -> StreamCache:
        """The leading rows of those fitted and of those set aside, in a cache of their own, without features.

        Where no rows are set aside, the last fifth of each chunk stands for them.

        Args:
            n_pairs: Pairs that both are to have, on this process, in whole rows.
            without: Labels whose scores are put back to 0, boolean [n].
            share: Share of the fitted rows of a chunk to take, the first ones.
        """
        train, held = (list(self._leading(split, n_pairs)) for split in ("train", "held"))
        if not held:
            whole = [(chunk, len(chunk.labels) - len(chunk.labels) // 5) for chunk in train]
            train = [Chunk(chunk.stream[:n], chunk.labels[:n]) for chunk, n in whole]
            held = [Chunk(chunk.stream[n:], chunk.labels[n:]) for chunk, n in whole]
        for chunk in train:
            n_rows = math.ceil(share * len(chunk.labels))
            chunk.stream, chunk.labels = chunk.stream[:n_rows], chunk.labels[:n_rows]
        if without is not None:
            for chunk in (*train, *held):
                forgotten = self.net.scores(chunk.stream) * without.to(chunk.stream)
                chunk.stream = self.net.add_scores(chunk.stream, -forgotten)
        sample = StreamCache(self.net, self.budget)
        sample.left, sample._chunks = self.left, {"train": train, "held": held}
        return sample

    def _leading(self, split: str, n_pairs: int) -> Iterator[Chunk]:
        """The leading rows of a split, until they have `n_pairs` pairs."""
        left = math.ceil(n_pairs / self.net.n_locations)
        for chunk in self.chunks(split):
            if left > 0:
                yield Chunk(chunk.stream[:left], chunk.labels[:left])
                left -= len(chunk.labels)

    def tiles(self, chunk: Chunk, block: int) -> Iterator[Tile]:
        """A chunk's pairs as block number `block` sees them, by tiles."""
        scores, labels = self.net.scores(chunk.stream).flatten(0, -2), chunk.labels.flatten(0, -2)
        parts = (torch.split(whole, self.net.block(block).features.rows_at_once()) for whole in (scores, labels))
        for seen, before, truth in zip(self._features(chunk, block), *parts, strict=True):
            yield Tile(seen.to(before.dtype), before, truth)

    def change(self, chunk: Chunk, block: int, weight: Tensor) -> Tensor:
        """The change [B, |G|, n] that a weight [n, q+1] would make to a chunk's scores."""
        return torch.cat([readout(seen, weight) for seen in self._features(chunk, block)]).view_as(chunk.labels)

    def _features(self, chunk: Chunk, block: int) -> Iterator[Tensor]:
        """The block's features of a chunk, by the same tiles if they are kept: sums then round alike, to the bit."""
        features = self.net.block(block).features
        if chunk.features is not None:
            return iter(torch.split(chunk.features, features.rows_at_once()))
        return features.tiles(self.net.windows(chunk.stream).flatten(0, -2))

    def keep_features(self, split: str, block: int) -> None:
        """Computes the block's features of a split once and keeps them, as far as the budget goes."""
        self._reserve(split, block)
        features = self.net.block(block).features
        for chunk in self._chunks.get(split, []):
            if chunk.buffer is not None:
                windows, rows = self.net.windows(self._fetch(chunk).stream).flatten(0, -2), features.rows_at_once()
                for kept, tile in zip(torch.split(chunk.buffer, rows), features.tiles(windows), strict=True):
                    kept.copy_(tile)
                chunk.features = chunk.buffer

    def _reserve(self, split: str, block: int) -> None:
        """Takes memory for features, once and before any are computed: temporary tensors in between would split it."""
        features = self.net.block(block).features
        weight, dtype = features.weight, features.dtype
        for chunk in self._chunks.get(split, []):
            n_pairs = chunk.labels[..., 0].numel()
            size = n_pairs * len(weight) * dtype.itemsize
            if chunk.buffer is None and size <= self.left:
                self.left -= size
                with memory_for("features", size):
                    chunk.buffer = weight.new_empty(n_pairs, len(weight), dtype=dtype)

    def advance(self, block: int) -> None:
        """Moves every chunk past a block that has just been trained."""
        weight = self.net.block(block).weight
        for chunks in self._chunks.values():
            for chunk in chunks:
                seen = self._fetch(chunk)
                chunk.stream.copy_(self.net.add_scores(seen.stream, self.change(seen, block, weight)))
                chunk.features = None

    def clear(self) -> None:
        """Forgets everything; memory-mapped files go with the last tensor that uses them."""
        self._chunks.clear()
        self._position.clear()

    def _keep(self, tensor: Tensor) -> Tensor:
        if tensor.nbytes > self.left:
            return mapped(tensor)
        self.left -= tensor.nbytes
        return tensor

    def _fetch(self, chunk: Chunk) -> Chunk:
        if chunk.stream.device == chunk.labels.device == self.device:
            return chunk
        return Chunk(chunk.stream.to(self.device), chunk.labels.to(self.device), chunk.features)


def free_memory(device: torch.device) -> int:
    """Bytes of memory that are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on any device; on a CPU torch tells only by the text of a RuntimeError."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or (isinstance(error, RuntimeError) and "allocate memory" in str(error))


@contextmanager
def memory_for(what: str, size: int) -> Iterator[None]:
    """Explains that memory ran out.

    Raises:
        MemoryError: One line, in place of torch's error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(
            f"no memory for the {what} of a batch ({size:,} bytes): lower model.cache_budget_gib or data.batch_size"
        ) from error


def mapped(tensor: Tensor) -> Tensor:
    """A copy of a tensor in a temporary file, on the CPU; the file has no name at any time and ends with its tensor.

    Raises:
        OSError: The temporary folder cannot take it.
    """
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            # a file with holes would end the process, without a word, when the disk is full
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, max(1, tensor.nbytes))
            else:
                file.truncate(tensor.nbytes)
            kept = torch.from_file(f"/dev/fd/{file.fileno()}", shared=True, size=tensor.numel(), dtype=tensor.dtype)
    except OSError as error:
        raise OSError(
            error.errno,
            f"the stream cache cannot keep {tensor.nbytes} bytes in {folder} ({error.strerror}): "
            "set TMPDIR to another folder, or raise cache_budget_gib",
        ) from error
    return kept.view(tensor.shape).copy_(tensor)
