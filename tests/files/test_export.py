"""Networks as ONNX and torch.export files: the scores of the model for any number of rows, or a table's columns."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hierlit import CosineFeatures, GaussianFeatures, HierarchicalResNet, Window1d
from hierlit.cli import main
from hierlit.cli.export import network_of
from hierlit.data.tables.encoder import TableEncoder
from hierlit.data.tables.fitted import FittedTable
from hierlit.files.checkpoints import find_checkpoint, read_checkpoint
from hierlit.files.export import ABOUT, export_model
from hierlit.layerwise.calibration import fit_calibration

NO_ONNX = "onnx, onnxscript or onnxruntime is not installed (pip install hierlit[export])"
SUFFIXES = [".pt2", ".onnx"]
CLASSES, ONE_LOCATION = np.ones((2, 1)), {"proximity": None, "n_locations": 1}
KINDS: dict[str, tuple[np.ndarray | None, dict[str, object]]] = {
    "labels": (None, {}),
    "classes, softplus": (CLASSES, {"features": GaussianFeatures(activation="softplus")}),
    "classes, cosines": (CLASSES, {"features": CosineFeatures(), "output": "orthogonal"}),
    "labels, gelu": (None, {"features": GaussianFeatures(activation="gelu"), **ONE_LOCATION}),
}
"""Labels' membership in classes, and arguments of networks."""
QUICK = (("labels", ".onnx"), ("classes, softplus", ".pt2"), ("classes, cosines", ".pt2"))
FILES = [
    pytest.param(*file, marks=[] if file in QUICK else pytest.mark.slow) for file in itertools.product(KINDS, SUFFIXES)
]
QUIET = {"accelerator": "cpu", "enable_progress_bar": "false", "enable_model_summary": "false"}


def skip_without_onnx(suffix: str) -> None:
    if suffix == ".onnx":
        for name in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(name, reason=NO_ONNX)


def run(path: Path, **inputs: np.ndarray) -> tuple[list[np.ndarray], dict[str, object]]:
    """What a file computes of its inputs, and what it says of itself."""
    if path.suffix == ".pt2":
        extra = {ABOUT: ""}
        program = torch.export.load(path, extra_files=extra).module()
        found = program(*map(torch.tensor, inputs.values()))
        return [output.numpy() for output in found], json.loads(extra[ABOUT])
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return session.run(["scores", "probabilities"], inputs), json.loads(
        session.get_modelmeta().custom_metadata_map[ABOUT]
    )


@torch.no_grad()
def trained(**arguments: object) -> HierarchicalResNet:
    sizes = {"n_locations": 5, "proximity": Window1d(3), "n_blocks": 3, "n_features": 20}
    net = HierarchicalResNet(3, 2, **{**sizes, **arguments})
    for index in range(2):
        block = net.block(index)
        block.weight.normal_(std=0.1)
        block.features.mean.normal_()
        block.features.scale.fill_(0.7)
        net.n_trained += 1
    return net


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("kind", "suffix"), FILES)
def test_scores_and_probabilities_are_those_of_the_network(kind: str, suffix: str, tmp_path: Path) -> None:
    skip_without_onnx(suffix)
    membership, arguments = KINDS[kind]
    net, path = trained(**arguments), tmp_path / f"net{suffix}"
    fit_to = torch.linspace(-1, 1, 300, dtype=torch.float64).view(-1, 1, 1).repeat(1, 1, 2).numpy()
    labels = np.where(np.random.default_rng(0).random(fit_to.shape) < (fit_to + 1) / 2, 1, -1)
    net.calibration.load_state_dict(fit_calibration(fit_to, labels, membership).state_dict())
    export_model(net, path)
    for n_rows in (1, 2, 37):
        inputs = torch.randn(n_rows, net.n_locations, 3)
        found, about = run(path, inputs=inputs.numpy())
        scores = net(inputs).detach()
        assert_close(found[0], scores.numpy())
        np.testing.assert_allclose(found[1], net.calibration(scores).detach().numpy(), atol=1e-5)
    shape = [net.n_locations, 2]
    assert about == {"inputs": [net.n_locations, 3], "scores": shape, "probabilities": shape}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".pt2", pytest.param(".onnx", marks=pytest.mark.slow)])
def test_probabilities_of_a_file_agree_with_implications_too(suffix: str, tmp_path: Path) -> None:
    skip_without_onnx(suffix)
    net, path = HierarchicalResNet(3, 4, n_blocks=1, n_features=5), tmp_path / f"net{suffix}"
    net.calibration.implications = torch.tensor([[0, 0, 0, 1, 1, 2], [1, 2, 3, 2, 3, 3]])
    net.block(0).set_weight(torch.randn_like(net.block(0).weight))
    net.n_trained += 1
    export_model(net, path)
    inputs = torch.randn(9, 1, 3)
    found = run(path, inputs=inputs.numpy())[0][1]
    np.testing.assert_allclose(found, net.calibration(net(inputs)).detach().numpy(), atol=1e-5)
    assert (np.diff(found) >= 0).all()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a table of numbers, large and small ones, and categories, some of all missing."""
    folder = tmp_path_factory.mktemp("table")
    rng, lines = np.random.default_rng(0), ["small,large,colour,size,first,second"]
    for row in range(120):
        small, large = 0.01 * rng.normal(), 1e6 + rng.normal()
        colour, size = rng.choice(["red", "green", "blue"]), rng.choice(["S", "L"])
        texts = [f"{small!r}" if row % 7 else "", f"{large!r}" if row % 9 else "?", colour if row % 11 else "", size]
        lines.append(",".join([*texts, str(int(small > 0)), str(int(small > 0 and colour == "red"))]))
    (folder / "rows.csv").write_text("\n".join(lines))
    data = ["--data", "LabelTable", "--data.train_files", str(folder / "rows.csv"), "--data.scale", "unit"]
    data += ["--data.label_columns", "[first, second]"]
    model = ["--model.n_blocks", "2", "--model.n_features", "30", "--model.solver", "ExactSolver"]
    trainer = [f"--trainer.{name}={value}" for name, value in QUIET.items()]
    main(["fit", *data, *model, *trainer, "--trainer.default_root_dir", str(folder)])
    return find_checkpoint("last", folder)


@pytest.mark.parametrize("suffix", [".onnx", pytest.param(".pt2", marks=pytest.mark.slow)])
def test_the_columns_of_a_table_are_its_inputs(suffix: str, checkpoint: Path, tmp_path: Path, capsys) -> None:
    skip_without_onnx(suffix)
    path = tmp_path / f"model{suffix}"
    main(["export", "--ckpt_path", str(checkpoint), "--model", str(path)])
    assert capsys.readouterr().out == f"wrote 2 trained blocks of {checkpoint} to {path}\n"

    contents = read_checkpoint(checkpoint)
    table = FittedTable.of_json(contents["Supervision"]["fitted"])
    numbers = np.array([[0.01, 1e6 + 0.3], [np.nan, 1e6], [-0.02, np.nan], [0.0, 0.0]])
    texts = {"colour": ["red", None, "blue", "pink"], "size": ["S", "L", None, "L"]}
    places = {name: {text: place for place, text in enumerate(found)} for name, found in table.categories.items()}
    codes = np.array([[-1 if t is None else places[name].get(t, 99) for t in texts[name]] for name in places]).T
    found, about = run(path, numbers=numbers, codes=codes)

    inputs = TableEncoder(table).encode(pd.DataFrame({"small": numbers[:, 0], "large": numbers[:, 1], **texts}))
    expected = network_of(contents)(torch.from_numpy(inputs)[:, None])[:, 0].detach().numpy()
    assert_close(found[0], expected)
    assert about == {
        "numbers": ["small", "large"],
        "codes": {"colour": ["blue", "green", "red"], "size": ["L", "S"]},
        "labels": ["first", "second"],
        "classes": {},
        "outputs": ["scores", "probabilities"],
    }


def test_the_network_of_a_checkpoint_is_that_of_the_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = str(Path(__file__).parents[1] / "conf" / "automaton.yaml")
    trainer = [f"--trainer.{name}={value}" for name, value in QUIET.items()]
    model = ["--model.solver", "ExactSolver", "--model.output", "orthogonal"]
    cli = main(["fit", "--config", config, "--trainer.precision", "64-true", *model, *trainer])
    assert cli is not None
    inputs = cli.datamodule.tables["val"].inputs.double()
    net = network_of(read_checkpoint(find_checkpoint("last", tmp_path)))
    assert net.windows.size == 3
    assert torch.equal(net(inputs), cli.model.net(inputs))


def test_what_cannot_be_exported_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model must be a file ending in .onnx or .pt2, got net.pb"):
        export_model(trained(), "net.pb")
    net = trained()
    net.rounding = "bfloat16"
    with pytest.raises(ValueError, match="must be one of full precision, got features rounded to bfloat16"):
        export_model(net, tmp_path / "net.pt2")
