"""What a run says of its levels: as they stand after a block, and what the paper's main result says at the end."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from hierlit.data import HierarchyDataModule
from hierlit.metrics import by_level
from hierlit.theory import depth_bound

MOST_ROWS = 40
"""Levels beyond which those in line that are alike share a row of the closing table."""
SHORTFALL = 1e-6
"""Least mean shortfall of a margin that float32 scores resolve."""


def level_rows(
    metrics: Mapping[str, Tensor], levels: Sequence[int] | None, learned_accuracy: float
) -> list[dict[str, float]]:
    """Return one row a level of metrics given label by label.

    Args:
        metrics: `accuracy`, `min_margin`, `mean_margin` and `margin_error`, each [n].
        levels: Level of each label; every label counts as level 1 when None.
        learned_accuracy: Accuracy from which a label counts as learned.

    Returns:
        Rows with the keys level, n_labels, accuracy, min_margin, mean_margin, margin_error, learned.
    """
    accuracy = metrics["accuracy"].tolist()
    level_of = [1] * len(accuracy) if levels is None else list(levels)
    by_name = {
        name: by_level(values, level_of, "min" if name == "min_margin" else "mean") for name, values in metrics.items()
    }
    n_labels = Counter(level_of)
    n_learned = Counter(level for level, own in zip(level_of, accuracy, strict=True) if own >= learned_accuracy)
    rows = []
    for level in sorted(n_labels):
        values = {name: found[level] for name, found in by_name.items()}
        rows.append({"level": level, "n_labels": n_labels[level], **values, "learned": n_learned[level]})
    return rows


def rows_to_print(
    metrics: Mapping[str, Tensor], levels: Sequence[int] | None, learned_accuracy: float
) -> list[dict[str, Any]]:
    """Return `level_rows`; where there are many, one row for levels in line with the same share of labels learned."""
    rows: list[dict[str, Any]] = list(level_rows(metrics, levels, learned_accuracy))
    if len(rows) <= MOST_ROWS or levels is None:
        return rows
    runs = [list(run) for _, run in groupby(rows, lambda row: (row["level"] == 0, row["learned"] / row["n_labels"]))]
    first = {row["level"]: run[0]["level"] for run in runs for row in run}
    rows = list(level_rows(metrics, [first[level] for level in levels], learned_accuracy))
    for row, run in zip(rows, runs, strict=True):
        row["level"] = f"{run[0]['level']}–{run[-1]['level']}" if len(run) > 1 else run[0]["level"]
    return rows


def columns(rows: Sequence[Mapping[str, float]]) -> dict[str, Tensor]:
    """Return rows by level as columns [levels], which deep runs have the memory for."""
    return {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in rows[0]}


def margin_growth(blocks: Sequence[Mapping[str, Tensor]], learned_accuracy: float) -> float | None:
    """γ as a run shows it (ours): by how much, at least, the block after a level is learned lowers its loss.

    Args:
        blocks: For each block the `columns` of what `level_rows` makes of the training rows.
        learned_accuracy: Training accuracy from which a level is learned.

    Returns:
        The least log(s/s') over the levels, s and s' the mean shortfalls 1 − y·ŷ of the margins after the block that
        learns a level and after the next; None unless every level was learned before the last block. Level 0 is none.
    """
    counted = blocks[0]["level"] > 0
    accuracy, margins = (torch.stack([of[name][counted] for of in blocks]) for name in ("accuracy", "mean_margin"))
    learned = accuracy >= learned_accuracy
    if not learned[:-1].any(0).all():
        return None
    first, shortfall = learned.int().argmax(0, keepdim=True), (1 - margins).abs().clamp(min=SHORTFALL)
    return float((shortfall.gather(0, first) / shortfall.gather(0, first + 1)).log().min())


def margin_line(
    blocks: Sequence[Mapping[str, Tensor]], data: HierarchyDataModule, robustness: float, learned_accuracy: float
) -> str:
    """Return what the paper's main result says of a finished run; nothing if a training pair lacks its margin.

    Args:
        blocks: As `margin_growth` takes them.
        data: What it was trained on.
        robustness: ξ.
        learned_accuracy: Training accuracy from which a level is learned.
    """
    if not blocks or (blocks[-1]["margin_error"] != 0).any():
        return ""
    labels = "each label" if not data.tables["train"].counts()[1].any() else "each observed label"
    said = f"zero empirical margin error: y·ŷ ≥ 1 − ξ/2 for {labels} at all {data.n_pairs:,} training pairs"
    growth = margin_growth(blocks, learned_accuracy) if data.top_level else None
    if not data.top_level or growth is None or growth <= 0:
        return said
    least, depth = depth_bound(data.top_level, data.n_pairs, robustness, growth), len(blocks) + 1
    meets = "meets" if depth >= least else "is below"
    return f"{said}; D = {depth} {meets} the paper's bound, D ≥ {least} at this run's γ = {growth:.2g}"
