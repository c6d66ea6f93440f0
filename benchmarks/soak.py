"""Back-to-back blocks in one process: memory and file descriptors that do not grow.

`python -m benchmarks.soak [MINUTES]`; not among the benchmarks that run by default. A run that learns nothing new
trains block after block until the time is up; memory and descriptors are read at the end of each.
"""

import os
import sys
import time
import warnings
from pathlib import Path

import lightning as L
import numpy as np
import psutil
import torch

from hierlit.data import CellularAutomaton
from hierlit.models import Window1d
from hierlit.training import BlockCheckpoint, LayerwiseTask, LayerwiseTraining
from hierlit.watching import Staircase

WARM_UP = 120.0
GROWTH = 0.05


class Readings(L.Callback):
    """Reads memory and descriptors after each block."""

    def __init__(self, seconds: float) -> None:
        self.begun, self.seconds = time.monotonic(), seconds
        self.process, self.readings = psutil.Process(), []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reads after a block."""
        if pl_module.report is not None:
            now = time.monotonic() - self.begun
            self.readings.append((now, self.process.memory_info().rss, self.process.num_fds()))


def main(minutes: float = 30.0) -> int:
    """Trains for that long; returns 1 if memory grew by more than 5% after two minutes, or descriptors at all."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
    readings = Readings(60 * minutes)
    data = CellularAutomaton(n_levels=4, n_train=200, n_val=20, n_test=5)
    while time.monotonic() - readings.begun < readings.seconds:
        task = LayerwiseTask(1, 4, 64, data.levels, proximity=Window1d(3), n_blocks=20, n_features=200)
        callbacks = [LayerwiseTraining(), Staircase(), BlockCheckpoint(), readings]
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=-1,
            default_root_dir=Path("lightning_logs") / "soak",
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=callbacks,
        )
        trainer.fit(task, datamodule=data)
    times, memory, files = np.array(readings.readings).T
    warm = memory[times >= WARM_UP]
    early, late = warm[: max(1, len(warm) // 10)].mean(), warm[-max(1, len(warm) // 10) :].mean()
    growth, more = late / early - 1, files[-1] - files[times >= WARM_UP][0]
    print(f"{len(times)} blocks in {times[-1] / 60:.1f} minutes; memory {early / 2**20:.0f} → {late / 2**20:.0f} MiB")
    print(
        f"growth {growth:+.1%} (at most {GROWTH:.0%}), largest {warm.max() / early - 1:+.1%}; descriptors {more:+.0f}"
    )
    return int(growth > GROWTH or more > 0)


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:])))
