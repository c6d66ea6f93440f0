"""One block of 1,000 features solved exactly on 10 million pairs, all of them on disk, in little anonymous memory.

The tables are NumPy files mapped into memory, and so is the stream, by `cache_budget_gib`. What counts is the peak of
the process's own (anonymous) memory; pages of mapped files are the system's to take back. The training is a process of
its own: python -m benchmarks.memory FOLDER N_FEATURES BUDGET
"""

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import lightning as L
import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from benchmarks.runs import MINIMAL
from benchmarks.table import Row, write
from hierlit.data import CellularAutomaton
from hierlit.data.base import HierarchyDataModule
from hierlit.layerwise.solvers import ExactSolver
from hierlit.models import Window1d
from hierlit.training import LayerwiseTask, LayerwiseTraining

QUICK = {"n_pairs": 20_000, "n_features": 50}
N_CELLS, N_LEVELS, RULE = 64, 8, 110
N_VAL = 100
ACCEPTANCE = 0.1
RINGS_AT_ONCE = 5000
FIELDS = ("RssAnon", "RssFile", "VmRSS")


class MappedRings(HierarchyDataModule):
    """Rings of cells whose tables are memory-mapped files.

    Args:
        folder: Holds `train-inputs.npy` [N, 64, 1], `train-labels.npy` [N, 64, 8] and the same of val.
        batch_size: Rings in a batch.
    """

    def __init__(self, folder: Path, batch_size: int = 256) -> None:
        super().__init__(batch_size, ACCEPTANCE)
        self.folder = folder
        self.n_inputs, self.n_labels, self.n_locations = 1, N_LEVELS, N_CELLS
        self.levels = list(range(1, N_LEVELS + 1))

    def make_tables(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The files as tensors."""
        train, val = self._table("train"), self._table("val")
        return {"train": train, "val": val, "test": val}

    def _table(self, split: str) -> tuple[Tensor, Tensor]:
        files = (self.folder / f"{split}-{part}.npy" for part in ("inputs", "labels"))
        inputs, labels = (torch.from_numpy(np.load(file, mmap_mode="r+")) for file in files)
        return inputs, labels


def write_tables(folder: Path, n_rings: int) -> None:
    """Writes the files of `MappedRings`, a few thousand rings at a time."""
    for split, n_rows in (("train", n_rings), ("val", N_VAL)):
        shape = (n_rows, N_CELLS)
        inputs = open_memmap(folder / f"{split}-inputs.npy", "w+", np.float32, (*shape, 1))
        labels = open_memmap(folder / f"{split}-labels.npy", "w+", np.float32, (*shape, N_LEVELS))
        done = 0
        for x, y in rings(n_rows, first_seed=1 if split == "train" else 0):
            inputs[done : done + len(x)], labels[done : done + len(x)] = x, y
            done += len(x)


def rings(n_rows: int, first_seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and labels of Rule 110, each few thousand rings from a seed of their own."""
    for number, start in enumerate(range(0, n_rows, RINGS_AT_ONCE)):
        n = min(RINGS_AT_ONCE, n_rows - start)
        yield CellularAutomaton(
            RULE, N_LEVELS, N_CELLS, n_train=n, n_val=1, n_test=1, data_seed=first_seed + number
        ).make_tables()["train"]


def train(folder: Path, n_features: int, budget: float) -> None:
    """Solves one block and prints its seconds and the held-out accuracy of its first level."""
    data = MappedRings(folder)
    task = LayerwiseTask(
        1,
        N_LEVELS,
        N_CELLS,
        data.levels,
        Window1d(3),
        n_blocks=1,
        n_features=n_features,
        solver=ExactSolver(),
        cache_budget_gib=budget,
    )
    trainer = L.Trainer(max_epochs=-1, callbacks=[LayerwiseTraining()], **MINIMAL)
    trainer.fit(task, datamodule=data)
    print("solved", task.block, float(task.results["val"]["accuracy"][0]))


def peaks(process: subprocess.Popen[str]) -> dict[str, float]:
    """The largest GiB of each of `FIELDS` that a process shows, looked at every 20 ms until it ends."""
    most = dict.fromkeys(FIELDS, 0.0)
    while process.poll() is None:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in most:
                most[name] = max(most[name], int(value.split()[0]) / 2**20)
        time.sleep(0.02)
    return most


def run(out: Path, n_pairs: int = 10_000_000, n_features: int = 1000, budget: float = 0.25) -> list[Row]:
    """Measures peak memory and the whole process's seconds.

    Args:
        out: Gets memory.csv and, for a while, the files, 36 bytes a pair; streams take as much in $TMPDIR.
        n_pairs: Fitted pairs (row, location); a ninth as many are set aside.
        n_features: Random features of the block.
        budget: GiB that the stream cache may take.

    Raises:
        RuntimeError: The training failed.
    """
    folder = out / "memory"
    folder.mkdir(parents=True, exist_ok=True)
    n_rings = math.ceil(n_pairs / N_CELLS / (1 - ACCEPTANCE))
    write_tables(folder, n_rings)
    command = [sys.executable, "-m", "benchmarks.memory", str(folder), str(n_features), str(budget)]
    start = time.perf_counter()
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True)
        most = peaks(process)
    wall = time.perf_counter() - start
    for file in folder.glob("*.npy"):
        file.unlink()
    last = (folder / "output.txt").read_text().strip().splitlines()[-1:]
    if process.returncode or not last or not last[0].startswith("solved 1 "):
        raise RuntimeError(f"training on mapped files failed: {last} (see {folder / 'output.txt'})")
    write(out / "memory.csv", [{"pairs": n_pairs, "features": n_features, "seconds": wall, **most}], ["pairs"])
    what = f"{n_pairs:,} pairs, {n_features} features, {N_LEVELS} labels, one exact block"
    files = f"peak anonymous memory; with mapped files {most['VmRSS']:.2f} GiB; cache_budget_gib {budget}"
    accuracy = f"the whole process; level 1 held-out {float(last[0].split()[-1]):.4f}"
    return [
        Row("memory", what, most["RssAnon"], "GiB", target="<= 4", note=files),
        Row("memory", f"{what}: time", wall, "s", note=accuracy),
    ]


if __name__ == "__main__":
    train(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
