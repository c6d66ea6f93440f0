"""A run that is killed and goes on ends as one that nobody disturbed, to the bit."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import (
    AUTO,
    EXACT,
    JOINT,
    LOGISTIC,
    RUN,
    TWO,
    assert_same_run,
    checkpoints,
    fault,
    kill_when,
    log_of,
    rows,
    run,
    start,
    wait_for_the_end,
    weights,
)

OFTEN = ["--checkpoint.every_minutes", "1e-5"]
EVERY_MOMENT = ["--checkpoint.every_minutes", "0.002"]
LAST = ["--ckpt_path", "last"]
SOLVERS = {
    "gradient": [],
    "exact": [*EXACT, *LOGISTIC, "--model.adaptation.redraws", "2"],
    "joint": JOINT,
    "double": ["--trainer.precision", "64-true"],
}
CROSS_FITTED = [*EXACT, *LOGISTIC, "--layerwise.folds", "3"]
SOLVERS |= {"cross-fitted": CROSS_FITTED, "auto": AUTO}
AT_WRITE = """
import os, signal
from hierlit.cli import main
replace, seen = os.replace, [0]
def killed(source, target):
    seen[0] += 1
    if seen[0] == 3:
        os.truncate(source, os.path.getsize(source) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = killed
main()
"""
AIMED = (
    pytest.param("gradient", 60, "block=002", marks=pytest.mark.slow),
    pytest.param("exact", 40, "block=001"),
    pytest.param("joint", 17, "block=000", marks=pytest.mark.slow),
    pytest.param("cross-fitted", 120, "block=001", id="cross-fitted", marks=pytest.mark.slow),
    pytest.param("auto", 6, "block=001", id="auto", marks=pytest.mark.slow),
    pytest.param("cross-fitted", 250, "block=001", id="without a fold", marks=pytest.mark.slow),
)
"""Passes within block 2 or 3, of blocks whose passes are known, in the fit to all rows or in one without a fold; within
the joint epochs, which are block 1's."""


@pytest.mark.parametrize(("solver", "at", "block"), AIMED)
def test_killed_within_a_block(
    solver: str, at: int, block: str, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    args = [*RUN, *SOLVERS[solver]]
    run(tmp_path, *args, *OFTEN, *fault("SignalAtPass", at=at), expect=-9)
    newest = checkpoints(tmp_path)[-1].name
    assert block in newest and "epoch=00000" not in newest
    run(tmp_path, *args, *LAST)
    assert_same_run(tmp_path, undisturbed(*RUN, *SOLVERS[solver]))


@pytest.mark.slow  # test_located kills a run there too
def test_killed_between_the_tables_and_the_checkpoint_of_a_block(
    undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    run(tmp_path, *RUN, *fault("KillAfterBlock"), expect=-9)
    assert "block=001" in checkpoints(tmp_path)[-1].name
    run(tmp_path, *RUN, *LAST)
    assert_same_run(tmp_path, undisturbed(*RUN))


def test_killed_while_a_checkpoint_is_written(undisturbed: Callable[..., Path], tmp_path: Path) -> None:
    run(tmp_path, *RUN, code=AT_WRITE, expect=-9)
    assert "block=001" in checkpoints(tmp_path)[-1].name
    run(tmp_path, *RUN, *LAST)
    assert_same_run(tmp_path, undisturbed(*RUN))
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_one_rank_of_two_is_killed(rank: int, undisturbed: Callable[..., Path], tmp_path: Path) -> None:
    args = [*RUN, *TWO]
    printed = run(tmp_path, *args, *OFTEN, *fault("SignalAtPass", at=60, rank=rank), expect=None)
    wait_for_the_end(tmp_path, 60)
    if rank == 1:
        assert "error on rank 0: another process of the run is gone" in printed
    run(tmp_path, *args, *LAST)
    assert_same_run(tmp_path, undisturbed(*RUN, *TWO))


@pytest.mark.parametrize("ranks", [[], pytest.param(TWO, marks=pytest.mark.slow)], ids=["alone", "two ranks"])
def test_sigterm_saves_and_says_so_by_its_code(
    ranks: list[str], undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    args = [*RUN, *ranks]
    printed = run(tmp_path, *args, *fault("SignalAtPass", at=60, signum=int(signal.SIGTERM)), expect=143)
    assert printed.count("stopped by SIGTERM, saved as") == 1
    assert checkpoints(tmp_path)[-1].name in printed
    wait_for_the_end(tmp_path, 30)
    run(tmp_path, *args, *LAST)
    assert_same_run(tmp_path, undisturbed(*RUN, *ranks))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_sigterm_to_one_rank_of_two_that_fill_their_streams_is_kept_for_the_first_batch(
    rank: int, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    printed = run(tmp_path, *RUN, *TWO, *fault("SignalAtPass", at=0, signum=int(signal.SIGTERM), rank=rank), expect=143)
    assert printed.count("stopped by SIGTERM, saved as") == 1
    run(tmp_path, *RUN, *TWO, *LAST)
    assert_same_run(tmp_path, undisturbed(*RUN, *TWO))


@pytest.mark.slow
def test_on_another_number_of_processes_a_run_goes_on_to_rounding(
    undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    double = SOLVERS["double"]
    one = undisturbed(*RUN, *double)
    run(tmp_path, *RUN, *double, *OFTEN, *fault("SignalAtPass", at=60), expect=-9)
    run(tmp_path, *RUN, *double, *TWO, *LAST)
    for name, value in weights(one).items():
        assert float((weights(tmp_path)[name].double() - value.double()).norm()) <= 1e-9 * float(value.double().norm())
    assert [row["epochs"] for row in rows(one, "blocks.csv")] == [row["epochs"] for row in rows(tmp_path, "blocks.csv")]


def test_slurm_is_asked_to_requeue_and_the_job_goes_on(undisturbed: Callable[..., Path], tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/requeued\n')
    (tools / "scontrol").chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "fit", "SLURM_NTASKS": "1", "SLURM_NNODES": "1"}
    slurm |= {name: "0" for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")}
    slurm |= {"SLURM_NODELIST": "localhost", "PATH": f"{tools}:{os.environ['PATH']}"}
    job = start(tmp_path, *RUN, *fault("SignalAtPass", at=60, signum=int(signal.SIGUSR1)), **slurm)
    assert kill_when(job, (tmp_path / "requeued").exists) == -9
    assert (tmp_path / "requeued").read_text().split() == ["requeue", "7"]
    assert (tmp_path / "hpc_ckpt_1.ckpt").exists()
    run(tmp_path, *RUN, **slurm)
    log_of(tmp_path, 7).rename(log_of(tmp_path))
    assert_same_run(tmp_path, undisturbed(*RUN))


def killed_at_random(folder: Path, args: list[str], draw: random.Random, signum: int, ranks: random.Random) -> bool:
    """Starts a run, or goes on with it, and signals one of its processes a while later; whether it was training."""
    last = LAST if checkpoints(folder) else []
    newest = max((path.stat().st_mtime_ns for path in checkpoints(folder)), default=0)
    process = start(folder, *args, *last)
    while process.returncode is None and not any(path.stat().st_mtime_ns > newest for path in checkpoints(folder)):
        time.sleep(0.02)
    time.sleep(draw.uniform(0, 2))
    was_training = process.returncode is None and "block=003" not in checkpoints(folder)[-1].name
    if was_training:
        os.kill(ranks.choice(family(process.pid)), signum)
    process.communicate(timeout=120)
    wait_for_the_end(folder, 60)
    return was_training and process.returncode != 0


def family(pid: int) -> list[int]:
    """A run's first process and those it launched."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def kill_often(folder: Path, args: list[str], signum: int, whole: Path) -> None:
    """Kills runs while they train, twenty times in all, up to four times each, and compares each when it is done."""
    draw, ranks, n_kills, n_runs = random.Random(int(signum)), random.Random(0), 0, 0
    while n_kills < 20:
        n_runs, own = n_runs + 1, folder / f"run-{n_runs}"
        for _ in range(4):
            if not killed_at_random(own, args, draw, signum, ranks):
                break
            n_kills += 1
        run(own, *args, *LAST)
        assert_same_run(own, whole)
    print(f"{n_kills} kills while {n_runs} runs were training")


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM], ids=lambda signum: signum.name)
@pytest.mark.parametrize("solver", ["gradient", "exact"])
def test_killed_at_twenty_random_moments(
    solver: str, signum: signal.Signals, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    kill_often(tmp_path, [*RUN, *SOLVERS[solver], *EVERY_MOMENT], signum, undisturbed(*RUN, *SOLVERS[solver]))


@pytest.mark.slow
def test_one_of_two_ranks_is_killed_at_twenty_random_moments(undisturbed: Callable[..., Path], tmp_path: Path) -> None:
    kill_often(tmp_path, [*RUN, *TWO, *EVERY_MOMENT], signal.SIGKILL, undisturbed(*RUN, *TWO))
