"""Two single-thread processes against one on the same job, both solvers, side by side in one run."""

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.table import Row

QUICK = {"n_train": 200, "n_features": 50, "repeats": 1}
BUDGET_GIB = 0.05
"""So little that features are recomputed: read from memory, they are bound by its bandwidth, which processes share."""
BATCH_SIZE = 1000
"""Large enough that mini-batch steps are not mostly waiting: each ends with a sum over processes."""
SOLVERS = {"gradient": "GradientSolver", "exact": "ExactSolver"}


def run(out: Path, n_train: int = 16000, n_features: int = 700, n_blocks: int = 1, repeats: int = 2) -> list[Row]:
    """Measures the seconds of all blocks, start-up aside.

    Args:
        out: Not written to.
        n_train: Rings of 64 cells.
        n_features: Features q.
        n_blocks: Blocks.
        repeats: Runs of each; the fastest counts.
    """
    rows = []
    for name, solver in SOLVERS.items():
        one, two = [], []
        for _ in range(repeats):
            for n, times in ((1, one), (2, two)):
                times.append(seconds(n, solver, n_train, n_features, n_blocks))
        what = f"{name}: {n_train} rings, q = {n_features}, {n_blocks} blocks; 2 processes against 1"
        one_process, two_processes = min(one), min(two)
        speedup = one_process / two_processes
        rows.append(Row("scaling", what, two_processes, "s", one_process, speedup, ">= 1.7", "1 thread each, gloo"))
    return rows


def seconds(n: int, solver: str, n_train: int, n_features: int, n_blocks: int) -> float:
    """Seconds that the blocks take on `n` processes of one thread."""
    config = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
    sizes = {"data.n_train": n_train, "model.n_features": n_features, "model.n_blocks": n_blocks}
    options = {**sizes, "model.solver": solver, "trainer.accelerator": "cpu", "data.n_levels": 8}
    options |= {"model.cache_budget_gib": BUDGET_GIB, "data.batch_size": BATCH_SIZE}
    options |= {"trainer.strategy": "ddp", "trainer.devices": n} if n > 1 else {}
    with tempfile.TemporaryDirectory() as folder:
        given = [f"--{name}={value}" for name, value in {**options, "trainer.default_root_dir": folder}.items()]
        command = [sys.executable, "-m", "hierlit", "fit", "--config", str(config), *given]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        with (Path(folder) / "lightning_logs" / "version_0" / "blocks.csv").open() as file:
            return sum(float(row["seconds"]) for row in csv.DictReader(file))
