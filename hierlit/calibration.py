"""What a block takes from the training rows before it is trained: scale and mean of its features, and its F_k."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hierlit.losses import MarginLoss, masked_loss
from hierlit.models.resnet import HierarchicalResNet
from hierlit.stream import StreamCache

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over all processes."""


@dataclass
class Moments:
    """Sums over all training pairs, divided by their number.

    Attributes:
        n_pairs: m|G|, rows times locations.
        gram: Mean outer product of the centred features, [q, q] float64.
    """

    n_pairs: int
    gram: Tensor


@torch.no_grad()
def calibrate(net: HierarchicalResNet, block: int, streams: StreamCache, reduce: Reduce) -> Moments:
    """Sets the block's input scale and feature mean from the fit rows of all processes, and returns their moments."""
    features = net.block(block).features
    features.scale.fill_(_input_scale(net, streams, reduce))
    features.mean.zero_()
    total = torch.zeros(features.mean.shape[0] + 1, dtype=torch.float64, device=features.mean.device)
    for chunk in streams.chunks("train"):
        raw = net.features(chunk.stream, block).flatten(0, -2)
        total[:-1] += raw.double().sum(0)
        total[-1] += len(raw)
    total = reduce(total)
    features.mean.copy_(total[:-1] / total[-1])
    streams.keep_features("train", block)
    gram = torch.zeros(len(total) - 1, len(total) - 1, dtype=torch.float64, device=total.device)
    for chunk in streams.chunks("train"):
        centred = streams.features(chunk, block).flatten(0, -2)
        gram += centred.T @ centred
    return Moments(int(total[-1]), reduce(gram) / total[-1])


@torch.no_grad()
def initial_objective(
    net: HierarchicalResNet, loss: MarginLoss, streams: StreamCache, n_pairs: int, reduce: Reduce
) -> Tensor:
    """Each label's F_k at W²_k = 0, [n]."""
    total = torch.zeros(net.n_labels, dtype=torch.float64, device=net.n_trained.device)
    for chunk in streams.chunks("train"):
        total += masked_loss(loss, net.scores(chunk.stream), chunk.labels).flatten(0, -2).sum(0) / n_pairs
    return reduce(total)


def _input_scale(net: HierarchicalResNet, streams: StreamCache, reduce: Reduce) -> float:
    """The factor that gives the block's windows squared norm fan_in, as `net.input_scale` understands it."""
    if net.input_scale == "fan_in":
        return 1.0
    width = net.n_inputs + net.n_labels
    sums = torch.zeros(3, width, dtype=torch.float64, device=net.n_trained.device)
    for chunk in streams.chunks("train"):
        stream = net.split(chunk.stream).flatten(0, -2).double()
        sums += torch.stack([torch.full((width,), len(stream)).to(sums), stream.sum(0), stream.square().sum(0)])
    count, total, power = reduce(sums)
    if net.input_scale == "rms":
        norm = float((power / count).sum())
    else:
        variance = power / count - (total / count).square()
        norm = float((variance > 1e-9 * variance.max()).sum())
    return math.sqrt(width / norm) if norm > 0 else 1.0
