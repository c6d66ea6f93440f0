"""Runs on sequences, images and texts from the command line."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from processes import TWO, assert_same_run, checkpoints, fault, rows, run, weights

from hierlit import Identity, LayerwiseTask, LocatedArrays, TokenLabels, Window1d, Window2d
from hierlit.cli import main
from hierlit.files.checkpoints import find_checkpoint
from hierlit.metrics import average_precision
from hierlit.models import Proximity
from hierlit.plan.options import PlanOptions, sizes_of
from hierlit.watching import Diagnostics

WORDS = {"the": "DET", "a": "DET", "cat": "NOUN", "dogs": "NOUN", "sleeps": "VERB", "run": "VERB", "old": "ADJ"}
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


def sentences(folder: Path) -> list[str]:
    """The arguments of a fit to the characters of sentences of one to eight words."""
    draw, path = np.random.default_rng(0), folder / "sentences.txt"
    chosen = (draw.choice(list(WORDS), draw.integers(1, 9)) for _ in range(60))
    path.write_text("\n\n".join("\n".join(f"{word} {WORDS[word]}" for word in words) for words in chosen) + "\n")
    data = [
        "--data",
        "TokenLabels",
        "--data.train_files",
        str(path),
        "--data.label_columns",
        "[char, word:begin, label]",
    ]
    data += ["--data.min_count", "5", "--data.batch_size", "8"]
    model = ["--model.neighbours", "Window1d", "--model.neighbours.periodic", "false", "--model.n_blocks", "2"]
    return [*data, *model, "--model.n_features", "30", "--model.solver", "ExactSolver", *QUIET]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run on sentences, and its arguments."""
    root = tmp_path_factory.mktemp("sentences")
    args = sentences(root)
    run(root / "whole", "fit", *args)
    return root / "whole", args


def test_sentences_are_validated_tested_and_predicted(whole: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, args = whole
    last = ["--ckpt_path", str(find_checkpoint("last", folder)), "--trainer.default_root_dir", str(tmp_path)]
    cli = main(["validate", *args, *last])
    final = [float(row["val_accuracy"]) for row in rows(folder, "labels.csv") if row["block"] == "2"]
    np.testing.assert_allclose(cli.model.results["val"]["accuracy"], final, atol=1e-4)
    tested = main(["test", *args, *last])
    found, data = tested.trainer.callback_metrics, tested.datamodule
    batches = list(data.test_dataloader())
    exists = torch.cat([batch.inputs[..., 0].flatten() for batch in batches]) > 0
    scores = torch.cat([tested.model(batch.inputs).flatten(0, 1) for batch in batches])[exists]
    odds = tested.model.net.calibration.log_odds(scores)
    labels = torch.cat([batch.labels.flatten(0, 1) for batch in batches])[exists]
    for kind in ("character", "word", "label"):
        own = [label for label, each in enumerate(data.label_kinds) if each == kind]
        expected = np.mean([average_precision(odds[:, label], labels[:, label]) for label in own])
        assert float(found[f"test/average_precision/{kind}"]) == pytest.approx(expected, abs=1e-6)
    assert float(found["test/average_precision"]) == pytest.approx(average_precision(odds, labels), abs=1e-6)
    main(["predict", *args, *last, "--predictions.path", str(tmp_path / "all.csv"), "--predictions.format", "wide"])
    table = pd.read_csv(tmp_path / "all.csv", keep_default_na=False)
    texts = cli.datamodule.location_texts("predict", range(len(cli.datamodule.tables["test"])))
    assert table.groupby("row")["text"].agg("".join).tolist() == ["".join(text) for text in texts]


def test_a_checkpoint_alone_predicts_new_sentences(whole: tuple[Path, list[str]], tmp_path: Path) -> None:
    checkpoint, new = str(find_checkpoint("last", whole[0])), tmp_path / "new.txt"
    new.write_text("\n\n".join("\n".join(words) for words in (["dogs", "run"], list(WORDS), ["unheard"])) + "\n")
    args = ["--ckpt_path", checkpoint, "--data.predict_files", str(new), "--trainer.default_root_dir", str(tmp_path)]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="values that differ from the checkpoint's")
        cli = main(["predict", *args, "--predictions.path", str(tmp_path / "new.csv")])
    table = pd.read_csv(tmp_path / "new.csv", keep_default_na=False)
    data = TokenLabels(whole[1][3], label_columns=["char", "word:begin", "label"], min_count=5, predict_files=str(new))
    batches = list(data.predict_dataloader())
    scores = [cli.model(batch.inputs)[batch.inputs[..., 0] > 0] for batch in batches]
    np.testing.assert_allclose(table["score"], torch.cat(scores).flatten(), atol=1e-5)
    assert table["label"].unique().tolist() == data.label_names


def test_an_exported_model_takes_sentences_of_any_length(whole: tuple[Path, list[str]], tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder, args = whole
    checkpoint, path = str(find_checkpoint("last", folder)), tmp_path / "model.onnx"
    main(["export", "--ckpt_path", checkpoint, "--model", str(path)])
    predictions = ["--predictions.path", str(tmp_path / "all.csv"), "--trainer.default_root_dir", str(tmp_path)]
    data = main(["predict", *args, "--ckpt_path", checkpoint, *predictions]).datamodule.data
    table = pd.read_csv(tmp_path / "all.csv", keep_default_na=False)
    session, lengths = runtime.InferenceSession(path), set()
    for row in range(4):
        inputs = data.split_rows("val")[row].inputs.numpy()
        scores, chances = session.run(None, {"inputs": inputs})
        own = table[table["row"] == row]
        np.testing.assert_allclose(scores.ravel(), own["score"], atol=1e-4)
        np.testing.assert_allclose(chances.ravel(), own["probability"], atol=1e-4)
        lengths.add(inputs.shape[1])
    assert len(lengths) > 1


def test_a_fit_to_sentences_goes_on_to_the_bit(whole: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, args = whole
    run(tmp_path, "fit", *args, "--checkpoint.share", "1", *fault("KillAfterBlock"), expect=-9)
    assert "block=001" in checkpoints(tmp_path)[-1].name
    run(tmp_path, "fit", *args, "--ckpt_path", "last")
    assert_same_run(tmp_path, folder)


@pytest.mark.slow
@pytest.mark.parametrize("folds", [[], ["--layerwise.folds", "3"]])
def test_two_processes_fit_sentences_as_one_does(
    folds: list[str], whole: tuple[Path, list[str]], tmp_path: Path
) -> None:
    args = ["fit", *whole[1], *folds, "--trainer.precision", "64-true"]
    run(tmp_path / "one", *args)
    run(tmp_path / "two", *args, *TWO)
    expected, found = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, value in expected.items():
        assert float((found[name].double() - value.double()).norm()) <= 1e-9 * float(value.double().norm()), name


def test_sentences_are_planned_and_described(whole: tuple[Path, list[str]]) -> None:
    args = whole[1]
    planned = main(["plan", *args]).planned
    sizes = sizes_of(planned, PlanOptions())
    own = planned.data.tables["train"].lengths.sum() + planned.data.tables["val"].lengths.sum()
    assert sizes.n_labels == 3 * planned.data.n_labels  # those of a neighbour on either side
    assert sum(map(sizes.pairs, ("fit", "held", "val"))) >= own
    level = main(["describe", *args]).described.levels[0]
    labels = torch.cat(list(planned.data.tables["train"].label_pairs()))
    ones = (labels > 0).double().mean(0) / (labels != 0).double().mean(0)
    assert level.ones == pytest.approx((float(ones.min()), float(ones.max())))
    assert level.observed == pytest.approx(float((labels != 0).double().mean()))


def test_labels_that_padding_would_hide_are_looked_at(tmp_path: Path, fit: Callable[..., object]) -> None:
    """Classes coded one-hot, and positives alone, in lines of which some are short."""
    draw, lengths = np.random.default_rng(0), np.arange(40) % 5 + 1
    exists = (np.arange(5) < lengths[:, None])[..., None]
    classes = np.eye(3)[draw.integers(0, 3, (40, 5))] * exists
    positive = np.where(exists, np.where(draw.random((40, 5, 2)) < 0.5, np.nan, 1), 0)
    for name, labels in {"classes": (2 * classes - 1) * exists, "positive": positive}.items():
        np.savez(tmp_path / f"{name}.npz", inputs=draw.normal(size=(40, 5, 2)) * exists, labels=labels, lengths=lengths)
    for name, warned in {
        "classes": "exactly one of 3 labels",
        "positive": "no label is ever observed as negative",
    }.items():
        data = LocatedArrays(str(tmp_path / f"{name}.npz"), lengths="lengths", acceptance_fraction=0.0)
        task = LayerwiseTask(3, data.n_labels, 5, n_blocks=1, n_features=10, masked=True, grid=data.grid)
        with pytest.warns(UserWarning, match=warned):
            fit(task, data, Diagnostics(), acceptance="none")
