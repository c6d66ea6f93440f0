"""What another block would do: solved on the stream as it stands, measured on rows set aside, and thrown away."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hierlit.layerwise.losses import SquaredLoss
from hierlit.layerwise.moments import Moments, calibrate, set_aside_errors
from hierlit.layerwise.solvers.ridge import RESOLUTION, RidgePath
from hierlit.models.proximity import Identity, Proximity, Window1d, Window2d, Windows
from hierlit.models.resnet import HierarchicalResNet, ResidualBlock

if TYPE_CHECKING:
    from hierlit.training.task import LayerwiseTask

N_PAIRS = 4096
"""Pairs that a probe is fitted to, of all processes."""
ALPHAS = (1e-5, 1e-3, 1e-1)
"""Candidates for λ, fewer than the exact solver has: factorising is most of the work of a wide block."""
PROBE = 10**6
"""Its place among the seeds of draws."""


@dataclass(frozen=True)
class Probe:
    """Mean squares of y − ŷ, by label, on the CPU.

    Attributes:
        now: On the set-aside rows of all processes, once the best constant is added, [n].
        after: The same after a further block, for each width, [S, n].
        fitted: On the rows that the block was fitted to, [S, n].
        n_pairs: Pairs that it was fitted to.
    """

    now: Tensor
    after: Tensor
    fitted: Tensor
    n_pairs: int


@torch.no_grad()
def probe(
    task: LayerwiseTask,
    sizes: Sequence[int],
    without: Tensor | None = None,
    table: Tensor | None = None,
    share: float = 1.0,
) -> Probe:
    """Solves a further block in several widths; all processes must call it, between two blocks, with streams filled.

    The block is drawn as the run's blocks are, without adaptation if scores are taken out, and solved by ridge
    regression on `N_PAIRS` pairs, each label with the best λ on as many set-aside pairs.

    Args:
        task: The task.
        sizes: S numbers of features, ascending; the narrower blocks are parts of the widest.
        without: Labels whose scores are taken out of the stream before, boolean [n]: the block then stands for all
            blocks that have tried to learn them.
        table: Windows [|G|, w], the network's own when None.
        share: Share of those rows to fit.
    """
    net, loss = task.net, replace(task.loss, margin_loss=SquaredLoss())
    streams = task.streams.sample(math.ceil(N_PAIRS / task.trainer.world_size), without, share)
    with another_block(net, sizes[-1], net.windows.table if table is None else table, task.weight_seed) as at:
        if task.adaptation is not None and without is None:
            task.adaptation.redraw(net, at, streams, task.reduce, loss, task.weight_seed)
        moments = calibrate(net, at, streams, task.reduce, loss)
        paths = [part_path(moments, size, RESOLUTION[task.active.dtype]) for size in sizes]
        weights = [padded(path.weights, sizes[-1]) for path in paths]
        errors = set_aside_errors(net, at, streams, task.reduce, torch.cat(weights).to(task.active), loss)
    split = torch.split(errors.after, [len(part) for part in weights])
    best = [part.argmin(0, keepdim=True) for part in split]
    after = [part.gather(0, chosen)[0] for part, chosen in zip(split, best, strict=True)]
    fitted = [path.residual(moments.power).gather(0, chosen)[0] for path, chosen in zip(paths, best, strict=True)]
    return Probe(errors.before.cpu(), torch.stack(after).cpu(), torch.stack(fitted).cpu(), moments.n_pairs)


def part_path(moments: Moments, size: int, resolution: float) -> RidgePath:
    """Ridge regression on the first features of a block, and the constant one."""
    kept = torch.cat([torch.arange(size), torch.tensor([-1])]).to(moments.gram.device)
    return RidgePath(moments.gram[kept][:, kept], moments.cross[:, kept], ALPHAS, resolution)


def padded(weights: Tensor, size: int) -> Tensor:
    """Weights [A, n, q+1] of the first q of `size` features as weights of all of them, [A, n, size+1]."""
    wide = weights.new_zeros(*weights.shape[:2], size + 1)
    wide[..., : weights.shape[2] - 1], wide[..., -1] = weights[..., :-1], weights[..., -1]
    return wide


@contextmanager
def another_block(net: HierarchicalResNet, n_features: int, table: Tensor, seed: int) -> Iterator[int]:
    """Gives a network one more block, with windows of its own, and takes both away again; yields its number."""
    windows, device = net.windows, net.n_trained.device
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, PROBE]).generate_state(1)[0]))
    fan_in = table.shape[1] * (net.n_inputs + net.n_labels)
    features = net.first_layers.first_layer(fan_in, n_features, generator)
    features.rounding = net.rounding
    net.blocks.append(ResidualBlock(features, net.n_labels).to(net.block(0).weight))
    net.windows = Windows(table).to(device)
    try:
        yield len(net.blocks) - 1
    finally:
        del net.blocks[-1]
        net.windows = windows


def widened(proximity: Proximity, n_locations: int) -> Tensor | None:
    """The windows [|G|, w'] of the next wider proximity: one location more on every side, or two steps and not one.

    Where each location sees itself alone, locations are taken to lie on a ring. None if nothing more can be seen.
    """
    if isinstance(proximity, Identity):
        proximity = Window1d(1)
    table = proximity.table(n_locations)
    if isinstance(proximity, Window1d | Window2d):
        try:
            return replace(proximity, size=proximity.size + 2).table(n_locations)
        except ValueError:
            return None
    beyond = torch.cat([table, table.new_full((1, table.shape[1]), -1)])
    wide = torch.unique(beyond[table].flatten(1), dim=1)
    return wide if wide.shape[1] > table.shape[1] else None
