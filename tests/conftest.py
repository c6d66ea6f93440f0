"""Small problems, one quiet way to fit them, and the rows a block was fitted to, worked out again in NumPy."""

import gc
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from joblib.externals.loky.backend.context import set_start_method
from numpy.typing import NDArray

from hierlit.data import ArrayHierarchy
from hierlit.data.base import HierarchyDataModule
from hierlit.training import LayerwiseTask, LayerwiseTraining

# what a failed comparison of two runs compared is shown
pytest.register_assert_rewrite("processes")

# the machine may be shared: torch's threads wait for one another far longer than these problems take
torch.set_num_threads(1)

# of what the tests import nothing is ever garbage, and to look through it takes a twentieth of their time
gc.set_threshold(20_000, 20, 20)

Rows = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def _fit(
    task: LayerwiseTask,
    data: HierarchyDataModule,
    *callbacks: L.Callback,
    max_epochs: int = -1,
    precision: str = "32-true",
    ckpt_path: str | Path | None = None,
    max_steps: int = -1,
    limit_train_batches: float = 1.0,
    **layerwise: object,
) -> L.Trainer:
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        max_steps=max_steps,
        limit_train_batches=limit_train_batches,
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[LayerwiseTraining(**layerwise), *callbacks],
    )
    trainer.fit(task, datamodule=data, ckpt_path=ckpt_path)
    return trainer


def _xors(n_rows: int = 300, missing: float = 0.0, seed: int = 0, **data: object) -> ArrayHierarchy:
    draw = np.random.default_rng(seed)
    x = draw.choice([-1.0, 1.0], (n_rows, 6))
    y = np.stack([x[:, 0] * x[:, 1], x[:, 2] * x[:, 3], np.sign(x[:, 0] + x[:, 4] + x[:, 5])], 1)
    y[draw.random(y.shape) < missing] = 0
    return ArrayHierarchy(x, y, **data)


def _fitted_rows(task: LayerwiseTask, data: HierarchyDataModule, block: int) -> Rows:
    table = data.tables["train"]
    scores = np.zeros(table.labels[data.fit_rows].shape)
    inputs = table.inputs[data.fit_rows].double().numpy()
    for index in range(block + 1):
        stream = np.concatenate([inputs, scores], 2)
        windows = stream[:, task.net.windows.table.numpy()].reshape(*stream.shape[:2], -1)
        drawn = task.net.block(index).features
        weight, bias, scale, mean = (p.double().numpy() for p in (drawn.weight, drawn.bias, drawn.scale, drawn.mean))
        features = np.maximum(scale * windows @ weight.T + bias, 0) - mean
        features = np.concatenate([features, np.ones((*features.shape[:2], 1))], 2)
        if index < block:
            scores = scores + features @ task.net.block(index).weight.double().numpy().T
    labels = table.labels[data.fit_rows].double().numpy()
    return tuple(values.reshape(-1, values.shape[2]) for values in (features, scores, labels))


@pytest.fixture
def fit() -> Callable[..., L.Trainer]:
    """Fits a task to data without a sound; other keyword arguments go to `LayerwiseTraining`."""
    return _fit


@pytest.fixture
def xors() -> Callable[..., ArrayHierarchy]:
    """Makes rows of 6 signs with two XORs and a majority as labels, a share of them `missing`."""
    return _xors


@pytest.fixture
def fitted_rows() -> Callable[..., Rows]:
    """Gives the features with a last constant one [m|G|, q+1], the scores before a block and the labels [m|G|, n]."""
    return _fitted_rows


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
