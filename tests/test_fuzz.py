"""Bad input at random: it is refused in one line, or it is what it was; never another error, never other values."""

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from hierlit.cli import main
from hierlit.data import ArrayHierarchy
from hierlit.files.checkpoints import CheckpointError, read_checkpoint
from hierlit.layerwise.solvers import ExactSolver
from hierlit.training import LayerwiseTask, LayerwiseTraining

SMALL = str(Path(__file__).parent / "conf" / "automaton.yaml")
CASES = {"checkpoints": (100, 6000), "arrays": (80, 3500), "configs": (12, 1200), "fits": (6, 400)}
SECONDS = 90
"""Within which a fit of a small problem ends, also on a busy machine."""
VALUES = [
    "",
    "nan",
    "-inf",
    "-1",
    "0",
    "1e400",
    "3.5",
    "true",
    "null",
    "[]",
    "[1, x]",
    "{a: 1}",
    "!!python/none",
    "ß",
    "--",
]
ARGUMENTS = [
    *("data.rule", "data.n_levels", "data.n_cells", "data.n_train", "data.n_val", "data.batch_size", "data.data_seed"),
    *(
        "data.acceptance_fraction",
        "supervision.flip_probability",
        "supervision.shuffle_labels",
        "data",
        "model.proximity",
    ),
    *("model.n_blocks", "model.n_features", "model.features", "model.features.beta", "model.features.bias"),
    *("model.features.activation", "model.features.input_scale"),
    *("model.output", "model.loss", "model.solver", "model.regularization", "model.robustness", "model.weights"),
    *("model.learned_accuracy", "model.adaptation", "model.cache_budget_gib", "model.weight_seed", "model.nonsense"),
    *("model.adaptation.redraws", "model.adaptation.floor", "layerwise.gradient_tolerance", "layerwise.acceptance"),
    *("layerwise.relative_suboptimality", "layerwise.max_epochs_per_block", "layerwise.stop_when_learned", "modle"),
    *("checkpoint.every_minutes", "checkpoint.keep", "plan.devices", "plan.epochs", "trainer.precision", "nonsense"),
]
TRAINER = [
    *("max_epochs", "max_steps", "max_time", "min_epochs", "min_steps", "limit_train_batches", "limit_val_batches"),
    *("overfit_batches", "val_check_interval", "check_val_every_n_epoch", "num_sanity_val_steps", "fast_dev_run"),
    *("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "deterministic", "benchmark"),
    *("reload_dataloaders_every_n_epochs", "use_distributed_sampler", "sync_batchnorm", "inference_mode", "plugins"),
    *("log_every_n_steps", "enable_checkpointing", "logger", "profiler", "detect_anomaly", "barebones", "devices"),
    *("num_nodes", "accelerator", "strategy", "precision", "default_root_dir", "enable_progress_bar"),
]
FITTED = [
    *(name for name in ARGUMENTS if not name.startswith("plan.")),
    *(f"trainer.{name}" for name in TRAINER),
    *("seed_everything", "ckpt_path", "predictions.path", "model.tf32", "model.unobserved", "model.unobserved_weight"),
    *("model.solver.minibatch_epochs", "model.solver.optimizer", "supervision.observed"),
]
FIT = [
    *("fit", "--config", SMALL, "--trainer.accelerator=cpu", "--data.n_train=40", "--data.n_cells=8"),
    *("--model.n_features=20", "--layerwise.max_epochs_per_block=12"),
]
PLAUSIBLE = ["0", "1", "2", "3", "5", "40", "0.5", "1.0", "1e-3", "true", "false", "null", "last", "ddp", "cpu", "gain"]


def cases(kind: str) -> list[Any]:
    quick, slow = CASES[kind]
    return [quick, pytest.param(slow, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = np.random.default_rng(0)
    x = draw.choice([-1.0, 1.0], (40, 3))
    task = LayerwiseTask(3, 1, n_blocks=1, n_features=5, solver=ExactSolver())
    path = tmp_path_factory.mktemp("fuzz") / "whole.ckpt"
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = L.Trainer(max_epochs=-1, enable_model_summary=False, callbacks=[LayerwiseTraining()], **quiet)
    trainer.fit(task, datamodule=ArrayHierarchy(x, x[:, :1] * x[:, 1:2]))
    trainer.save_checkpoint(path)
    return path


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a or not isinstance(a, str | int | float | bytes))


def damaged(whole: bytes, draw: random.Random) -> bytes:
    data, kind = bytearray(whole), draw.randrange(5)
    first = draw.randrange(len(data))
    last = min(len(data), first + draw.randint(1, 300))
    if kind == 0:
        for _ in range(draw.randint(1, 8)):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif kind == 1:
        del data[first:]
    elif kind == 2:
        del data[first:last]
    elif kind == 3:
        data[first:last] = bytes(last - first)
    else:
        data[first:first] = draw.randbytes(draw.randint(1, 300))
    return bytes(data)


@pytest.mark.parametrize("n", cases("checkpoints"))
def test_a_damaged_checkpoint_is_refused_or_is_what_it_was(n: int, written: Path, tmp_path: Path) -> None:
    draw, whole, expected = random.Random(n), written.read_bytes(), read_checkpoint(written)
    path, n_refused = tmp_path / "damaged.ckpt", 0
    for _ in range(n):
        path.write_bytes(damaged(whole, draw))
        try:
            got = read_checkpoint(path, mmap=draw.random() < 0.5)
        except CheckpointError as error:
            assert "\n" not in str(error)
            n_refused += 1
        else:
            assert same(got, expected)
    assert n_refused > n / 2


def table(draw: np.random.Generator, n_rows: int) -> Any:
    shapes = [(n_rows, 3), (n_rows, 2, 3), (n_rows,), (0, 3), (n_rows + 1, 3), (n_rows, 0)]
    shape = shapes[draw.choice(6, p=[0.5, 0.1, 0.1, 0.1, 0.1, 0.1])]
    kind = draw.integers(7)
    values: Any = draw.choice([-1.0, 0.0, 1.0], shape)
    if kind == 1:
        values = draw.standard_normal(shape)
    elif kind == 2:
        values = values.astype([np.int8, np.int64, bool, np.float16, np.complex64, object, "U3"][draw.integers(7)])
    elif kind == 3 and values.size:
        values.flat[draw.integers(values.size)] = draw.choice([np.nan, np.inf, 1e300, 2.0])
    elif kind == 4:
        values = torch.from_numpy(values)
    elif kind == 5:
        values = values.tolist()
    elif kind == 6:
        values = np.asfortranarray(values)[::-1]
    return values


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", cases("arrays"))
def test_arrays_are_refused_or_become_the_tables_they_are(n: int, fit: Callable[..., L.Trainer]) -> None:
    draw, n_taken = np.random.default_rng(n), 0
    for _ in range(n):
        x, y = table(draw, 12), table(draw, 12)
        try:
            data = ArrayHierarchy(x, y, acceptance_fraction=0.2)
            data.setup()
        except (ValueError, TypeError) as error:
            assert "\n" not in str(error)
            continue
        n_taken += 1
        rows = data.tables["train"].inputs, data.tables["val"].inputs
        inputs = torch.as_tensor(np.array(np.asarray(x), dtype=np.float32)).reshape(len(x), data.n_locations, -1)
        assert torch.equal(torch.cat(rows).sort(0).values, inputs.sort(0).values)
        assert set(torch.cat([table.labels for table in data.tables.values()]).unique().tolist()) <= {-1.0, 0.0, 1.0}
        assert data.tables["train"].labels.shape[1:] == (data.n_locations, data.n_labels)
        if n_taken % 10 == 1 and data.n_inputs and data.n_labels:
            task = LayerwiseTask(data.n_inputs, data.n_labels, data.n_locations, n_blocks=2, n_features=5)
            fit(task, data, max_epochs_per_block=8)
            assert_trained(task, data)
    assert n_taken > n / 20


def assert_trained(task: LayerwiseTask, data: L.LightningDataModule) -> None:
    scores = task(data.tables["test"].inputs)
    assert scores.shape == data.tables["test"].labels.shape
    assert scores.isfinite().all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", cases("configs"))
def test_a_config_is_refused_in_one_line_or_can_be_planned(
    n: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw, n_refused = random.Random(n), 0
    for _ in range(n):
        given = [f"--{draw.choice(ARGUMENTS)}={draw.choice(VALUES)}" for _ in range(draw.randint(1, 2))]
        try:
            main(["plan", "--config", SMALL, *given])
        except SystemExit as end:
            last = capsys.readouterr().err.strip().splitlines()[-1] if end.code == 2 else str(end.code)
            assert last.startswith("error"), (given, last)
            n_refused += 1
    assert n_refused > n / 2


class Hang(BaseException):
    pass


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Ends what takes longer; leaves signals and the environment as they were."""

    def end(*_: object) -> None:
        raise Hang

    surroundings, handlers = (
        dict(os.environ),
        {kind: signal.getsignal(kind) for kind in (signal.SIGTERM, signal.SIGINT)},
    )
    signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        os.environ.clear()
        os.environ.update(surroundings)
        for kind, handler in handlers.items():
            signal.signal(kind, handler)


def drawn(draw: random.Random) -> str:
    name, value = draw.choice(FITTED), draw.choice([*VALUES, *PLAUSIBLE * 3])
    # more processes would be more of pytest
    return "" if name in ("trainer.devices", "trainer.num_nodes") and value[0] in "2345" else f"--{name}={value}"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", cases("fits"))
def test_a_config_is_refused_in_one_line_or_is_fitted(
    n: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw, n_fitted = random.Random(n), 0
    for _ in range(n):
        given = list(filter(None, (drawn(draw) for _ in range(draw.choice([1, 1, 2])))))
        try:
            with limited(SECONDS):
                cli = main([*FIT, *given])
        except SystemExit as end:
            last = capsys.readouterr().err.strip().splitlines()[-1] if end.code == 2 else str(end.code)
            assert last.startswith("error"), (given, last)
        except BaseException as error:
            raise AssertionError(given) from error
        else:
            n_fitted += 1
            assert_trained(cli.model, cli.datamodule)
    print(f"{n_fitted} of {n} configs fitted")
    assert n_fitted >= n // 20
