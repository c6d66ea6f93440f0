"""Run an experiment's runs: each once, with a table that grows by a row a run."""

from __future__ import annotations

import logging
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import cache, partial
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from joblib import cpu_count
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hierlit.experiments.base import Command, Experiment, Run, Settings, key_of
from hierlit.experiments.engines import LEAST_WORKERS, Cell, run_on_joblib, run_on_submitit
from hierlit.experiments.results import Results, Row, failure_of
from hierlit.training.signals import watch_parent
from hierlit.watching.progress import time_left

OUTPUT = "output.txt"
__all__ = ["Results", "cells_of", "run_all", "run_cell"]
DISPLAY = [
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.enable_checkpointing=false",
]


def cells_of(experiment: Experiment) -> list[Cell]:
    """Return all runs, a seed at a time, so that each setting has a row early."""
    return [(settings, seed) for seed in range(experiment.seeds) for settings in experiment.settings()]


def run_all(
    experiment: Experiment,
    folder: Path,
    workers: int | None,
    console: Console,
    command: Command,
    engine: str = "joblib",
    job_options: Mapping[str, Any] | None = None,
) -> Results:
    """Run what has not been run, on as many cores or GPUs as there are.

    Args:
        experiment: The experiment.
        folder: Its version folder.
        workers: Runs at a time; as many as cores, or GPUs where there are some, when None.
        console: Shows progress.
        command: Runs a `fit`, in whatever process it is called in.
        engine: `joblib` or `submitit`.
        job_options: Options of submitit's executor.

    Returns:
        The table, also of runs that were there before.

    Raises:
        KeyboardInterrupt: If interrupted; the rows of finished runs are kept.
    """
    results, names = Results(folder), gpus() if engine == "joblib" else []
    waiting = [cell for cell in cells_of(experiment) if key_of(*cell) not in results.finished()]
    if not waiting:
        return results
    n_workers = min(workers or len(names) or cpu_count(), len(waiting))
    n_threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, cpu_count() // n_workers))
    turns = tuple(names[turn % len(names)] for turn in range(max(LEAST_WORKERS, n_workers))) if names else ()
    run = partial(run_in_worker, command, experiment, folder, turns)
    with shown(console, len(waiting)) as advance, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="joblib")

        def finish(row: Row) -> None:
            results.add(row)
            advance(row)

        if engine == "submitit":
            run_on_submitit(run, waiting, n_workers, folder, job_options or {}, finish)
        else:
            run_on_joblib(run, waiting, n_workers, n_threads, finish)
    return results


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
            text = str(error) if str(error) not in ("", "2") else lines[-1]
            is_line = isinstance(error, SystemExit)
            row["error"] = text.removeprefix("error: ") if is_line else f"{type(error).__name__}: {text}"
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
            left = time_left((time.monotonic() - start) / done * (n_runs - done))
            line = f"run {done}/{n_runs}: {row['run']}, {row.get('seconds', 0):.1f} s{left}"
            console.print(line, soft_wrap=True, highlight=False)

    if console.is_terminal:
        with progress:
            yield advance
    else:
        yield advance
