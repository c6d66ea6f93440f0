"""Staircase: tables, scalars and the picture of which block learned which level."""

import csv
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import matplotlib.pyplot as plt
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from rich.console import Console
from rich.table import Table
from torch import Tensor

from hierlit.report import BlockReport, level_rows, margin_line
from hierlit.run_files import cut_logs, log_sizes
from hierlit.task import LayerwiseTask

BLOCK_COLUMNS = (
    "block",
    "epochs",
    "steps",
    "seconds",
    "objective",
    "gradient_norm",
    "suboptimality",
    "accepted",
    "stop_reason",
    "initial_objective",
    "gradient_tolerance",
)
MOST_NUMBERS = 120
"""Cells of the figure up to which each has its number written in it."""
TABLE_COLUMNS = ("level", "labels", "accuracy", "min margin", "mean margin", "margin error", "learned")


class Staircase(L.Callback):
    """Writes `blocks.csv`, `levels.csv` and `labels.csv`, scalars and a figure by block, and the closing table.

    Files go to the run's log folder, none where the trainer has no logger; held-out
    columns are NaN without val rows. Scalars and the figure go to TensorBoard at step = block.
    """

    def __init__(self) -> None:
        self.accuracy: list[list[float]] = []
        self.train: list[list[dict[str, float]]] = []
        self._reported = 0
        self._unwritten: dict[str, list[dict[str, Any]]] = {}

    def state_dict(self) -> dict[str, Any]:
        """Each level's held-out accuracy and training rows, block by block; what of a block could not be written."""
        return {"accuracy": self.accuracy, "train": self.train, "unwritten": self._unwritten}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        self.accuracy, self.train = state_dict["accuracy"], state_dict["train"]
        self._unwritten = state_dict["unwritten"]

    def on_train_start(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Writes what the run that goes on could not write."""
        folder = Path(trainer.log_dir or ".")
        if trainer.is_global_zero and trainer.loggers and self._unwritten:
            self._write(folder)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Writes what loggers still hold back, and notes how long the run's files are."""
        if trainer.is_global_zero and trainer.loggers:
            checkpoint["log_sizes"] = log_sizes(trainer.loggers)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Cuts the files of a run that goes on back to what they were, so that no point is there twice."""
        if trainer.is_global_zero and trainer.loggers:
            cut_logs(trainer.loggers, checkpoint.get("log_sizes", []))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """After a block that no val rows followed: a row in each file, scalars, the figure."""
        self._report(trainer, pl_module)

    def _report(self, trainer: L.Trainer, task: LayerwiseTask) -> None:
        report = task.report
        if report is None or report.block == self._reported:
            return
        self._reported = report.block
        train = level_rows(report.train, task.levels, task.learned_accuracy)
        unknown = {name: torch.full_like(values, torch.nan) for name, values in report.train.items()}
        held_out = task.results.get("val", unknown)
        val = level_rows(held_out, task.levels, task.learned_accuracy)
        self.accuracy.append([row["accuracy"] for row in val])
        self.train.append(train)
        folder = Path(trainer.log_dir or ".")
        if trainer.is_global_zero and trainer.loggers:
            self._unwritten = tables_of(report, train, val, task.levels, held_out)
            self._write(folder)
            self._log(trainer, report, val)

    def _write(self, folder: Path) -> None:
        append_tables(folder, self._unwritten)
        self._unwritten = {}

    def on_train_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Prints the closing table, and whether every training pair has its margin."""
        if "val" in pl_module.results:
            print_table("val", pl_module)
        elif "train" in pl_module.results:
            print_table("train", pl_module)
        if self.train and trainer.is_global_zero:
            data, robustness = trainer.datamodule, float(pl_module.hparams["robustness"])  # type: ignore[attr-defined]
            line = margin_line(self.train, data, robustness, pl_module.learned_accuracy)
            print(line, end="\n" if line else "")

    def on_validation_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """After a block and its validation, what `on_train_epoch_end` does; of a `validate` run, prints the table."""
        if trainer.state.fn == "validate":
            print_table("val", pl_module)
        else:
            self._report(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Prints the table of a `test` run."""
        print_table("test", pl_module)

    def _log(self, trainer: L.Trainer, report: BlockReport, val: list[dict[str, float]]) -> None:
        scalars = {
            f"block/{name}": getattr(report, name) for name in BLOCK_COLUMNS if name not in ("block", "stop_reason")
        }
        for row in val:
            for name in ("accuracy", "min_margin", "mean_margin", "margin_error"):
                scalars[f"{name}/level_{int(row['level']):02d}"] = row[name]
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=report.block)
            if isinstance(logger, TensorBoardLogger):
                figure = draw_staircase(self.accuracy, [int(row["level"]) for row in val])
                logger.experiment.add_figure("staircase", figure, report.block, close=True)


def draw_staircase(accuracy: list[list[float]], levels: list[int]) -> Figure:
    """A heat map of held-out accuracy [blocks][levels]: one step up for each block that learned a level."""
    values = np.asarray(accuracy).T
    n_levels, n_blocks = values.shape
    size = (min(1.5 + 0.55 * n_blocks, 9.0), min(1.5 + 0.45 * n_levels, 8.0))
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    image = axes.imshow(values, origin="lower", aspect="auto", vmin=0.5, vmax=1.0, cmap="viridis")
    for axis, names in ((axes.xaxis, range(1, n_blocks + 1)), (axes.yaxis, levels)):
        axis.set_major_locator(MaxNLocator(16, integer=True, min_n_ticks=1))
        axis.set_major_formatter(FuncFormatter(partial(tick_name, names)))
    axes.set(xlabel="blocks trained", ylabel="level", title="Held-out accuracy")
    if values.size <= MOST_NUMBERS:
        for (level, block), value in np.ndenumerate(values):
            colour = "black" if value > 0.8 else "white"
            axes.text(block, level, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, ax=axes, label="accuracy")
    return figure


def tick_name(names: Sequence[int], place: float, _: int | None) -> str:
    """The name of the row or column at a place of the figure."""
    return str(names[int(place)]) if 0 <= place < len(names) and place == int(place) else ""


def tables_of(
    report: BlockReport,
    train: list[dict[str, float]],
    val: list[dict[str, float]],
    levels: list[int] | None,
    held_out: Mapping[str, Tensor],
) -> dict[str, list[dict[str, Any]]]:
    """What a block adds to each table of a run: rows by the table's name.

    Args:
        report: The block's.
        train: Rows by level of the training rows.
        val: Rows by level of the held-out rows.
        levels: Each label's level, None where unknown.
        held_out: Metrics [n] of the held-out rows.
    """
    blocks = [{name: getattr(report, name) for name in BLOCK_COLUMNS}]
    by_level = [
        {
            "block": report.block,
            "level": before["level"],
            "n_labels": before["n_labels"],
            "train_accuracy": before["accuracy"],
            "train_min_margin": before["min_margin"],
            "margin_error": before["margin_error"],
            "val_accuracy": after["accuracy"],
            "learned": after["learned"],
        }
        for before, after in zip(train, val, strict=True)
    ]
    by_label = [
        {
            "block": report.block,
            "label": label,
            "level": "" if levels is None else levels[label],
            "accepted": int(accepted),
            "val_accuracy": float(held_out["accuracy"][label]),
            "min_margin": float(held_out["min_margin"][label]),
        }
        for label, accepted in enumerate(report.accepted_labels)
    ]
    return {"blocks.csv": blocks, "levels.csv": by_level, "labels.csv": by_label}


def append_tables(folder: Path, tables: Mapping[str, list[dict[str, Any]]]) -> None:
    """Appends rows to CSV files: to all of them, or to none if one cannot be written.

    Raises:
        OSError: If one cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {path: path.stat().st_size for name in tables if (path := folder / name).exists()}
    try:
        for name, rows in tables.items():
            append_rows(folder / name, rows)
    except OSError as error:
        for path in map(folder.joinpath, tables):
            if path.exists():
                os.truncate(path, sizes.get(path, 0))
        raise OSError(error.errno, f"cannot write the tables of a block to {folder}: {error.strerror}") from error


def append_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Appends rows to a CSV file, with a header if it is new."""
    new = not path.exists() or not path.stat().st_size
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        if new:
            writer.writeheader()
        writer.writerows(rows)


@rank_zero_only
def print_table(split: str, task: LayerwiseTask) -> None:
    """Prints one row a level of a split's metrics."""
    table = Table(title=f"{split} rows after {task.block} of {len(task.net.blocks)} blocks")
    for name in TABLE_COLUMNS:
        table.add_column(name, justify="right")
    for row in level_rows(task.results[split], task.levels, task.learned_accuracy):
        numbers = [f"{row[name]:.4f}" for name in ("accuracy", "min_margin", "mean_margin", "margin_error")]
        table.add_row(f"{row['level']:.0f}", f"{row['n_labels']:.0f}", *numbers, f"{row['learned']:.0f}")
    Console().print(table)
