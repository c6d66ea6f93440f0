"""joint: is anything lost when all blocks are trained at once, end to end?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hierlit.experiments.base import Experiment, Run, Settings, Verdict, decided, product, tables_of
from hierlit.experiments.drawing import draw_points, panels
from hierlit.experiments.statistics import means

EXACT, GRADIENT = "layerwise, exact", "layerwise, gradient"
LAST, EVERY = "joint, last block's scores", "joint, every block's scores"
WAYS = (EXACT, GRADIENT, LAST, EVERY)


@dataclass
class JointExperiment(Experiment):
    """Train each network layer by layer, and jointly: the same draws of W¹, the same data, as much time.

    Args:
        configs: Files of `fit`, by the name of their hierarchy; no adaptation, since joint training has none.
        seeds: Number of seeds.
        epochs: Epochs of joint training, by the same names; enough for the time that gradient steps take layerwise.
        share_of_epochs: Share of these epochs that are run, one at least.
        threshold: Held-out accuracy from which a level is learned.
    """

    epochs: dict[str, int] = field(default_factory=dict)
    share_of_epochs: float = 1.0
    threshold: float = 0.99

    question: ClassVar[str] = (
        "The paper's guarantees are for layerwise training. Does the same network, trained jointly on the same data "
        "for about the same time or more, learn the same levels?"
    )
    prediction: ClassVar[str] = (
        "None: this is the paper's third open question. Our expectation: with every block's scores supervised joint "
        "training climbs too; with the last block's alone it learns fewer levels of a deep hierarchy than layerwise."
    )
    quick: ClassVar[dict[str, Any]] = {"seeds": 1, "share_of_epochs": 0.4}

    def __post_init__(self) -> None:
        super().__post_init__()
        missing = [name for name in self.configs if name not in self.epochs]
        if missing:
            raise ValueError(f"epochs must have each name of configs, missing {', '.join(missing)}")

    def settings(self) -> Iterator[Settings]:
        """Give every hierarchy in every way."""
        return product(config=list(self.configs), way=WAYS)

    def arguments(self, settings: Settings) -> dict[str, Any]:
        """Return the solver, or joint training."""
        way, blocks = settings["way"], {"layerwise.stop_when_learned": False}
        if way in (EXACT, GRADIENT):
            return blocks | {"model.solver": "ExactSolver" if way == EXACT else "GradientSolver"}
        epochs = max(1, round(self.share_of_epochs * self.epochs[settings["config"]]))
        return blocks | {"model.joint.epochs": epochs, "model.joint.every_block": way == EVERY}

    def outcome(self, run: Run) -> dict[str, Any]:
        """Accuracy by level after the last block, and how far each block is from the layerwise minimum."""
        last = run.levels[run.levels["block"] == run.levels["block"].max()]
        accuracy = last["val_accuracy"].to_numpy()
        return {
            "levels_learned": int((accuracy >= self.threshold).sum()),
            "n_levels": len(accuracy),
            "mean_accuracy": float(accuracy.mean()),
            "least_accuracy": float(accuracy.min()),
            "epochs_run": int(run.blocks["epochs"].sum()),
            "training_seconds": run.seconds,
            "largest_gradient_norm": float(run.blocks["gradient_norm"].max()),
        }

    def figures(self, results: pd.DataFrame, folder: Path) -> dict[str, Figure]:
        """Accuracy by level after the last block, and gradient norms by block, for each hierarchy."""
        levels, blocks = (tables_of(results, folder, f"{name}.csv") for name in ("levels", "blocks"))
        last = levels[levels["block"] == levels.groupby("run_run")["block"].transform("max")]
        names = list(self.configs)
        figure, axes = panels(2, len(names), 5, 3.5)
        for column, name in enumerate(names):
            for way in WAYS:
                own = last[(last["run_config"] == name) & (last["run_way"] == way)]
                table = means(own, ["level"], "val_accuracy")
                draw_points(axes[0, column], table["level"], table, marker="o", label=way)
                norms = blocks[(blocks["run_config"] == name) & (blocks["run_way"] == way)]
                table = means(norms, ["block"], "gradient_norm")
                axes[1, column].plot(table["block"], table["mean"], "o-", markersize=4, label=way)
            axes[0, column].set(xlabel="level", ylabel="held-out accuracy", title=name)
            axes[0, column].xaxis.set_major_locator(MaxNLocator(integer=True))
            axes[1, column].set(xlabel="block", ylabel="norm of the gradient of F_k", yscale="log")
        axes[0, 0].legend(fontsize=8)
        return {"joint": figure}

    def summary(self, results: pd.DataFrame) -> pd.DataFrame:
        """Return a row a hierarchy and way."""
        groups = results.groupby(["config", "way"], sort=False)
        return groups.agg(
            levels_learned=("levels_learned", "mean"),
            n_levels=("n_levels", "first"),
            mean_accuracy=("mean_accuracy", "mean"),
            least_accuracy=("least_accuracy", "mean"),
            training_seconds=("training_seconds", "mean"),
            epochs=("epochs_run", "mean"),
            largest_gradient_norm=("largest_gradient_norm", "median"),
        ).reset_index()

    def verdict(self, results: pd.DataFrame) -> Verdict:
        """Levels learned by each way, and the time each took."""
        text, holds = [], []
        for name in self.configs:
            rows = results[results["config"] == name]
            own = rows.groupby("way")[["levels_learned", "training_seconds"]].mean().reindex(WAYS)
            learned = own["levels_learned"]
            parts = [f"{way}: {row.levels_learned:.1f} in {row.training_seconds:.0f} s"
                     for way, row in own.dropna().iterrows()]  # fmt: skip
            n_levels = f" of {int(rows['n_levels'].iloc[0])}" if len(rows) else ""
            text.append(f"{name}, levels learned{n_levels}: {', '.join(parts) or 'no run'}")
            layerwise = learned[[EXACT, GRADIENT]].max()
            is_known = learned.notna().all()
            holds.append(bool(learned[EVERY] > 1 and learned[LAST] < layerwise) if is_known else None)
        return Verdict(decided(holds), "; ".join(text) + ".")
