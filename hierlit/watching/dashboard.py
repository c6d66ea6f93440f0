"""What a run shows in TensorBoard beyond its scalars: their layout, a card, figures by block, and the hparams tab."""

from collections.abc import Mapping
from typing import Any

import lightning as L
import numpy as np
import yaml
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import SummaryWriter

from hierlit.data.base import SPLITS, HierarchyDataModule
from hierlit.metrics.histogram import EDGES
from hierlit.training.resume import flattened
from hierlit.training.task import LayerwiseTask
from hierlit.watching.figures import draw_labels, draw_margins

LAYOUT = {
    "levels": {
        "held-out accuracy": ["Multiline", ["^accuracy/level_.*"]],
        "smallest held-out margin": ["Multiline", ["^min_margin/level_.*"]],
        "mean held-out margin": ["Multiline", ["^mean_margin/level_.*"]],
    },
    "blocks": {
        "gradient norm against its tolerance": ["Multiline", ["^gradient_norm$", "^gradient_tolerance$"]],
        "certificate against F_k at W² = 0": ["Multiline", ["^block/suboptimality$", "^block/initial_objective$"]],
        "seconds a block": ["Multiline", ["^block/seconds$"]],
    },
}
"""Charts of the Custom Scalars tab, by group: what is drawn together, as patterns of scalars' names."""
COMPARED = ("data", "supervision", "model", "layerwise")
"""Sections of a config that the hparams tab shows."""
FIGURES = "staircase"
"""The one group of the figures; TensorBoard opens the first two groups alone."""


def writers(trainer: L.Trainer) -> list[SummaryWriter]:
    """TensorBoard's writers among a run's loggers."""
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def open_dashboard(trainer: L.Trainer, task: LayerwiseTask) -> None:
    """Write the layout and the card of a new run."""
    data: HierarchyDataModule = trainer.datamodule  # type: ignore[attr-defined]
    for writer in writers(trainer):
        writer.add_custom_scalars(LAYOUT)
        writer.add_text("run", card(task, data), 0)


def card(task: LayerwiseTask, data: HierarchyDataModule) -> str:
    """Return the hierarchy and the config, in Markdown."""
    level_of = [1] * data.n_labels if data.levels is None else data.levels
    source = getattr(data, "data", data)
    lines = [
        f"**{type(source).__name__}**: {', '.join(f'{len(data.tables[split])} {split}' for split in SPLITS)} rows, "
        f"{data.n_locations} locations, {data.n_inputs} inputs, {data.n_labels} labels; windows of "
        f"{task.net.windows.size} locations, {len(task.net.blocks)} blocks of {task.net.n_features} "
        f"features, {type(task.joint or task.solver).__name__}",
        "",
        "| level | labels |",
        "|---|---|",
        *(f"| {level if data.levels else '?'} | {level_of.count(level)} |" for level in sorted(set(level_of))),
    ]
    config = task.config or {"model": {name: str(value) for name, value in task.hparams.items()}}
    return "\n".join([*lines, "", "```yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True), "```"])


def draw_block(
    trainer: L.Trainer, entry: Mapping[str, Any], staircase: NDArray[np.float32], labels: NDArray[np.float64]
) -> None:
    """Add the figures of a block: the staircase up to it, its margins, each label's way.

    Args:
        trainer: The trainer.
        entry: Of the block: its number, its columns by level, each label's level, margin counts [levels, bins] or None.
        staircase: The picture of the staircase, [rows, columns, channels].
        labels: Held-out accuracy [blocks, labels].
    """
    levels = entry["levels"]["level"].int().tolist()
    for writer in writers(trainer):
        writer.add_image(f"{FIGURES}/levels", staircase, entry["block"], dataformats="HWC")
        figures = {"labels": draw_labels(labels, entry["level_of"])}
        if entry["margins"] is not None:
            figures["margins"] = draw_margins(entry["margins"].numpy(), EDGES.numpy(), levels, entry["block"])
        for name, figure in figures.items():
            writer.add_figure(f"{FIGURES}/{name}", figure, entry["block"], close=True)


def close_dashboard(trainer: L.Trainer, task: LayerwiseTask, metrics: Mapping[str, float]) -> None:
    """Write a run's arguments and what it reached, for the hparams tab."""
    arguments = compared(task.config or {"model": dict(task.hparams)})
    for writer in writers(trainer):
        for summary in hparams(arguments, dict(metrics)):  # type: ignore[no-untyped-call]
            writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
        for name, value in metrics.items():
            writer.add_scalar(name, value, task.block)


def compared(config: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Return what runs are compared by: the arguments of `COMPARED`, by their names on the command line."""
    found = flattened({name: config[name] for name in COMPARED if name in config})
    short = {name.replace(".init_args", "").removesuffix(".class_path"): v for name, v in found if v is not None}
    return {name: v if isinstance(v, bool | int | float | str) else str(v) for name, v in short.items()}


def final_metrics(levels: Mapping[str, Tensor], blocks: int) -> dict[str, float]:
    """Return what the hparams tab compares runs by, of the columns by level after the last block."""
    return {
        "final/levels_learned": float((levels["learned"] == levels["n_labels"]).sum()),
        "final/mean_accuracy": float(levels["accuracy"].mean()),
        "final/least_accuracy": float(levels["accuracy"].min()),
        "final/blocks": float(blocks),
    }
