"""Problems of plain tensors: tables of rows, networks, their streams, and blocks trained on them without a Trainer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierlit.layerwise import (
    Acceptance,
    BlockProblem,
    BlockReport,
    Folds,
    LabelLoss,
    Pass,
    Processes,
    Solver,
    SquaredLoss,
    Stopping,
    StreamCache,
    train,
)
from hierlit.layerwise.losses import MarginLoss
from hierlit.layerwise.solvers import GradientSolver
from hierlit.models import HierarchicalResNet, Window1d

Array = NDArray[np.float64]
Batches = list[tuple[Tensor, Tensor, Tensor]]
ALL = Acceptance("none")


@dataclass
class Table:
    """Rows: inputs [N, |G|, d] and labels [N, |G|, n], of which the last `n_held` are set aside."""

    inputs: Tensor
    labels: Tensor
    n_held: int = 0
    batch_size: int = 64

    def batches(self, split: str = "fit") -> Batches:
        """Inputs, labels and rows of each batch of `fit` or `held`."""
        rows = torch.arange(len(self.inputs)).tensor_split([len(self.inputs) - self.n_held])[split == "held"]
        return [(self.inputs[part], self.labels[part], part) for part in rows.split(self.batch_size) if len(part)]

    def rows(self, split: str = "fit") -> tuple[Tensor, Tensor]:
        """Inputs and labels of `fit` or `held`."""
        inputs, labels, _ = zip(*self.batches(split), strict=True)
        return torch.cat(inputs), torch.cat(labels)


def hide(labels: Tensor, share: float, seed: int = 0) -> Tensor:
    """Labels of which a share is not observed."""
    seen = np.random.default_rng([seed, 1]).random(labels.shape) >= share
    return labels * torch.from_numpy(seen).to(labels)


def xors(n_rows: int = 270, missing: float = 0.0, n_held: int = 54, batch_size: int = 64, seed: int = 0) -> Table:
    """Rows of 6 signs with two XORs and a majority as labels, a share of them missing."""
    x = torch.from_numpy(np.random.default_rng(seed).choice([-1.0, 1.0], (n_rows, 1, 6))).float()
    majority = (x[..., 0] + x[..., 4] + x[..., 5]).sign()
    labels = torch.stack([x[..., 0] * x[..., 1], x[..., 2] * x[..., 3], majority], -1)
    return Table(x, hide(labels, missing), n_held, batch_size)


def automaton(
    n_rows: int = 40, n_levels: int = 3, n_cells: int = 16, flips: float = 0.0, rule: int = 110, seed: int = 0
) -> Table:
    """Rings of cells under Wolfram's rule: the input of a cell is its state, its labels are its next states."""
    draw = np.random.default_rng(seed)
    states, history = draw.integers(0, 2, (n_rows, n_cells)), []
    start = states
    for _ in range(n_levels):
        states = rule >> (4 * np.roll(states, 1, 1) + 2 * states + np.roll(states, -1, 1)) & 1
        history.append(states)
    labels = (2.0 * np.stack(history, 2) - 1) * np.where(draw.random((n_rows, n_cells, n_levels)) < flips, -1, 1)
    inputs = 2.0 * start[:, :, None] - 1
    return Table(torch.from_numpy(inputs).float(), torch.from_numpy(labels).float(), n_rows // 5, 12)


def network(table: Table, n_blocks: int = 2, n_features: int = 20, **arguments: Any) -> HierarchicalResNet:
    """A network for a table; where rows have several locations, windows are of three."""
    n_locations = table.inputs.shape[1]
    arguments = {"proximity": Window1d(3) if n_locations > 1 else None, **arguments}
    sizes = {"n_blocks": n_blocks, "n_features": n_features}
    return HierarchicalResNet(table.inputs.shape[2], table.labels.shape[2], n_locations, **sizes, **arguments)


def tile(net: HierarchicalResNet, n_pairs: int) -> HierarchicalResNet:
    """The network, its features computed so many pairs at a time."""
    for block in net.blocks:
        block.features.rows_at_once = lambda: n_pairs
    return net


def stream(
    net: HierarchicalResNet,
    table: Table,
    budget: float | None = None,
    folds: Folds | None = None,
    by_fold: list[Tensor] | tuple[()] = (),
    seed: int = 0,
) -> StreamCache:
    """The rows of a table before the first block that is not trained."""
    rows = StreamCache(net, budget, seed, folds)
    rows.fill("fit", table.batches("fit"), by_fold)
    rows.fill("held", table.batches("held"))
    return rows


def label_loss(loss: MarginLoss | LabelLoss | None) -> LabelLoss:
    """A loss of scores and labels, which ignores those that are not observed."""
    return loss if isinstance(loss, LabelLoss) else LabelLoss(loss or SquaredLoss())


def problem(
    rows: StreamCache, index: int = 0, loss: MarginLoss | LabelLoss | None = None, penalty: float = 1e-3
) -> BlockProblem:
    """A block of the network of some rows, which are before it."""
    net = rows.net
    at = torch.full((net.n_labels,), penalty).to(net.block(0).weight)
    return BlockProblem(net.frozen_block(index), rows, label_loss(loss), at)


class Trained(NamedTuple):
    """What became of each block: its report and its last pass; and the rows past the last block."""

    reports: list[BlockReport]
    last: list[Pass]
    rows: StreamCache

    @property
    def reasons(self) -> list[str]:
        """Why each block ended."""
        return [report.stop_reason for report in self.reports]

    def penalty(self, index: int = -1) -> Array:
        """λ of each label of a block, [n]."""
        certificate = self.last[index].certificate
        assert certificate is not None
        return certificate.modulus.numpy()


def train_all(
    net: HierarchicalResNet,
    rows: Table | StreamCache,
    solver: Solver | None = None,
    loss: MarginLoss | LabelLoss | None = None,
    *,
    tolerance: float | None = None,
    relative: float = 0.01,
    max_epochs: int = 2000,
    **options: Any,
) -> Trained:
    """Train all blocks; options are those of `layerwise.train`, but every label follows every block by default."""
    rows = stream(net, rows) if isinstance(rows, Table) else rows
    options = {"acceptance": ALL, "stopping": Stopping(tolerance, relative, max_epochs), **options}
    events = train(net, rows, solver or GradientSolver(), label_loss(loss), **options)
    return gather(events, rows)


def gather(events: Iterator[Pass | BlockReport], rows: StreamCache) -> Trained:
    """Train to the end."""
    trained, last = Trained([], [], rows), None
    for event in events:
        if isinstance(event, BlockReport):
            trained.reports.append(event)
            trained.last.append(last)
        last = event
    return trained


def pairs(net: HierarchicalResNet, table: Table, index: int, split: str = "fit") -> tuple[Array, Array, Array]:
    """A block's ReLU features with a last constant one [m|G|, q+1], scores before it and labels [m|G|, n], in NumPy."""
    inputs, labels = (part.double().numpy() for part in table.rows(split))
    scores = np.zeros(labels.shape)
    for number in range(index + 1):
        features = features_of(net, np.concatenate([inputs, scores], 2), number)
        if number < index:
            scores = scores + features @ net.block(number).weight.double().numpy().T
    features, scores, labels = (values.reshape(-1, values.shape[2]) for values in (features, scores, labels))
    return features, scores, labels


def relu(at: Array) -> Array:
    """max(0, z)."""
    return np.maximum(at, 0)


def features_of(net: HierarchicalResNet, at: Array, index: int, activation: Callable[[Array], Array] = relu) -> Array:
    """A block's features with a last constant one [m, |G|, q+1] of a stream [m, |G|, d+n], in NumPy."""
    windows = at[:, net.windows.table.numpy()].reshape(*at.shape[:2], -1)
    drawn = net.block(index).features
    weight, bias, scale, mean = (part.double().numpy() for part in (drawn.weight, drawn.bias, drawn.scale, drawn.mean))
    features = activation(scale * windows @ weight.T + bias) - mean
    return np.concatenate([features, np.ones((*features.shape[:2], 1))], 2)


def ridge(features: Array, residual: Array, seen: Array, penalty: Array) -> Array:
    """The minimiser [n, q+1] of F_k for the squared loss, label by label, over the pairs where it is observed."""
    solution = []
    for label in range(residual.shape[1]):
        design, left = features[seen[:, label]], residual[seen[:, label], label]
        gram = design.T @ design / len(residual) + penalty[label] * np.eye(design.shape[1])
        solution.append(np.linalg.solve(gram, design.T @ left / len(residual)))
    return np.stack(solution)


def closed_form(of: tuple[Array, Array, Array], penalty: Array) -> Array:
    """`ridge` on the residuals of `pairs`."""
    features, scores, labels = of
    return ridge(features, labels - scores, labels != 0, penalty)


class Doubled(Processes):
    """Two processes, of which the other has the same rows as this one."""

    def sum(self, tensor: Tensor) -> Tensor:
        """Twice a tensor, in place."""
        return tensor.mul_(2)


def doubled(of: BlockProblem) -> BlockProblem:
    """A problem with every row twice."""
    return replace(of, processes=Doubled())
