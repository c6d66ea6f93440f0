"""Runs on sequences, images and texts from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hierlit import Identity, LayerwiseTask, LocatedArrays, Window1d, Window2d
from hierlit.cli import main
from hierlit.files.checkpoints import find_checkpoint
from hierlit.models import Proximity

QUIET = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
SMALL = ["--model.n_blocks", "2", "--model.n_features", "20", "--model.solver", "ExactSolver", *QUIET]


def arrays(folder: Path, *shape: int) -> list[str]:
    """The arguments of arrays of this shape, a row first and channels last, and of two labels a location."""
    draw = np.random.default_rng(0)
    np.savez(folder / "rows.npz", inputs=draw.normal(size=shape), labels=draw.choice([-1, 1], size=(*shape[:-1], 2)))
    return ["--data", "LocatedArrays", "--data.train_files", str(folder / "rows.npz")]


@pytest.mark.parametrize(
    ("shape", "given", "expected"),
    [
        ((20, 9, 2), [], Window1d(7, periodic=False)),
        ((20, 5, 6, 2), [], Window2d(5, 6, 3, periodic=False)),
        ((20, 9, 2), ["--model.proximity", "Identity"], Identity()),
        ((20, 9, 2), ["--model.proximity", "Window1d", "--model.proximity.size", "5"], Window1d(5)),
    ],
)
def test_windows_follow_from_the_data_unless_they_are_given(
    shape: tuple[int, ...], given: list[str], expected: Proximity, tmp_path: Path
) -> None:
    args = [*arrays(tmp_path, *shape), *SMALL]
    assert main(["plan", *args, *given]).planned.task.net.proximity == expected
    data = LocatedArrays(tmp_path / "rows.npz")
    task = LayerwiseTask(data.n_inputs, data.n_labels, data.n_locations, grid=data.grid)
    assert given or task.net.proximity == expected


def test_a_checkpoint_has_the_windows_of_the_data(tmp_path: Path) -> None:
    args = [*arrays(tmp_path, 20, 7, 8, 2), *SMALL, "--trainer.default_root_dir", str(tmp_path)]
    trained = main(["fit", *args]).model.net
    loaded = LayerwiseTask.load_from_checkpoint(find_checkpoint("last", tmp_path)).net
    assert loaded.proximity == trained.proximity == Window2d(7, 8, 3, periodic=False)
    assert torch.equal(loaded.windows.table, trained.windows.table)
    main(["test", *args, "--ckpt_path", "last"])
