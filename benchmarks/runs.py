"""Runs of hierlit: quiet ones in this process, and whole commands in a process of their own."""

import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmarks.table import read
from hierlit.training import LayerwiseTraining

CONFIGS = Path(__file__).parents[1] / "configs"
LEARNED = 0.999
"""Held-out accuracy from which a level counts as learned."""
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
MINIMAL = {**QUIET, "logger": False, "enable_checkpointing": False}


def fixed_epochs(n: int) -> LayerwiseTraining:
    """Training that gives every block n epochs, whatever its gradient."""
    return LayerwiseTraining(gradient_tolerance=1e-30, max_epochs_per_block=n, acceptance="none")


@dataclass(frozen=True)
class Fit:
    """What a `fit` command left behind.

    Attributes:
        blocks: The records of blocks.csv.
        levels: The records of levels.csv.
        wall: Seconds of the whole process.
    """

    blocks: list[dict[str, str]]
    levels: list[dict[str, str]]
    wall: float

    @property
    def seconds(self) -> list[float]:
        """Seconds of training up to the end of each block."""
        return list(accumulate(float(block["seconds"]) for block in self.blocks))

    @property
    def learned(self) -> list[int]:
        """Levels learned after each block."""
        exact = [row["block"] for row in self.levels if float(row["val_accuracy"]) >= LEARNED]
        return [exact.count(block["block"]) for block in self.blocks]

    @property
    def epochs(self) -> int:
        """Epochs of all blocks."""
        return sum(int(block["epochs"]) for block in self.blocks)

    @property
    def unconverged(self) -> int:
        """Blocks that stopped short of their tolerance."""
        return sum(block["stop_reason"] != "gradient norm" for block in self.blocks)


def fit(config: str, folder: Path, *arguments: str) -> Fit:
    """Runs `python -m hierlit fit` on one of the configs in a process of its own.

    Args:
        config: Name of the config.
        folder: Gets the run's logs and, as output.txt, what it printed.
        arguments: Overrides of the config.

    Raises:
        RuntimeError: The command failed; its last line.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"trainer.enable_progress_bar": "false", "trainer.default_root_dir": folder.resolve()}
    command = [sys.executable, "-m", "hierlit", "fit", "--config", str(CONFIGS / f"{config}.yaml")]
    command += [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    before = set(folder.rglob("blocks.csv"))
    start = time.perf_counter()
    with (folder / "output.txt").open("w") as output:
        failed = subprocess.run([*command, *arguments], stdout=output, stderr=subprocess.STDOUT).returncode
    wall = time.perf_counter() - start
    written = set(folder.rglob("blocks.csv")) - before
    if failed or not written:
        lines = (folder / "output.txt").read_text().strip().splitlines()
        raise RuntimeError(f"{' '.join(arguments)}: {lines[-1] if lines else 'no output'} (see {folder}/output.txt)")
    logs = written.pop().parent
    return Fit(read(logs / "blocks.csv"), read(logs / "levels.csv"), wall)
