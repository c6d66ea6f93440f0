"""staircase: is each level learned by a block of its own, in the hierarchy's order?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hierlit.experiments.base import Experiment, Run, Settings, Verdict, decided, tables_of
from hierlit.experiments.drawing import panels

FULL, ONE_BLOCK, SHUFFLED = "none", "one block", "shuffled labels"
CORRELATION = 0.95
"""Least rank correlation between a label's level and the block that learned it."""
CHANCE = 0.05
"""Accuracy beyond the more frequent value's share up to which nothing counts as learned of a label."""


@dataclass
class StaircaseExperiment(Experiment):
    """Train each hierarchy as it is, with one block of the same total width, and with its labels shuffled.

    Args:
        configs: Files of `fit`, by the name of their hierarchy.
        seeds: Number of seeds.
        threshold: Held-out accuracy from which a label is learned.
        controls: Hierarchies that the controls are run on; all when None.
        most_features: Features at most of the control's one block, which otherwise has those of all blocks together.
    """

    threshold: float = 0.99
    controls: list[str] | None = None
    most_features: int = 4000

    question: ClassVar[str] = (
        "Does each block learn one more level of a hierarchy, in the hierarchy's order? And nothing of the kind where "
        "there is nothing to climb on: with a single block, or with labels shuffled across rows?"
    )
    prediction: ClassVar[str] = (
        "The labels of level i are learned once those of level i − 1 are (the paper's mechanism), so the block that "
        "learns a label rises with its level. Our expectation of the controls: one block of the same total width, "
        "or of 4,000 features where that would be more, leaves the last level unlearned, and of shuffled labels "
        "nothing is learned beyond their frequency."
    )
    quick: ClassVar[dict[str, Any]] = {"seeds": 1}

    def __post_init__(self) -> None:
        super().__post_init__()
        flat = [name for name in self.configs if not self.levels_of(name)]
        if flat:
            raise ValueError(f"a staircase needs data that knows its labels' levels, unlike that of {', '.join(flat)}")

    def settings(self) -> Iterator[Settings]:
        """Yield each hierarchy alone, then with the controls."""
        for name in self.configs:
            is_controlled = self.controls is None or name in self.controls
            for control in (FULL, ONE_BLOCK, SHUFFLED) if is_controlled else (FULL,):
                yield {"config": name, "control": control}

    def arguments(self, settings: Settings) -> dict[str, Any]:
        """Return the control's."""
        if settings["control"] == ONE_BLOCK:
            model = self.section(settings, "model")
            width = min(model["n_blocks"] * model["n_features"], self.most_features)
            return {"model.n_blocks": 1, "model.n_features": width}
        if settings["control"] == SHUFFLED:
            return {"supervision.shuffle_labels": True, "model.n_blocks": 3}
        return {}

    def outcome(self, run: Run) -> dict[str, Any]:
        """Return which block learned each level, how that follows the levels, and what was learned beyond frequency."""
        learned = learning_blocks(run.labels, self.threshold)
        of_level = learned.groupby("level")["block"].agg(lambda blocks: blocks.max(skipna=False))
        last = run.labels[run.labels["block"] == run.labels["block"].max()]
        counts = run.cli.datamodule.tables["val"].counts().double()
        ones = (counts[2] / counts.sum(0)).numpy()
        return {
            "learned_by": " ".join("-" if np.isnan(block) else f"{block:.0f}" for block in of_level),
            "levels_learned": int(of_level.notna().sum()),
            "n_levels": len(of_level),
            "in_order": bool(of_level.notna().all() and of_level.is_monotonic_increasing and of_level.is_unique),
            "rank_correlation": float(learned[["level", "block"]].corr(method="spearman").iloc[0, 1]),
            "first_level": run.accuracy(1),
            "last_level": run.accuracy(int(of_level.index.max())),
            "smallest_margin": float(last["min_margin"].min()),
            "beyond_frequency": float((last["val_accuracy"].to_numpy() - np.maximum(ones, 1 - ones)).max()),
        }

    def figures(self, results: pd.DataFrame, folder: Path) -> dict[str, Figure]:
        """Heat map of level by block for each hierarchy, of accuracy and of smallest margins, and of the controls."""
        levels = tables_of(results, folder, "levels.csv")
        full = levels[levels["run_control"] == FULL]
        if full.empty:
            return {"controls": controls_figure(results)}
        return {
            "accuracy": heat_maps(full, "val_accuracy", "held-out accuracy, mean over seeds", 0.5, 1.0),
            "margins": heat_maps(full, "train_min_margin", "smallest training margin, mean over seeds", -1.0, 1.0),
            "controls": controls_figure(results),
        }

    def summary(self, results: pd.DataFrame) -> pd.DataFrame:
        """Return a row a hierarchy and control."""
        groups = results.groupby(["config", "control"], sort=False)
        return groups.agg(
            seeds=("seed", "count"),
            in_order=("in_order", "sum"),
            learned_by=("learned_by", lambda found: found.mode().iloc[0]),
            rank_correlation=("rank_correlation", "min"),
            first_level=("first_level", "mean"),
            last_level=("last_level", "mean"),
            beyond_frequency=("beyond_frequency", "max"),
        ).reset_index()

    def verdict(self, results: pd.DataFrame) -> Verdict:
        """Order, correlation and controls."""
        full, one, shuffled = (results[results["control"] == control] for control in (FULL, ONE_BLOCK, SHUFFLED))
        least = full["rank_correlation"].fillna(0).min()
        pairs = {(row["config"], row["control"]) for row in self.settings()}
        holds: list[bool | None] = [None] if pairs - {*zip(results["config"], results["control"], strict=True)} else []
        text = []
        if len(full):
            holds.append(bool(full["in_order"].all() and least >= CORRELATION))
            text.append(
                f"{int(full['in_order'].sum())} of {len(full)} runs learned every level, each in a block of its own "
                f"and in order; the least rank correlation between a label's level and the block that learned it is "
                f"{least:.3f}"
            )
        if len(one):
            holds.append(bool((one["last_level"] < self.threshold).all()))
            text.append(f"one block left the last level at {one['last_level'].max():.3f} at best")
        if len(shuffled):
            holds.append(bool((shuffled["beyond_frequency"] <= CHANCE).all()))
            text.append(f"shuffled labels came {shuffled['beyond_frequency'].max():+.3f} beyond frequency at most")
        return Verdict(decided(holds), "; ".join(text) + ".")


def learning_blocks(labels: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Return the first block after which each label is learned, NaN for none; columns label, level, block."""
    learned = labels[labels["val_accuracy"] >= threshold].groupby("label")["block"].min()
    names = labels[["label", "level"]].drop_duplicates()
    return names.assign(block=names["label"].map(learned))


def heat_maps(levels: pd.DataFrame, column: str, title: str, low: float, high: float) -> Figure:
    """Return a map of level by block for each hierarchy."""
    names = list(levels["run_config"].unique())
    figure, row = panels(1, len(names), 4.5, 3.6)
    for axes, name in zip(row[0], names, strict=True):
        own = levels[levels["run_config"] == name]
        table = own.pivot_table(index="level", columns="block", values=column, aggfunc="mean")
        edges = (0.5, table.columns.max() + 0.5, 0.5, table.index.max() + 0.5)
        image = axes.imshow(table, origin="lower", aspect="auto", vmin=low, vmax=high, cmap="viridis", extent=edges)
        axes.set(xlabel="blocks trained", ylabel="level", title=name)
        axes.set(xticks=table.columns, yticks=table.index)
    figure.colorbar(image, ax=row[0], label=title)
    return figure


def controls_figure(results: pd.DataFrame) -> Figure:
    """Accuracy of the first and the last level, with and without controls, a point a run."""
    pairs = list(results.groupby(["config", "control"], sort=False))
    figure, axes = plt.subplots(figsize=(6, 0.5 + 0.42 * len(pairs)), layout="constrained")
    for place, (_, runs) in enumerate(pairs):
        axes.plot(runs["first_level"], [place + 0.1] * len(runs), "o", color="C0", label="" if place else "first level")
        axes.plot(runs["last_level"], [place - 0.1] * len(runs), "s", color="C3", label="" if place else "last level")
    axes.set_yticks(range(len(pairs)), [f"{name}\ncontrol: {control}" for (name, control), _ in pairs], fontsize=8)
    axes.set(xlabel="held-out accuracy (0 where no block was accepted)", xlim=(-0.02, 1.02))
    axes.invert_yaxis()
    axes.legend(fontsize=8)
    return figure
