"""Arguments of NumPy's, pandas' and pathlib's types: a checkpoint of them is read back like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pytest

from hierlit import BlockCheckpoint, LabelTable, LayerwiseTask, LayerwiseTraining
from hierlit.files.checkpoints import read_checkpoint

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "numbers": {"data": {"batch_size": np.int64(32), "val_fraction": np.float32(0.25)}, "model": {}},
    "an array's entry": {"data": {}, "model": {"robustness": np.linspace(0.1, 0.9, 5)[1]}},
    "names of pandas": {"data": {"label_columns": pd.Index(["y", "z"]), "path_separator": np.str_("@")}, "model": {}},
    "names in an array": {"data": {"label_columns": np.array(["y", "z"]), "data_seed": np.uint8(3)}, "model": {}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_was_given_as_other_types_is_stored_plain(variant: str, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = pd.DataFrame(draw.normal(size=(40, 2)), columns=["a", "b"])
    path = tmp_path / "t.csv"
    rows.assign(y=(rows["a"] > 0).astype(int), z=(rows["b"] > 0).astype(int)).to_csv(path, index=False)
    own = VARIANTS[variant]

    def fit(n_blocks: Any, checkpoint: Path | None = None) -> L.Trainer:
        data = LabelTable([path], **({"label_columns": ["y", "z"]} | own["data"]))
        task = LayerwiseTask(data.n_inputs, data.n_labels, n_blocks=n_blocks, n_features=np.int64(10), **own["model"])
        quiet = {name: False for name in ("logger", "enable_progress_bar", "enable_model_summary")}
        callbacks = [LayerwiseTraining(), BlockCheckpoint()]
        trainer = L.Trainer(max_epochs=-1, callbacks=callbacks, accelerator="cpu", default_root_dir=tmp_path, **quiet)
        trainer.fit(task, datamodule=data, ckpt_path=checkpoint)
        return trainer

    fit(np.int64(1))
    saved = max(tmp_path.rglob("*.ckpt"))
    kept = read_checkpoint(saved)["datamodule_hyper_parameters"]
    assert kept["train_files"] == [str(path)]
    assert list(kept["label_columns"]) == ["y", "z"]
    assert {type(value) for value in kept.values()} <= {int, float, str, list, type(None)}
    assert fit(2, saved).lightning_module.block == 2
