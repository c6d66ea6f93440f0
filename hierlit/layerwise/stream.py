"""The rows of a problem: the residual stream before the active block, computed once per block and kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierlit.draws import Draws, uniform
from hierlit.layerwise.chunk import Chunk, Tile
from hierlit.layerwise.folds import Folds, readout_by_fold
from hierlit.layerwise.memory import FREE_SHARE, free_memory, mapped, memory_for
from hierlit.models.block import Block, readout
from hierlit.models.first_layer import FirstLayer
from hierlit.models.resnet import HierarchicalResNet


class StreamCache:
    """Chunks of the splits `fit`, `held` and `val`, in the order of their batches.

    Args:
        net: The network whose stream is kept.
        budget: Bytes of the network's device that may be taken; a share of what is free there when None. Streams and
            labels beyond it are memory-mapped to files without a name, which vanish with the process; features
            beyond it are recomputed.
        seed: Seed of the order in which a pass visits the chunks that are fitted.
        folds: Folds of the rows that are fitted (see `Folds`); none when None.
    """

    def __init__(
        self, net: HierarchicalResNet, budget: float | None = None, seed: int = 0, folds: Folds | None = None
    ) -> None:
        self.net, self.budget, self.seed, self.folds, self.left = net, budget, seed, folds, 0.0
        self._chunks: dict[str, list[Chunk]] = {}
        self._kept_of: FirstLayer | None = None
        self.open()

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.net.n_trained.device

    def open(self, n_processes: int = 1) -> None:
        """Empty the cache and settle its budget, where `n_processes` on this machine share the memory of a CPU."""
        self.clear()
        shared = n_processes if self.device.type == "cpu" else 1
        self.left = FREE_SHARE * free_memory(self.device) / shared if self.budget is None else self.budget

    @torch.no_grad()
    def fill(
        self,
        split: str,
        batches: Iterable[tuple[Tensor, Tensor, Tensor]],
        by_fold: Sequence[Tensor | None] = (),
    ) -> None:
        """Run the trained blocks once over a split's batches.

        Args:
            split: `fit`, `held` or `val`.
            batches: Inputs [B, |G|, d], labels [B, |G|, n] and rows [B] of each.
            by_fold: For each trained block the weights [K, n, q+1] that each fold's rows passed through it with; the
                block's own where there is none.
        """
        self._chunks[split] = []
        self.__dict__.pop("_places", None)
        weight, folds = self.net.block(0).weight, self.folds if split == "fit" else None
        for inputs, labels, rows in batches:
            with memory_for("streams", labels.nbytes + inputs.nbytes):
                inputs = inputs.to(weight)
                stream, own = self.net.embed(inputs), None if folds is None else folds.of(rows)
                labels = self.net.with_neighbours(labels.to(weight), inputs)
                chunk = self._chunk(stream, labels, None if own is None else own.to(weight.device))
                chunk.rows = rows.to(weight.device) if split == "fit" else None
                for index in range(int(self.net.n_trained)):
                    of_folds = by_fold[index] if index < len(by_fold) else None
                    passed = self.net.block(index).weight if of_folds is None else of_folds
                    self._move(chunk, self.net.frozen_block(index), passed)
                stream, kept = self._keep(chunk.stream), self._keep(chunk.labels)
                self._chunks[split].append(replace(chunk, stream=stream, labels=kept))

    def _chunk(self, stream: Tensor, labels: Tensor, folds: Tensor | None = None) -> Chunk:
        return Chunk(stream, labels, folds, self.net.present(stream))

    def get(self, split: str, number: int) -> Chunk | None:
        """Chunk number `number` of a split, if there is one."""
        chunks = self._chunks.get(split, [])
        return self._fetch(chunks[number]) if number < len(chunks) else None

    def chunks(self, split: str, leading: int | None = None) -> Iterator[Chunk]:
        """Return the chunks of a split that this process holds, or the `leading` ones alone."""
        return map(self._fetch, self._chunks.get(split, [])[:leading])

    def n_chunks(self, split: str = "fit", leading: int | None = None) -> int:
        """Return the number of chunks of a split, or of the `leading` ones, the same on all processes."""
        return len(self._chunks.get(split, [])[:leading])

    def n_pairs(self, leading: int | None = None, left_out: int | None = None) -> list[int]:
        """Return the pairs of each chunk that is fitted, or of the `leading` ones, without the rows of a fold."""
        return [chunk.n_pairs_without(left_out) for chunk in self._chunks.get("fit", [])[:leading]]

    def visit(self, block: int, number: int, leading: int | None = None) -> Iterator[Chunk]:
        """Return the chunks that are fitted, or the `leading` ones, in a block's order of a pass, both from 0."""
        chunks = self._chunks.get("fit", [])
        order = self._places[Draws(self.seed, "batch order", block, number).permutation(len(chunks))]
        return (self._fetch(chunks[place]) for place in order if leading is None or place < leading)

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """Where each batch is: chunks are in the order of pass 0 of block 0, in which loaders yield them."""
        return np.argsort(Draws(self.seed, "batch order", 0, 0).permutation(len(self._chunks.get("fit", []))))

    def sample(self, n_pairs: int, without: Tensor | None = None, share: float = 1.0) -> StreamCache:
        """Return the leading rows of those fitted and of those set aside, in a cache of their own, without features.

        Where no rows are set aside, the last fifth of each chunk stands for them.

        Args:
            n_pairs: Pairs that both are to have, on this process, in whole rows.
            without: Labels whose scores are put back to 0, boolean [n].
            share: Share of the fitted rows of a chunk to take, the first ones.
        """
        fit, held = (list(self._leading(split, n_pairs)) for split in ("fit", "held"))
        if not held:
            whole = [(chunk, len(chunk.labels) - len(chunk.labels) // 5) for chunk in fit]
            fit = [self._chunk(chunk.stream[:n], chunk.labels[:n]) for chunk, n in whole]
            held = [self._chunk(chunk.stream[n:], chunk.labels[n:]) for chunk, n in whole]
        for number, chunk in enumerate(fit):
            n_rows = math.ceil(share * len(chunk.labels))
            fit[number] = self._chunk(chunk.stream[:n_rows], chunk.labels[:n_rows])
        if without is not None:
            for chunk in (*fit, *held):
                forgotten = self.net.scores(chunk.stream) * without.to(chunk.stream)
                chunk.stream = self.net.add_scores(chunk.stream, -forgotten)
        return self.of(fit, held)

    def thinned(self, n_chunks: int | None, share: float) -> StreamCache:
        """Return a share of the locations of leading chunks, fitted and set aside: the same on any number of processes.

        Args:
            n_chunks: How many chunks of both; all when None.
            share: In (0, 1]; the locations are drawn, at least one.
        """

        def thin(chunk: Chunk) -> Chunk:
            n_locations = chunk.labels.shape[1]
            order = torch.from_numpy(Draws(self.seed, "thinned", n_locations).permutation(n_locations))
            is_kept = (order < math.ceil(share * n_locations)).to(self.device)
            present = torch.arange(chunk.labels[..., 0].numel(), device=self.device)
            present = present if chunk.present is None else chunk.present
            return replace(
                chunk, present=present[is_kept[present % n_locations]], folds=None, features=None, buffer=None
            )

        return self.of(*([thin(chunk) for chunk in self.chunks(split, n_chunks)] for split in ("fit", "held")))

    def of(self, fit: list[Chunk], held: list[Chunk]) -> StreamCache:
        """Return a cache of these chunks, fitted and set aside, without folds."""
        cache = StreamCache(self.net, self.budget, self.seed)
        cache.left, cache._chunks = self.left, {"fit": fit, "held": held}
        return cache

    def _leading(self, split: str, n_pairs: int) -> Iterator[Chunk]:
        """Yield the leading rows of a split, until they have `n_pairs` pairs."""
        left = math.ceil(n_pairs / self.net.n_locations)
        for chunk in self.chunks(split):
            if left > 0:
                yield self._chunk(chunk.stream[:left], chunk.labels[:left])
                left -= len(chunk.labels)

    def tiles(self, chunk: Chunk, block: Block) -> Iterator[Tile]:
        """Yield a chunk's pairs as a block sees them, by tiles; with its noise where they are fitted."""
        noisy = zip(self._features(chunk, block, is_noisy=True), self.pairs(chunk, block), strict=True)
        for seen, (scores, labels, folds) in noisy:
            yield Tile(seen.to(scores.dtype), scores, labels, folds)

    def pairs(self, chunk: Chunk, block: Block) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Scores [P, n], labels [P, n] and folds [P] of a chunk's pairs, by a block's tiles."""
        scores, labels = (block.of_labels(each) for each in (self.net.scores(chunk.stream), chunk.labels))
        scores, labels = chunk.pairs(scores), chunk.pairs(labels)
        size = block.features.rows_at_once()
        parts = zip(torch.split(scores, size), torch.split(labels, size), strict=True)
        if chunk.folds is None:
            return ((before, truth, None) for before, truth in parts)
        folds = torch.split(chunk.folds_of_pairs, size)
        return ((*part, fold) for part, fold in zip(parts, folds, strict=True))

    def change(self, chunk: Chunk, block: Block, weight: Tensor) -> Tensor:
        """Return the change [B, |G|, n] of a chunk's scores.

        Args:
            chunk: The chunk.
            block: The block.
            weight: Its weight [n, q+1], or one for each fold of the rows, [K, n, q+1].
        """
        if weight.dim() == 3 and chunk.folds is not None:
            tiles = zip(self._features(chunk, block), self.pairs(chunk, block), strict=True)
            changes = [readout_by_fold(seen, weight, folds) for seen, (_, _, folds) in tiles if folds is not None]
        else:
            changes = [readout(seen, weight) for seen in self._features(chunk, block)]
        return chunk.locations(torch.cat(changes))

    def _features(self, chunk: Chunk, block: Block, is_noisy: bool = False) -> Iterator[Tensor]:
        """Return a block's features of a chunk, by the same tiles if kept: sums then round alike, to the bit."""
        is_fitted = is_noisy or chunk.rows is None or block.features.noise is None
        if chunk.features is not None and block.features is self._kept_of and is_fitted:
            return iter(torch.split(chunk.features, block.features.rows_at_once()))
        return block.features.tiles(self.windows(chunk, block, is_noisy))

    def windows(self, chunk: Chunk, block: Block, is_noisy: bool = False) -> Tensor:
        """Return what a block reads of a chunk's pairs, [P, fan_in].

        Args:
            chunk: The chunk.
            block: The block.
            is_noisy: Whether the block's noise is added where the chunk's rows are fitted.
        """
        windows, noise = block.seen(chunk.stream), block.features.noise
        if is_noisy and chunk.rows is not None and noise is not None:
            windows = windows + noise * uniform(chunk.rows, windows.shape[1], len(noise), self.seed, block.index)
        return chunk.pairs(windows)

    def keep_features(self, block: Block) -> None:
        """Compute the block's features of the rows fitted and set aside once, and keep them as far as the budget goes.

        Memory is taken before any are computed: temporary tensors in between would split it.
        """
        self._kept_of = block.features
        if not block.features.is_kept:
            return
        features, kept = block.features, [*self._chunks.get("fit", []), *self._chunks.get("held", [])]
        for chunk in kept:
            self._reserve(chunk, features.n_features, features.dtype)
        for chunk in kept:
            if chunk.buffer is not None:
                windows, rows = self.windows(self._fetch(chunk), block, is_noisy=True), features.rows_at_once()
                for place, tile in zip(torch.split(chunk.buffer, rows), features.tiles(windows), strict=True):
                    place.copy_(tile)
                chunk.features = chunk.buffer

    def _reserve(self, chunk: Chunk, n_features: int, dtype: torch.dtype) -> None:
        if chunk.buffer is not None and (chunk.buffer.shape[1], chunk.buffer.dtype) != (n_features, dtype):
            self.left += chunk.buffer.nbytes
            chunk.buffer = chunk.features = None
        size = chunk.n_pairs * n_features * dtype.itemsize
        if chunk.buffer is None and size <= self.left:
            self.left -= size
            with memory_for("features", size):
                chunk.buffer = torch.empty(chunk.n_pairs, n_features, dtype=dtype, device=self.device)

    def advance(self, block: Block, weight: Tensor, by_fold: Tensor | None = None) -> None:
        """Move every chunk past a block.

        Args:
            block: The block.
            weight: Its weight [n, q+1].
            by_fold: What the rows fitted pass through it with, by their fold, [K, n, q+1]; `weight` when None.
        """
        for split, chunks in self._chunks.items():
            passed = weight if by_fold is None or split != "fit" else by_fold
            for chunk in chunks:
                seen = self._fetch(chunk)
                self._move(seen, block, passed)
                if seen is not chunk:
                    chunk.stream.copy_(seen.stream)
                chunk.features = None

    def _move(self, chunk: Chunk, block: Block, weight: Tensor) -> None:
        """Move the stream of a chunk past a block, in place; see `change`."""
        self.net.add_scores(chunk.stream, self.change(chunk, block, weight), block.labels, in_place=True)

    def clear(self) -> None:
        """Forget everything; memory-mapped files go with the last tensor that uses them."""
        self._chunks.clear()
        self.__dict__.pop("_places", None)

    def _keep(self, tensor: Tensor) -> Tensor:
        if tensor.nbytes > self.left:
            return mapped(tensor)
        self.left -= tensor.nbytes
        return tensor

    def _fetch(self, chunk: Chunk) -> Chunk:
        if chunk.stream.device == chunk.labels.device == self.device:
            return chunk
        return replace(chunk, stream=chunk.stream.to(self.device), labels=chunk.labels.to(self.device))
