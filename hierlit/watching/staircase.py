"""Staircase: tables, scalars and the picture of which block learned which level."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import matplotlib.pyplot as plt
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from hierlit.data.base import names_of
from hierlit.layerwise.algorithm import n_used
from hierlit.layerwise.report import BlockReport
from hierlit.models.checks import raise_problems
from hierlit.training.logs import cut_logs, log_sizes, log_versions
from hierlit.training.pace import SHARE, Pace, share_problems
from hierlit.training.task import LayerwiseTask
from hierlit.watching.dashboard import close_dashboard, draw_block, final_metrics, open_dashboard
from hierlit.watching.figures import DPI, draw_precision, draw_staircase
from hierlit.watching.levels import columns, level_rows, margin_line, rows_to_print

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
    "features",
    "channels",
)
MARGINS = {
    "min margin": ("min_margin", "{:.4f}"),
    "mean margin": ("mean_margin", "{:.4f}"),
    "margin error": ("margin_error", "{:.4f}"),
}
LABELS, ACCURACY = {"labels": ("n_labels", "{:.0f}")}, {"accuracy": ("accuracy", "{:.4f}")}
LEVEL_COLUMNS = {"level": ("level", "{}"), **LABELS, **ACCURACY, **MARGINS, "learned": ("learned", "{:.0f}")}
"""Columns of the closing table: a value of a row, and its form."""
LABEL_COLUMNS = {**LABELS, **ACCURACY, "average precision": ("average_precision", "{:.4f}"), **MARGINS}
"""Where levels are unknown."""
PICTURE = "staircase.png"
UNCALIBRATED = (
    "probabilities are not calibrated, since all rows were fitted: for rows left out set data.val_fraction or "
    "data.val_files, or layerwise.folds"
)
DRAWING_SECONDS = 1.0
"""What a block's figures are taken to need before any have been drawn."""


class Staircase(L.Callback):
    """Write `blocks.csv`, `levels.csv` and `labels.csv` and scalars after each block, figures, and the closing table.

    Files go to the run's log folder, none where the trainer has no logger; held-out columns are NaN without val rows.
    Scalars go to all loggers, at step = block; layout, card, figures and hparams to TensorBoard. Figures are drawn
    after the last block, and before whenever drawing them takes no more than `share` of the time since they were.

    Args:
        share: Share of the time that drawing may take, in (0, 1]; 1 draws after each block.

    Raises:
        ValueError: The share is out of range.
    """

    def __init__(self, share: float = SHARE) -> None:
        raise_problems(share_problems(share))
        self.pace = Pace(share, DRAWING_SECONDS)
        self._drawn = 0
        self.accuracy: list[Tensor] = []
        self.train: list[dict[str, Tensor]] = []
        self.labels: list[Tensor] = []
        self._entry: dict[str, Any] = {}
        self._is_pending = False
        self._sizes: list[dict[str, int]] = []
        self._folder = Path()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Settle the folder: all processes must ask for it."""
        self._folder = Path(trainer.log_dir or ".")

    def state_dict(self) -> dict[str, Any]:
        """Return what is known of each block; the last block, and whether some files have not got it yet."""
        names = list(self.train[0]) if self.train else []
        train = {name: stacked([of[name] for of in self.train]) for name in names}
        by_block = {name: stacked(getattr(self, name)) for name in ("accuracy", "labels")}
        return {**by_block, "train": train, "entry": self._entry, "is_pending": self._is_pending, "drawn": self._drawn}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self.accuracy, self.labels = list(state_dict["accuracy"]), list(state_dict["labels"])
        train = state_dict["train"]
        self.train = [{name: values[block] for name, values in train.items()} for block in range(len(self.accuracy))]
        self._entry, self._is_pending = state_dict["entry"], state_dict["is_pending"]
        self._drawn = state_dict["drawn"]

    def on_train_start(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Open the dashboard of a new run; report what a resumed run did not get to report."""
        self.pace.start()
        if trainer.is_global_zero and trainer.loggers:
            if trainer.ckpt_path is None:
                open_dashboard(trainer, pl_module)
            elif self._is_pending:
                self._write(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note where the run's files are and how long, or how long before a block that is to be reported again."""
        if trainer.is_global_zero and trainer.loggers:
            checkpoint["log_sizes"] = self._sizes if self._is_pending else log_sizes(trainer.loggers)
            checkpoint["log_versions"] = log_versions(trainer.loggers)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Cut the files of a resumed run back to what they were, so that no point is there twice."""
        if trainer.is_global_zero and trainer.loggers:
            cut_logs(trainer.loggers, checkpoint.get("log_sizes", []))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """After a block that no val rows followed: a row in each file, scalars, the figure."""
        self._report(trainer, pl_module)

    def _report(self, trainer: L.Trainer, task: LayerwiseTask) -> None:
        report = task.report
        if report is None or report.is_logged:
            return
        train = columns(level_rows(report.train, task.levels, task.learned_accuracy))
        unknown = {name: torch.full_like(values, torch.nan) for name, values in report.train.items()}
        held_out = task.results.get("val", unknown)
        val = columns(level_rows(held_out, task.levels, task.learned_accuracy))
        self.accuracy.append(val["accuracy"])
        self.train.append(train)
        self.labels.append(held_out["accuracy"].double().cpu())
        split = "val" if "val" in task.results else "train"
        ranked = task.label_precision.get(split)
        by_label = {**held_out, "average_precision": unknown["accuracy"] if ranked is None else ranked[0]}
        names = names_of(trainer.datamodule, task.net.n_labels)  # type: ignore[attr-defined]
        level_of = task.levels or [1] * len(report.accepted_labels)
        self._entry = {
            "block": report.block,
            "used": n_used(task.block, task.memory),
            "rows": rows_of(split, task.rows.folds is not None),
            "is_calibrated": task.rows.folds is not None or any(map(task.rows.n_chunks, ("held", "val"))),
            "tables": tables_of(report, train, val, task.levels, by_label, names),
            "scalars": scalars_of(report, val, self._entry.get("levels")),
            "levels": val,
            "level_of": level_of,
            "ranked": ranked,
            "margins": counts_by_level(task.margin_counts, level_of),
        }
        if trainer.is_global_zero and trainer.loggers:
            self._sizes, self._is_pending = log_sizes(trainer.loggers), True
        report.is_logged = True
        if self._is_pending:
            self._write(trainer)

    def _write(self, trainer: L.Trainer) -> None:
        append_tables(self._folder, self._entry["tables"])
        for logger in trainer.loggers:
            logger.log_metrics(self._entry["scalars"], step=self._entry["block"])
        if self.pace.is_due:
            self._draw(trainer)
        self._is_pending = False

    def _draw(self, trainer: L.Trainer) -> None:
        with self.pace.work():
            draw_block(trainer, self._entry, self._save_picture(), self._of_used(self.labels).numpy())
        self._drawn = self._entry["block"]

    def _of_used(self, values: list[Tensor]) -> Tensor:
        """Return values of the blocks that are used, [blocks, ...]: one left out may change probabilities alone."""
        return stacked([*values[: self._entry["used"] - 1], values[-1]])

    def _save_picture(self) -> NDArray[np.float32]:
        """Draw the staircase, or labels' average precision once it is known, to its file, and return its pixels."""
        accuracy, rows, path = self._of_used(self.accuracy), self._entry["rows"], self._folder / PICTURE
        if accuracy.isnan().all():
            accuracy = self._of_used([of["accuracy"] for of in self.train])
        if self._entry["ranked"] is not None:
            names = self._entry["tables"]["labels.csv"]["label"]
            figure = draw_precision(self._entry["ranked"].numpy(), names, rows)
        else:
            figure = draw_staircase(accuracy.numpy(), self._entry["levels"]["level"].int().tolist(), rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        # to pack it tighter takes as long as to draw it
        figure.savefig(path, dpi=DPI, pil_kwargs={"compress_level": 1})
        plt.close(figure)
        return plt.imread(path)

    def on_train_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Close the dashboard; print the closing table and what is to be said of margins and probabilities."""
        if self._entry and trainer.is_global_zero and trainer.loggers:
            ranked = pl_module.label_precision.get("val" if "val" in pl_module.results else "train")
            if is_new := self._entry["ranked"] is None and ranked is not None:
                self._entry["ranked"] = ranked
            if is_new or self._drawn < self._entry["block"] or not (self._folder / PICTURE).exists():
                self._draw(trainer)
            close_dashboard(trainer, pl_module, final_metrics(self._entry["levels"], self._entry["used"]))
        if "val" in pl_module.results:
            print_table("val", pl_module)
        elif "train" in pl_module.results:
            print_table("train", pl_module)
        if self.train and trainer.is_global_zero:
            data, robustness = trainer.datamodule, pl_module.robustness  # type: ignore[attr-defined]
            line = margin_line(self.train, data, robustness, pl_module.learned_accuracy)
            print(line, end="\n" if line else "")
            if not self._entry["is_calibrated"]:
                print(UNCALIBRATED)

    def on_fit_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Print where the picture of the run is, below all else."""
        is_shown = self.accuracy and trainer.is_global_zero and trainer.loggers and not trainer.fast_dev_run  # type: ignore[attr-defined]
        if is_shown and (self._folder / PICTURE).exists():
            shown = "accuracy by block and level" if self._entry["ranked"] is None else "average precision by label"
            print(f"{shown}: {shortest(self._folder / PICTURE)}")

    def on_validation_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """After a block and its validation, what `on_train_epoch_end` does; of a `validate` run, prints the table."""
        if trainer.state.fn == "validate":
            print_table("val", pl_module)
        else:
            self._report(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Print the table of a `test` run."""
        print_table("test", pl_module)


def stacked(values: list[Tensor]) -> Tensor:
    """Return values of each block as one tensor [blocks, ...]."""
    return torch.stack(values) if values else torch.zeros(0, dtype=torch.float64)


def tables_of(
    report: BlockReport,
    train: Mapping[str, Tensor],
    val: Mapping[str, Tensor],
    levels: list[int] | None,
    by_label: Mapping[str, Tensor],
    names: list[str],
) -> dict[str, dict[str, list[Any]]]:
    """Return what a block adds to each table of a run: columns by the table's name.

    Args:
        report: The block's.
        train: Columns by level of the training rows.
        val: Columns by level of the held-out rows.
        levels: Each label's level, None where unknown.
        by_label: Metrics [n] of the held-out rows, and average precisions.
        names: Of the labels.
    """
    n_levels, n_labels = len(val["level"]), len(names)
    by_level = {
        "block": [report.block] * n_levels,
        "level": val["level"].int().tolist(),
        "n_labels": val["n_labels"].int().tolist(),
        "train_accuracy": train["accuracy"].tolist(),
        "train_min_margin": train["min_margin"].tolist(),
        "margin_error": train["margin_error"].tolist(),
        "val_accuracy": val["accuracy"].tolist(),
        "learned": val["learned"].int().tolist(),
    }
    of_labels: dict[str, list[Any]] = {
        "block": [report.block] * n_labels,
        "label": names,
        "level": [""] * n_labels if levels is None else levels,
        "accepted": [int(accepted) for accepted in report.accepted_labels],
        "val_accuracy": by_label["accuracy"].tolist(),
        "min_margin": by_label["min_margin"].tolist(),
        "average_precision": by_label["average_precision"].tolist(),
    }
    blocks = {name: [getattr(report, name)] for name in BLOCK_COLUMNS}
    return {"blocks.csv": blocks, "levels.csv": by_level, "labels.csv": of_labels}


def scalars_of(report: BlockReport, val: Mapping[str, Tensor], before: Mapping[str, Tensor] | None) -> dict[str, float]:
    """Return a block's scalars by name, those of a level where they have changed.

    Args:
        report: The block's.
        val: Its columns by level of the held-out rows.
        before: The same after the block before; None after the first.
    """
    scalars = {f"block/{name}": getattr(report, name) for name in BLOCK_COLUMNS if name not in ("block", "stop_reason")}
    names, levels = ("accuracy", "min_margin", "mean_margin", "margin_error"), val["level"].int().tolist()
    values = torch.stack([val[name] for name in names], 1)
    changed = torch.ones_like(values, dtype=torch.bool)
    if before is not None:
        changed = ~values.eq(torch.stack([before[name] for name in names], 1))
    for place, column in changed.nonzero().tolist():
        scalars[f"{names[column]}/level_{levels[place]:02d}"] = float(values[place, column])
    return scalars


def counts_by_level(counts: Tensor | None, level_of: list[int]) -> Tensor | None:
    """Margin counts [n, bins] of labels added up by level, [levels, bins]; None where nothing was counted."""
    if counts is None or not counts.any():
        return None
    levels, place = np.unique(level_of, return_inverse=True)
    total = torch.zeros(len(levels), counts.shape[1], dtype=counts.dtype)
    return total.index_add_(0, torch.from_numpy(place), counts.cpu())


def append_tables(folder: Path, tables: Mapping[str, Mapping[str, list[Any]]]) -> None:
    """Append rows to CSV files.

    Raises:
        OSError: If one cannot be written; some rows may have been.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in tables.items():
            append_rows(folder / name, rows)
    except OSError as error:
        raise OSError(error.errno, f"cannot write the tables of a block to {folder}: {error.strerror}") from error


def append_rows(path: Path, rows: Mapping[str, list[Any]]) -> None:
    """Append rows, column by column, to a CSV file, with a header if it is new."""
    new = not path.exists() or not path.stat().st_size
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(rows)
        writer.writerows(zip(*rows.values(), strict=True))


@rank_zero_only
def print_table(split: str, task: LayerwiseTask) -> None:
    """Print one row a level of a split's metrics; where levels are unknown, one row with average precision."""
    rows = rows_to_print(task.results[split], task.levels, task.learned_accuracy)
    shown = LEVEL_COLUMNS if task.levels is not None else LABEL_COLUMNS
    table = Table(title=title_of(split, task))
    for title in shown:
        table.add_column(title, justify="right")
    for row in rows:
        values = {**row, "average_precision": task.precision.get(split, math.nan)}
        table.add_row(*(form.format(values[name]) for name, form in shown.values()))
    Console().print(table)


def shortest(path: Path) -> Path:
    """Return a path from the working directory, if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def rows_of(split: str, has_folds: bool) -> str:
    """Return what rows figures are of."""
    return "validation rows" if split == "val" else f"training rows{' left out' * has_folds}"


def title_of(split: str, task: LayerwiseTask) -> str:
    """Return what a table is of: rows, and the blocks that are used."""
    n_blocks = n_used(task.block, task.memory)
    left_out = "train" in task.precision and split == "train"
    rows = "training rows, each scored by fits that left it out," if left_out else f"{split} rows"
    return f"{rows} after {n_blocks} of {len(task.net.blocks)} blocks"
