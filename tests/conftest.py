"""Fixtures of all tests. What takes long to import they import when they are asked for: pytest's workers have a parent,
which reads this file and makes no test."""

import gc
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# what a failed comparison of two runs compared is shown
pytest.register_assert_rewrite("processes")


def pytest_collection_finish() -> None:
    """Before the first test, once all is imported."""
    import torch

    # the machine may be shared: torch's threads wait for one another far longer than these problems take
    torch.set_num_threads(1)
    # of what the tests import nothing is ever garbage, and to look through it takes a twentieth of their time
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture
def fit() -> Callable[..., Any]:
    """Fits a task to data without a sound; other keyword arguments go to `LayerwiseTraining`."""
    import problems

    return problems.fit


@pytest.fixture
def xors() -> Callable[..., Any]:
    """Makes rows of 6 signs with two XORs and a majority as labels, a share of them `missing`."""
    import problems

    return problems.xors


@pytest.fixture
def fitted_rows() -> Callable[..., Any]:
    """Gives the features with a last constant one [m|G|, q+1], the scores before a block and the labels [m|G|, n]."""
    import problems

    return problems.fitted_rows


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a run of the command line with some arguments, once, and gives the folder that it ran in."""
    from processes import run

    made: dict[tuple[str, ...], Path] = {}

    def make(*args: str) -> Path:
        if args not in made:
            folder = tmp_path_factory.mktemp("undisturbed")
            run(folder, *args)
            made[args] = folder
        return made[args]

    return make


@pytest.fixture
def forked_workers() -> Iterator[None]:
    """Has joblib's workers forked from the process that `processes` forks its own from, not started from nothing."""
    from joblib.externals.loky.backend.context import set_start_method
    from processes import SERVER  # has what it imports set

    set_start_method(SERVER.get_start_method(), force=True)
    yield
    set_start_method(None, force=True)


@pytest.fixture(scope="session")
def _automaton_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from processes import run_here  # not for tests that need no command line

    folder = tmp_path_factory.mktemp("automaton")
    printed = run_here(
        folder, "fit", "--config", str(Path(__file__).parent / "conf" / "automaton.yaml"), "--checkpoint.share=1"
    )
    (folder / "printed.txt").write_text(printed)
    return folder


@pytest.fixture
def automaton_run(_automaton_run: Path, tmp_path: Path) -> Path:
    """The test's own folder, in which `fit --config conf/automaton.yaml` has run, once, and left `printed.txt`."""
    return shutil.copytree(_automaton_run, tmp_path, dirs_exist_ok=True)
