"""What is fitted to the training rows can be read from a checkpoint in their place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hierlit import ArrayHierarchy, LabelTable, LocatedArrays, TokenLabels
from hierlit.data import HierarchyDataModule
from hierlit.files.checkpoints import CheckpointFiles


def save_rows(name: str, n_rows: int, seed: int) -> str:
    draw = np.random.default_rng(seed)
    table = pd.DataFrame({"a": draw.normal(3, 2, n_rows), "c": draw.choice(list("xyz"), n_rows)})
    table.assign(y=draw.integers(0, 2, n_rows), kind=draw.choice(["oak", "elm"], n_rows)).to_csv(name, index=False)
    return name


def save_arrays(name: str, n_rows: int, seed: int) -> str:
    draw = np.random.default_rng(seed)
    lengths = np.r_[9, draw.integers(3, 9, n_rows - 1)]
    np.savez(name, inputs=draw.normal(3, 2, (n_rows, 9, 2)), labels=draw.integers(0, 4, (n_rows, 1)), lengths=lengths)
    return name


def save_sentences(name: str, n_rows: int, seed: int) -> str:
    draw, words = np.random.default_rng(seed), {"one": "DT", "two": "DT", "dogs": "NN", "run": "VB"}
    chosen = [draw.choice(list(words), draw.integers(1, 6)) for _ in range(n_rows)]
    Path(name).write_text("\n\n".join("\n".join(f"{word} {words[word]}" for word in row) for row in chosen) + "\n")
    return name


def table(**files: str) -> LabelTable:
    return LabelTable(label_columns=["y", "kind"], **files)


def arrays(**files: str) -> LocatedArrays:
    return LocatedArrays(lengths="lengths", **files)


def tokens(**files: str) -> TokenLabels:
    return TokenLabels(label_columns=["label"], min_count=1, **files)


KINDS = {
    "table": (table, save_rows, ".csv"),
    "arrays": (arrays, save_arrays, ".npz"),
    "sentences": (tokens, save_sentences, ".txt"),
}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def checkpoint(data: HierarchyDataModule, name: str = "last.ckpt") -> str:
    """A checkpoint as a trainer writes it, of nothing but the data."""
    CheckpointFiles().save_checkpoint({"sizes": {}, type(data).__qualname__: data.state_dict()}, name)
    return name


def predicted(data: HierarchyDataModule) -> list[torch.Tensor]:
    data.setup("predict")
    return [batch.inputs for batch in data.predict_dataloader()]


@pytest.mark.parametrize("files", ["predict_files", "test_files"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_predicted_without_the_training_files(kind: str, files: str) -> None:
    make: Callable[..., HierarchyDataModule]
    make, save, suffix = KINDS[kind]
    train, new = save(f"train{suffix}", 40, 0), {files: save(f"new{suffix}", 12, 1)}
    whole = make(train_files=train, **new)
    saved, expected = checkpoint(whole), predicted(whole)
    Path(train).unlink()
    restored = make(ckpt_path=saved, **new)
    assert all(map(torch.equal, predicted(restored), expected))
    assert len(expected)
    for name in ("n_inputs", "n_labels", "label_names", "class_labels", "n_locations", "grid", "masked", "pooled"):
        assert getattr(restored, name) == getattr(whole, name), name
    with pytest.raises(ValueError, match=r"^train_files must be given for anything but predict, got ckpt_path$"):
        restored.setup("fit")


def test_predicted_arrays_must_have_the_channels_and_locations_of_the_training_files() -> None:
    draw = np.random.default_rng(0)
    for name, shape in (
        ("train", (6, 6, 10, 2)),
        ("one", (6, 6, 10, 1)),
        ("wide", (6, 5, 12, 2)),
        ("line", (6, 60, 2)),
    ):
        np.savez(f"{name}.npz", inputs=draw.normal(size=shape), labels=np.ones((*shape[:-1], 1)))
    saved = checkpoint(LocatedArrays(train_files="train.npz"))
    for name in ("one", "wide", "line"):
        for given in ({"ckpt_path": saved}, {"train_files": "train.npz"}):
            with pytest.raises(ValueError, match=rf"^{name}\.npz: the channels, and the height and width of"):
                predicted(LocatedArrays(predict_files=f"{name}.npz", **given))


def test_inputs_of_sentences_are_those_of_the_checkpoint() -> None:
    train, new = save_sentences("train.txt", 40, 0), save_sentences("new.txt", 12, 1)
    whole = TokenLabels(train, label_columns=["label"], min_count=1, unit="token", n_hashes=16, predict_files=new)
    restored = TokenLabels(ckpt_path=checkpoint(whole), predict_files=new)
    assert all(map(torch.equal, predicted(restored), predicted(whole)))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_checkpoint_of_such_data_is_one_line(kind: str) -> None:
    make, save, suffix = KINDS[kind]
    new, train = save(f"new{suffix}", 12, 1), save(f"train{suffix}", 40, 0)
    other = "arrays" if kind == "table" else "table"
    another, save_other, theirs = KINDS[other]
    of_another = checkpoint(another(train_files=save_other(f"other{theirs}", 40, 0)))
    of_no_files = checkpoint(ArrayHierarchy(torch.zeros(20, 1, 2), torch.ones(20, 1, 1)), "arrays.ckpt")
    for wrong in (of_another, of_no_files, new):
        with pytest.raises(ValueError, match=rf"^ckpt_path must be a checkpoint of such data, got {wrong}: .+$"):
            make(ckpt_path=wrong, predict_files=new)
    with pytest.raises(ValueError, match=r"^ckpt_path: cannot read gone\.ckpt: No such file or directory$"):
        make(ckpt_path="gone.ckpt", predict_files=new)
    with pytest.raises(
        ValueError, match=r"^train_files must be given, or, to predict, predict_files and a checkpoint$"
    ):
        make(predict_files=new)
    with pytest.raises(ValueError, match=r"^train_files and ckpt_path must not both be given$"):
        make(predict_files=new, train_files=train, ckpt_path=of_another)
