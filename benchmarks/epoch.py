"""A full-batch gradient epoch under the Trainer against its bare matrix products, and where the rest goes.

An epoch of the gradient solver, a pass over the rows, is what Lightning's loop takes for a batch. Between any two of
one fit everything else is timed on the same tensors: the products alone, batch by batch into memory that is there
already; the same passes without the Trainer; the windows; the features; the loss.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import matplotlib.pyplot as plt
import torch

from benchmarks.runs import QUIET, fixed_epochs
from benchmarks.table import Row, now, seconds, write
from hierlit.data import CellularAutomaton
from hierlit.layerwise import BlockProblem, GradientSolver, Stopping, solve
from hierlit.models import Window1d
from hierlit.training import LayerwiseTask

QUICK = {"rings": [50], "levels": [4], "n_features": 100, "batch_sizes": [16], "epochs": 6}
PARTS = ("matrix products", "windows", "activation, centring", "loss", "rest of the solver", "Lightning")
"""Where an epoch's time goes; Lightning with logs and checks."""


class EpochParts(L.Callback):
    """Times whole epochs, and between them their parts. Comes after `LayerwiseTraining`.

    Attributes:
        times: Seconds of `epoch`, from one start to the next, and of the parts.
    """

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = defaultdict(list)
        self.start = 0.0
        self.parts: dict[str, Callable[[], object]] = {}

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        """End an epoch's time, time the parts, and start the next epoch's; the first one opens the block."""
        assert isinstance(pl_module, LayerwiseTask)
        if self.parts:
            self.times["epoch"].append(now() - self.start)
        elif pl_module.last is not None:
            self.parts = parts(pl_module)
        for name, part in self.parts.items():
            self.times[name].append(seconds(part))
        self.start = now()

    def medians(self) -> dict[str, float]:
        """Median seconds by name, the first epoch left out."""
        return {name: statistics.median(spent[1:]) for name, spent in self.times.items()}


def parts(task: LayerwiseTask) -> dict[str, Callable[[], object]]:
    """Functions that do a part of the active block's epoch, for all of its batches."""
    block, net = task.net.frozen_block(task.block), task.net
    penalty = torch.full((net.n_labels,), task.regularization).to(net.block(0).weight)
    problem = BlockProblem(block, task.rows, task.loss, penalty)
    passes = solve(problem, GradientSolver(minibatch_epochs=0), Stopping(1e-30, max_epochs=10**9))
    chunks, features = list(task.rows.chunks("fit")), block.features
    kept = chunks[0].features is not None
    first, second = features.weight.detach() * features.scale, problem.zeros()[:, :-1].contiguous()
    windows = [block.windows(chunk.stream).flatten(0, -2) for chunk in chunks]
    before = [net.scores(chunk.stream).flatten(0, -2) for chunk in chunks]
    labels = [chunk.labels.flatten(0, -2).contiguous() for chunk in chunks]
    largest = max(map(len, windows))
    buffers = first.new_empty(largest, len(first)), first.new_empty(largest, len(second)), torch.empty_like(second)

    def feature_products() -> None:
        for seen in windows:
            torch.mm(seen, first.T, out=buffers[0][: len(seen)])

    def products() -> None:
        for chunk, seen, slope in zip(chunks, windows, labels, strict=True):
            random = chunk.features
            if random is None:
                random = torch.mm(seen, first.T, out=buffers[0][: len(seen)])
            torch.mm(random, second.T, out=buffers[1][: len(random)])
            torch.mm(slope.T, random, out=buffers[2])

    def gather() -> None:
        for chunk in chunks:
            block.windows(chunk.stream)

    def activate() -> None:
        for seen in windows:
            for _ in features.tiles(seen):
                pass

    def loss() -> None:
        for scores, truth in zip(before, labels, strict=True):
            problem.loss(scores, truth).sum(0)
            problem.loss.derivative(scores, truth).sum(0)

    def solver() -> None:
        next(passes)

    always = {"products": products, "feature products": feature_products, "loss": loss, "solver": solver}
    return always if kept else {**always, "windows": gather, "features": activate}


def split(medians: dict[str, float]) -> dict[str, float]:
    """Seconds of each of `PARTS`, which add up to the epoch."""
    windows = medians.get("windows", 0.0)
    activation = medians["features"] - medians["feature products"] if "features" in medians else 0.0
    rest = medians["solver"] - medians["products"] - windows - activation - medians["loss"]
    lightning = medians["epoch"] - medians["solver"]
    values = (medians["products"], windows, activation, medians["loss"], rest, lightning)
    return dict(zip(PARTS, values, strict=True))


def run(
    out: Path,
    rings: list[int] = [400, 400, 4000, 4000],  # noqa: B006
    levels: list[int] = [8, 8, 8, 32],  # noqa: B006
    batch_sizes: list[int] = [64, 320, 256, 256],  # noqa: B006
    n_features: int = 700,
    epochs: int = 20,
) -> list[Row]:
    """Measures epochs at several shapes, with the features kept and with features recomputed.

    Args:
        out: Gets epoch.csv and epoch.png.
        rings: Training rings of each shape, of which a fifth is set aside.
        levels: Levels of each shape.
        batch_sizes: Rings in a batch of each shape.
        n_features: Random features of a block.
        epochs: Epochs of each fit.
    """
    rows: list[Row] = []
    records: list[dict[str, Any]] = []
    for n_train, n_levels, batch_size in zip(rings, levels, batch_sizes, strict=True):
        for kept in (True, False):
            medians = measure(out / "epoch", n_train, n_levels, batch_size, n_features, epochs, kept)
            shape = f"{n_train} rings, {n_levels} levels, {n_features} features, batches of {batch_size}"
            shape += f", features {'kept' if kept else 'recomputed'}"
            spent, bare = split(medians), medians["products"]
            records.append({"shape": shape, "epoch": medians["epoch"], **spent})
            shares = ", ".join(f"{name} {value / bare:.2f}" for name, value in spent.items() if value)
            all_three = f" (against all three {medians['epoch'] / (bare + medians['feature products']):.2f})"
            note = f"ratio value / against, its {'two' + all_three if kept else 'three'} products; {shares}"
            row = Row("epoch", shape, 1e3 * medians["epoch"], "ms", 1e3 * bare, medians["epoch"] / bare, "<= 1.2", note)
            rows.append(row)
            alone, ratio = 1e3 * medians["solver"], medians["solver"] / bare
            without = f"{shape}: solver without the Trainer"
            rows.append(Row("epoch", without, alone, "ms", 1e3 * bare, ratio, note="ratio value / against"))
    write(out / "epoch.csv", records, ["shape"])
    _draw(records, out / "epoch.png")
    return rows


def measure(
    folder: Path, n_train: int, n_levels: int, batch_size: int, n_features: int, epochs: int, kept: bool
) -> dict[str, float]:
    """Median seconds of an epoch and its parts, in the middle of one block's fit."""
    n_val = 64
    data = CellularAutomaton(110, n_levels, n_train=n_train, n_val=n_val, n_test=1, batch_size=batch_size)
    streams = (n_train + n_val) * data.n_cells * (data.n_inputs + 2 * n_levels) * 4
    budget = streams if not kept else 2 * streams + 4 * n_train * data.n_cells * n_features
    task = LayerwiseTask(
        data.n_inputs,
        n_levels,
        data.n_cells,
        data.levels,
        Window1d(3),
        n_blocks=1,
        n_features=n_features,
        solver=GradientSolver(minibatch_epochs=0),
        cache_budget_gib=budget / 2**30,
    )
    timer = EpochParts()
    callbacks = [fixed_epochs(epochs), timer]
    trainer = L.Trainer(max_epochs=-1, log_every_n_steps=1, default_root_dir=folder, callbacks=callbacks, **QUIET)
    trainer.fit(task, datamodule=data)
    if kept != ("features" not in timer.parts):
        raise RuntimeError(f"the features were{'' if not kept else ' not'} kept: the cache's budget is wrong")
    return timer.medians()


def _draw(records: list[dict[str, Any]], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(9, 1 + 0.5 * len(records)), layout="constrained")
    names = [record["shape"].replace(", features ", "\nfeatures ") for record in records]
    left = [0.0] * len(records)
    for part in PARTS:
        shares = [max(0.0, record[part] / record[PARTS[0]]) for record in records]
        axes.barh(names, shares, left=left, label=part)
        left = [start + share for start, share in zip(left, shares, strict=True)]
    axes.axvline(1.2, color="black", linestyle=":")
    axes.invert_yaxis()
    axes.set(xlabel="time of a full-batch epoch, as a multiple of its matrix products")
    figure.legend(fontsize=8, loc="outside right upper")
    figure.savefig(path, dpi=150)
    plt.close(figure)
