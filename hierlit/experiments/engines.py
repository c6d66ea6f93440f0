"""Where an experiment's cells are run: on joblib's workers, or as jobs of submitit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from joblib.parallel import get_active_backend

from hierlit.experiments.base import Settings, key_of
from hierlit.experiments.results import Row

Cell = tuple[Settings, int]
RunCell = Callable[[Settings, int], Row]
ENGINES = ("joblib", "submitit")
LEAST_WORKERS = 2
"""Workers of which one may wait: a single one's cells joblib would run in this process, which they could end."""
SECONDS_BETWEEN_LOOKS = 0.1
JOBS = "jobs"
"""Folder of what submitit writes of each job: its command, its output, its result."""


def lost(cell: Cell, why: str) -> Row:
    """Return the row of a cell that has none of its own."""
    settings, seed = cell
    return {"run": key_of(*cell), **settings, "seed": seed, "error": f"its process was lost: {why}"}


def run_on_joblib(
    run: RunCell, waiting: list[Cell], n_workers: int, n_threads: int, finish: Callable[[Row], None]
) -> None:
    """Run cells on joblib's workers: loky's processes, or those of the backend that `parallel_config` has set.

    Args:
        run: Runs a cell in a worker.
        waiting: Cells.
        n_workers: Cells at a time.
        n_threads: Threads of a process of loky.
        finish: Gets the row of each run that is over.
    """
    try:
        while waiting:
            for cell in run_parallel(run, waiting, n_workers, n_threads, finish):
                for gone in run_parallel(run, [cell], 1, n_threads, finish):
                    finish(lost(gone, "out of memory?"))
    finally:
        get_reusable_executor().shutdown()


def run_parallel(
    run: RunCell, waiting: list[Cell], n_workers: int, n_threads: int, finish: Callable[[Row], None]
) -> list[Cell]:
    """Run cells until none waits or a worker is lost, which ends the others too.

    Args:
        run: Runs a cell in a worker.
        waiting: Cells; those that are handed to the workers are taken from it.
        n_workers: Cells at a time.
        n_threads: Threads of a process of loky.
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

    own: dict[str, Any] = {"n_jobs": max(LEAST_WORKERS, n_workers)}
    if not is_backend_given():
        own |= {"backend": "loky", "inner_max_num_threads": n_threads}
    with parallel_config(**own):
        pool = Parallel(return_as="generator_unordered", pre_dispatch=n_workers, batch_size=1)
        with suppress(BrokenProcessPool), closing(pool(hand_over())) as rows:
            for row in rows:
                finish(row)
                del begun[row["run"]]
    return list(begun.values())


def is_backend_given() -> bool:
    """Return whether another backend of joblib than its own, loky, is active."""
    return type(get_active_backend()[0]).__name__ != "LokyBackend"


def run_on_submitit(
    run: RunCell,
    waiting: list[Cell],
    n_workers: int,
    folder: Path,
    options: Mapping[str, Any],
    finish: Callable[[Row], None],
) -> None:
    """Run each cell as a job: of SLURM where there is `sbatch`, else of submitit's executor on this machine.

    Args:
        run: Runs a cell in a job.
        waiting: Cells.
        n_workers: Jobs at a time.
        folder: The experiment's version folder.
        options: Of submitit's executor, such as `slurm_partition`, `timeout_min` and `cpus_per_task`.
        finish: Gets the row of each run that is over.
    """
    import submitit  # of the extra `slurm`

    executor = submitit.AutoExecutor(folder=folder / JOBS)
    executor.update_parameters(**options)
    running: dict[Any, Cell] = {}
    try:
        while waiting or running:
            while waiting and len(running) < n_workers:
                cell = waiting.pop(0)
                running[executor.submit(run, *cell)] = cell
            for job in [job for job in running if job.done()]:
                finish(row_of(job, running.pop(job)))
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        for job in running:
            job.cancel()


def row_of(job: Any, cell: Cell) -> Row:
    """Return the row of a job that is over; if it has none, one that says how it ended."""
    error = job.exception()
    if error is None:
        row: Row = job.result()
        return row
    return lost(cell, f"job {job.job_id} ended as {job.state} ({str(error).partition(chr(10))[0]})")
