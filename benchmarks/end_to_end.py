"""The end-to-end baseline: a residual net on rings, all blocks trained together, in a fixed wall-clock budget.

    python -m benchmarks.end_to_end --rule 110 --n_levels 32 --seconds 70 --n_train 600 --folder OUT

It searches learning rates, widths, depths, heads and norms by successive halving, then trains the best settings anew
for the whole budget, once with every level supervised and once with the last level only. The search, about 23 budgets
by default, costs the baseline nothing: only the seconds of the final runs are counted, and of those only the training
steps, not the checks.

What was chosen in its favour: blocks that start as the identity, small batches, AdamW with warm-up and a
cosine to zero at the end of the budget whatever its length, clipped gradients, every training ring (layerwise training
sets some aside), and the choice of the best setting by the very rings the result is read from. Heads "matched" are even
told the order of the levels: that of level i reads the stream after i / n of the blocks. Rings are not rotated at
random: the net commutes with rotations, so a rotated ring has the same gradient.

Files in the folder: search.csv, a row a run of the search; end_to_end.csv, a row a check of the final runs.
"""

import argparse
import csv
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.runs import LEARNED
from benchmarks.table import now
from hierlit.data import CellularAutomaton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WARM_UP = 0.05
NORMS = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


@dataclass(frozen=True)
class Setting:
    """What the search chooses, and what it is told.

    Attributes:
        width: Channels of the residual stream.
        depth_factor: Blocks per level.
        lr: Learning rate at its highest.
        heads: "last": every head reads the last block; "matched": the head of level i reads the block i * depth_factor.
        supervision: "all" levels, or the "last" only.
        batch_size: Rings in a step.
        norm: Of a block's input: "none", "batch" or "layer".
        weight_decay: AdamW's.
        clip: Largest norm of the gradient.
    """

    width: int = 64
    depth_factor: int = 1
    lr: float = 3e-3
    heads: str = "matched"
    supervision: str = "all"
    batch_size: int = 4
    norm: str = "none"
    weight_decay: float = 0.01
    clip: float = 1.0

    def __str__(self) -> str:
        sizes = f"width {self.width}, depth {self.depth_factor}r, {self.heads} heads"
        return f"{sizes}, norm {self.norm}, lr {self.lr:g}, batch {self.batch_size}"


SEARCH_COLUMNS = [*(field.name for field in fields(Setting)), "seconds", "learned", "best", "mean_accuracy"]
CURVE_COLUMNS = ["method", "setting", "seconds", "learned"]


class Check(NamedTuple):
    """A look at the validation rings.

    Attributes:
        seconds: Trained so far, checks left out.
        learned: Supervised levels whose accuracy is at least 0.999.
        last_accuracy: Of the last level.
        mean_accuracy: Over the supervised levels.
    """

    seconds: float
    learned: int
    last_accuracy: float
    mean_accuracy: float


class RingConvolution(torch.autograd.Function):
    """A circular convolution of three cells, as three matrix products on views of one padded tensor.

    Rings lie along the first dimension, so that a shift by one cell is a shift in memory. A block's step
    takes 0.65 to 0.8 of what it takes with ``nn.Conv1d`` (widths 64 and 128, 32 rings, one thread).
    """

    @staticmethod
    def forward(ctx: Any, stream: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Map stream [L, B, C] by weight [3, C, K] and bias [K] to [L, B, K]."""
        left, centre, right = _neighbours(stream)
        ctx.save_for_backward(left, centre, right, weight)
        out = torch.addmm(bias, left, weight[0]).addmm_(centre, weight[1]).addmm_(right, weight[2])
        return out.view(*stream.shape[:2], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Return the gradients of stream, weight and bias."""
        *inputs, weight = ctx.saved_tensors
        left, centre, right = _neighbours(gradient)
        stream = (right @ weight[0].T).addmm_(centre, weight[1].T).addmm_(left, weight[2].T)
        return stream.view(*gradient.shape[:2], -1), torch.stack([x.T @ centre for x in inputs]), centre.sum(0)


def _neighbours(stream: Tensor) -> list[Tensor]:
    """Return the left neighbour, the cell and the right neighbour of each cell, views [L * B, C]."""
    n_cells, n_rings, width = stream.shape
    padded = torch.cat([stream[-1:], stream, stream[:1]]).view(-1, width)
    return [padded[shift * n_rings : (shift + n_cells) * n_rings] for shift in range(3)]


class Block(nn.Module):
    """Adds to the stream a convolution of three cells, GELU and a linear map that starts at zero.

    Args:
        width: Channels.
        norm: One of ``NORMS``.
    """

    def __init__(self, width: int, norm: str) -> None:
        super().__init__()
        self.norm = NORMS[norm](width)
        self.weight = nn.Parameter(torch.randn(3, width, width) * math.sqrt(2 / (3 * width)))
        self.bias = nn.Parameter(torch.zeros(width))
        self.mix = nn.Linear(width, width)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    def forward(self, stream: Tensor) -> Tensor:
        """Map stream [L, B, C] to the same shape."""
        normed = self.norm(stream.flatten(0, 1)).view_as(stream)
        return stream + self.mix(F.gelu(RingConvolution.apply(normed, self.weight, self.bias)))


class Net(nn.Module):
    """A residual net on rings.

    Args:
        width: Channels of the stream.
        depth: Blocks.
        n_levels: Scores of a cell.
        heads: "last": every head reads the last block; "matched": head i reads the block i * depth / n_levels.
        norm: One of ``NORMS``.
    """

    def __init__(self, width: int, depth: int, n_levels: int, heads: str, norm: str = "none") -> None:
        super().__init__()
        self.embed = nn.Linear(1, width)
        self.blocks = nn.ModuleList([Block(width, norm) for _ in range(depth)])
        self.weight = nn.Parameter(torch.zeros(n_levels, width))
        self.bias = nn.Parameter(torch.zeros(n_levels))
        nn.init.normal_(self.weight, std=width**-0.5)
        self.taps = {depth * (i + 1) // n_levels: i for i in range(n_levels)} if heads == "matched" else {}

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs [B, L, 1] to scores [L, B, n_levels]."""
        stream = self.embed(inputs.transpose(0, 1).contiguous())
        scores = []
        for depth, block in enumerate(self.blocks, start=1):
            stream = block(stream)
            if depth in self.taps:
                scores.append(stream @ self.weight[self.taps[depth]])
        return torch.stack(scores, -1) + self.bias if scores else F.linear(stream, self.weight, self.bias)


def train(data: CellularAutomaton, setting: Setting, seconds: float, seed: int, n_checks: int = 20) -> list[Check]:
    """Train a net on every training ring until the budget is spent or every supervised level is learned.

    Args:
        data: Rings; ``setup`` has been called.
        setting: Of the net and its training.
        seconds: Budget of the training steps; the learning rate's schedule spans it.
        seed: Of the initial weights and the batches.
        n_checks: Looks at the validation rings, evenly spread over the budget; they do not count.

    Returns:
        The checks, the last one at the end.
    """
    torch.manual_seed(seed)
    inputs, labels = _table(data, "train", setting)
    sizes = (setting.width, setting.depth_factor * data.n_levels, labels.shape[-1])
    net = Net(*sizes, setting.heads, setting.norm).to(DEVICE)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=setting.weight_decay, fused=True)
    batches, trace, spent = _batches(len(inputs), setting.batch_size), [], 0.0
    while spent < seconds:
        start = now()
        rows = next(batches)
        optimizer.param_groups[0]["lr"] = setting.lr * _schedule(spent / seconds)
        _step(net, optimizer, inputs[rows], labels[rows], setting.clip)
        spent += now() - start
        if spent >= min(seconds, seconds * (len(trace) + 1) / n_checks):
            trace.append(_check(net, *_table(data, "val", setting), spent))
            if trace[-1].learned == labels.shape[-1]:
                break
    return trace


def _table(data: CellularAutomaton, split: str, setting: Setting) -> tuple[Tensor, Tensor]:
    """Return inputs [N, L, 1] and the supervised labels [N, L, n or 1]."""
    table = data.tables[split]
    labels = table.labels if setting.supervision == "all" else table.labels[..., -1:]
    return table.inputs.to(DEVICE), labels.to(DEVICE)


def _batches(n_rows: int, batch_size: int) -> Iterator[Tensor]:
    """Yield rows for ever, in a new order each epoch."""
    while True:
        yield from torch.randperm(n_rows).split(batch_size)


def _schedule(done: float) -> float:
    """Return the share of the highest learning rate at a share of the budget: warm-up, then a cosine to zero."""
    return min(done / WARM_UP, 1.0) * (1 + math.cos(math.pi * done)) / 2


def _step(net: Net, optimizer: torch.optim.Optimizer, inputs: Tensor, labels: Tensor, clip: float) -> None:
    """Take one step on the logistic loss of the margins."""
    loss = F.softplus(-net(inputs) * labels.transpose(0, 1)).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), clip)
    optimizer.step()


@torch.no_grad()
def _check(net: Net, inputs: Tensor, labels: Tensor, seconds: float) -> Check:
    """Measure accuracies over all rings and cells."""
    net.eval()
    accuracy = (net(inputs) * labels.transpose(0, 1) > 0).double().mean((0, 1))
    net.train()
    return Check(seconds, int((accuracy >= LEARNED).sum()), accuracy[-1].item(), accuracy.mean().item())


class Table:
    """A CSV file that is complete after every row.

    Args:
        path: Written anew.
        columns: Of the head line.
    """

    def __init__(self, path: Path, columns: list[str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        path.write_text("")
        self.add(columns)

    def add(self, row: list[Any]) -> None:
        """Append a row."""
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow(row)


def grid(supervision: str, options: argparse.Namespace) -> list[Setting]:
    """Return the candidates; the two kinds of heads are one where a single level is supervised."""
    heads = ["last", "matched"] if supervision == "all" else ["last"]
    choices = product(options.widths, options.depth_factors, options.lrs, heads, options.batch_sizes, options.norms)
    return [Setting(*choice[:4], supervision, *choice[4:]) for choice in choices]


def search(
    data: CellularAutomaton, seconds: float, candidates: list[Setting], shares: list[float], seed: int, table: Table
) -> tuple[list[Setting], int]:
    """Rank settings by successive halving: each rung keeps the best third for the next, longer one.

    Args:
        data: Rings; ``setup`` has been called.
        seconds: Full budget.
        candidates: Settings of the first rung.
        shares: Of the budget, one a rung; every run has a whole schedule.
        seed: Of the runs.
        table: Gets a row a run.

    Returns:
        The settings of the last rung, best first, and the most levels learned at any check of any run.
    """
    most = 0
    for rung, share in enumerate(shares):
        if rung:
            candidates = candidates[: math.ceil(len(candidates) / 3)]
        results = {}
        for setting in candidates:
            trace = train(data, setting, share * seconds, seed)
            end, best = trace[-1], max(check.learned for check in trace)
            table.add([*asdict(setting).values(), f"{end.seconds:.2f}", end.learned, best, f"{end.mean_accuracy:.5f}"])
            print(f"search, {_line(setting, trace)}", flush=True)
            results[setting], most = (end.learned, end.mean_accuracy, -end.seconds), max(most, best)
        candidates = sorted(results, key=results.__getitem__, reverse=True)
    return candidates, most


def curves(
    data: CellularAutomaton, settings: list[Setting], seconds: float, seed: int, table: Table
) -> list[tuple[Setting, list[Check]]]:
    """Train each setting for the full budget.

    Args:
        data: Rings; ``setup`` has been called.
        settings: To train.
        seconds: Budget of each.
        seed: Of the runs.
        table: Gets a row a check, with columns method, setting, seconds and learned.

    Returns:
        The settings and their checks.
    """
    runs = []
    for setting in settings:
        trace = train(data, setting, seconds, seed)
        method = f"end to end, {'every level' if setting.supervision == 'all' else 'last level only'}"
        for check in trace:
            table.add([method, setting, f"{check.seconds:.3f}", check.learned])
        runs.append((setting, trace))
    return runs


def _line(setting: Setting, trace: list[Check]) -> str:
    """Describe a run: setting, levels learned at the end, most at any check, last level's accuracy, seconds."""
    end, best = trace[-1], max(check.learned for check in trace)
    told = f"{setting.supervision:4s} supervised, {setting}"
    return f"{told:88s} {end.learned:8d} {best:10d} {end.last_accuracy:11.4f} {end.seconds:8.1f}"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options in arguments, those of the process when None."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rule", type=int, default=110)
    parser.add_argument("--n_levels", type=int, default=32)
    parser.add_argument("--n_cells", type=int, default=64)
    parser.add_argument("--n_train", type=int, default=600, help="rings; all are trained on")
    parser.add_argument("--n_val", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=70.0, help="budget of a run, checks left out")
    parser.add_argument("--seed", type=int, default=0, help="of the data and the search; the final runs take the next")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--supervision", nargs="+", choices=["all", "last"], default=["all", "last"])
    parser.add_argument("--lrs", type=float, nargs="+", default=[1e-3, 3e-3, 1e-2])
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--depth_factors", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[4])
    parser.add_argument("--norms", nargs="+", choices=list(NORMS), default=["none", "batch"])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.3, 1.0], help="of the budget, one a rung")
    parser.add_argument("--n_best", type=int, default=2, help="settings trained anew, for each supervision")
    return parser.parse_args(arguments)


def main() -> None:
    """Search, train the best settings for the full budget, print a table."""
    options = parse()
    sizes = {"n_cells": options.n_cells, "n_train": options.n_train, "n_val": options.n_val}
    data = CellularAutomaton(options.rule, options.n_levels, **sizes, data_seed=options.seed)
    data.setup()
    searched = Table(options.folder / "search.csv", SEARCH_COLUMNS)
    final = Table(options.folder / "end_to_end.csv", CURVE_COLUMNS)
    lines = []
    for supervision in options.supervision:
        candidates = grid(supervision, options)
        ranked, most = search(data, options.seconds, candidates, options.shares, options.seed, searched)
        runs = curves(data, ranked[: options.n_best], options.seconds, options.seed + 1, final)
        lines += [_line(*run) for run in runs]
        lines.append(f"{supervision:4s} supervised, most levels at any check of any run of the search: {most}")
    print(f"\n{'final runs':88s} at end {'best ever':>10s} {'last level':>11s} {'seconds':>8s}", *lines, sep="\n")


if __name__ == "__main__":
    main()
