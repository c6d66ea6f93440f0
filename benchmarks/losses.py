"""Compares losses under the gradient solver on an automaton: python benchmarks/losses.py [RULE] [LEVELS] [BLOCKS]."""

import csv
import sys
import tempfile
import time
import warnings
from pathlib import Path

from hierlit.cli import main

LOSSES = {
    "squared": ["SquaredLoss"],
    "hybrid practical": ["HybridMarginLoss"],
    "hybrid, smoothing 0.5": ["HybridMarginLoss", "--model.loss.smoothing", "0.5"],
    "hybrid, no ceiling": ["HybridMarginLoss", "--model.loss.ceiling", ".inf"],
    "hybrid, far only": ["HybridMarginLoss", "--model.loss.near", "1.0", "--model.loss.far_weight", "0.0"],
    "hybrid paper, B 1": ["HybridMarginLoss", "--model.loss.preset", "paper"],
    "hinge": ["HingeLoss"],
    "squared hinge": ["SquaredHingeLoss"],
    "logistic": ["LogisticLoss"],
}


def run(loss: list[str], rule: str, levels: str, blocks: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        sizes = ["--data.rule", rule, "--data.n_levels", levels, "--model.n_blocks", blocks]
        quiet = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
        limit = [
            "--model.n_features",
            "500",
            "--trainer.default_root_dir",
            folder,
            "--layerwise.max_epochs_per_block",
            "800",
        ]
        config = str(Path(__file__).parents[1] / "configs" / "quickstart.yaml")
        main(["fit", "--config", config, "--model.loss", *loss, *sizes, *quiet, *limit])
        seconds = time.perf_counter() - start
        logs = Path(folder) / "lightning_logs" / "version_0"
        with (logs / "blocks.csv").open() as file:
            trained = list(csv.DictReader(file))
        with (logs / "levels.csv").open() as file:
            last = [row for row in csv.DictReader(file) if row["block"] == trained[-1]["block"]]
    epochs = sum(int(row["epochs"]) for row in trained)
    unconverged = sum(row["stop_reason"] != "gradient norm" for row in trained)
    accuracy = " ".join(f"{float(row['val_accuracy']):.3f}" for row in last)
    return f"{len(trained):6d} {epochs:7d} {seconds:8.1f} {unconverged:12d}  {accuracy}"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    arguments = [*sys.argv[1:], *["110", "8", "8"][len(sys.argv) - 1 :]]
    table = [f"{'loss':24s} blocks  epochs  seconds  unconverged  accuracy by level"]
    for name, loss in LOSSES.items():
        table.append(f"{name:24s} {run(loss, *arguments)}")
    print("\n".join(table))
