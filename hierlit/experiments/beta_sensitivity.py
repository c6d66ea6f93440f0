"""beta_sensitivity: which β lets a block learn labels of a degree, by depth and activation, and does the kernel say?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hierlit.experiments.base import Experiment, Run, Settings, Verdict, product
from hierlit.experiments.drawing import draw_lines, panels
from hierlit.experiments.statistics import interval
from hierlit.experiments.supervision import label_accuracy
from hierlit.theory import expansion

FIXED, CHOSEN, GRADIENT = "exact", "chosen", "gradient"
SOLVERS: dict[str, dict[str, Any]] = {
    FIXED: {"model.solver": "ExactSolver", "model.solver.alphas": []},
    CHOSEN: {"model.solver": "ExactSolver"},
    GRADIENT: {"model.solver": "GradientSolver"},
}
"""F_k's minimum at the λ of the config, at a λ chosen for each label on set-aside rows, and gradient steps to it."""
TITLES = {FIXED: "λ fixed", CHOSEN: "λ chosen for each label", GRADIENT: "gradient steps"}
KERNEL = {
    "share": "share of the labels' degree",
    "share_of_varying": "its share of what depends on the input",
    "share_above": "its share of degrees at least as high",
    "effective_degree": "effective degree",
}
"""What is taken from the kernel, by column."""
FLOOR = 1e-5
"""Least share that is drawn."""
ACCURACY, LIMITS = "test accuracy of the last level", (0.45, 1.02)


@dataclass
class BetaSensitivityExperiment(Experiment):
    """Train parities of `degree` labels with every β, at several depths, degrees and activations, one block a level.

    Args:
        configs: One file of `fit` with `JuntaHierarchy` as data; `overrides` make its labels parities.
        seeds: Number of seeds.
        betas: Values of β, ascending.
        depths: Levels of the hierarchy; other degrees and gradient steps come at the first depth alone.
        degrees: Labels that a parity is of; depths and gradient steps come at the first degree alone.
        activations: Activations; the first is judged, and alone has its λ chosen.
        solvers: Some of exact, chosen and gradient.
    """

    betas: list[float] = field(default_factory=lambda: [0.0, 0.2, 0.4, 0.55, 0.7, 0.85, 0.95])
    depths: list[int] = field(default_factory=lambda: [1, 2, 3])
    degrees: list[int] = field(default_factory=lambda: [3, 4])
    activations: list[str] = field(default_factory=lambda: ["relu", "tanh"])
    solvers: list[str] = field(default_factory=lambda: list(SOLVERS))

    question: ClassVar[str] = (
        "β trades the bias of a random feature against its weights. Where does it let a block learn labels of degree "
        "3, how does that move with depth, degree and activation, and can it be read off the kernel beforehand? "
        "Accuracy is that of test rows; a score of 0, as of a label that no block was accepted for, is half right."
    )
    prediction: ClassVar[str] = (
        "A larger β approximates lower degrees better and may hurt higher ones (the notes on the paper, which ask for "
        "the optimum). Ours: the kernel of ReLU has no odd degree above 1 at β = 0, and next to none as β nears 1, so "
        "parities of 3 labels have an interior optimum at every depth, about where degree 3 has its largest share (β "
        "near 0.6). Beyond that we expect that degrees which an activation has at β = 0 (even ones of ReLU, odd ones "
        "of tanh) are learned best there, and that accuracy goes with the share of the labels' degree rather than with "
        "the effective degree."
    )
    quick: ClassVar[dict[str, Any]] = {
        "seeds": 1,
        "betas": [0.0, 0.3, 0.6, 0.95],
        "degrees": [3, 4],
        "activations": ["relu", "tanh"],
        "solvers": [FIXED, GRADIENT],
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [name for name in self.solvers if name not in SOLVERS]
        if unknown or FIXED not in self.solvers:
            raise ValueError(f"solvers must be some of {', '.join(SOLVERS)}, exact among them, got {self.solvers}")

    def settings(self) -> Iterator[Settings]:
        """Yield every β and activation: by depth with exact solutions, then by degree, then with gradient steps."""
        first, one, depth = self.activations[:1], self.degrees[:1], self.depths[:1]
        parts = [
            (FIXED, one, self.depths, self.activations),
            (CHOSEN, one, self.depths, first),
            (FIXED, self.degrees[1:], depth, self.activations),
            (GRADIENT, one, depth, self.activations),
        ]
        for solver, degrees, depths, activations in parts:
            if solver in self.solvers:
                yield from product(
                    solver=[solver], degree=degrees, depth=depths, activation=activations, beta=self.betas
                )

    def arguments(self, settings: Settings) -> dict[str, Any]:
        """Return the hierarchy, the draw and the solver."""
        return {
            "data.degree": settings["degree"],
            "data.n_levels": settings["depth"],
            "model.n_blocks": settings["depth"],
            "model.features.activation": settings["activation"],
            "model.features.beta": settings["beta"],
            **SOLVERS[settings["solver"]],
        }

    def outcome(self, run: Run) -> dict[str, Any]:
        """Accuracy of the last level on test rows, epochs of a block on average, and the kernel's figures."""
        right, levels = label_accuracy(*run.test_scores()), torch.tensor(run.cli.datamodule.levels)
        return {
            "last_level": float(right[levels == run.settings["depth"]].mean()),
            "epochs": float(run.blocks["epochs"].mean()),
            "converged": bool((run.blocks["stop_reason"] == "gradient norm").all()),
            **kernel_figures(run.settings["activation"], run.settings["beta"], run.settings["degree"]),
        }

    def figures(self, results: pd.DataFrame, folder: Path) -> dict[str, Figure]:
        """Accuracy against β by depth, the kernel's figures beside it; by degree, and epochs of gradient steps."""
        return {
            "accuracy": self._by_depth(results),
            "kernel": self._kernel(results),
            "degrees": self._by_degree(results),
        }

    def _by_depth(self, results: pd.DataFrame) -> Figure:
        solvers = [name for name in (FIXED, CHOSEN) if name in self.solvers]
        figure, grid = panels(len(solvers), len(self.depths))
        for row, solver in zip(grid, solvers, strict=True):
            for axes, depth in zip(row, self.depths, strict=True):
                self._draw(axes, self._curves(results, solver, depth), "last_level")
                axes.set(title=f"depth {depth}, {TITLES[solver]}", ylabel=ACCURACY, ylim=LIMITS)
        grid[0, 0].legend(fontsize=8)
        return figure

    def _kernel(self, results: pd.DataFrame) -> Figure:
        figure, grid = panels(2, 3)
        shares = ["share", "share_of_varying"]
        rows = results.assign(**{column: results[column].clip(lower=FLOOR) for column in shares})
        for axes, (column, name) in zip(grid.flat, KERNEL.items(), strict=False):
            self._draw(axes, self._curves(rows, FIXED, self.depths[0]), column)
            axes.set(title=name, yscale="log" if column in shares else "linear")
        for axes, column in zip(grid.flat[len(KERNEL) :], shares, strict=True):
            for marker, depth in zip("osD^vP*X", self.depths, strict=False):
                own = self._curves(rows, FIXED, depth)
                for number, activation in enumerate(self.activations):
                    table = own[own["activation"] == activation].groupby("beta")[[column, "last_level"]].mean()
                    label = None if number else f"depth {depth}"
                    axes.plot(table[column], table["last_level"], marker, color=f"C{number}", markersize=4, label=label)
            axes.set(xlabel=KERNEL[column], ylabel=ACCURACY, xscale="log", ylim=LIMITS)
        figure.suptitle(f"the kernel, for labels of degree {self.degrees[0]}; shares below {FLOOR:g} are drawn there")
        for axes in (grid[0, 0], grid[-1, -1]):
            axes.legend(fontsize=8)
        return figure

    def _by_degree(self, results: pd.DataFrame) -> Figure:
        figure, grid = panels(1, len(self.degrees) + 1)
        depth = self.depths[0]
        for axes, degree in zip(grid[0], self.degrees, strict=False):
            self._draw(axes, self._curves(results, FIXED, depth, degree), "last_level")
            axes.set(title=f"degree {degree}, depth {depth}", ylabel=ACCURACY, ylim=LIMITS)
        self._draw(grid[0, -1], self._curves(results, GRADIENT, depth), "epochs")
        grid[0, -1].set(title=f"gradient steps, degree {self.degrees[0]}", ylabel="epochs to the tolerance")
        grid[0, 0].legend(fontsize=8)
        return figure

    def _draw(self, axes: Axes, rows: pd.DataFrame, column: str) -> None:
        """Means against β, a line an activation."""
        draw_lines(axes, rows, "activation", self.activations, "beta", column)
        axes.set(xlabel="β")

    def _curves(self, results: pd.DataFrame, solver: str, depth: int, degree: int | None = None) -> pd.DataFrame:
        """Return the rows of one panel; of the first degree when None."""
        own = results[(results["solver"] == solver) & (results["depth"] == depth)]
        return own[own["degree"] == (self.degrees[0] if degree is None else degree)]

    def summary(self, results: pd.DataFrame) -> pd.DataFrame:
        """Return a row a curve: where it is highest, by how much, and how the kernel's figures go with it."""
        found = []
        for names, rows in results.groupby(["solver", "degree", "depth", "activation"], sort=False):
            curve = rows.groupby("beta")["last_level"].mean()
            row = dict(zip(("solver", "degree", "depth", "activation"), names, strict=True))
            row |= {"best_beta": best_beta(rows), "accuracy": curve.max(), "at_least_beta": curve.iloc[0]}
            row |= {"at_largest_beta": curve.iloc[-1], "epochs": rows["epochs"].mean()}
            row["converged"] = rows["converged"].mean()
            found.append(row | {f"rank_correlation_{column}": rank_correlation(rows, column) for column in KERNEL})
        return pd.DataFrame(found)

    def verdict(self, results: pd.DataFrame) -> Verdict:
        """Say whether the optimum is interior at each depth, where it is at other degrees, what goes with the curve."""
        own = results[(results["degree"] == self.degrees[0]) & (results["solver"] != GRADIENT)]
        judged = [
            rows for _, rows in own[own["activation"] == self.activations[0]].groupby(["solver", "depth"], sort=False)
        ]
        optima = [optimum(rows) for rows in judged]
        text = [f"{TITLES[rows['solver'].iloc[0]]}, depth {rows['depth'].iloc[0]}: {found.text}"
                for rows, found in zip(judged, optima, strict=True)]  # fmt: skip
        for degree in self.degrees[1:]:
            curves = self._curves(results, FIXED, self.depths[0], degree).groupby("activation", sort=False)
            best = [
                f"{name} {best_beta(rows):g}".replace("nan", "none, as nothing is learned") for name, rows in curves
            ]
            text.append(f"best β at degree {degree}: {', '.join(best)}")
        pooled = [rows for _, rows in own[own["solver"] == FIXED].groupby("depth")]
        for column, name in KERNEL.items():
            alone, together = (span([rank_correlation(rows, column) for rows in group]) for group in (judged, pooled))
            text.append(f"rank correlation of accuracy with {name}: {alone} over β, {together} over activations too")
        holds = [found.holds for found in optima]
        decided = None if None in holds or not holds else all(map(bool, holds))
        return Verdict(decided, f"{self.activations[0]}, degree {self.degrees[0]}: " + "; ".join(text) + ".")


def optimum(rows: pd.DataFrame) -> Verdict:
    """Where the last level's accuracy is highest over β, of the runs of a curve, and whether that is surely inside.

    It is if the best β is neither the least nor the largest, and the 95% intervals of its gain on both, by seed, lie
    above 0; one seed does not decide it.
    """
    table = rows.pivot_table(index="seed", columns="beta", values="last_level")
    best, ends = table.mean().idxmax(), (table.columns[0], table.columns[-1])
    at_best = f"{table[best].mean():.3f} at β = {best:g}"
    if best in ends:
        return Verdict(False if len(table) > 1 else None, f"no interior optimum, but {at_best}")
    gains = [interval(table[best] - table[end]) for end in ends]
    parts = [f"{gain} on β = {end:g}" for gain, end in zip(gains, ends, strict=True)]
    lows = [gain.low for gain in gains]
    holds = None if np.isnan(lows).any() else bool(min(lows) > 0)
    return Verdict(holds, f"{at_best}, {', '.join(parts)}")


def best_beta(rows: pd.DataFrame) -> float:
    """Return the β of the highest mean accuracy of the last level; NaN where all are alike."""
    curve = rows.groupby("beta")["last_level"].mean()
    return float(curve.idxmax()) if curve.nunique() > 1 else np.nan


def rank_correlation(rows: pd.DataFrame, column: str) -> float:
    """Spearman's, of a column with the last level's accuracy, each averaged over seeds; NaN where one is constant."""
    table = rows.groupby(["activation", "beta"])[["last_level", column]].mean()
    return float(table.corr(method="spearman").iloc[0, 1])


def kernel_figures(activation: str, beta: float, degree: int) -> dict[str, float]:
    """Return the columns `KERNEL` of an activation, β and degree."""
    kernel = expansion(activation, beta)
    own = kernel.by_degree[degree]
    return {
        "share": float(own / kernel.total),
        "share_of_varying": float(own / (kernel.total - kernel.by_degree[0])),
        "share_above": float(own / (kernel.total - kernel.by_degree[:degree].sum())),
        "effective_degree": kernel.effective_degree,
    }


def span(values: Sequence[float]) -> str:
    """Return the least and the largest of some numbers."""
    return f"{np.nanmin(values):.2f} to {np.nanmax(values):.2f}" if np.isfinite(values).any() else "undefined"
