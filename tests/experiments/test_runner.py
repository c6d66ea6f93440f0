"""Which runs share a pool of processes, which GPU each has, and what is left of runs whose process was lost."""

from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from hierlit.cli import main
from hierlit.experiments import runner
from hierlit.experiments.base import key_of


class Cells:
    """An experiment as far as the runner knows one: its settings are numbers."""

    seeds = 1

    def settings(self) -> list[dict[str, Any]]:
        return [{"number": number} for number in range(8)]


class Pool:
    """Starts nothing; `wait` below ends its runs."""

    _processes = None

    def __init__(self, n_workers: int, *_: Any) -> None:
        self.n_workers = n_workers

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, run: Any, settings: dict[str, Any], seed: int) -> Future[Any]:
        future: Future[Any] = Future()
        future.row = {"run": key_of(settings, seed), **settings, "seed": seed}  # type: ignore[attr-defined]
        return future


@pytest.fixture(autouse=True)
def too_large(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Numbers of runs that end their process, and so what runs beside them."""
    numbers: set[int] = set()

    def wait(running: dict[Any, Any], return_when: str) -> SimpleNamespace:
        assert 1 <= len(running) <= 2
        is_broken = any(future.row["number"] in numbers for future in running)
        done = list(running) if is_broken else list(running)[:1]
        for future in done:
            if is_broken:
                future.set_exception(BrokenProcessPool())
            else:
                future.set_result(future.row)
        return SimpleNamespace(done=done)

    monkeypatch.setattr(runner, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(runner, "wait", wait)
    return numbers


def run(folder: Path) -> tuple[set[str], list[str]]:
    results = runner.run_all(Cells(), folder, 2, Console(quiet=True), main)  # type: ignore[arg-type]
    runs = [key_of(settings, 0) for settings in Cells().settings()]
    assert all("lost" in text for text in results.failures(runs).values())
    return results.finished(), list(results.failures(runs))


def test_a_run_that_ends_its_process_ends_no_other(tmp_path: Path, too_large: set[int]) -> None:
    too_large.add(3)
    finished, failed = run(tmp_path)
    assert failed == ["number=3,seed=0"] and len(finished) == 7
    too_large.clear()
    assert len(run(tmp_path)[0]) == 8


def test_runs_of_which_each_is_too_large_all_fail(tmp_path: Path, too_large: set[int]) -> None:
    too_large.update(range(8))
    assert run(tmp_path) == (set(), [key_of(settings, 0) for settings in Cells().settings()])


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
