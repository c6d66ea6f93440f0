"""Weights as safetensors: the same to the last bit, readable without hierlit, and refused by any other network."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import run
from torch import Tensor

from hierlit.cli import main
from hierlit.files.checkpoints import read_checkpoint
from hierlit.files.weights import load_weights, save_weights, write_weights
from hierlit.layerwise.solvers import ExactSolver
from hierlit.models import CosineFeatures, GaussianFeatures, HierarchicalResNet, RadialFeatures, Window1d
from hierlit.models.proximity import IndexTable
from hierlit.training import LayerwiseTask

SMALL = str(Path(__file__).parents[1] / "conf" / "automaton.yaml")


def net(seed: int = 0, **arguments: object) -> HierarchicalResNet:
    sizes = {"n_locations": 5, "proximity": Window1d(3), "n_blocks": 2, "n_features": 4}
    return HierarchicalResNet(3, 2, weight_seed=seed, **{**sizes, **arguments})


@torch.no_grad()
def trained(seed: int = 0, **arguments: object) -> HierarchicalResNet:
    made = net(seed, **arguments)
    made.block(0).weight.normal_()
    made.n_trained += 1
    return made


def state(made: HierarchicalResNet) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in made.state_dict().items()}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.safetensors"


@pytest.mark.parametrize("arguments", [{}, {"output": "orthogonal"}, {"features": CosineFeatures()}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_come_back_to_the_last_bit(arguments: dict[str, object], dtype: torch.dtype, path: Path) -> None:
    saved, other = trained(**arguments).to(dtype), net(seed=1, **arguments).to(dtype)
    save_weights(saved, path)
    load_weights(other, path)
    assert same(state(other), state(saved))
    inputs = torch.randn(4, 5, 3, dtype=dtype)
    assert saved(inputs).any()
    assert torch.equal(other(inputs), saved(inputs))


def test_units_that_are_placed_come_back_too(path: Path) -> None:
    saved, other = (net(seed, features=RadialFeatures(), n_features=9) for seed in (0, 1))
    for index in (0, 1):
        block = saved.block(index)
        block.features.place(torch.randn(7, block.features.weight.shape[1], generator=torch.Generator().manual_seed(3)))
        block.set_weight(torch.randn(len(block.weight), 8))
    saved.n_trained.fill_(2)
    save_weights(saved, path)
    load_weights(other, path)
    assert same(state(other), state(saved))


def test_weights_of_version_0_1_0_are_read(path: Path) -> None:
    saved, other = trained(), net(seed=1)
    sizes = {name: size for name, size in saved.sizes.items() if name != "features"}
    tensors = {name: tensor for name, tensor in saved.state_dict().items() if not name.startswith("calibration.")}
    write_weights(tensors, {**sizes, "activation": "relu", "input_scale": "live"}, path)
    load_weights(other, path)
    assert same(state(other), state(saved))


def test_the_same_weights_are_the_same_bytes(path: Path) -> None:
    made, written = trained(), set()
    for _ in range(5):
        save_weights(made, path)
        written.add(path.read_bytes())
    assert len(written) == 1


def test_plain_safetensors_reads_the_file(path: Path) -> None:
    made = trained()
    save_weights(made, path)
    code = """
import json, sys
import safetensors, safetensors.numpy
tensors = safetensors.numpy.load_file("net.safetensors")
with safetensors.safe_open("net.safetensors", framework="np") as file:
    about = json.loads(file.metadata()["hierlit"])
assert "torch" not in sys.modules and "hierlit" not in sys.modules
print(json.dumps([about["sizes"], {name: tensor.tobytes().hex() for name, tensor in tensors.items()}]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=path.parent, capture_output=True, text=True, check=True)
    sizes, values = json.loads(done.stdout)
    assert sizes == made.sizes
    assert values == {name: tensor.numpy().tobytes().hex() for name, tensor in made.state_dict().items()}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"n_features": 5}, "n_features=4, not 5"),
        ({"n_blocks": 3}, "n_blocks=2, not 3"),
        ({"features": GaussianFeatures(activation="tanh")}, "features=relu, not tanh"),
        ({"features": RadialFeatures()}, "features=relu, not radial"),
        ({"output": "orthogonal"}, "output=split, not orthogonal"),
        ({"proximity": Window1d(5)}, "window=3, not 5"),
        (
            {"proximity": IndexTable([[g, g, g] for g in range(5)])},
            "tensor windows.table is of another proximity",
        ),
    ],
)
def test_another_network_is_refused_with_both_values(arguments: dict[str, object], problem: str, path: Path) -> None:
    save_weights(trained(), path)
    other = net(seed=1, **arguments)
    before = state(other)
    with pytest.raises(ValueError) as error:
        load_weights(other, path)
    assert str(error.value) == f"weights must fit this network, got {path}: {problem}"
    assert same(state(other), before)


@pytest.mark.parametrize(
    ("name", "tensor", "problem"),
    [
        ("blocks.0.weight", None, "tensor blocks.0.weight is missing"),
        ("blocks.7.weight", torch.zeros(1), "tensor blocks.7.weight is none of this network"),
        ("blocks.0.weight", torch.zeros(2, 6), "tensor blocks.0.weight is float32 [2, 6], not float32 [2, 5]"),
        ("blocks.0.weight", torch.zeros(2, 5).half(), "tensor blocks.0.weight is float16 [2, 5], not float32 [2, 5]"),
        (
            "blocks.0.weight",
            torch.full((2, 5), torch.nan),
            "blocks.0.weight holds 10 values that are not finite",
        ),
        (
            "blocks.1.features.scale",
            torch.tensor(torch.inf),
            "blocks.1.features.scale holds 1 values that are not finite",
        ),
        ("n_trained", torch.tensor(3), "tensor n_trained is 3, not in 0..2"),
        ("n_trained", torch.tensor(-1), "tensor n_trained is -1, not in 0..2"),
    ],
)
def test_tensors_that_do_not_fit_are_named(name: str, tensor: Tensor | None, problem: str, path: Path) -> None:
    tensors = {**state(trained()), name: tensor}
    write_weights({name: tensor for name, tensor in tensors.items() if tensor is not None}, net().sizes, path)
    other = net(seed=1)
    before = state(other)
    with pytest.raises(ValueError) as error:
        load_weights(other, path)
    assert str(path) in str(error.value)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)
    assert same(state(other), before)


def test_other_files_are_refused_in_one_line(path: Path) -> None:
    import safetensors.numpy

    with pytest.raises(FileNotFoundError, match="no such file"):
        load_weights(net(), path)
    for content in (b"", b"weights", b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="truncated, or not a safetensors file"):
            load_weights(net(), path)
    for metadata in (None, {"hierlit": "["}, {"hierlit": "[]"}, {"hierlit": '{"sizes": {}}'}):
        safetensors.numpy.save_file({"a": np.zeros(2)}, path, metadata)
        with pytest.raises(ValueError, match="file of hierlit's export"):
            load_weights(net(), path)
    safetensors.numpy.save_file({"a": np.zeros(2)}, path, {"hierlit": '{"sizes": {}, "digests": {}, "version": "2"}'})
    with pytest.raises(ValueError, match="its format is version '2', not '1'"):
        load_weights(net(), path)
    with pytest.raises(ValueError, match=r"ending in \.safetensors, got .*net\.ckpt"):
        save_weights(net(), path.with_suffix(".ckpt"))


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_file_damaged_anywhere_is_refused_or_gives_what_was_written(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path, made, other = tmp_path_factory.getbasetemp() / "damaged.safetensors", trained(), net(seed=1)
    save_weights(made, path)
    damaged = bytearray(path.read_bytes())
    anywhere = st.integers(0, len(damaged) - 1) | st.integers(0, 40)
    for at in data.draw(st.lists(anywhere, min_size=1, max_size=2)):
        damaged[at] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        damaged = damaged[: data.draw(anywhere)]
    path.write_bytes(damaged)
    before = state(other)
    try:
        load_weights(other, path)
    except ValueError as error:
        assert "\n" not in str(error)
        assert same(state(other), before)
    else:
        assert same(state(other), state(made))


def test_without_safetensors_a_hint_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_weights(trained(), path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    for use in (save_weights, load_weights):
        with pytest.raises(ImportError, match=r"pip install hierlit\[weights\]"):
            use(net(), path)


def test_a_task_names_weights_that_do_not_fit_with_its_other_problems(path: Path) -> None:
    save_weights(trained(), path)
    with pytest.raises(ValueError, match=r"regularization must be positive.*; weights must fit .*n_labels=2, not 1"):
        LayerwiseTask(3, 1, 5, proximity=Window1d(3), n_blocks=2, n_features=4, regularization=0.0, weights=str(path))
    with pytest.raises(ValueError, match="weights must be a safetensors file, got nowhere"):
        LayerwiseTask(3, 1, weights="nowhere")


def test_training_goes_on_from_weights_as_it_would_have(path: Path, fit, xors) -> None:
    sizes = {"n_features": 20, "solver": ExactSolver()}
    whole = LayerwiseTask(6, 3, n_blocks=2, **sizes)

    fit(whole, xors())
    part = LayerwiseTask(6, 3, n_blocks=2, **sizes)
    part.net.load_state_dict(whole.net.state_dict())
    with torch.no_grad():
        part.net.n_trained -= 1
        part.net.block(1).weight.zero_()
    save_weights(part.net, path)
    again = LayerwiseTask(6, 3, n_blocks=2, weight_seed=5, weights=str(path), **sizes)
    assert again.block == 1
    assert "weights" not in again.hparams
    fit(again, xors())
    assert same(state(again.net), state(whole.net))


@pytest.fixture
def fitted(automaton_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(automaton_run)
    return next(automaton_run.rglob("*.ckpt"))


def table(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith("│") and line.count("│") == 8]


def test_weights_exported_on_the_command_line_are_evaluated_as_the_checkpoint_is(
    fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["validate", "--config", SMALL, "--ckpt_path", "last"])
    of_checkpoint = table(capsys.readouterr().out)
    assert len(of_checkpoint) == 3
    main(["export", "--ckpt_path", "last", "--weights", "net.safetensors"])
    assert capsys.readouterr().out.startswith("wrote 3 trained blocks of lightning_logs/version_0/")
    cli = main(["validate", "--config", SMALL, "--model.weights", "net.safetensors"])
    assert table(capsys.readouterr().out) == of_checkpoint
    own = read_checkpoint(fitted)["state_dict"]
    assert same(
        {f"net.{name}": tensor for name, tensor in state(cli.model.net).items()} | {"placeholder": own["placeholder"]},
        own,
    )
    main(["predict", "--config", SMALL, "--model.weights", "net.safetensors"])
    main(["plan", "--config", SMALL, "--model.weights", "net.safetensors"])
    with pytest.warns(UserWarning, match="3 of 3 blocks are trained already"):
        main(["fit", "--config", SMALL, "--model.weights", "net.safetensors"])


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["export"], ["required", "weights"]),
        (["export", "--weights", "net.ckpt"], ["weights", ".safetensors", "net.ckpt"]),
        (["export", "--weights", "nowhere/net.safetensors"], ["nowhere/net.safetensors", "No such file"]),
        (["export", "--weights", "a.safetensors", "--ckpt_path", "b.ckpt"], ["ckpt_path", "b.ckpt", "no such file"]),
        (["export", "--weights", "a.safetensors", "--root", "b"], ["ckpt_path", "last", "b/lightning_logs"]),
        (["validate", "--config", SMALL, "--model.weights", "a.safetensors"], ["weights", "a.safetensors"]),
        (["validate", "--config", SMALL], ["ckpt_path", "model.weights"]),
    ],
)
def test_bad_input_is_one_line(
    args: list[str], parts: list[str], fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_info:
        main(args)
    assert exit_info.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    for part in parts:
        assert part in line


def test_python_m_hierlit_exports(fitted: Path) -> None:
    code = "import runpy; runpy.run_module('hierlit', run_name='__main__', alter_sys=True)"
    printed = run(Path.cwd(), "export", "--ckpt_path", str(fitted), "--weights", "net.safetensors", code=code)
    assert printed.startswith("wrote 3 trained blocks")
    assert Path("net.safetensors").is_file()
