"""Checkpoints: what is found when they are damaged, refused when they are hostile, and left when writing fails."""

import os
import pickle
import signal
import zipfile
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.fabric.plugins import TorchCheckpointIO
from processes import run
from torch import Tensor

from hierlit.cli import main
from hierlit.data import ArrayHierarchy
from hierlit.files.checkpoints import (
    CheckpointError,
    CheckpointFiles,
    find_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from hierlit.files.digests import damage, seal
from hierlit.layerwise.solvers import ExactSolver
from hierlit.training import LayerwiseTask, LayerwiseTraining

SMALL = str(Path(__file__).parents[1] / "conf" / "automaton.yaml")
WEIGHT = "state_dict/net.blocks.0.weight"


def trainer(**arguments: Any) -> L.Trainer:
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[LayerwiseTraining()],
        **{**silent, "plugins": [CheckpointFiles()], **arguments},
    )


def small_task() -> LayerwiseTask:
    return LayerwiseTask(4, 2, n_blocks=2, n_features=6, solver=ExactSolver())


def rows() -> ArrayHierarchy:
    x = np.random.default_rng(0).choice([-1.0, 1.0], (80, 4))
    return ArrayHierarchy(x, x[:, :2] * x[:, 2:])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a small fit."""
    path, fitting = tmp_path_factory.mktemp("fit") / "trained.ckpt", trainer()
    fitting.fit(small_task(), datamodule=rows())
    fitting.save_checkpoint(path)
    return path


def plain() -> dict[str, Any]:
    return {"sizes": {"n": 1}, "state_dict": {"weight": torch.arange(6.0), "bias": torch.zeros(2)}, "epoch": 3}


def sealed(**changes: Any) -> dict[str, Any]:
    checkpoint = {**plain(), **changes}
    seal(checkpoint)
    return checkpoint


def same(one: Any, two: Any) -> bool:
    if isinstance(one, Tensor):
        return one.dtype == two.dtype and one.shape == two.shape and one.numpy().tobytes() == two.numpy().tobytes()
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


TENSORS = {
    "bfloat16": torch.randn(3, 2).bfloat16(),
    "float64": torch.randn(2, dtype=torch.float64),
    "bool": torch.tensor([True, False]),
    "complex": torch.randn(2, dtype=torch.complex64).conj(),
    "long": torch.tensor(7),
    "zero-dim": torch.tensor(-0.0),
    "empty": torch.zeros(0, 3),
    "transposed": torch.randn(3, 4).T,
    "strided": torch.arange(10.0)[::3],
    "expanded": torch.ones(1).expand(4),
    "parameter": torch.nn.Parameter(torch.randn(2)),
    "nan": torch.tensor(float("nan")),
    "generator": torch.Generator().manual_seed(3).get_state(),
}


@pytest.mark.parametrize("mmap", [False, True])
def test_every_kind_of_tensor_keeps_its_digest_through_a_file(mmap: bool, tmp_path: Path) -> None:
    nested = sealed(optimizer_states=[{"state": {0: TENSORS, "0": torch.ones(1)}}], rng=(TENSORS["generator"], None))
    assert len(nested["digests"]["tensors"]) == 2 + len(TENSORS) + 2
    assert damage(nested) == ""
    write_checkpoint(nested, tmp_path / "all.ckpt")
    assert damage(read_checkpoint(tmp_path / "all.ckpt", mmap=mmap)) == ""


@pytest.mark.parametrize("name", [name for name in TENSORS if name != "empty"])
def test_a_flipped_bit_of_any_tensor_is_named(name: str) -> None:
    checkpoint = sealed(others=[{name: TENSORS[name]}])
    altered = TENSORS[name].detach().resolve_conj().clone().contiguous()
    altered.flatten().view(torch.uint8)[-1] ^= 1
    checkpoint["others"][0][name] = altered
    assert damage(checkpoint) == f"tensor others/0/{name} is altered"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"state_dict": {"weight": torch.arange(6.0)}}, "tensor state_dict/bias is missing"),
        ({"extra": torch.ones(1)}, "tensor extra is extra"),
        ({"state_dict": {"weight": torch.arange(6.0).view(2, 3), "bias": torch.zeros(2)}}, "weight is altered"),
        ({"state_dict": {"weight": torch.arange(6.0), "bias": torch.zeros(2).int()}}, "bias is altered"),
        ({"epoch": 4}, "values other than tensors are altered"),
        ({"epoch": True}, "values other than tensors are altered"),
        ({"epoch": 3.0}, "values other than tensors are altered"),
        ({"epoch": []}, "values other than tensors are altered"),
        ({"sizes": {"m": 1}}, "values other than tensors are altered"),
        ({"digests": {}}, "carries no digests"),
        ({"digests": {"tensors": 3}}, "carries no digests"),
    ],
)
def test_what_is_not_as_it_was_sealed_is_named(change: dict[str, Any], problem: str) -> None:
    assert problem in damage({**sealed(), **change})


def test_a_long_list_of_damage_is_counted() -> None:
    checkpoint = sealed(more=[torch.zeros(1) for _ in range(9)])
    for tensor in checkpoint["more"]:
        tensor += 1
    assert (
        damage(checkpoint) == "tensor more/0 is altered, tensor more/1 is altered, tensor more/2 is altered, and 6 more"
    )


def test_two_tensors_of_one_path_are_both_covered() -> None:
    clashing = {"a/b": torch.zeros(1), "a": {"b": torch.ones(1)}}
    checkpoint = sealed(clashing=clashing)
    for tensor in (clashing["a/b"], clashing["a"]["b"]):
        tensor += 1
        assert "clashing/a/b is altered" in damage(checkpoint)
        tensor -= 1
    assert damage(checkpoint) == ""


def test_objects_of_other_classes_are_left_alone(written: Path) -> None:
    assert damage(sealed(loss=torch.nn.Linear(2, 2), proximity=object(), dtype=torch.float32)) == ""


class Command:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_would_execute_code_is_refused_and_not_executed(legacy: bool, tmp_path: Path) -> None:
    path, proof = tmp_path / "hostile.ckpt", tmp_path / "executed"
    hostile = {"payload": Command(f"touch {proof}"), **sealed()}
    if legacy:
        path.write_bytes(pickle.dumps(hostile, protocol=2))
    else:
        torch.save(hostile, path)
    with pytest.raises(
        CheckpointError, match=rf"would execute code: its pickle asks for {os.system.__module__}\.system"
    ):
        read_checkpoint(path)
    with pytest.raises(CheckpointError):
        trainer().fit(small_task(), datamodule=rows(), ckpt_path=path, weights_only=False)
    assert not proof.exists()
    torch.load(path, weights_only=False) if not legacy else pickle.loads(path.read_bytes())
    assert proof.exists(), "it would have been"


def flip(path: Path, record: str, offset: int = 0) -> None:
    with zipfile.ZipFile(path) as archive:
        header = archive.getinfo(f"{archive.namelist()[0].split('/')[0]}/{record}").header_offset
    data = bytearray(path.read_bytes())
    start = header + 30 + int.from_bytes(data[header + 26 : header + 28], "little")
    start += int.from_bytes(data[header + 28 : header + 30], "little")
    data[start + offset] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("mmap", [False, True])
def test_a_bit_flipped_in_the_file_is_found_and_its_tensor_named(mmap: bool, tmp_path: Path) -> None:
    path = tmp_path / "flipped.ckpt"
    write_checkpoint(sealed(), path)
    flip(path, "data/0", 2)
    torch.load(path, weights_only=True)
    with pytest.raises(CheckpointError, match=r"damaged: tensor state_dict/weight is altered$"):
        read_checkpoint(path, mmap)


def test_a_bit_flipped_in_the_pickle_is_found(tmp_path: Path) -> None:
    path = tmp_path / "flipped.ckpt"
    write_checkpoint(sealed(), path)
    at = path.read_bytes().index(b"epoch")
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert "dpoch" in torch.load(path, weights_only=True)
    with pytest.raises(CheckpointError, match=r"damaged: record .*data.pkl does not fit its CRC"):
        read_checkpoint(path)


def test_a_tensor_no_digest_covers_is_covered_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "flipped.ckpt"
    write_checkpoint(sealed(sparse=torch.eye(2).to_sparse()), path)
    assert read_checkpoint(path)["sparse"].layout is torch.sparse_coo
    flip(path, "data/2")
    with pytest.raises(CheckpointError, match=r"damaged: record .*data/2 does not fit its CRC"):
        read_checkpoint(path)


def test_names_a_damaged_file_holds_cannot_break_the_line_or_drive_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "flipped.ckpt"
    write_checkpoint(sealed(), path)
    path.write_bytes(path.read_bytes().replace(b"archive/version", b"arc\nive/\x1bersion"))
    damaged = bytearray(path.read_bytes())
    damaged[path.read_bytes().index(b"arc\nive")] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"damaged: record arc\?ive/\?ersion does not fit"):
        read_checkpoint(path)
    checkpoint = sealed(**{"a\nb": torch.ones(1)})
    checkpoint["a\nb"] += 1
    torch.save(checkpoint, path)
    with pytest.raises(CheckpointError, match=r"damaged: tensor a\?b is altered"):
        read_checkpoint(path)


def test_torchs_older_format_without_checksums_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.ckpt"
    torch.save(sealed(), path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="truncated, or not a checkpoint"):
        read_checkpoint(path, mmap=True)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([1, 2], "not saved by hierlit"),
        ({"state_dict": {}}, "not saved by hierlit"),
        ({"sizes": 3}, "not saved by hierlit"),
        (plain(), "carries no digests"),
        (b"", "truncated, or not a checkpoint"),
        (b"PK\x03\x04 not a checkpoint", "truncated, or not a checkpoint"),
        (b"epoch,loss\n1,2\n", "truncated, or not a checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_one_line(content: object, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(path)
    assert str(error.value) == f"cannot read the checkpoint {path}: {problem}"
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_files_that_cannot_be_opened_are_errors_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "nowhere.ckpt")
    with pytest.raises(IsADirectoryError):
        read_checkpoint(tmp_path)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_file_damaged_anywhere_is_refused_or_gives_what_was_written(
    data: st.DataObject, written: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole, path = written.read_bytes(), tmp_path_factory.getbasetemp() / "damaged.ckpt"
    damaged = bytearray(whole)
    anywhere = st.integers(0, len(whole) - 1) | st.integers(len(whole) - 2000, len(whole) - 1) | st.integers(0, 200)
    for at in data.draw(st.lists(anywhere, max_size=3)):
        damaged[at] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        damaged = damaged[: data.draw(anywhere)]
    path.write_bytes(damaged)
    try:
        checkpoint = read_checkpoint(path, mmap=data.draw(st.booleans()))
    except CheckpointError as error:
        assert "\n" not in str(error)
    else:
        assert same(checkpoint, read_checkpoint(written))


def test_a_trainer_with_checkpoint_files_resumes_from_them_and_refuses_damage(written: Path, tmp_path: Path) -> None:
    task = small_task()
    trainer().validate(task, datamodule=rows(), ckpt_path=written)
    assert same(dict(task.state_dict()), read_checkpoint(written)["state_dict"])
    assert WEIGHT in read_checkpoint(written)["digests"]["tensors"]
    path = tmp_path / "flipped.ckpt"
    path.write_bytes(written.read_bytes())
    flip(path, "data/0")
    with pytest.raises(CheckpointError, match="damaged: tensor "):
        trainer().validate(small_task(), datamodule=rows(), ckpt_path=path)


def test_checkpoint_files_at_a_url_have_digests_too(written: Path) -> None:
    files = CheckpointFiles()
    files.save_checkpoint(plain(), "memory://store/good.ckpt")
    assert damage(files.load_checkpoint("memory://store/good.ckpt", weights_only=False)) == ""
    TorchCheckpointIO().save_checkpoint({**sealed(), "epoch": 4}, "memory://store/bad.ckpt")
    with pytest.raises(CheckpointError, match=r"memory://store/bad\.ckpt: damaged: values"):
        files.load_checkpoint("memory://store/bad.ckpt")
    files.remove_checkpoint("memory://store/good.ckpt")
    with pytest.raises(FileNotFoundError):
        files.load_checkpoint("memory://store/good.ckpt")


def test_checkpoint_files_take_local_urls_and_no_storage_options(tmp_path: Path) -> None:
    CheckpointFiles().save_checkpoint(plain(), f"file://{tmp_path}/new/local.ckpt")
    assert read_checkpoint(tmp_path / "new" / "local.ckpt")["epoch"] == 3
    with pytest.raises(TypeError, match="storage_options"):
        CheckpointFiles().save_checkpoint(plain(), tmp_path / "local.ckpt", storage_options={})


def test_a_checkpoint_io_of_ones_own_is_kept() -> None:
    class Own(TorchCheckpointIO):
        pass

    for plugins, expected in (([Own()], Own), ([], CheckpointFiles)):
        fitter = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, plugins=plugins)
        fitter.validate(small_task(), datamodule=rows(), verbose=False)
        assert type(fitter.strategy.checkpoint_io) is expected


NEW = """
import os, resource, signal, torch
import hierlit.files.checkpoints as checkpoints
new = {"sizes": {}, "state_dict": {"weight": torch.ones(100_000)}}
checkpoints.seal(new)
os.chdir("disk")
"""


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A checkpoint in a folder of its own, in which code after `NEW` runs."""
    path = tmp_path / "disk" / "last.ckpt"
    path.parent.mkdir()
    write_checkpoint(sealed(), path)
    return path


def test_a_process_killed_while_writing_leaves_the_older_file(older: Path, tmp_path: Path) -> None:
    before = older.read_bytes()
    code = """
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
checkpoints.write_checkpoint(new, "last.ckpt")
"""
    run(tmp_path, code=NEW + code, expect=-signal.SIGKILL)
    assert older.read_bytes() == before
    assert older.with_name("last.ckpt.part").stat().st_size > 400_000
    assert find_in(tmp_path) == [older], "no `last` looks at what was left behind"
    write_checkpoint(sealed(), older)
    assert [file.name for file in older.parent.iterdir()] == ["last.ckpt"]


def find_in(folder: Path) -> list[Path]:
    return list(folder.rglob("*.ckpt"))


def test_a_full_disk_is_one_line_and_leaves_the_older_file(older: Path, tmp_path: Path) -> None:
    before = older.read_bytes()
    code = """
for limit in (0, 100, 100_000, 400_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        checkpoints.write_checkpoint(new, "last.ckpt")
    except OSError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert error.errno == 27
        print(error, os.listdir())
"""
    lines = run(tmp_path, code=NEW + code).splitlines()
    assert len(lines) == 4
    for line in lines:
        assert "cannot write last.ckpt (40" in line
        assert line.endswith("bytes): File too large ['last.ckpt']")
    assert older.read_bytes() == before


def test_what_cannot_be_pickled_or_placed_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="pickle"):
        write_checkpoint({"sizes": lambda: None}, tmp_path / "last.ckpt")
    with pytest.raises(FileNotFoundError, match=r"cannot write .*last\.ckpt: No such file or directory"):
        write_checkpoint(sealed(), tmp_path / "nowhere" / "last.ckpt")
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError, match=r"cannot write .*taken"):
        write_checkpoint(sealed(), tmp_path / "taken")
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]


def test_last_is_the_newest_that_can_be_read_and_ties_go_by_name(tmp_path: Path) -> None:
    logs = tmp_path / "lightning_logs"
    logs.mkdir()
    with pytest.raises(FileNotFoundError, match="no readable checkpoint below"):
        find_checkpoint("last", tmp_path)
    for second, name in enumerate(("old", "a", "b", "cut", "flipped")):
        path = logs / f"{name}.ckpt"
        write_checkpoint(sealed(), path)
        if name == "cut":
            path.write_bytes(path.read_bytes()[:500])
        if name == "flipped":
            flip(path, "data/1")
        os.utime(path, ns=(0, 10**9 * (1 if name in ("a", "b") else second)))
    with pytest.warns(UserWarning) as warned:
        assert find_checkpoint("last", tmp_path) == logs / "b.ckpt"
    assert [str(warning.message) for warning in warned] == [
        f"skipping the checkpoint {logs}/{name}.ckpt, which cannot be read: {problem}"
        for name, problem in (
            ("flipped", "damaged: tensor state_dict/bias is altered"),
            ("cut", "truncated, or not a checkpoint"),
        )
    ]
    assert find_checkpoint(str(logs / "old.ckpt"), tmp_path) == logs / "old.ckpt"
    with pytest.raises(ValueError, match=r"ckpt_path must be a readable checkpoint, got .*cut\.ckpt: truncated"):
        find_checkpoint(str(logs / "cut.ckpt"), tmp_path)


def test_the_command_line_writes_checkpoints_with_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main(["fit", "--config", SMALL])
    assert len(paths := find_in(tmp_path)) == 2
    assert all(WEIGHT in read_checkpoint(path)["digests"]["tensors"] for path in paths)
    main(["validate", "--config", SMALL, "--ckpt_path", "last"])
