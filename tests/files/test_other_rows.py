"""A fit goes on from a checkpoint with the rows and labels that it was saved with, or says that it does not."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
import pytest

from hierlit import BlockCheckpoint, LabelTable, LayerwiseTask, LayerwiseTraining

CHANGES = {"labels": ("y", 5, 1.0), "inputs": ("a", 5, 7.0), "swapped": ("a", [3, 4], None)}


@pytest.mark.parametrize("change", CHANGES)
def test_other_training_rows_are_refused_unless_they_may_be(change: str, tmp_path: Path) -> None:
    rows = pd.DataFrame({"a": np.arange(40.0), "y": np.tile([0, 0, 0, 0, 1], 8)})

    def fit(n_blocks: int, checkpoint: Path | None = None, **arguments: bool) -> None:
        rows.to_csv(tmp_path / "t.csv", index=False)
        data = LabelTable(tmp_path / "t.csv", label_columns="y", val_fraction=0, acceptance_fraction=0)
        task = LayerwiseTask(data.n_inputs, data.n_labels, n_blocks=n_blocks, n_features=10)
        quiet = {name: False for name in ("logger", "enable_progress_bar", "enable_model_summary")}
        callbacks = [LayerwiseTraining(acceptance="none", **arguments), BlockCheckpoint()]
        trainer = L.Trainer(max_epochs=-1, callbacks=callbacks, accelerator="cpu", default_root_dir=tmp_path, **quiet)
        trainer.fit(task, datamodule=data, ckpt_path=checkpoint)
        assert task.block == n_blocks

    fit(1)
    saved = max(tmp_path.rglob("*.ckpt"))
    fit(2, saved)
    column, place, value = CHANGES[change]
    rows.loc[place, column] = rows.loc[place, column].to_numpy()[::-1] if value is None else value
    with pytest.raises(ValueError, match=r"of the checkpoint") as caught:
        fit(2, saved)
    assert "\n" not in str(caught.value)
    fit(2, saved, other_rows=True)
