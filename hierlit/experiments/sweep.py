"""sweep: a config's fits over values of some arguments and seeds, as a tidy table and a figure; nothing is judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hierlit.experiments.base import Experiment, Run, Settings, Verdict, argument, product
from hierlit.experiments.drawing import draw_points, panels
from hierlit.experiments.statistics import means
from hierlit.layerwise.algorithm import n_used

MEASURES = ("accuracy", "average_precision", "levels_learned", "training_seconds")
"""Columns of a run's outcome that are averaged over seeds."""


def outcome_of(run: Run) -> dict[str, Any]:
    """Return what a run of any config reached, on validation rows; without them on training rows.

    Returns:
        `accuracy`, the mean over labels; `average_precision`, NaN where it is not measured; `levels_learned` and
        `n_levels`, `blocks`, `epochs` and `training_seconds`.
    """
    task = run.cli.model
    split = "val" if "val" in task.results else "train"
    last = run.levels[run.levels["block"] == run.levels["block"].max()]
    reached = last[f"{split}_accuracy"] >= task.learned_accuracy
    return {
        "rows": split,
        "accuracy": float(task.results[split]["accuracy"].nanmean()),
        "average_precision": task.precision.get(split, float("nan")),
        "levels_learned": int((reached if split == "train" else last["learned"] == last["n_labels"]).sum()),
        "n_levels": len(last),
        "blocks": n_used(task.block, task.memory),
        "epochs": int(run.blocks["epochs"].sum()),
        "training_seconds": run.seconds,
    }


def averaged(results: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Means over seeds of each measure with the ends of their 95% intervals, a row for each combination of `by`."""
    table = results.groupby(by, sort=False, dropna=False).size().rename("seeds").reset_index()
    for measure in (name for name in MEASURES if results[name].notna().any()):
        own = means(results, by, measure).drop(columns="n")
        table = table.merge(own.rename(columns={"mean": measure, "low": f"{measure}_low", "high": f"{measure}_high"}))
    return table


@dataclass
class SweepExperiment(Experiment):
    """Fit a config with all combinations of values of some arguments.

    Args:
        configs: The config, by any name.
        seeds: Number of seeds of data and weights.
        overrides: Arguments of `fit` replaced in all runs.
        axes: Values by argument, such as `model.features.beta`.
    """

    axes: dict[str, list[Any]] = field(default_factory=dict)

    question: ClassVar[str] = "What do these arguments change?"
    prediction: ClassVar[str] = "None."

    def settings(self) -> Iterator[Settings]:
        """Give all combinations; a value that is no number or word stands as its text."""
        return product(**{name: [shown(value) for value in values] for name, values in self.axes.items()})

    def arguments(self, settings: Settings) -> dict[str, Any]:
        """Return the values."""
        return {name: value for name, value in settings.items() if name in self.axes}

    def outcome(self, run: Run) -> dict[str, Any]:
        """Return `outcome_of`."""
        return outcome_of(run)

    def figures(self, results: pd.DataFrame, folder: Path) -> dict[str, Figure]:
        """Draw the measure against the first argument, a line for each combination of the others."""
        measure = "average_precision" if results["average_precision"].notna().any() else "accuracy"
        figure, axes = panels(1, 1, 6, 4)
        first, *others = self.axes
        lines = results.groupby(others, sort=False) if others else [((), results)]
        for number, (values, own) in enumerate(lines):
            table = means(own, [first], measure)
            places, ticks = places_of(table[first], self.axes[first])
            label = ", ".join(f"{name}={value}" for name, value in zip(others, values, strict=True)) or None
            draw_points(axes[0, 0], places, table, marker="o", color=f"C{number}", label=label)
            if ticks is not None:
                axes[0, 0].set_xticks(range(len(ticks)), ticks)
        (rows,) = set(results["rows"]) if results["rows"].nunique() == 1 else ("held-out",)
        axes[0, 0].set(xlabel=first, ylabel=f"{measure.replace('_', ' ')}, {rows} rows")
        if others:
            axes[0, 0].legend(fontsize=8)
        return {"sweep": figure}

    def summary(self, results: pd.DataFrame) -> pd.DataFrame:
        """Means over seeds with 95% intervals, a row a combination."""
        return averaged(results, list(self.axes))

    def verdict(self, results: pd.DataFrame) -> Verdict:
        """Judge nothing."""
        return Verdict(None, "a sweep asks no hypothesis")


def shown(value: Any) -> Any:
    """Return a value as it stands in a table: numbers and words as they are, others as the command line takes them."""
    return value if isinstance(value, int | float | str) and not isinstance(value, bool) else argument(value)


def places_of(values: pd.Series[Any], order: list[Any]) -> tuple[Any, list[str] | None]:
    """Return where values stand on an axis, and the names of its places where they are no numbers."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in order):
        return np.asarray(values, dtype=float), None
    names = [str(shown(value)) for value in order]
    return [names.index(str(value)) for value in values], names


def list_axes(given: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the arguments whose value is a list: what is varied."""
    return {name: [number(each) for each in value] for name, value in given.items() if isinstance(value, list)}


def number(value: Any) -> Any:
    """Return the number that a text is, such as 1e-3, which YAML takes for a word; else the value itself."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
