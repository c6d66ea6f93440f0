"""What every benchmark shares: rows of one table, CSV files that a partial run updates, and a side-by-side timer."""

import csv
import operator
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

WIDTH = 180
"""Columns of the table where there is no terminal."""
COMPARISONS = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        benchmark: Name of the benchmark.
        what: What was measured.
        value: The measurement.
        unit: Its unit.
        against: What it is compared with, in the same unit; the note says what that is.
        ratio: `against` / `value`, or what the note says.
        target: As in "<= 1.15" or ">= 8"; of the ratio where there is one, else of the value.
        note: Everything else there is to know.
    """

    benchmark: str
    what: str
    value: float
    unit: str = ""
    against: float | None = None
    ratio: float | None = None
    target: str = ""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met, None where there is none."""
        if not self.target:
            return None
        comparison, limit = self.target.split()
        return bool(COMPARISONS[comparison](self.value if self.ratio is None else self.ratio, float(limit)))


def now() -> float:
    """Seconds on a clock, once the accelerator, if any, has done what it was asked for."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()


def seconds(function: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = now()
    function()
    return now() - start


def alternate(functions: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 1) -> dict[str, float]:
    """Times functions side by side, A, B, A, B, …, since absolute times drift on a shared machine.

    Args:
        functions: What to call, by name.
        repeats: Calls of each that count.
        warm_up: Calls of each before those.

    Returns:
        Median seconds by name.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(warm_up + repeats):
        for name, function in functions.items():
            times[name].append(seconds(function))
    return {name: statistics.median(spent[warm_up:]) for name, spent in times.items()}


def show(rows: Sequence[Row], title: str = "") -> None:
    """Prints the table."""
    table = Table(title=title, title_justify="left")
    for name in ("benchmark", "what", "value", "against", "ratio", "target", "note"):
        table.add_column(name, justify="right" if name in ("value", "against", "ratio", "target") else "left")
    for row in rows:
        style = {None: "", True: "green", False: "red"}[row.met]
        numbers = [_number(row.value, row.unit), _number(row.against, row.unit), _number(row.ratio)]
        table.add_row(row.benchmark, row.what, *numbers, f"[{style}]{row.target}[/]" if style else "", row.note)
    Console(width=None if Console().is_terminal else WIDTH).print(table)


def _number(value: float | None, unit: str = "") -> str:
    return "" if value is None else f"{value:,.4g} {unit}".strip()


def write(path: Path, records: Sequence[Mapping[str, Any]], key: Sequence[str]) -> None:
    """Writes records, if any, to a CSV file, in place of those with the same values of `key`; others there stay."""
    if not records:
        return
    ours = {tuple(str(record[name]) for name in key) for record in records}
    kept = [record for record in read(path) if tuple(record[name] for name in key) not in ours]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows([*kept, *records])


def read(path: Path) -> list[dict[str, str]]:
    """The records of a CSV file, none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def save(path: Path, rows: Sequence[Row]) -> None:
    """Writes the table to a CSV file, in place of what the same benchmarks said of the same things."""
    write(path, [{**asdict(row), "met": row.met} for row in rows], ["benchmark", "what"])
