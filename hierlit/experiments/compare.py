"""compare: a config's network trained layer by layer and end to end, on the same data, in the same time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hierlit.experiments.base import Experiment, Run, Settings, Verdict, product, tables_of
from hierlit.experiments.drawing import draw_points, panels
from hierlit.experiments.statistics import means
from hierlit.experiments.sweep import averaged, outcome_of
from hierlit.models import RadialFeatures

LAYERWISE, LAST, EVERY = "layerwise", "end to end, last block's scores", "end to end, every block's scores"
UNITS = RadialFeatures.__name__
"""Features that are placed while blocks are trained."""
PROBE_EPOCHS = 5
"""Joint epochs whose time is taken, to know how many fit into that of a layerwise run."""


@dataclass
class CompareExperiment(Experiment):
    """Train one network in three ways, whose W¹ are the same draws.

    Args:
        configs: The config, by any name.
        seeds: Number of seeds of data and weights.
        overrides: Arguments of `fit` replaced in all runs.
        ways: Those that are run.
        epochs: Of joint training, by seed; `PROBE_EPOCHS` for a seed that is not there.
    """

    ways: tuple[str, ...] = (LAYERWISE, LAST, EVERY)
    epochs: dict[int, int] = field(default_factory=dict)

    question: ClassVar[str] = "Does the same network learn more layer by layer or end to end, in the same time?"
    prediction: ClassVar[str] = "None."

    def problem(self) -> str:
        """Return why the network cannot be trained end to end; nothing where it may be."""
        given = self.section({}, "model").get("features")
        name = str(given.get("class_path") if isinstance(given, dict) else given).rpartition(".")[2]
        remedy = "--model.features GaussianFeatures --model.solver ExactSolver compares a network of random features"
        return f"units of {name} are rows, which end-to-end training has not; {remedy}" if name == UNITS else ""

    def settings(self) -> Iterator[Settings]:
        """Give the ways."""
        return product(way=self.ways)

    def arguments(self, settings: Settings) -> dict[str, Any]:
        """Return what makes both trainings of one network: no adaptation, no folds, no early end."""
        same = {"model.adaptation": None, "layerwise.folds": None, "layerwise.stop_when_learned": False}
        if settings["way"] == LAYERWISE:
            return same
        every = settings["way"] == EVERY
        joint = {"model.joint.epochs": PROBE_EPOCHS, "model.joint.every_block": every}
        return {**same, "layerwise.acceptance": "none", **joint}

    def fit_arguments(self, settings: Settings, seed: int) -> list[str]:
        """Return the command line of a run, with as many joint epochs as fit into the layerwise run's time."""
        words = super().fit_arguments(settings, seed)
        own = {f"--model.joint.epochs={PROBE_EPOCHS}": f"--model.joint.epochs={self.epochs.get(seed, PROBE_EPOCHS)}"}
        return [own.get(word, word) for word in words]

    def outcome(self, run: Run) -> dict[str, Any]:
        """Return `outcome_of`."""
        return outcome_of(run)

    def figures(self, results: pd.DataFrame, folder: Path) -> dict[str, Figure]:
        """Draw accuracy by level after the last block."""
        levels = tables_of(results, folder, "levels.csv")
        last = levels[levels["block"] == levels.groupby("run_run")["block"].transform("max")]
        column = "val_accuracy" if last["val_accuracy"].notna().any() else "train_accuracy"
        figure, axes = panels(1, 1, 6, 4)
        for way in self.ways:
            table = means(last[last["run_way"] == way], ["level"], column)
            draw_points(axes[0, 0], table["level"], table, marker="o", label=way)
        axes[0, 0].set(xlabel="level", ylabel=column.replace("val", "validation").replace("_", " "))
        axes[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[0, 0].legend(fontsize=8)
        return {"compare": figure}

    def summary(self, results: pd.DataFrame) -> pd.DataFrame:
        """Means over seeds with 95% intervals, a row a way."""
        return averaged(results, ["way"]).merge(results.groupby("way", as_index=False)["epochs"].mean())

    def verdict(self, results: pd.DataFrame) -> Verdict:
        """Judge nothing."""
        return Verdict(None, "a comparison of two trainings on one config")


def joint_epochs(layerwise: pd.DataFrame, probes: pd.DataFrame) -> dict[int, int]:
    """Return by seed how many joint epochs take the time of the layerwise run, at least one.

    Args:
        layerwise: Rows of layerwise runs, with `training_seconds`.
        probes: Rows of joint runs of `PROBE_EPOCHS`.
    """
    seconds = probes.groupby("seed")["training_seconds"].mean() / PROBE_EPOCHS
    spent = layerwise.set_index("seed")["training_seconds"]
    return {int(seed): max(1, round(float(spent[seed] / seconds[seed]))) for seed in spent.index if seed in seconds}
