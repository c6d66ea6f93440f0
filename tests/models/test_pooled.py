"""Labels of examples: scores are means over the locations that an example has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hierlit import HierarchicalResNet, LocatedArrays, Window1d
from hierlit.cli import main
from hierlit.files.checkpoints import find_checkpoint
from hierlit.files.weights import load_weights, save_weights

QUIET = {"accelerator": "cpu", "enable_progress_bar": "false", "enable_model_summary": "false"}
LENGTHS = [1, 3, 6, 4]


@torch.no_grad()
def network(pooled: bool, neighbours: Window1d | None = None) -> HierarchicalResNet:
    windows, generator = Window1d(3, periodic=False), torch.Generator().manual_seed(0)
    net = HierarchicalResNet(3, 2, 6, windows, 2, 20, masked=True, neighbours=neighbours, pooled=pooled).double()
    for index in range(2):
        net.block(index).weight.normal_(std=0.1, generator=generator)
        net.n_trained += 1
    return net


def lines(longest: int = 6) -> torch.Tensor:
    """Inputs [4, longest, 3] of lines of different lengths, one of them with a hole at its beginning."""
    inputs = torch.randn(4, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    inputs[..., 0] = torch.arange(6) < torch.tensor(LENGTHS)[:, None]
    inputs[2, 0] = 0
    return torch.nn.functional.pad(inputs * inputs[..., :1], (0, 0, 0, longest - 6))


@pytest.mark.parametrize("neighbours", [None, Window1d(3, periodic=False)])
def test_scores_are_means_over_the_locations_of_an_example(neighbours: Window1d | None) -> None:
    located, pooled = (network(each, neighbours)(lines()) for each in (False, True))
    for row, inputs in enumerate(lines()):
        expected = located[row][inputs[:, 0] > 0].mean(0)
        torch.testing.assert_close(pooled[row], expected.expand(6, 2))
    torch.testing.assert_close(network(True, neighbours)(lines(40))[:, :6], pooled)


def test_an_example_without_a_location_has_the_score_0() -> None:
    assert not network(True)(torch.zeros(1, 6, 3, dtype=torch.float64)).any()


def test_an_example_is_judged_once() -> None:
    net, labels = network(True), torch.tensor([[1.0, -1.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 1.0]]).double()
    answers, judged = net.judged(net(lines()), labels[:, None] * lines()[..., :1])
    assert torch.equal(judged, labels[:, None]) and torch.equal(answers, net(lines())[:, :1])


def test_weights_of_locations_are_not_those_of_examples(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    save_weights(network(True), tmp_path / "net.safetensors")
    load_weights(network(True), tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="pooled=1, not None"):
        load_weights(network(False), tmp_path / "net.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on sequences whose label says which sign most of their locations have."""
    folder, draw = tmp_path_factory.mktemp("pooled"), np.random.default_rng(0)
    lengths = draw.integers(2, 10, 160)
    inputs = draw.normal(size=(160, 9, 2)) + draw.choice([-0.7, 0.7], (160, 1, 1))
    exists = np.arange(9) < lengths[:, None]
    labels = np.sign((np.sign(inputs) * exists[..., None]).sum(1) + 0.5)
    np.savez(folder / "rows.npz", inputs=inputs * exists[..., None], labels=labels, lengths=lengths)
    main(["fit", *arguments(folder)])
    return folder


def arguments(folder: Path) -> list[str]:
    data = ["--data", "LocatedArrays", "--data.train_files", str(folder / "rows.npz"), "--data.lengths", "lengths"]
    model = ["--model.n_blocks", "2", "--model.n_features", "30", "--model.solver", "ExactSolver"]
    trainer = [f"--trainer.{name}={value}" for name, value in QUIET.items()]
    return [*data, *model, *trainer, "--trainer.default_root_dir", str(folder)]


def test_predictions_and_exported_files_have_an_example_once(folder: Path, tmp_path: Path) -> None:
    cli = main(["predict", *arguments(folder), "--ckpt_path", "last", "--predictions.path", str(tmp_path / "rows.csv")])
    data: LocatedArrays = cli.datamodule.data
    assert cli.model.net.pooled and data.pooled
    table = pd.read_csv(tmp_path / "rows.csv")
    rows = data.split_rows("val")
    assert list(table.columns) == ["row", "label", "score", "probability", "sign"]
    assert table["row"].tolist() == np.arange(len(rows)).repeat(2).tolist()
    signs = rows.labels.sum(1).sign().numpy().ravel()
    assert (table["sign"] == signs).mean() > 0.75

    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "model.onnx"
    main(["export", "--ckpt_path", str(find_checkpoint("last", folder)), "--model", str(path)])
    session = runtime.InferenceSession(path)
    for row in range(4):
        scores, chances = session.run(None, {"inputs": rows[row].inputs.numpy()})
        assert scores.shape == chances.shape == (1, 1, 2)
        np.testing.assert_allclose(scores[0, 0], table["score"].to_numpy().reshape(-1, 2)[row], atol=1e-5)


def test_metrics_are_shares_of_examples(folder: Path) -> None:
    cli = main(["validate", *arguments(folder), "--ckpt_path", "last"])
    rows = cli.datamodule.tables["val"]
    scores = cli.model(rows.inputs)[:, 0]
    expected = (scores * rows.labels.sum(1).sign() > 0).double().mean(0)
    torch.testing.assert_close(cli.model.results["val"]["accuracy"].cpu(), expected)
    assert len(cli.model.net.calibration.knots[0]) > 2
