"""Rows that pass through the blocks by fits that left them out, and the kernels that a block's W¹ makes of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hierlit.draws import Draws
from hierlit.models.resnet import HierarchicalResNet
from hierlit.solvers.fold_ridge import SLAB, row_gram

if TYPE_CHECKING:
    from hierlit.stream import StreamCache

SMALLEST = 0.01
"""Least |N(0, 1)| that a row of W¹ is divided by."""


class Draw(NamedTuple):
    """How a block's W¹ is made of its β-Xavier draw: normal or cauchy rows, and the kernel's bandwidth."""

    tail: str
    bandwidth: float


@dataclass
class Chain:
    """Rows and their stream before the active block, whose scores are of fits that these rows took no part in.

    Attributes:
        stream: [x, scores] of m rows, [m, |G|, d+n].
        labels: [m, |G|, n].
        folds: The fold of each pair (row, location), [m·|G|].
    """

    stream: Tensor
    labels: Tensor
    folds: Tensor = field(default_factory=lambda: torch.empty(0))

    @classmethod
    def of_rows(cls, net: HierarchicalResNet, streams: StreamCache, n_folds: int, seed: int) -> Chain:
        """All training rows, in the order of their chunks, every one in a fold drawn at random."""
        parts = [(net.split(chunk.stream), chunk.labels) for chunk in streams.chunks("train")]
        stream, labels = (torch.cat(column) for column in zip(*parts, strict=True))
        order = torch.from_numpy(Draws(seed, "folds").permutation(len(stream)))
        return cls(stream, labels, (order % n_folds).to(stream.device).repeat_interleave(labels.shape[1]))

    def some(self, n_rows: int, seed: int) -> Chain:
        """A copy of at most so many rows, drawn at random."""
        chosen = torch.from_numpy(Draws(seed, "choice rows").permutation(len(self.stream)))[:n_rows].sort().values
        rows = chosen.to(self.stream.device)
        folds = self.folds.view(len(self.stream), -1)[rows].flatten()
        return Chain(self.stream[rows], self.labels[rows], folds)

    def advance(self, change: Tensor) -> None:
        """Adds a block's change [m·|G|, n] to the scores."""
        self.stream[..., -self.labels.shape[-1] :] += change.view_as(self.labels)


class Kernel:
    """The features of a chain's pairs under a draw; the first block reads the inputs, later ones the scores alone.

    Args:
        net: The network.
        block: Number of the block, from 0.
        base: The block's β-Xavier draw [q, fan_in], acting on windows of [x, scores].
        chain: The rows.
        draw: Tail and bandwidth.
        seed: Seed of the tail.

    Attributes:
        weight: W¹ [q, fan_in], acting on windows of [x, scores].
        scale: s of `RandomFeatures`: 1 / bandwidth where what is read has together the variance 1 over the pairs.
    """

    def __init__(self, net: HierarchicalResNet, block: int, base: Tensor, chain: Chain, draw: Draw, seed: int) -> None:
        features, channels = net.block(block).features, torch.arange(net.n_inputs + net.n_labels)
        read = ((channels < net.n_inputs) == (block == 0)).repeat(net.windows.size).to(base.device)
        self.weight = base * read
        if draw.tail == "cauchy":
            generator = torch.Generator().manual_seed(int(Draws(seed, "tail", block).words(1)[0] >> 1))
            divisor = torch.randn(len(base), 1, generator=generator).abs().clamp(min=SMALLEST)
            self.weight /= divisor.to(base)
        self._windows = net.windows(chain.stream).flatten(0, -2)[:, read]
        variance = float(self._windows.double().var(0).sum())
        self.scale = math.sqrt(base.shape[1] / variance) / draw.bandwidth if variance > 0 else 1.0
        self._read, self._bias, self._activation = self.weight[:, read] * self.scale, features.bias, features.activation

    def slab(self, first: int, last: int) -> Tensor:
        """Features number first to last − 1 of all pairs, not centred."""
        seen = torch.addmm(self._bias[first:last], self._windows, self._read[first:last].T)
        return self._activation(seen)

    def gram(self) -> tuple[Tensor, Tensor]:
        """K [m, m] of centred features, and their means [q]."""
        return row_gram(self.slab, len(self._windows), len(self.weight), self._windows)

    def weights(self, duals: Tensor, means: Tensor) -> Tensor:
        """Φᵀa [n, q] of a [m, n], of centred features Φ."""
        starts = range(0, len(means), SLAB)
        parts = [duals.T @ (self.slab(at, at + SLAB) - means[at : at + SLAB]) for at in starts]
        return torch.cat(parts, 1)

    def scores(self, weights: Tensor, means: Tensor) -> Tensor:
        """Φw [m, n] of weights w [n, q], of centred features Φ."""
        total = weights.new_zeros(len(self._windows), len(weights))
        for at in range(0, len(means), SLAB):
            total.addmm_(self.slab(at, at + SLAB) - means[at : at + SLAB], weights[:, at : at + SLAB].T)
        return total
