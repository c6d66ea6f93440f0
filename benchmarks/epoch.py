"""A full-batch gradient epoch under the Trainer against its bare matrix products, and where the rest goes.

Between any two epochs of one fit everything else is timed on the same tensors: the products alone, batch by batch into
memory that is there already; the solver called without the Trainer; the windows; the features; the loss.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from benchmarks.runs import QUIET, fixed_epochs
from benchmarks.table import Row, now, seconds, write
from hierlit.data import CellularAutomaton
from hierlit.layerwise.solvers import GradientSolver
from hierlit.models import Window1d
from hierlit.training import LayerwiseTask

QUICK = {"rings": [50], "levels": [4], "n_features": 100, "batch_sizes": [16], "epochs": 4}
PARTS = ("matrix products", "windows", "activation, centring", "loss", "rest of the solver", "Lightning", "epoch's end")
"""Where an epoch's time goes; Lightning with fetching batches, epoch's end with checks, logs and the optimizer's."""


class EpochParts(L.Callback):
    """Times whole epochs, and between them their parts. Comes after `LayerwiseTraining`.

    Attributes:
        times: Seconds of `epoch`, from one start to the next, of its `end`, from the last batch on, and of the parts.
    """

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = defaultdict(list)
        self.start = self.end = 0.0
        self.parts: dict[str, Callable[[], object]] = {}

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ends an epoch's time, times the parts, and starts the next epoch's."""
        if self.parts:
            self.times["epoch"].append(now() - self.start)
            self.times["end"].append(now() - self.end)
        else:
            assert isinstance(pl_module, LayerwiseTask)
            self.parts = parts(trainer, pl_module)
        for name, part in self.parts.items():
            self.times[name].append(seconds(part))
        self.start = now()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        """Notes the end of the last batch."""
        if trainer.is_last_batch:
            self.end = now()

    def medians(self) -> dict[str, float]:
        """Median seconds by name, the first epoch left out."""
        return {name: statistics.median(spent[1:]) for name, spent in self.times.items()}


def parts(trainer: L.Trainer, task: LayerwiseTask) -> dict[str, Callable[[], object]]:
    """Functions that do a part of the active block's epoch, for all of its batches."""
    assert trainer.train_dataloader is not None
    batches = [task.transfer(batch) for batch in trainer.train_dataloader]
    chunks = [task.streams.get("train", batch) for batch in batches]
    kept = chunks[0].features is not None
    features = task.net.block(task.block).features
    first, second = features.weight.detach() * features.scale, task.active.detach()[:, :-1].clone()
    windows = [task.net.windows(chunk.stream).flatten(0, -2) for chunk in chunks]
    before = [task.net.scores(chunk.stream).flatten(0, -2) for chunk in chunks]
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
            task.net.windows(chunk.stream)

    def activate() -> None:
        for seen in windows:
            for _ in features.tiles(seen):
                pass

    def loss() -> None:
        for scores, truth in zip(before, labels, strict=True):
            _slopes(task, scores, truth)

    def solver() -> None:
        terms = sum(task.solver.training_step(task, task.streams.get("train", batch), 1) for batch in batches)
        assert isinstance(terms, Tensor)
        task.solver.certify(task, terms.double(), 1)
        task.solver.step(task, 1)

    always = {"products": products, "feature products": feature_products, "loss": loss, "solver": solver}
    return always if kept else {**always, "windows": gather, "features": activate}


def _slopes(task: LayerwiseTask, scores: Tensor, labels: Tensor) -> None:
    margins, loss = scores * labels, task.objective.loss
    (loss(margins) * (labels != 0)).sum(0)
    loss.derivative(margins).mul_(labels).sum(0)


def split(medians: dict[str, float]) -> dict[str, float]:
    """Seconds of each of `PARTS`, which add up to the epoch."""
    windows = medians.get("windows", 0.0)
    activation = medians["features"] - medians["feature products"] if "features" in medians else 0.0
    known = medians["products"] + windows + activation + medians["loss"]
    loop = medians["epoch"] - medians["end"] - medians["solver"]
    rest = medians["solver"] - known
    values = (medians["products"], windows, activation, medians["loss"], rest, loop, medians["end"])
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
            row = Row("epoch", shape, 1e3 * medians["epoch"], "ms", 1e3 * bare, medians["epoch"] / bare, "<= 1.4", note)
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
    axes.axvline(1.4, color="black", linestyle=":")
    axes.invert_yaxis()
    axes.set(xlabel="time of a full-batch epoch, as a multiple of its matrix products")
    figure.legend(fontsize=8, loc="outside right upper")
    figure.savefig(path, dpi=150)
    plt.close(figure)
