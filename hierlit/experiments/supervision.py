"""supervision: what hidden labels cost, and what to take them for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from hierlit.experiments.base import Experiment, Run, Settings, Verdict, decided
from hierlit.experiments.drawing import draw_points, panels
from hierlit.experiments.statistics import Interval, means
from hierlit.layerwise.unobserved import TREATMENTS
from hierlit.metrics import average_precision

FULL, LAST, ALTERNATE, SINGLE = "all labels", "last level alone", "every other level", "one positive"
NO_TREATMENT = "none"
OUTCOMES = {
    "accuracy": "accuracy of all labels",
    "average_precision": "average precision of all labels",
    "last_precision": "average precision of the last level",
    "last_accuracy": "accuracy of the last level",
}
SETTING = ["config", "supervision", "treatment"]
DRAWN = ("accuracy", "average_precision", "last_precision")
HALF = 0.5
"""The share of the labels that the prediction is of."""
LITTLE, MUCH = 0.02, 0.1
"""Losses up to which, and from which, the prediction speaks of little and of much."""


@dataclass
class SupervisionExperiment(Experiment):
    """Train each hierarchy with all labels, and with labels hidden in several ways under several treatments.

    Args:
        configs: Files of `fit`, by the name of their hierarchy; whole levels are hidden where the data knows them.
        seeds: Number of seeds.
        shares: Shares of the labels that partial supervision observes.
        treatments: What hidden labels count for; see `model.unobserved`.
    """

    shares: list[float] = field(default_factory=lambda: [0.5, 0.1])
    treatments: list[str] = field(default_factory=lambda: list(TREATMENTS))

    question: ClassVar[str] = (
        "What does it cost to observe some of the labels, some of the levels, or one positive label an example, in the "
        "place of all labels? And which treatment of the hidden ones loses least? All labels of the test rows are "
        "judged, hidden in training or not; a score of 0, as of a label that no block was accepted for, is half right."
    )
    prediction: ClassVar[str] = (
        "The paper's guarantees are for all labels observed; whether one positive label an example is enough is its "
        "first open question, and nothing is predicted for it. Ours: of half the labels, hidden at random, little is "
        f"lost under the best treatment (at most {LITTLE} of accuracy), as every level can still be climbed; with the "
        f"last level alone, that level itself is lost (at least {MUCH} of its average precision, which unlike accuracy "
        "is low for rare labels that are never found), as there is nothing to climb on."
    )
    quick: ClassVar[dict[str, Any]] = {"seeds": 1, "shares": [0.5]}

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [name for name in self.treatments if name not in TREATMENTS]
        if unknown or not self.treatments:
            raise ValueError(f"treatments must be some of {', '.join(TREATMENTS)}, got {self.treatments}")
        self._levels = {name: self.levels_of(name) for name in self.configs}

    def ways(self, name: str) -> dict[str, dict[str, Any]]:
        """Arguments of `supervision` by way of hiding labels; levels alone where there are several."""
        levels = self._levels[name]
        ways: dict[str, dict[str, Any]] = {part_of_labels(share): {"observed": share} for share in self.shares}
        if len(levels) > 1:
            ways[LAST] = {"supervised_levels": levels[-1:]}
        if len(levels) > 2:
            ways[ALTERNATE] = {"supervised_levels": levels[::-2][::-1]}
        return ways | {SINGLE: {"single_positive": True}}

    def settings(self) -> Iterator[Settings]:
        """Yield every hierarchy with all labels, then with labels hidden in every way under every treatment."""
        for name in self.configs:
            yield {"config": name, "supervision": FULL, "treatment": NO_TREATMENT}
            for way in self.ways(name):
                for treatment in self.treatments:
                    yield {"config": name, "supervision": way, "treatment": treatment}

    def arguments(self, settings: Settings) -> dict[str, Any]:
        """Return what is hidden, and what it counts for."""
        if settings["supervision"] == FULL:
            return {}
        hidden = self.ways(settings["config"])[settings["supervision"]]
        own = {f"supervision.{name}": value for name, value in hidden.items()}
        return own | {"model.unobserved": settings["treatment"]}

    def outcome(self, run: Run) -> dict[str, Any]:
        """Accuracy and mean average precision of the test rows, of all labels and of the last level's."""
        scores, labels = run.test_scores()
        right, precision = label_accuracy(scores, labels), label_precision(scores, labels)
        levels = torch.tensor(run.cli.datamodule.levels or [1] * len(right))
        return {
            "accuracy": float(right.nanmean()),
            "average_precision": float(precision.nanmean()),
            "last_precision": float(precision[levels == levels.max()].nanmean()),
            "last_accuracy": float(right[levels == levels.max()].nanmean()),
            "epochs": int(run.blocks["epochs"].sum()),
            "converged": bool((run.blocks["stop_reason"] == "gradient norm").all()),
        }

    def figures(self, results: pd.DataFrame, folder: Path) -> dict[str, Figure]:
        """Return what is lost against all labels, a column a hierarchy, a colour a treatment."""
        lost, names = losses(results), list(self.configs)
        figure, grid = panels(len(DRAWN), len(names), 4.1, 3, sharey="row")
        for row, column in zip(grid, DRAWN, strict=True):
            for axes, name in zip(row, names, strict=True):
                own = lost[(lost["config"] == name) & (lost["outcome"] == column)]
                draw_losses(axes, own, list(self.ways(name)), self.treatments)
            row[0].set_ylabel(f"lost {OUTCOMES[column]}")
        for axes, name in zip(grid[0], names, strict=True):
            axes.set_title(name)
        grid[0, 0].legend(fontsize=8)
        return {"losses": figure}

    def summary(self, results: pd.DataFrame) -> pd.DataFrame:
        """Return a row a hierarchy, way and treatment: means, and what is lost against all labels of the same seed."""
        table = results.groupby(SETTING, sort=False)[[*OUTCOMES, "epochs", "converged"]].mean()
        lost = losses(results).pivot(index=SETTING, columns="outcome", values="mean").reindex(columns=list(OUTCOMES))
        return table.join(lost.add_prefix("lost_")).reset_index()

    def verdict(self, results: pd.DataFrame) -> Verdict:
        """Return what each way costs under its best treatment."""
        lost, text = losses(results).dropna(subset="mean"), []
        holds: list[bool | None] = [] if HALF in self.shares else [None]
        for name in self.configs:
            parts = []
            for way in self.ways(name):
                column = "last_precision" if way in (LAST, ALTERNATE) else "accuracy"
                own = lost[(lost["config"] == name) & (lost["supervision"] == way) & (lost["outcome"] == column)]
                if own.empty:
                    parts.append(f"{way} not measured")
                    holds += [None] if way in (part_of_labels(HALF), LAST) else []
                    continue
                best = own.loc[own["mean"].idxmin()]
                what = " of the last level's average precision" if column == "last_precision" else ""
                found = Interval(best["mean"], best["low"], best["high"])
                parts.append(f"{way} {found}{what} ({best['treatment']})")
                if way == part_of_labels(HALF):
                    holds.append(found.mean <= LITTLE)
                if way == LAST:
                    holds.append(found.mean >= MUCH)
            text.append(f"{name}: {', '.join(parts)}")
        return Verdict(
            decided(holds),
            "Lost accuracy against all labels under the treatment that loses least: " + "; ".join(text) + ".",
        )


def part_of_labels(share: float) -> str:
    """Return the name of partial supervision."""
    return f"{100 * share:g}% of labels"


def label_accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """Share [n] of the observed values that scores have the sign of; a score of 0 is half right."""
    right = ((scores * labels).sign() + 1) / 2
    return right.where(labels != 0, torch.nan).nanmean(0)


def label_precision(scores: Tensor, labels: Tensor) -> Tensor:
    """Average precision [n] of scores [N, n] for labels [N, n] in {−1, 0, 1}; NaN for a label that never holds."""
    return torch.tensor([average_precision(*pair) for pair in zip(scores.T, labels.T, strict=True)])


def losses(results: pd.DataFrame) -> pd.DataFrame:
    """Return what is lost against all labels of the same seed, with 95% intervals, a row a setting and outcome."""
    table = results.melt([*SETTING, "seed"], list(OUTCOMES), "outcome")
    is_full = table["supervision"] == FULL
    full = table[is_full].set_index(["config", "seed", "outcome"])["value"]
    pairs = table[~is_full].join(full, on=["config", "seed", "outcome"], rsuffix="_of_full")
    return means(pairs.assign(lost=pairs["value_of_full"] - pairs["value"]), [*SETTING, "outcome"], "lost")


def draw_losses(axes: Axes, lost: pd.DataFrame, ways: list[str], treatments: list[str]) -> None:
    """Draw a group of points with their intervals for each way, one of each treatment."""
    axes.axhline(0, color="0.7", linewidth=1)
    for number, treatment in enumerate(treatments):
        own = lost[lost["treatment"] == treatment].set_index("supervision").reindex(ways)
        places = np.arange(len(ways)) + 0.8 * (number + 0.5) / len(treatments) - 0.4
        draw_points(axes, places, own, fmt="o", label=treatment.replace("_", " "))
    axes.set_xticks(range(len(ways)), [way.replace(" ", "\n", 1) for way in ways], fontsize=8)
