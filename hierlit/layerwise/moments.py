"""What a block takes from the training rows before it is trained: scale and mean of its features, and their moments."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hierlit.layerwise.stream import Chunk, StreamCache
from hierlit.layerwise.unobserved import LabelLoss
from hierlit.models.resnet import HierarchicalResNet, readout

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over all processes."""

MEAN_PAIRS = 8192
"""Pairs that the features' mean is taken over: centring makes steps longer, it need not be exact."""
FLUSH_PAIRS = 8192
"""Pairs summed in the features' own precision before the sum joins the float64 total."""
PANELS = 4
"""Column panels of a symmetric product, of which those below the diagonal are not computed."""


@dataclass
class Moments:
    """Sums over the training pairs of all processes, divided by their number; features end in the constant one.

    Attributes:
        n_pairs: m|G|, rows times locations.
        gram: Mean outer product of the features, [q+1, q+1] float64.
        cross: Mean product of the residuals y − ŷ (weighted by `LabelLoss.targets`) and features, [n, q+1] float64.
        power: Mean squared residuals, [n] float64.
        objective: Each label's F_k at W²_k = 0, [n] float64; its constants are filled in for these pairs.
    """

    n_pairs: int
    gram: Tensor
    cross: Tensor
    power: Tensor
    objective: Tensor

    @cached_property
    def largest_eigenvalue(self) -> float:
        """That of the Gram matrix."""
        return float(torch.linalg.eigvalsh(self.gram)[-1])


@torch.no_grad()
def calibrate(
    net: HierarchicalResNet,
    block: int,
    streams: StreamCache,
    reduce: Reduce,
    loss: LabelLoss,
    leading: int | None = None,
    dtype: torch.dtype | None = None,
) -> Moments:
    """Sets the block's input scale and feature mean from the fit rows, and takes its moments.

    Args:
        net: The network.
        block: Number of the block, from 0.
        streams: The stream before the block; features are kept there, as far as its budget goes, if all chunks count.
        reduce: Sums over processes.
        loss: Of scores and labels, for the objective and the residuals.
        leading: Chunks to take the moments of, all when None.
        dtype: What products of features are summed in, the weights' own when None. The float32 sums of two partitions
            of the rows differ by more than a solution can bear.

    Raises:
        FloatingPointError: If a feature is not finite.
    """
    calibrate_features(net, block, streams, reduce)
    return take_moments(net, block, streams, reduce, loss, leading, dtype)


@torch.no_grad()
def calibrate_features(net: HierarchicalResNet, block: int, streams: StreamCache, reduce: Reduce) -> None:
    """Sets a block's input scale and feature mean from the fit rows of the stream; arguments are `calibrate`'s."""
    features = net.block(block).features
    features.scale.fill_(_input_scale(net, features.input_scale, streams, reduce))
    features.mean.copy_(_mean(net, block, streams, reduce))


@torch.no_grad()
def take_moments(
    net: HierarchicalResNet,
    block: int,
    streams: StreamCache,
    reduce: Reduce,
    loss: LabelLoss,
    leading: int | None = None,
    dtype: torch.dtype | None = None,
    products: bool = True,
) -> Moments:
    """The moments of a calibrated block, in one pass over the fit rows; arguments and errors are `calibrate`'s.

    Without `products` no feature is computed, and what is a mean product of features is 0 × 0.
    """
    features = net.block(block).features
    if leading is None and products:
        streams.keep_features("train", block)
        streams.keep_features("held", block)
    count = reduce(_count(net, streams.chunks("train", leading)))
    loss = loss.for_data(int(count))
    width, n = (len(features.weight) + 1) * products, net.n_labels
    gram = torch.zeros(width, width, dtype=torch.float64, device=count.device)
    cross, sums = gram.new_zeros(n, width), gram.new_zeros(2, n)
    partial, summed = torch.zeros_like(gram, dtype=dtype or features.weight.dtype), 0
    for chunk in streams.chunks("train", leading):
        if not products:
            sums += residual_sums(loss, net.scores(chunk.stream).flatten(0, -2), chunk.labels.flatten(0, -2))[1]
            continue
        for tile in streams.tiles(chunk, block):
            if summed >= FLUSH_PAIRS:
                gram += partial
                partial, summed = partial.zero_(), 0
            seen = tile.features.to(partial)
            add_product(partial[:-1, :-1], seen)
            partial[:-1, -1] += seen.sum(0)
            summed += len(seen)
            residual, of_tile = residual_sums(loss, tile.scores, tile.labels)
            cross[:, :-1] += residual.to(partial).T @ seen
            cross[:, -1] += residual.to(partial).sum(0)
            sums += of_tile
    gram += partial
    gram, cross, sums = (reduce(total) / count for total in (gram, cross, sums))
    if not gram.isfinite().all():
        raise FloatingPointError(f"the features are not finite in block {block + 1}: check the size of the inputs")
    gram[-1:, -1:] = 1.0
    gram = gram.triu() + gram.triu(1).T
    return Moments(int(count), gram, cross, *sums)


def residual_sums(loss: LabelLoss, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Residuals y − ŷ [P, n] by weight, and sums [2, n] of their squares and of the losses."""
    targets, weights = loss.targets(labels)
    residual = (targets - scores) * weights
    return residual, torch.stack([residual.square().sum(0), loss(scores, labels).sum(0)])


@dataclass
class SetAsideErrors:
    """Mean squared residuals on the set-aside rows of all processes, over the pairs where a label is observed.

    Attributes:
        before: Those that the best constant leaves of the residuals before the block, [n].
        after: Those that each of A candidate weights leaves, [A, n].
        observed: Number of such pairs, by weight, [n].
    """

    before: Tensor
    after: Tensor
    observed: Tensor


@torch.no_grad()
def set_aside_errors(
    net: HierarchicalResNet, block: int, streams: StreamCache, reduce: Reduce, weights: Tensor, loss: LabelLoss
) -> SetAsideErrors:
    """What candidate weights [A, n, q+1] of a block leave of the residuals y − ŷ on the set-aside rows."""
    flat, shape = weights.flatten(0, 1), weights.shape[:2]
    totals = torch.zeros(shape[0] + 3, shape[1], dtype=torch.float64, device=weights.device)
    for chunk in streams.chunks("held"):
        for tile in streams.tiles(chunk, block):
            goals, seen = loss.targets(tile.labels)
            residual, root = goals - tile.scores, seen.sqrt()
            changes = readout(tile.features, flat).view(-1, *shape)
            left = changes.sub_(residual[:, None]).mul_(root[:, None]).square_().sum(0)
            sums = [seen.sum(0), (residual * seen).sum(0), (residual.square() * seen).sum(0)]
            totals += torch.cat([left, torch.stack(sums)])
    *after, observed, total, power = reduce(totals)
    count = observed.clamp(min=1)
    return SetAsideErrors((power - total.square() / count) / count, torch.stack(after) / count, observed)


def add_product(total: Tensor, rows: Tensor) -> None:
    """Adds rowsᵀ·rows [q, q] of rows [P, q] to a total, on and above the diagonal only (and in blocks on it)."""
    step = -(-len(total) // PANELS)
    for first in range(0, len(total), step):
        total[first : first + step, first:].addmm_(rows[:, first : first + step].T, rows[:, first:])


def leading_chunks(net: HierarchicalResNet, streams: StreamCache, reduce: Reduce, n_pairs: int) -> int:
    """Number of leading chunks, each as large as the largest over all processes, that would hold `n_pairs` pairs."""
    largest = max((chunk.labels[..., 0].numel() for chunk in streams.chunks("train")), default=0)
    together = reduce(torch.tensor(largest, dtype=torch.float64, device=net.n_trained.device))
    return math.ceil(n_pairs / max(1.0, float(together)))


def _count(net: HierarchicalResNet, chunks: Iterator[Chunk]) -> Tensor:
    pairs = sum(chunk.labels[..., 0].numel() for chunk in chunks)
    return torch.tensor(pairs, dtype=torch.float64, device=net.n_trained.device)


def _mean(net: HierarchicalResNet, block: int, streams: StreamCache, reduce: Reduce) -> Tensor:
    """Mean [q] of the block's features over the leading pairs."""
    features = net.block(block).features
    features.mean.zero_()
    leading = leading_chunks(net, streams, reduce, MEAN_PAIRS)
    total = torch.zeros(len(features.mean) + 1, dtype=torch.float64, device=features.mean.device)
    for chunk in streams.chunks("train", leading):
        for raw in features.tiles(net.windows(chunk.stream).flatten(0, -2)):
            total[:-1] += raw.to(features.mean.dtype).sum(0)
            total[-1] += len(raw)
    total = reduce(total)
    return total[:-1] / total[-1]


def _input_scale(net: HierarchicalResNet, kind: str, streams: StreamCache, reduce: Reduce) -> float:
    """The factor that gives the block's windows squared norm fan_in, as a kind of `INPUT_SCALES` understands it."""
    if kind == "fan_in":
        return 1.0
    width = net.n_inputs + net.n_labels
    sums = torch.zeros(3, width, dtype=torch.float64, device=net.n_trained.device)
    for chunk in streams.chunks("train"):
        stream = net.split(chunk.stream).flatten(0, -2).double()
        sums += torch.stack([torch.full((width,), len(stream)).to(sums), stream.sum(0), stream.square().sum(0)])
    count, total, power = reduce(sums)
    if kind == "rms":
        norm = float((power / count).sum())
    else:
        variance = power / count - (total / count).square()
        norm = float((variance > 1e-9 * variance.max()).sum())
    return math.sqrt(width / norm) if norm > 0 else 1.0
