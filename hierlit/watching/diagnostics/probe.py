"""What another block would do: solved on the rows as they stand, measured on rows set aside, and thrown away."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hierlit.draws import generator_of
from hierlit.layerwise.adaptive_draw import AdaptiveDraw
from hierlit.layerwise.moments import Moments
from hierlit.layerwise.problem import BlockProblem
from hierlit.layerwise.solvers.ridge import RESOLUTION, RidgePath
from hierlit.models.block import Block
from hierlit.models.proximity import Identity, Proximity, Window1d, Window2d, Windows

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
    problem: BlockProblem,
    sizes: Sequence[int],
    adaptation: AdaptiveDraw | None = None,
    without: Tensor | None = None,
    windows: Tensor | None = None,
    share: float = 1.0,
) -> Probe:
    """Solve a further block in several widths; all processes must call it.

    The block is drawn as the network's blocks are, without adaptation if scores are taken out, and solved by ridge
    regression on `N_PAIRS` pairs, each label with the best λ on as many set-aside pairs.

    Args:
        problem: A block of the network, whose rows are as they stand; its own features are not read.
        sizes: S numbers of features, ascending; the narrower blocks are parts of the widest.
        adaptation: How the network's blocks are redrawn.
        without: Labels whose scores are taken out of the stream before, boolean [n]: the block then stands for all
            blocks that have tried to learn them.
        windows: Windows [|G|, w], the network's own when None.
        share: Share of those rows to fit.
    """
    n_labels, n_scores = problem.rows.net.n_labels, problem.rows.net.n_scores
    without = None if without is None else without.repeat(n_scores // n_labels)
    rows = problem.rows.sample(math.ceil(N_PAIRS / problem.processes.number), without, share)
    few = replace(problem.squared(), block=another_block(problem, sizes[-1], windows), rows=rows)
    if adaptation is not None and without is None:
        adaptation(few)
    few.calibrate()
    moments, dtype = few.moments(), few.penalty.dtype
    paths = [part_path(moments, size, RESOLUTION[dtype]) for size in sizes]
    weights = [padded(path.weights, sizes[-1]) for path in paths]
    errors = few.held_errors(torch.cat(weights).to(dtype))
    split = torch.split(errors.after, [len(part) for part in weights])
    best = [part.argmin(0, keepdim=True) for part in split]
    after = [part.gather(0, chosen)[0] for part, chosen in zip(split, best, strict=True)]
    fitted = [path.residual(few.power).gather(0, chosen)[0] for path, chosen in zip(paths, best, strict=True)]
    now, later, of_fit = (
        part[..., :n_labels].cpu() for part in (errors.before, torch.stack(after), torch.stack(fitted))
    )
    return Probe(now, later, of_fit, moments.n_pairs)


def another_block(problem: BlockProblem, n_features: int, windows: Tensor | None = None) -> Block:
    """Return one more block of a problem's network, drawn of this width for windows [|G|, w]; its own when None."""
    net = problem.rows.net
    generator = generator_of(problem.seed, PROBE)
    seen = net.windows if windows is None else Windows(windows).to(problem.penalty.device)
    features = net.features.first_layer(seen.size * (net.n_inputs + net.n_scores), n_features, generator)
    features.rounding = net.rounding
    return Block(features.to(problem.penalty), seen, len(net.blocks))


def part_path(moments: Moments, size: int, resolution: float) -> RidgePath:
    """Ridge regression on the first features of a block, and the constant one."""
    kept = torch.cat([torch.arange(size), torch.tensor([-1])]).to(moments.gram.device)
    return RidgePath.of_alphas(moments.gram[kept][:, kept], moments.cross[:, kept], ALPHAS, resolution)


def padded(weights: Tensor, size: int) -> Tensor:
    """Weights [A, n, q+1] of the first q of `size` features as weights of all of them, [A, n, size+1]."""
    wide = weights.new_zeros(*weights.shape[:2], size + 1)
    wide[..., : weights.shape[2] - 1], wide[..., -1] = weights[..., :-1], weights[..., -1]
    return wide


def widened(proximity: Proximity, n_locations: int, periodic: bool = True) -> Tensor | None:
    """Windows [|G|, w'] of the next wider proximity: one location more on every side, or two steps and not one.

    Where each location sees itself alone, locations are taken to lie on a ring, or unless `periodic` on a line. None if
    nothing more can be seen.
    """
    if isinstance(proximity, Identity):
        proximity = Window1d(1, periodic)
    table = proximity.table(n_locations)
    if isinstance(proximity, Window1d | Window2d):
        try:
            return replace(proximity, size=proximity.size + 2).table(n_locations)
        except ValueError:
            return None
    beyond = torch.cat([table, table.new_full((1, table.shape[1]), -1)])
    wide = torch.unique(beyond[table].flatten(1), dim=1)
    return wide if wide.shape[1] > table.shape[1] else None
