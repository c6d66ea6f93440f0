"""scaling: features, rows and blocks that a hierarchy needs, and the decay of what is learned."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from scipy.stats import linregress

from hierlit.experiments.base import Experiment, Run, Settings, Verdict, decided
from hierlit.experiments.drawing import panels
from hierlit.watching.levels import margin_growth

WIDTH, ROWS, DEPTH, DECAY = "features", "rows", "blocks", "decay"
HIERARCHY = ["part", "K", "n", "r"]
VARIED = {"K": "data.degree", "n": "data.labels_per_level", "r": "data.n_levels"}
KEPT = {"n": ["K", "r"], "r": ["K", "n"], "f": ["K"], "f^K": ["n", "r"]}
"""What a part grows with, by what is kept meanwhile; f is the coordinates of a window."""
GROWS = {WIDTH: ("n", "r", "f", "f^K"), ROWS: ("n", "r", "f", "f^K"), DEPTH: ("r",)}
"""What each part is said to grow with."""
DECAYS = ("decay_rate", "decay_r2", "margin_growth")
RESOLVED = 1e-10
"""Mean loss down to which float32 scores resolve it."""


@dataclass
class ScalingExperiment(Experiment):
    """Find the least q, m and D that learn a hierarchy as its degree, labels and depth grow, and fit decay rates.

    Args:
        configs: `juntas`, a file of `fit` with `JuntaHierarchy`, and `decay`, one whose levels are learned early on.
        seeds: Number of seeds.
        degrees: K; the first value of this and the next two is kept while another varies.
        labels: n, labels a level.
        depths: r.
        widths: q to try, ascending, with the rows of the config.
        rows: m to try, ascending, with the features of the config.
        further: Blocks beyond the hierarchy's levels, for D and for the decay.
        threshold: Held-out accuracy of the least accurate level from which a hierarchy is learned.
    """

    degrees: list[int] = field(default_factory=lambda: [2, 3])
    labels: list[int] = field(default_factory=lambda: [8, 16, 32])
    depths: list[int] = field(default_factory=lambda: [2, 1, 3, 4])
    widths: list[int] = field(default_factory=lambda: [50, 100, 200, 400, 800, 1600])
    rows: list[int] = field(default_factory=lambda: [250, 500, 1000, 2000, 4000, 8000])
    further: int = 8
    threshold: float = 0.95

    question: ClassVar[str] = (
        "How do the features q, the rows m and the layers D that it takes to learn a hierarchy grow with its degree K, "
        "its labels n and its depth r? And does the loss of what is learned decay exponentially with further blocks?"
    )
    prediction: ClassVar[str] = (
        "q and m are polynomial in the hierarchy's constants, and D ≥ r·(⌈log(8m|G|/ξ)/γ⌉ + 1), so linear in r (the "
        "paper). Our reading for random features: at most of the order of f^K for windows of f coordinates, here "
        "f = d + n·r, and so an exponent of at most K in f. Once a label has its margin its loss decays exponentially "
        "with further blocks (the paper); γ is the rate."
    )
    needed: ClassVar[tuple[str, ...]] = ("juntas", "decay")
    quick: ClassVar[dict[str, Any]] = {
        "seeds": 1,
        "degrees": [2],
        "labels": [8, 16],
        "depths": [2, 3],
        "widths": [100, 200, 400, 800],
        "rows": [500, 1000, 2000, 4000],
        "further": 4,
    }

    def settings(self) -> Iterator[Settings]:
        """Yield each hierarchy with each width, each number of rows, and more blocks than it needs; then the decays."""
        for shape in self.shapes():
            for width in self.widths:
                yield {"config": "juntas", "part": WIDTH, **shape, "amount": width}
            for rows in self.rows:
                yield {"config": "juntas", "part": ROWS, **shape, "amount": rows}
            yield {"config": "juntas", "part": DEPTH, **shape, "amount": shape["r"] + self.further}
        yield {"config": "decay", "part": DECAY, "K": 0, "n": 0, "r": 0, "amount": self.further}

    def shapes(self) -> list[dict[str, int]]:
        """Return the hierarchies: one of K, n, r varies at a time."""
        first = {"K": self.degrees[0], "n": self.labels[0], "r": self.depths[0]}
        axes = {"K": self.degrees, "n": self.labels, "r": self.depths}
        found = [first | {name: value} for name, values in axes.items() for value in values]
        return [shape for place, shape in enumerate(found) if shape not in found[:place]]

    def arguments(self, settings: Settings) -> dict[str, Any]:
        """Return the hierarchy's and the network's size."""
        if settings["part"] == DECAY:
            levels = self.section(settings, "data")["n_levels"]
            return {"model.n_blocks": levels + settings["amount"], "layerwise.stop_when_learned": False}
        own = {argument: settings[name] for name, argument in VARIED.items()}
        if settings["part"] == DEPTH:
            return own | {"model.n_blocks": settings["amount"], "layerwise.stop_when_learned": False}
        own["model.n_blocks"] = settings["r"] + 2
        return own | {"model.n_features" if settings["part"] == WIDTH else "data.n_train": settings["amount"]}

    def outcome(self, run: Run) -> dict[str, Any]:
        """Accuracy, blocks needed, and the rate and fit of the decay."""
        least = run.levels.groupby("block")["val_accuracy"].min()
        done = least[least >= self.threshold]
        found = {"least_accuracy": run.accuracy(), "blocks_needed": float(done.index[0]) if len(done) else np.nan}
        return found | (decay(run) if run.settings["part"] == DECAY else {})

    def needs(self, results: pd.DataFrame) -> pd.DataFrame:
        """Least q, m and blocks of each hierarchy: mean over seeds of what was enough, NaN where nothing was."""
        rows = results[results["part"] != DECAY]
        enough = rows["amount"].where(rows["least_accuracy"] >= self.threshold)
        rows = rows.assign(needed=enough.where(rows["part"] != DEPTH, rows["blocks_needed"]))
        by_seed = rows.groupby([*HIERARCHY, "seed"], sort=False)["needed"].min()
        means = by_seed.groupby(HIERARCHY, sort=False).agg(lambda seeds: seeds.mean(skipna=False))
        return means.reset_index()

    def exponents(self, results: pd.DataFrame) -> pd.DataFrame:
        """Slopes of log(needed) in the logarithm of what it grows with; NaN with fewer than two points."""
        inputs = self.section({"config": "juntas"}, "data").get("n_inputs", 16)
        needs = self.needs(results).assign(f=lambda rows: inputs + rows["n"] * rows["r"])
        needs["f^K"] = needs["f"].astype(float) ** needs["K"]
        base = {"K": self.degrees[0], "n": self.labels[0], "r": self.depths[0]}
        table = []
        for part, rows in needs.groupby("part", sort=False):
            for name, kept in KEPT.items():
                known = rows[(rows[kept] == pd.Series(base)[kept]).all(axis=1)].dropna()
                enough = known[name].nunique() > 1
                slope = linregress(np.log(known[name]), np.log(known["needed"])).slope if enough else np.nan
                table.append({"needed": part, "grows with": name, "exponent": slope, "points": len(known)})
        return pd.DataFrame(table, columns=["needed", "grows with", "exponent", "points"])

    def theory(self) -> dict[tuple[str, str], int]:
        """Return the theory's largest exponents, of features, rows and blocks: `prediction` says whose they are."""
        windows = {(part, name): most for part in (WIDTH, ROWS) for name, most in (("f", self.degrees[0]), ("f^K", 1))}
        return windows | {(DEPTH, "r"): 1}

    def figures(self, results: pd.DataFrame, folder: Path) -> dict[str, Figure]:
        """Accuracy against q and m, blocks against r, and the decay."""
        figure, axes = panels(2, 2, 5.5, 4)
        draw_accuracy(axes[0, 0], results[results["part"] == WIDTH], "random features q")
        draw_accuracy(axes[0, 1], results[results["part"] == ROWS], "training rows m")
        needs = self.needs(results)
        blocks = needs[(needs["part"] == DEPTH) & (needs["n"] == self.labels[0]) & (needs["K"] == self.degrees[0])]
        blocks = blocks.sort_values("r")
        axes[1, 0].plot(blocks["r"], blocks["needed"], "o-", label="measured")
        axes[1, 0].plot(blocks["r"], blocks["r"], "k:", label="one block a level")
        axes[1, 0].set(xlabel="levels r", ylabel="blocks needed")
        axes[1, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[1, 0].legend(fontsize=8)
        draw_decay(axes[1, 1], results[results["part"] == DECAY])
        return {"scaling": figure}

    def summary(self, results: pd.DataFrame) -> pd.DataFrame:
        """Return what each hierarchy needs, then the measured exponents."""
        wide = self.needs(results).pivot_table(
            index=["K", "n", "r"], columns="part", values="needed", sort=False, dropna=False
        )
        slopes = self.exponents(results).rename(columns={"needed": "part", "grows with": "K"})
        slopes["K"] = "exponent in " + slopes["K"].astype(str)
        slopes = slopes.pivot_table(index="K", columns="part", values="exponent", sort=False)
        most = [(f"theory: at most, in {name}", part, value) for (part, name), value in self.theory().items()]
        theory = pd.DataFrame(most, columns=["K", "part", "most"]).pivot_table(index="K", columns="part", values="most")
        tables = [table.reset_index() for table in (wide.dropna(how="all"), slopes, theory)]
        return pd.concat(tables, ignore_index=True)

    def verdict(self, results: pd.DataFrame) -> Verdict:
        """Exponents beside the theory's, and the decay's rate and fit."""
        slopes = self.exponents(results).set_index(["needed", "grows with"])["exponent"].dropna()
        decays = results[results["part"] == DECAY].reindex(columns=["seed", *DECAYS])
        text = [growth_of(part, slopes, self.theory()) for part in GROWS]
        rate, fit, growth = (decays[name].mean() for name in DECAYS)
        least = decays["decay_r2"].min()
        text.append(
            "no decay was measured"
            if np.isnan(rate)
            else f"the loss of learned labels falls by e^−{rate:.2f} a block (R² {fit:.3f}, least {least:.3f}; "
            f"least growth γ of a level's margin in the block after it is learned: {growth:.2f})"
        )
        in_f = [(slopes.get((part, "f")), self.theory()[part, "f"]) for part in (WIDTH, ROWS)]
        holds = [None if slope is None else bool(slope <= most) for slope, most in in_f]
        holds.append(None if np.isnan(rate) else bool(fit >= 0.9 and rate > 0))
        return Verdict(decided(holds), "; ".join(text) + ".")


def growth_of(part: str, slopes: pd.Series[float], theory: dict[tuple[str, str], int]) -> str:
    """Return how a part grows, in a few words: exponents by part and name, each with the theory's where it has one."""
    known = []
    for name in GROWS[part]:
        if (part, name) in slopes.index:
            most = f" (theory: at most {theory[part, name]})" if (part, name) in theory else ""
            base = f"({name})" if "^" in name else name
            slope = round(slopes[part, name], 2) + 0  # −0 becomes 0
            known.append(f"{base}^{slope:.2f}{most}")
    return f"{part} grow as {', '.join(known)}" if known else f"how {part} grow was not measured"


def decay(run: Run) -> dict[str, Any]:
    """Return how the mean loss of each level falls with the blocks after the one that learns it.

    Returns:
        `decay_rate`, the mean over levels of the slopes of −log loss, `decay_r2`, the mean R² of their fits,
        `losses`, each level's losses by block, and `margin_growth`, γ as the run prints it.
    """
    losses, accuracy = losses_by_block(run)
    slopes, fits = [], []
    for level in range(losses.shape[1]):
        learned = np.flatnonzero(accuracy[:, level] >= 0.999)
        own = losses[learned[0] :, level] if len(learned) else np.zeros(0)
        own = own[: int(np.argmax(own < RESOLVED)) or None] if (own < RESOLVED).any() else own
        if len(own) >= 3:
            fit = linregress(np.arange(len(own)), np.log(own))
            slopes.append(-fit.slope)
            fits.append(fit.rvalue**2)
    staircase = next(c for c in run.cli.trainer.callbacks if type(c).__name__ == "Staircase")  # type: ignore[attr-defined]
    growth = margin_growth(staircase.train, 0.999)
    return {
        "decay_rate": float(np.mean(slopes)) if slopes else np.nan,
        "decay_r2": float(np.mean(fits)) if fits else np.nan,
        "margin_growth": math.nan if growth is None else growth,
        "losses": "|".join(" ".join(f"{value:.4g}" for value in column) for column in losses.T),
    }


@torch.no_grad()
def losses_by_block(run: Run) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Mean loss and accuracy [blocks, levels] of the training rows after each block."""
    task, table = run.cli.model, run.cli.datamodule.tables["train"]
    members = [torch.tensor(task.levels) == level for level in sorted(set(task.levels))]
    losses, accuracy = [], []
    for scores in task.net.staged_scores(table.inputs):
        margins = scores * table.labels
        loss, right = task.loss.margin_loss(margins).mean((0, 1)), (margins > 0).double().mean((0, 1))
        losses.append([float(loss[own].mean()) for own in members])
        accuracy.append([float(right[own].min()) for own in members])
    return np.array(losses), np.array(accuracy)


def draw_accuracy(axes: Axes, results: pd.DataFrame, name: str) -> None:
    """Accuracy of the least accurate level against an amount, a line a hierarchy."""
    for (k, n, r), rows in results.groupby(["K", "n", "r"], sort=False):
        curve = rows.groupby("amount")["least_accuracy"].mean()
        axes.plot(curve.index, curve, "o-", markersize=4, label=f"K = {k}, n = {n}, r = {r}")
    axes.set(xlabel=name, ylabel="accuracy of the least accurate level", xscale="log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    if len(results):
        axes.legend(fontsize=7)


def draw_decay(axes: Axes, results: pd.DataFrame) -> None:
    """Draw each level's loss by block, of the first seed."""
    for level, text in enumerate(str(results["losses"].iloc[0]).split("|") if len(results) else [], start=1):
        values = [float(value) for value in text.split()]
        axes.plot(range(1, len(values) + 1), values, "o-", markersize=3, label=f"level {level}")
    axes.set(xlabel="blocks trained", ylabel="mean loss of a level's labels", yscale="log")
    if len(results):
        axes.legend(fontsize=7)
