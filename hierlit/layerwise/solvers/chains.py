"""Rows that pass through the blocks by fits that left them out, and the kernels that radial units make of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hierlit.draws import Draws
from hierlit.models.radial_units import profile, squared_distances
from hierlit.models.resnet import HierarchicalResNet

if TYPE_CHECKING:
    from hierlit.layerwise.stream import StreamCache

JITTER = 1e-7
"""Added to the diagonal of the units' own kernel, for each unit: about what rounding takes away."""


class Kernel(NamedTuple):
    """A radial kernel: its power, 1 or 2, and its bandwidth."""

    power: float
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
    folds: Tensor

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


class RowKernel:
    """A radial kernel of a chain's pairs; the first block reads the inputs, later ones the scores alone.

    Args:
        net: The network.
        block: Number of the block, from 0.
        chain: The rows.
        kernel: Power, and bandwidth where what is read has together the variance 1 over the pairs.
        n_units: Units at most: all pairs, or so many drawn at random (Nyström's approximation).
        seed: Seed of that draw.

    Attributes:
        units: Windows [q, fan_in] of the pairs that are units.
        coordinates: 1 for what is read of a window, else 0, [fan_in].
        scale: s of `RadialUnits`.
        power: p of `RadialUnits`.
        means: μ [q] of `RadialUnits`.
        table: Centred features [m, q] of the pairs.
    """

    def __init__(
        self, net: HierarchicalResNet, block: int, chain: Chain, kernel: Kernel, n_units: int, seed: int
    ) -> None:
        channels = torch.arange(net.n_inputs + net.n_labels)
        is_read = ((channels < net.n_inputs) == (block == 0)).repeat(net.windows.size).to(chain.stream.device)
        windows = net.windows(chain.stream).flatten(0, -2)
        chosen = torch.arange(len(windows))
        if n_units < len(windows):
            drawn = Draws(seed, "units", block).permutation(len(windows))[:n_units]
            chosen = torch.from_numpy(drawn).sort().values
        self.units, self.coordinates = windows[chosen.to(windows.device)], is_read.to(windows)
        read, self._chosen = windows[:, is_read], chosen.to(windows.device)
        variance = float(read.double().var(0).sum())
        self.power = kernel.power
        self.scale = 1 / (kernel.bandwidth * math.sqrt(variance)) if variance > 0 else 1.0
        self.table = profile(squared_distances(read, read[self._chosen]).mul_(self.scale**2), kernel.power)
        self.means = self.table.mean(0)
        self.table -= self.means

    @cached_property
    def factor(self) -> Tensor:
        """Cholesky factor L [q, q] of the units' own kernel: their squared norm as a function is ‖LᵀA‖²."""
        return self._factorise(JITTER * len(self.units))

    def _factorise(self, jitter: float) -> Tensor:
        own = self.table[self._chosen] + self.means
        own.diagonal().add_(jitter)
        factor, failed = torch.linalg.cholesky_ex(own)
        return self._factorise(10 * jitter) if failed else factor

    @property
    def is_whole(self) -> bool:
        """Whether every pair is a unit."""
        return len(self.units) == len(self.table)

    @cached_property
    def white(self) -> Tensor:
        """Features Ψ [m, q] whose weights have the Euclidean norm of their function."""
        return self.whiten(self.table)

    def gram(self) -> Tensor:
        """K = ΨΨᵀ [m, m]; for all pairs as units, the kernel itself, centred."""
        return self.table - self.table.mean(1, keepdim=True) if self.is_whole else self.white @ self.white.T

    def weights(self, duals: Tensor) -> Tensor:
        """A [n, q] of the function ΨᵀA, A = Ψᵀa, of duals a [m, n]."""
        return duals.T if self.is_whole else self.unwhiten(duals.T @ self.white)

    def whiten(self, gradient: Tensor) -> Tensor:
        """A gradient [n, q] in A, in white coordinates."""
        solved: Tensor = torch.linalg.solve_triangular(self.factor, gradient.T, upper=False)
        return solved.T

    def unwhiten(self, weights: Tensor) -> Tensor:
        """Weights [n, q] in white coordinates, as A."""
        solved: Tensor = torch.linalg.solve_triangular(self.factor.T, weights.T, upper=True)
        return solved.T
