"""Runs an experiment's runs: in parallel processes, each once, with a table that grows by a row a run."""

from __future__ import annotations

import logging
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import cache, partial
from itertools import cycle
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock, Timeout
from joblib import Parallel, cpu_count, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hierlit.experiments.base import Command, Experiment, Run, Settings, key_of
from hierlit.files.atomic import replace_text
from hierlit.training.signals import watch_parent

RESULTS = "results.csv"
OUTPUT = "output.txt"
DISPLAY = [
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.enable_checkpointing=false",
]
LEAST_WORKERS = 2
"""Workers of which one may wait: a single one's cells joblib would run in this process, which they could end."""
Cell = tuple[Settings, int]
Row = dict[str, Any]


class Results:
    """The rows of `results.csv`, by the name of their run; a row is written as soon as its run is over.

    Args:
        folder: The experiment's version folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RESULTS
        self._rows: dict[str, Row] = {row["run"]: row for row in read_table(self.path).to_dict("records")}

    def add(self, row: Row) -> None:
        """Add a run's row, in the place of an earlier one."""
        self._rows[row["run"]] = row
        replace_text(self.path, pd.DataFrame(list(self._rows.values())).to_csv(index=False))

    def finished(self) -> set[str]:
        """Names of the runs that need not be run again."""
        return {name for name, row in self._rows.items() if not failure_of(row)}

    def table(self, runs: list[str]) -> pd.DataFrame:
        """Return the rows of some runs that did not fail, in that order."""
        finished = self.finished()
        return pd.DataFrame([self._rows[name] for name in runs if name in finished])

    def failures(self, runs: list[str]) -> dict[str, str]:
        """Return why runs failed, by name."""
        return {name: text for name in runs if name in self._rows and (text := failure_of(self._rows[name]))}


def failure_of(row: Row) -> str:
    """Return why a row's run failed, or nothing."""
    text = row.get("error", "")
    return text if isinstance(text, str) else ""


def read_table(path: Path) -> pd.DataFrame:
    """Return a results table, empty where there is no file."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""]) if path.exists() else pd.DataFrame()


def cells_of(experiment: Experiment) -> list[Cell]:
    """Return all runs, a seed at a time, so that each setting has a row early."""
    return [(settings, seed) for seed in range(experiment.seeds) for settings in experiment.settings()]


def run_all(experiment: Experiment, folder: Path, workers: int | None, console: Console, command: Command) -> Results:
    """Run what has not been run, on as many cores or GPUs as there are.

    Args:
        experiment: The experiment.
        folder: Its version folder.
        workers: Runs at a time; as many as cores, or GPUs where there are some, when None.
        console: Shows progress.
        command: Runs a `fit`, in whatever process it is called in.

    Returns:
        The table, also of runs that were there before.

    Raises:
        KeyboardInterrupt: If interrupted; the rows of finished runs are kept.
    """
    results, names = Results(folder), gpus()
    waiting = [cell for cell in cells_of(experiment) if key_of(*cell) not in results.finished()]
    if not waiting:
        return results
    n_workers = min(workers or len(names) or cpu_count(), len(waiting))
    turns = tuple(names[turn % len(names)] for turn in range(max(LEAST_WORKERS, n_workers))) if names else ()
    run = partial(run_in_worker, command, experiment, folder, turns)
    with shown(console, len(waiting)) as advance, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="joblib")

        def finish(row: Row) -> None:
            results.add(row)
            advance(row)

        try:
            while waiting:
                for cell in run_parallel(run, waiting, n_workers, finish):
                    for lost in run_parallel(run, [cell], 1, finish):
                        settings, seed = lost
                        row: Row = {"run": key_of(*lost), **settings, "seed": seed}
                        finish(row | {"error": "its process was lost: out of memory?"})
        finally:
            get_reusable_executor().shutdown()
    return results


def run_parallel(
    run: Callable[[Settings, int], Row], waiting: list[Cell], n_workers: int, finish: Callable[[Row], None]
) -> list[Cell]:
    """Run cells in joblib's workers until none waits or a worker is lost, which ends the others too.

    Args:
        run: Runs a cell in a worker.
        waiting: Cells; those that are handed to the workers are taken from it.
        n_workers: Cells at a time.
        finish: Gets the row of each run that is over.

    Returns:
        The cells handed over that have no row when a worker is lost, each of which may be why.
    """
    begun: dict[str, Cell] = {}

    def hand_over() -> Iterator[Any]:
        while waiting:
            cell = waiting.pop(0)
            begun[key_of(*cell)] = cell
            yield delayed(run)(*cell)

    n_threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, cpu_count() // n_workers))
    with parallel_config("loky", n_jobs=max(LEAST_WORKERS, n_workers), inner_max_num_threads=n_threads):
        pool = Parallel(return_as="generator_unordered", pre_dispatch=n_workers, batch_size=1)
        with suppress(BrokenProcessPool), closing(pool(hand_over())) as rows:
            for row in rows:
                finish(row)
                del begun[row["run"]]
    return list(begun.values())


def gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    listed = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    n_gpus = torch.cuda.device_count()
    return (listed or [str(number) for number in range(n_gpus)])[:n_gpus]


def run_in_worker(
    command: Command, experiment: Experiment, folder: Path, turns: tuple[str, ...], settings: Settings, seed: int
) -> Row:
    """Run a cell in a process of its own."""
    prepare(folder, turns)
    return run_cell(command, experiment, folder, settings, seed)


@cache
def prepare(folder: Path, turns: tuple[str, ...]) -> FileLock | None:
    """Make a process ready for runs, once: no messages but hierlit's, and a GPU whose turn no other process has.

    Args:
        folder: The experiment's version folder.
        turns: The GPU of each worker, if there are any.

    Returns:
        The lock of its turn, which the system opens when the process ends, in whatever way.
    """
    watch_parent()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    for turn, gpu in cycle(enumerate(turns)):
        lock = FileLock(folder / f"worker_{turn}.lock")
        with suppress(Timeout):
            lock.acquire(timeout=0.1)
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
            return lock
    return None


def run_cell(command: Command, experiment: Experiment, folder: Path, settings: Settings, seed: int) -> Row:
    """Run a `fit` command in this process and return its row; what it prints goes to a file."""
    name = key_of(settings, seed)
    own = folder / "runs" / name
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    row, start = {"run": name, **settings, "seed": seed}, time.perf_counter()
    arguments = [*experiment.fit_arguments(settings, seed), *DISPLAY, f"--trainer.default_root_dir={own}"]
    with (own / OUTPUT).open("w") as output, redirect_stdout(output), redirect_stderr(output):
        print("python -m hierlit", *arguments)
        try:
            cli = command(arguments)
            assert cli is not None
            row |= experiment.outcome(Run(settings, seed, cli))
        except (Exception, SystemExit) as error:
            output.flush()
            lines = (own / OUTPUT).read_text().strip().splitlines()
            row["error"] = f"{type(error).__name__}: {error if str(error) not in ('', '2') else lines[-1]}"
    return {**row, "seconds": round(time.perf_counter() - start, 3)}


@contextmanager
def shown(console: Console, n_runs: int) -> Iterator[Callable[[Row], None]]:
    """Show a bar with the time left; plain lines where there is no terminal."""
    columns = (TextColumn("runs"), MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
    progress = Progress(*columns, TimeRemainingColumn(), TextColumn("{task.description}"), console=console)
    task, start, done = progress.add_task("", total=n_runs), time.monotonic(), 0

    def advance(row: Row) -> None:
        nonlocal done
        done += 1
        failure = failure_of(row)
        progress.update(task, advance=1, description=row["run"])
        if failure:
            console.print(f"{row['run']} failed: {failure}", soft_wrap=True, highlight=False)
        if not console.is_terminal:
            left = (time.monotonic() - start) / done * (n_runs - done)
            line = f"run {done}/{n_runs}: {row['run']}, {row.get('seconds', 0):.1f} s; about {left / 60:.1f} min left"
            console.print(line, soft_wrap=True, highlight=False)

    if console.is_terminal:
        with progress:
            yield advance
    else:
        yield advance
