"""The cost of an epoch does not grow with depth, because the stream before the active block is kept.

At some blocks the same training also runs as it would without: in the last third of their epochs, every other one
computes each batch's stream from its inputs, through all frozen blocks, and keeps no features.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import lightning as L
import matplotlib.pyplot as plt

from benchmarks.runs import MINIMAL, fixed_epochs
from benchmarks.table import Row, now, write
from hierlit.data import CellularAutomaton
from hierlit.layerwise import GradientSolver, StreamCache
from hierlit.layerwise.chunk import Chunk
from hierlit.models import Window1d
from hierlit.training import LayerwiseTask

QUICK = {"n_blocks": 4, "n_train": 32, "n_features": 50, "epochs": 12, "recomputed": [1, 4]}
KINDS = {False: "stream kept", True: "stream recomputed"}


class Recomputable(StreamCache):
    """Rows whose batches may each be computed anew from their inputs when they are visited."""

    recompute = False

    def visit(self, block: int, number: int) -> Iterator[Chunk]:
        """The batches of a pass; without features, through every trained block, while `recompute` is set."""
        for chunk in super().visit(block, number):
            inputs = self.net.split(chunk.stream)[..., : self.net.n_inputs]
            yield Chunk(self.net.stream(inputs), chunk.labels) if self.recompute else chunk


class EpochTimes(L.Callback):
    """Times epochs, passes over the rows, which Lightning takes for batches. Comes after `LayerwiseTraining`.

    Args:
        recomputed: Blocks, from 1, where every other epoch recomputes.
        first: First epoch, from 0, where they may.

    Attributes:
        times: Seconds of epochs by block and kind; a block's first, which also opens it, and its last are left out.
    """

    def __init__(self, recomputed: list[int], first: int) -> None:
        self.recomputed, self.first = recomputed, first
        self.times: dict[tuple[int, bool], list[float]] = defaultdict(list)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        """Choose the kind of epoch and start the clock."""
        assert isinstance(pl_module, LayerwiseTask) and isinstance(pl_module.rows, Recomputable)
        number, self.done = pl_module.block + 1, 0 if pl_module.last is None else pl_module.last.state.passes
        pl_module.rows.recompute = number in self.recomputed and self.done >= self.first and self.done % 2 == 0
        self.epoch = (number, pl_module.rows.recompute)
        self.start = now()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        """Stop the clock."""
        assert isinstance(pl_module, LayerwiseTask)
        if self.done and pl_module.last is not None and pl_module.last.reason is None:
            self.times[self.epoch].append(now() - self.start)


def run(
    out: Path,
    n_blocks: int = 32,
    n_train: int = 400,
    n_features: int = 500,
    epochs: int = 24,
    recomputed: list[int] = [1, 8, 16, 32],  # noqa: B006
) -> list[Row]:
    """Compares the epochs of the last block with those of the first, and with those that recompute.

    Args:
        out: Gets flat.csv and flat.png.
        n_blocks: Blocks, and levels.
        n_train: Rings; all are fitted.
        n_features: Random features of a block.
        epochs: Full-batch epochs of each block; those that recompute are among them.
        recomputed: Blocks, from 1, where every other epoch recomputes.
    """
    data = CellularAutomaton(110, n_blocks, n_train=n_train, n_val=1, n_test=1, acceptance_fraction=0.0)
    solver = GradientSolver(minibatch_epochs=0)
    sizes = {"n_blocks": n_blocks, "n_features": n_features}
    task = LayerwiseTask(1, n_blocks, data.n_cells, data.levels, Window1d(3), solver=solver, **sizes)
    task.rows = Recomputable(task.net)
    timer = EpochTimes(recomputed, 2 * epochs // 3)
    L.Trainer(max_epochs=-1, callbacks=[fixed_epochs(epochs), timer], **MINIMAL).fit(task, datamodule=data)
    medians = {epoch: statistics.median(spent) for epoch, spent in timer.times.items()}
    records = [
        {"block": block, "kind": KINDS[kind], "epoch": number, "seconds": spent}
        for (block, kind), times in timer.times.items()
        for number, spent in enumerate(times)
    ]
    write(out / "flat.csv", records, ["kind"])
    _draw(medians, out / "flat.png")
    first, last = medians[1, False], medians[n_blocks, False]
    between = [1e3 * spent for (_, kind), spent in medians.items() if not kind]
    kept = f"against block 1; ratio value / against; all blocks {min(between):.3g} to {max(between):.3g} ms"
    rows = [Row("flat", f"epoch of block {n_blocks}", 1e3 * last, "ms", 1e3 * first, last / first, "<= 1.15", kept)]
    for block in recomputed:
        fast, slow = medians[block, False], medians[block, True]
        what, target = f"epoch of block {block}, stream kept", ">= 8" if block == 32 else ""
        note = "against the frozen blocks recomputed at every step and no features kept"
        rows.append(Row("flat", what, 1e3 * fast, "ms", 1e3 * slow, slow / fast, target, note))
    return rows


def _draw(medians: dict[tuple[int, bool], float], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for kind, name in KINDS.items():
        points = [(block, 1e3 * spent) for (block, recompute), spent in medians.items() if recompute == kind]
        axes.plot(*zip(*points, strict=True), "s--" if kind else ".-", label=name)
    axes.set(xlabel="active block", ylabel="ms an epoch (median)", yscale="log", title="Cost of a full-batch epoch")
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)
