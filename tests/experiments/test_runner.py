"""What joblib's workers are given, and what is left of runs whose worker was lost or interrupted."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch
from faults import Cells, Sometimes
from rich.console import Console

from hierlit.experiments import runner
from hierlit.experiments.base import key_of


def run(folder: Path, command: Sometimes, number: int = 3, workers: int = 2) -> tuple[set[str], list[str]]:
    cells: Any = Cells(number)
    results = runner.run_all(cells, folder, workers, Console(quiet=True), command)
    runs = [key_of(settings, 0) for settings in cells.settings()]
    assert all("lost" in text for text in results.failures(runs).values())
    assert not workers_left()
    return results.finished(), list(results.failures(runs))


def workers_left() -> list[psutil.Process]:
    """Workers of joblib that are still there: processes of its own, or children of the one that forks them."""
    own = psutil.Process().children(recursive=True)
    return [each for each in own if "LokyProcess" in " ".join(each.cmdline()) or is_forked(each)]


def is_forked(process: psutil.Process) -> bool:
    parent = process.parent()
    return parent is not None and "multiprocessing.forkserver" in " ".join(parent.cmdline())


@pytest.mark.usefixtures("forked_workers")
def test_a_run_that_ends_its_process_ends_no_other(tmp_path: Path) -> None:
    finished, failed = run(tmp_path, Sometimes(lost=(2,)))
    assert failed == ["number=2,seed=0"] and len(finished) == 2
    assert len(run(tmp_path, Sometimes(), workers=1)[0]) == 3
    assert os.getpid() not in set(pd.read_csv(tmp_path / "results.csv")["pid"])


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_runs_of_which_each_is_too_large_all_fail(tmp_path: Path) -> None:
    assert run(tmp_path, Sometimes(lost=(0, 1)), number=2) == (set(), ["number=0,seed=0", "number=1,seed=0"])


@pytest.mark.usefixtures("forked_workers")
def test_each_worker_has_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "gpus", lambda: ["5", "7"])
    run(tmp_path, Sometimes(seconds=0.2), number=8)
    rows = pd.read_csv(tmp_path / "results.csv")
    assert rows["pid"].nunique() == 2
    assert set(rows.groupby("pid")["gpu"].unique().explode()) == {5, 7}


@pytest.mark.slow  # workers that are not forked import Lightning, since their number of threads is known at their start
def test_each_worker_has_a_share_of_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "cpu_count", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    run(tmp_path, Sometimes(seconds=0.2), number=8)
    rows = pd.read_csv(tmp_path / "results.csv")
    assert rows["pid"].nunique() == 2
    assert set(rows["threads"]) == {3}


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("engine", ["joblib", pytest.param("submitit", marks=pytest.mark.slow)])
def test_of_twelve_runs_one_crashes_and_one_is_killed(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(Path(__file__).parents[n]) for n in (1, 2)))
    cells: Any = Cells(12)
    runs = [key_of(settings, 0) for settings in cells.settings()]

    def run_twelve(command: Sometimes) -> runner.Results:
        return runner.run_all(cells, tmp_path, 2, Console(quiet=True), command, engine)

    first = run_twelve(Sometimes(lost=(3,), failing=(7,)))
    before = pd.read_csv(tmp_path / "results.csv").set_index("run")
    assert len(first.table(runs)) == 10
    reasons = first.failures(runs)
    assert set(reasons) == {"number=3,seed=0", "number=7,seed=0"}
    assert reasons["number=3,seed=0"].startswith("its process was lost")
    assert reasons["number=7,seed=0"] == "ValueError: beta must be in [0, 1], got 7"
    second = run_twelve(Sometimes())
    after = pd.read_csv(tmp_path / "results.csv").set_index("run")
    assert second.failures(runs) == {} and len(second.table(runs)) == 12
    finished = before.index[before["pid"].notna()]
    assert before["pid"][finished].eq(after["pid"][finished]).all(), "no finished run is repeated"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, also where a shell started the tests in the background and had it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible", "forked_workers")
def test_an_interrupt_ends_workers_and_keeps_rows(tmp_path: Path) -> None:
    def interrupt() -> None:
        while not (tmp_path / "results.csv").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Sometimes(seconds=1.0), number=20)
    assert 0 < len(runner.Results(tmp_path).finished()) < 20
    assert not workers_left()


@pytest.mark.parametrize(
    ("listed", "count", "names"),
    [("2,3", 2, ["2", "3"]), (None, 2, ["0", "1"]), ("", 0, []), ("GPU-a, -1", 1, ["GPU-a"])],
)
def test_gpus_are_those_listed(
    listed: str | None, count: int, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if listed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert runner.gpus() == names
