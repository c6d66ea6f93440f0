"""brain_dump: what the auxiliary labels of a circuit are worth to its output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hierlit.data import BrainDump
from hierlit.experiments.base import Experiment, Run, Settings, Verdict, decided
from hierlit.experiments.drawing import draw_lines, panels
from hierlit.experiments.statistics import interval, means
from hierlit.theory import reconstruct, reconstruction_error

Array = np.ndarray[Any, Any]
SHARE = "share of the auxiliary labels"
GAP = 0.15
"""Held-out accuracy that all auxiliary labels add to the target, at least, if they are what makes it learnable."""
NAMES = {0.0: "none", 1.0: "all"}
"""Of shares."""
OF_LABELS, OF_SCORES, EXPECTED = ERRORS = ("neuron_error", "neuron_error_of_scores", "expected_error")
"""Root mean square errors of recovered neurons, by column; see `reconstruction`."""
RISES = {
    True: "rising with every share",
    False: "falling at a share",
    None: "not surely rising or falling at every share",
}


@dataclass
class BrainDumpExperiment(Experiment):
    """Train a circuit seen through random majorities of its neurons: some of them, of other sizes, of other depths.

    Args:
        configs: One file of `fit` with `BrainDump` as data.
        seeds: Number of seeds, of circuit, rows and weights.
        shares: Shares of the auxiliary labels.
        majority_sizes: Sizes k of the majorities, at the first depth.
        depths: Depths of the circuit, at the first size.
    """

    shares: list[float] = field(default_factory=lambda: [0.0, 0.1, 0.25, 0.5, 1.0])
    majority_sizes: list[int] = field(default_factory=lambda: [3, 1, 5])
    depths: list[int] = field(default_factory=lambda: [4, 3, 2])

    question: ClassVar[str] = (
        "A Boolean circuit's output is hard to learn from its inputs alone. How much of the circuit must labels tell, "
        "as random majorities of its neurons, for the output to be learned?"
    )
    prediction: ClassVar[str] = (
        "With enough random majorities of every layer the output is learned (the paper's Theorem 3.4): the neurons are "
        "linear functions of the labels up to an error that falls as one over the square root of their number. Our "
        f"expectation of the figures: all of them together add at least {GAP} of accuracy, and each further share adds."
    )
    quick: ClassVar[dict[str, Any]] = {"seeds": 1, "shares": [0.0, 0.25, 1.0], "majority_sizes": [3], "depths": [3]}

    def settings(self) -> Iterator[Settings]:
        """Yield every share, at every size with the first depth and every depth with the first size."""
        size, depth = self.majority_sizes[0], self.depths[0]
        pairs = [(own, depth) for own in self.majority_sizes] + [(size, own) for own in self.depths[1:]]
        for own_size, own_depth in pairs:
            for share in self.shares:
                if share > 0 or own_size == size:  # without labels there is nothing of any size
                    yield {"depth": own_depth, "majority_size": own_size, "share": share}

    def arguments(self, settings: Settings) -> dict[str, Any]:
        """Arguments of the data."""
        names = {"depth": "depth", "majority_size": "majority_size", "share": "auxiliary_share"}
        return {f"data.{names[name]}": value for name, value in settings.items()}

    def outcome(self, run: Run) -> dict[str, Any]:
        """Accuracy of the target on test rows, of its labels, and how well the neurons can be recovered from these."""
        scores, labels = run.test_scores()
        right = (scores * labels > 0).double().mean(0).tolist()
        found = {"target": right[-1], "n_labels": len(right) - 1}
        found["auxiliary"] = float(np.mean(right[:-1])) if len(right) > 1 else np.nan
        inputs = run.cli.datamodule.tables["test"].inputs[:, 0].numpy() > 0
        return found | reconstruction(run.cli.datamodule.data, inputs, labels.numpy(), scores.numpy())

    def figures(self, results: pd.DataFrame, folder: Path) -> dict[str, Figure]:
        """Return the target against the share, by size and by depth; the neurons' error beside it."""
        figure, ((by_size, by_depth, error),) = panels(1, 3, 4.3, 4)
        size, depth = self.majority_sizes[0], self.depths[0]
        at_depth, at_size = results[results["depth"] == depth], results[results["majority_size"] == size]
        told = at_depth[at_depth["share"] > 0]
        draw_lines(by_size, at_depth, "majority_size", self.majority_sizes, "share", "target", "majority size ")
        draw_lines(by_depth, at_size, "depth", self.depths, "share", "target", "depth ")
        for axes, title in ((by_size, f"depth {depth}"), (by_depth, f"majorities of {size}")):
            axes.set(title=title, xlabel=SHARE, ylabel="test accuracy of the output", ylim=(None, 1.02))
            axes.legend(fontsize=8)
        draw_lines(error, told, "majority_size", self.majority_sizes, "share", OF_LABELS, "majority size ")
        for (own,), rows in told.groupby(["majority_size"], sort=False):
            expected = rows.groupby("share")[EXPECTED].mean()
            error.plot(expected.index, expected, "k:", linewidth=1, label="by theory" if own == size else None)
        error.set(xlabel=SHARE, ylabel="root mean square error", yscale="log", xscale="log")
        error.set_title(f"depth {depth}: error of the recovered neurons")
        error.legend(fontsize=8)
        return {"brain_dump": figure}

    def summary(self, results: pd.DataFrame) -> pd.DataFrame:
        """Return a row a setting."""
        by = ["depth", "majority_size", "share"]
        table = means(results, by, "target").rename(columns={"mean": "target"})
        others = results.groupby(by, sort=False)[["auxiliary", *ERRORS]].mean().reset_index()
        return table.merge(others, on=by)

    def verdict(self, results: pd.DataFrame) -> Verdict:
        """Return what all labels add to none, by depth and size, and whether more labels are better throughout."""
        text, holds = [], []
        for (depth, size), rows in results[results["share"] > 0].groupby(["depth", "majority_size"], sort=False):
            none = results[(results["depth"] == depth) & (results["share"] == 0)]
            own = pd.concat([none, rows]).pivot_table(index="seed", columns="share", values="target")
            curve, rises = own.mean(), rising(own)
            gap = interval((own[1.0] - own[0.0]).dropna() if {0.0, 1.0} <= {*own.columns} else [])
            holds += [None if np.isnan(gap.mean) else bool(gap.mean >= GAP), rises]
            ends = " to ".join(f"{curve[share]:.3f} with {NAMES.get(share, f'a share of {share:g}')}"
                               for share in dict.fromkeys([own.columns[0], own.columns[-1]]))  # fmt: skip
            gain = "" if np.isnan(gap.mean) else f" ({gap})"
            text.append(f"depth {depth}, majorities of {size}: {ends}{gain}, {RISES[rises]}")
        seeds = results["seed"].nunique()
        return Verdict(
            decided(holds),
            f"Accuracy of the output on test rows, {f'mean over {seeds} seeds' if seeds > 1 else 'of one seed alone'}: "
            + ("; ".join(text) or "no run had auxiliary labels")
            + ".",
        )


def rising(curves: pd.DataFrame) -> bool | None:
    """Return whether every share has more accuracy than the one before.

    Args:
        curves: Accuracy, a row a seed, a column a share, ascending.

    Returns:
        False after a fall that is sure: its 95% interval is below 0, or there is one seed; None if the mean of a
        step is 0 or falls within its interval, or if there is no step.
    """
    steps = [interval(column.dropna()) for _, column in curves.diff(axis=1).iloc[:, 1:].items()]
    return decided(
        None if np.isnan(step.mean) or (step.mean <= 0 <= step.high) else bool(step.mean > 0) for step in steps
    )


def reconstruction(data: BrainDump, inputs: Array, labels: Array, scores: Array) -> dict[str, float]:
    """Root mean square errors of recovered neurons, mean over the layers that labels are about.

    Args:
        data: The circuit.
        inputs: Its inputs [rows, d] as truth values.
        labels: Its labels [rows, n] in {−1, 1}.
        scores: What the network takes them for, [rows, n].

    Returns:
        `neuron_error` from the labels, `neuron_error_of_scores` from the scores' signs, `expected_error` by theory.
    """
    errors: dict[str, list[float]] = {name: [] for name in ERRORS}
    first = 0
    for weights, bits in zip(data.majorities, data.neurons(inputs.astype(np.uint8)), strict=False):
        if not len(weights):
            return dict.fromkeys(errors, np.nan)
        truth = 2.0 * bits - 1
        own = slice(first, first := first + len(weights))
        for name, told in ((OF_LABELS, labels), (OF_SCORES, np.sign(scores))):
            errors[name].append(float(np.sqrt(np.mean((reconstruct(weights, told[:, own]) - truth) ** 2))))
        n_ones = int(np.count_nonzero(weights[0]))
        errors[EXPECTED].append(reconstruction_error(len(weights), weights.shape[1], n_ones))
    return {name: float(np.mean(found)) for name, found in errors.items()}
