"""What a run says of its levels: as they stand after a block, and what the paper's main result says at the end."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from torch import Tensor

from hierlit.data import HierarchyDataModule
from hierlit.metrics import by_level
from hierlit.theory import depth_bound

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


def margin_growth(rows: Sequence[Sequence[Mapping[str, float]]], learned_accuracy: float) -> float | None:
    """γ as a run shows it (ours): by how much, at least, the block after a level is learned lowers its loss.

    Args:
        rows: For each block the rows by level, as `level_rows` makes them of the training rows.
        learned_accuracy: Training accuracy from which a level is learned.

    Returns:
        The least log(s/s') over the levels, s and s' the mean shortfalls 1 − y·ŷ of the margins after the block that
        learns a level and after the next; None unless every level was learned before the last block. Level 0 is none.
    """
    growths = []
    for level in (place for place, row in enumerate(rows[0]) if row["level"] > 0):
        learned = [block for block, of_block in enumerate(rows) if of_block[level]["accuracy"] >= learned_accuracy]
        if not learned or learned[0] + 1 == len(rows):
            return None
        before, after = (1 - rows[block][level]["mean_margin"] for block in (learned[0], learned[0] + 1))
        growths.append(math.log(max(abs(before), SHORTFALL) / max(abs(after), SHORTFALL)))
    return min(growths)


def margin_line(
    rows: Sequence[Sequence[Mapping[str, float]]], data: HierarchyDataModule, robustness: float, learned_accuracy: float
) -> str:
    """Return what the paper's main result says of a finished run; nothing if a training pair lacks its margin.

    Args:
        rows: For each block the rows by level of the training rows.
        data: What it was trained on.
        robustness: ξ.
        learned_accuracy: Training accuracy from which a level is learned.
    """
    if not rows or any(row["margin_error"] != 0 for row in rows[-1]):
        return ""
    labels = "each label" if not data.tables["train"].counts()[1].any() else "each observed label"
    said = f"zero empirical margin error: y·ŷ ≥ 1 − ξ/2 for {labels} at all {data.n_pairs:,} training pairs"
    growth = margin_growth(rows, learned_accuracy) if data.top_level else None
    if not data.top_level or growth is None or growth <= 0:
        return said
    least, depth = depth_bound(data.top_level, data.n_pairs, robustness, growth), len(rows) + 1
    meets = "meets" if depth >= least else "is below"
    return f"{said}; D = {depth} {meets} the paper's bound, D ≥ {least} at this run's γ = {growth:.2g}"
