"""The same runs on the accelerator of this machine and on its CPU: a deep network, a table, gradient epochs.

    python -m benchmarks gpu --gpu.cases '[depth, epoch]'

Seconds are those of training, summed from blocks.csv. The share of the peak is that of the rate, measured here, at
which the device multiplies two large float32 matrices; the operations are those of all matrix products, counted in a
run of its own. Without an accelerator nothing is run.
"""

import contextlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.made_table import make
from benchmarks.runs import CONFIGS, fit
from benchmarks.table import Row, seconds
from hierlit.cli import main

QUICK = {
    "cpu_instead": True,
    "matrix": 128,
    "n_rows": 200,
    "overrides": ["--data.n_train=60", "--model.n_blocks=1", "--model.n_features=64"],
}


@dataclass(frozen=True)
class Case:
    """A run.

    Attributes:
        config: Name of the config.
        arguments: Overrides of it.
        says: What the run is, in words.
    """

    config: str
    arguments: tuple[str, ...]
    says: str


ENDLESS = ("--layerwise.gradient_tolerance=1e-30", "--layerwise.max_epochs_per_block=20", "--layerwise.acceptance=none")
CASES = {
    "depth": Case("deep", (), "configs/deep.yaml"),
    "table": Case("tables", ("--data.label_columns=label_*",), "configs/tables.yaml on a made table"),
    "epoch": Case(
        "quickstart",
        ("--data.n_train=4000", "--data.n_levels=32", "--data.batch_size=1000", "--model.n_blocks=1", *ENDLESS),
        "20 epochs of gradient steps, 4,000 rings, 32 levels, q = 700",
    ),
}


def run(
    out: Path,
    cases: list[str] = ["depth", "table", "epoch"],  # noqa: B006
    n_rows: int = 18000,
    matrix: int = 8192,
    overrides: list[str] = [],  # noqa: B006
    cpu_instead: bool = False,
) -> list[Row]:
    """Trains every case on both devices, one process a run.

    Args:
        out: Gets the table and the runs' logs.
        cases: Names of cases.
        n_rows: Rows of the made table.
        matrix: Size of the square matrices whose product is the peak.
        overrides: More arguments of the commands, as far as a case has them.
        cpu_instead: Where there is no accelerator, let the CPU stand for it: shows that the benchmark runs.

    Raises:
        ValueError: There is no case of that name.
    """
    if unknown := [name for name in cases if name not in CASES]:
        raise ValueError(f"cases must be among {', '.join(CASES)}, got {', '.join(unknown)}")
    device = torch.accelerator.current_accelerator()
    if device is None and not cpu_instead:
        return [Row("gpu", "nothing was run", math.nan, note="torch finds no accelerator on this machine")]
    table = out / "gpu" / "table.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    make(n_rows, 0).to_csv(table, index=False)
    rates = {name: rate(torch.device(name), matrix) for name in (str(device or "cpu"), "cpu")}
    return [row for name in cases for row in compare(name, out / "gpu", table, overrides, rates)]


def compare(name: str, out: Path, table: Path, overrides: list[str], rates: dict[str, float]) -> list[Row]:
    """Runs a case on the accelerator and on the CPU."""
    case, shares = CASES[name], {}
    given = [*case.arguments, *overrides]
    if case.config == "tables":  # whose rows are those of the file
        given = [option for option in given if not option.startswith("--data.n_train")]
        given.append(f"--data.train_files=[{table}]")
    products = operations(case.config, out / f"{name}-counted", *given, "--trainer.accelerator=auto")
    fits = {}
    for device in rates:
        on = f"--trainer.accelerator={'cpu' if device == 'cpu' else 'auto'}"
        one = fits[device] = fit(case.config, out / f"{name}-{device}", *given, on, "--trainer.devices=1")
        spent = sum(float(block["seconds"]) for block in one.blocks)
        shares[device] = spent, products / spent / rates[device]
    first, (spent, share) = next(iter(shares)), next(iter(shares.values()))
    on_cpu, cpu_share = shares["cpu"]
    learned = ", ".join(f"{device} {one.learned[-1]}" for device, one in fits.items())
    note = f"{first} against cpu; {share:.1%} of the peak of {rates[first] / 1e9:,.0f} GFLOP/s, on the CPU "
    note += f"{cpu_share:.1%} of {rates['cpu'] / 1e9:,.0f}"
    note += "" if name == "table" else f"; levels learned: {learned}"
    return [Row("gpu", f"{name}: {case.says}", spent, "s", on_cpu, on_cpu / spent, note=note)]


def rate(device: torch.device, size: int, repeats: int = 5) -> float:
    """Operations a second of a float32 product of two square matrices, the median of a few."""
    one, two = (torch.randn(size, size, device=device) for _ in range(2))
    product: Callable[[], object] = lambda: one @ two  # noqa: E731
    times = [seconds(product) for _ in range(repeats + 1)][1:]
    return 2 * size**3 / sorted(times)[repeats // 2]


def operations(config: str, folder: Path, *arguments: str) -> float:
    """Operations of all matrix products of a run, in this process, an addition and a multiplication being two."""
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.logger=false", "--trainer.enable_checkpointing=false"]
    command = ["fit", "--config", str(CONFIGS / f"{config}.yaml"), f"--trainer.default_root_dir={folder.resolve()}"]
    said = io.StringIO()
    in_place = {torch.ops.aten.addmm_: added_product}  # torch's counter leaves it out
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter, contextlib.redirect_stdout(said):
        main([*command, *quiet, *arguments])
    return float(counter.get_total_flops())


def added_product(total: Sequence[int], one: Sequence[int], two: Sequence[int], **_: object) -> int:
    """Operations of a product that is added to a matrix in its place, of the shapes of all three."""
    return 2 * one[0] * one[1] * two[1]
