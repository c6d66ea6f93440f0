"""Probabilities are the same from `predict`, from an exported file and from an estimator of the same network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hierlit import HierarchicalClassifier
from hierlit.cli import main
from hierlit.files.checkpoints import find_checkpoint, read_checkpoint

CONFIG = str(Path(__file__).parents[2] / "configs" / "tables.yaml")
LABELS = ["strong", "old"]
CLASSES = ["kind=ash", "kind=elm", "kind=oak"]
CHOICES = {"labels": ("[strong,old]", "[]", LABELS), "classes": ("[kind]", "[strong,old]", CLASSES)}


def frame(n_rows: int, seed: int) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    numbers = draw.normal(size=(n_rows, 3))
    noisy = numbers + 0.7 * draw.normal(size=numbers.shape)
    table = pd.DataFrame(numbers, columns=list("abc"))
    table["strong"], table["old"] = (noisy[:, 0] > 0).astype(int), (noisy[:, 1] > 0.5).astype(int)
    table["kind"] = np.array(["oak", "elm", "ash"])[noisy.argmax(1)]
    return table


def arguments(folder: Path, kind: str) -> list[str]:
    labels, ignored, _ = CHOICES[kind]
    ignored = "[kind]" if kind == "labels" else ignored
    data = {"train_files": folder / "train.csv", "label_columns": labels, "ignore_columns": ignored, "batch_size": 50}
    trainer = {"default_root_dir": folder, "accelerator": "cpu", "enable_progress_bar": "false"}
    given = {f"data.init_args.{name}": value for name, value in data.items()} | {"model.n_blocks": 2}
    given |= {f"trainer.{name}": value for name, value in trainer.items()}
    return ["--config", CONFIG, *(f"--{name}={value}" for name, value in given.items())]


def exported(path: Path, numbers: np.ndarray) -> np.ndarray:
    if path.suffix == ".pt2":
        return torch.export.load(path).module()(torch.from_numpy(numbers))[1].numpy()
    session = pytest.importorskip("onnxruntime").InferenceSession(path)
    return session.run(["probabilities"], {"numbers": numbers})[0]


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("classes", ".pt2"),
        pytest.param("labels", ".pt2", marks=pytest.mark.slow),
        pytest.param("labels", ".onnx", marks=pytest.mark.slow),
        pytest.param("classes", ".onnx", marks=pytest.mark.slow),
    ],
)
def test_probabilities_agree(kind: str, suffix: str, tmp_path: Path) -> None:
    frame(120, 0).to_csv(tmp_path / "train.csv", index=False)
    new = frame(40, 1)
    new[["a", "b", "c"]].to_csv(tmp_path / "new.csv", index=False)
    given, names = arguments(tmp_path, kind), CHOICES[kind][2]
    main(["fit", *given])
    predict = ["predict", *given, f"--data.init_args.predict_files={tmp_path / 'new.csv'}", "--ckpt_path", "last"]
    cli = main([*predict, f"--predictions.path={tmp_path / 'wide.csv'}", "--predictions.format", "wide"])
    wide = pd.read_csv(tmp_path / "wide.csv")
    ours = wide[names].to_numpy()
    checkpoint = find_checkpoint("last", tmp_path)
    assert read_checkpoint(checkpoint)["state_dict"]["net.calibration.knots"].shape[1] > 2

    if suffix == ".onnx":
        pytest.importorskip("onnxscript")
    path = tmp_path / f"model{suffix}"
    main(["export", "--ckpt_path", str(checkpoint), "--model", str(path)])
    np.testing.assert_allclose(exported(path, new[["a", "b", "c"]].to_numpy()), ours, atol=1e-5)

    targets = new["kind"] if kind == "classes" else new[names]
    inputs = cli.datamodule.data.encoder.encode(new)
    estimator = HierarchicalClassifier(n_blocks=1, n_features=5, solver="exact").fit(inputs, targets)
    net = cli.model.net.double()
    estimator.net_, estimator.nets_, estimator.calibration_ = net, (net,), net.calibration
    np.testing.assert_allclose(estimator.predict_proba(inputs), ours, atol=1e-5)
    if kind == "classes":
        np.testing.assert_allclose(ours.sum(1), 1, atol=1e-6)
        assert wide["kind"].tolist() == estimator.predict(inputs).tolist()
        assert (wide["kind"] == new["kind"]).mean() > 0.5
