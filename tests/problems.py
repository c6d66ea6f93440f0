"""Small problems, one quiet way to fit them, and the rows a block was fitted to, worked out again in NumPy."""

from pathlib import Path

import lightning as L
import numpy as np
from numpy.typing import NDArray

from hierlit.data import ArrayHierarchy
from hierlit.data.base import HierarchyDataModule
from hierlit.training import LayerwiseTask, LayerwiseTraining

Rows = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def fit(
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


def xors(n_rows: int = 300, missing: float = 0.0, seed: int = 0, **data: object) -> ArrayHierarchy:
    draw = np.random.default_rng(seed)
    x = draw.choice([-1.0, 1.0], (n_rows, 6))
    y = np.stack([x[:, 0] * x[:, 1], x[:, 2] * x[:, 3], np.sign(x[:, 0] + x[:, 4] + x[:, 5])], 1)
    y[draw.random(y.shape) < missing] = 0
    return ArrayHierarchy(x, y, **data)


def fitted_rows(task: LayerwiseTask, data: HierarchyDataModule, block: int) -> Rows:
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
