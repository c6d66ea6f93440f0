from __future__ import annotations

import sys
from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from torch import Tensor

from hierlit.data import ArrayHierarchy, TokenLabels
from hierlit.data.base import numbered_names
from hierlit.training import LayerwiseTask
from hierlit.watching import PredictionWriter
from hierlit.watching.prediction_files import CsvFile, Labels, Lines, long_table

ROWS, LOCATIONS, LABELS = 22, 3, 2
KNOTS = [[-0.5, 0.5], [-3.0, 2.0]]
"""Scores and log-odds of the calibration."""


def data() -> ArrayHierarchy:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, LOCATIONS, 4, generator=generator)
    labels = torch.randint(0, 2, (60, LOCATIONS, LABELS), generator=generator) * 2 - 1
    return ArrayHierarchy(inputs, labels, test=(inputs[:ROWS], labels[:ROWS]), batch_size=7)


def task() -> LayerwiseTask:
    """A network whose first label has scores and whose second has never been learned."""
    task = LayerwiseTask(4, LABELS, LOCATIONS, n_blocks=1, n_features=20)
    task.net.n_trained += 1
    task.net.calibration.load_state_dict({"knots": torch.tensor(KNOTS)})
    task.net.block(0).weight[0] = torch.randn(21, generator=torch.Generator().manual_seed(1))
    return task


def trainer(folder: Path, *callbacks: L.Callback, **arguments: object) -> L.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    return L.Trainer(default_root_dir=folder, callbacks=list(callbacks), **(quiet | arguments))


def expected() -> Tensor:
    with torch.no_grad():
        return torch.cat([task()(batch.inputs) for batch in prepared().predict_dataloader()])


def prepared() -> ArrayHierarchy:
    hierarchy = data()
    hierarchy.setup()
    return hierarchy


def check(table: pd.DataFrame, tolerance: float = 0.0) -> None:
    scores = expected().numpy()
    assert list(table.columns) == ["row", "location", "label", "score", "probability", "sign"]
    indices = np.indices(scores.shape).reshape(3, -1)
    np.testing.assert_array_equal(table[["row", "location"]].to_numpy().T, indices[:2])
    assert table["label"].tolist() == [f"y{label}" for label in indices[2]]
    np.testing.assert_allclose(table["score"].to_numpy(np.float32), scores.ravel(), rtol=tolerance)
    points, log_odds = KNOTS
    chances = expit(np.interp(scores.ravel(), points, log_odds) + 2 * (scores.ravel() - scores.ravel().clip(*points)))
    np.testing.assert_allclose(table["probability"], chances, rtol=1e-5)
    np.testing.assert_array_equal(table["sign"], np.sign(scores.ravel()))
    assert (table["sign"][table["label"] == "y1"] == 0).all()


@pytest.mark.parametrize(("suffix", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_the_file_holds_the_scores_of_the_model(suffix, read, tmp_path: Path, capsys, monkeypatch) -> None:
    """A relative path is one from the current folder, not from the trainer's."""
    monkeypatch.chdir(tmp_path)
    path = Path("out") / f"predictions.{suffix}"
    writer = PredictionWriter(str(path))
    predicting = trainer(tmp_path / "elsewhere", writer)
    for _ in range(2):
        assert predicting.predict(task(), datamodule=data(), return_predictions=False) is None
        assert capsys.readouterr().out == f"wrote 132 predictions of 22 rows to {path}\n"
        check(read(path))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_parquet_types_and_row_groups(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "elsewhere.parquet"
    trainer(tmp_path / "root", PredictionWriter(str(path))).predict(task(), datamodule=data(), return_predictions=False)
    file = parquet.ParquetFile(path)
    assert file.num_row_groups == 4
    assert [str(field.type) for field in file.schema_arrow] == ["int64", "int32", "string", "float", "float", "int8"]


def test_goes_to_the_log_folder_and_reads_reduced_precision(tmp_path: Path) -> None:
    run = trainer(tmp_path, PredictionWriter(), logger=True, precision="bf16-true")
    run.predict(task(), datamodule=data(), return_predictions=False)
    table = pd.read_csv(Path(run.log_dir) / "predictions.csv")
    assert tmp_path in Path(run.log_dir).parents
    np.testing.assert_allclose(table["score"], expected().ravel(), atol=0.2)


def test_does_nothing_unless_predicting(tmp_path: Path) -> None:
    run = trainer(tmp_path, PredictionWriter())
    run.validate(task(), datamodule=data(), verbose=False)
    run.test(task(), datamodule=data(), verbose=False)
    assert list(tmp_path.iterdir()) == []


class Broken(LayerwiseTask):
    def predict_step(self, batch, batch_idx):
        if batch_idx == 2:
            raise RuntimeError("out of memory")
        return super().predict_step(batch, batch_idx)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_closes_the_file_when_predicting_fails(suffix, tmp_path: Path) -> None:
    path = tmp_path / f"predictions.{suffix}"
    path.write_text("earlier")
    writer = PredictionWriter(str(path))
    with pytest.raises(RuntimeError, match="out of memory"):
        broken = Broken(4, LABELS, LOCATIONS, n_blocks=1, n_features=20)
        trainer(tmp_path, writer).predict(broken, datamodule=data(), return_predictions=False)
    assert path.read_text() == "earlier"
    part = tmp_path / f"{path.name}.part"
    assert len(pd.read_csv(part) if suffix == "csv" else pd.read_parquet(part)) == 2 * 7 * LOCATIONS * LABELS


@pytest.mark.parametrize("path", ["predictions", "predictions.txt", "scores.csv.gz", ""])
def test_refuses_other_suffixes(path) -> None:
    with pytest.raises(ValueError, match=rf"path must end in .csv or .parquet, got '{path}'$"):
        PredictionWriter(path)


def test_says_how_to_install_pyarrow(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    run = trainer(tmp_path, PredictionWriter("predictions.parquet"))
    with pytest.raises(ImportError, match=r"needs pyarrow: pip install hierlit\[tables\]"):
        run.predict(task(), datamodule=data(), return_predictions=False)


def test_csv_is_exact(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(size=(2000, 64)).astype(np.float32)
    lines = Lines({"row": np.arange(2000)}, scores, expit(scores))
    columns = long_table(Labels.of(numbered_names(64), {}), lines)
    file = CsvFile(tmp_path / "scores.csv", columns)
    file.write(columns)
    file.close()
    read = pd.read_csv(tmp_path / "scores.csv")["score"].to_numpy(np.float32)
    np.testing.assert_array_equal(read, scores.ravel())


class Named(ArrayHierarchy):
    """Six labels, of which the second to fourth are the classes of a column, at one location or three."""

    label_names = ("warm, dry", "kind=a", "kind=b;c", 'kind="', "Größe", "old")
    class_labels = {"kind": [1, 2, 3]}  # noqa: RUF012


def named(n_locations: int) -> tuple[Named, LayerwiseTask]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(20, n_locations, 4, generator=generator)
    data = Named(inputs, torch.ones(20, n_locations, 6), batch_size=6, test=(inputs, torch.ones(20, n_locations, 6)))
    task = LayerwiseTask(4, 6, n_locations, n_blocks=1, n_features=20)
    task.net.calibration.set_classes([[1, 2, 3]])
    task.net.n_trained += 1
    task.net.block(0).weight.copy_(torch.randn(6, 21, generator=generator))
    return data, task


@pytest.mark.parametrize("n_locations", [1, 3])
@pytest.mark.parametrize(("suffix", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_labels_are_called_by_their_names_and_classes_come_back(n_locations: int, suffix, read, tmp_path: Path) -> None:
    (data, task), names = named(n_locations), list(Named.label_names)
    found = {}
    for kind in ("long", "wide"):
        writer = PredictionWriter(str(tmp_path / f"{kind}.{suffix}"), kind)
        trainer(tmp_path, writer).predict(task, datamodule=data, return_predictions=False)
        found[kind] = read(tmp_path / f"{kind}.{suffix}")
    places = ["row", "location"][:n_locations]
    with torch.no_grad():
        odds = (2 * task(data.tables["test"].inputs).double()).sigmoid().flatten(0, 1).numpy()
    odds[:, 1:4] /= odds[:, 1:4].sum(1, keepdims=True)
    long, wide = found["long"], found["wide"]
    assert list(long.columns) == [*places, "label", "score", "probability", "sign"]
    assert list(wide.columns) == [*places, "kind", "labels", *names]
    assert long["label"].tolist() == names * (20 * n_locations)
    np.testing.assert_allclose(long["probability"].to_numpy().reshape(-1, 6), odds, rtol=1e-4)
    np.testing.assert_allclose(wide[names].to_numpy(), odds, rtol=1e-4)
    assert wide["row"].tolist() == np.arange(20).repeat(n_locations).tolist()
    assert wide["kind"].tolist() == [["a", "b;c", '"'][place] for place in odds[:, 1:4].argmax(1)]
    chosen = [";".join(names[label] for label in (0, 4, 5) if line[label] > 0.5) for line in odds]
    assert wide["labels"].fillna("").tolist() == chosen
    assert len(set(chosen)) > 3


def test_a_wide_table_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    data, task = named(1)
    data.label_names = [*"uvwxy", "row"]
    message = "predictions.format must be long for these labels, got wide: two columns named 'row'"
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, PredictionWriter(format="wide")).predict(task, datamodule=data)
    with pytest.raises(ValueError, match="format must be one of long, wide, got 'tall'"):
        PredictionWriter(format="tall")


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_two_processes_write_one_file_in_order(suffix, read, tmp_path: Path) -> None:
    writer = PredictionWriter(str(tmp_path / f"predictions.{suffix}"))
    run = trainer(tmp_path, writer, strategy="ddp_spawn", devices=2)
    run.predict(task(), datamodule=data(), return_predictions=False)
    check(read(tmp_path / f"predictions.{suffix}"), tolerance=1e-5)


SENTENCES = ["Go , now", "A", "Max said no", "the end", '"', "I saw her go home"]


def sentences(folder: Path) -> TokenLabels:
    """Sentences of one to five tokens, of which a batch has three, in the order of the file."""
    tokens = [[f"{token} {'AB'[len(token) % 2]}" for token in sentence.split()] for sentence in SENTENCES]
    file = folder / "tokens.txt"
    file.write_text("\n\n".join("\n".join(lines) for lines in tokens) + "\n")
    return TokenLabels([str(file)], predict_files=[str(file)], unit="token", n_hashes=8, min_count=1, batch_size=3)


def of_sentences(data: TokenLabels) -> LayerwiseTask:
    task = LayerwiseTask(data.n_inputs, 2, data.n_locations, n_blocks=1, n_features=20, masked=True)
    task.net.n_trained += 1
    task.net.block(0).weight.copy_(torch.randn(2, 21, generator=torch.Generator().manual_seed(1)))
    return task


KINDS = [("long", "csv", 1), ("wide", "csv", 1), ("long", "parquet", 1), ("wide", "parquet", 1)]
KINDS.append(pytest.param("long", "csv", 2, marks=pytest.mark.slow))


@pytest.mark.parametrize(("kind", "suffix", "n_processes"), KINDS)
def test_locations_that_exist_have_lines_with_their_text(
    kind: str, suffix: str, n_processes: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = sentences(tmp_path)
    model, writer = of_sentences(data), PredictionWriter(str(tmp_path / f"tokens.{suffix}"), kind)
    ranks = {"strategy": "ddp_spawn", "devices": n_processes} if n_processes > 1 else {}
    trainer(tmp_path, writer, **ranks).predict(model, datamodule=data, return_predictions=False)
    read = pd.read_csv if suffix == "csv" else pd.read_parquet
    table, texts = read(tmp_path / f"tokens.{suffix}"), [sentence.split() for sentence in SENTENCES]
    n_tokens, n_lines = sum(map(len, texts)), 2 if kind == "long" else 1
    assert f"wrote {2 * n_tokens} predictions of {len(SENTENCES)} rows" in capfd.readouterr().out
    places = [(row, place, token) for row, tokens in enumerate(texts) for place, token in enumerate(tokens)]
    assert list(table[["row", "location", "text"]].itertuples(index=False, name=None)) == [
        place for place in places for _ in range(n_lines)
    ]
    with torch.no_grad():
        alone = [model(data.split_rows("predict")[row].inputs)[0] for row in range(len(texts))]
        chances = model.net.calibration(torch.cat(alone))
    columns = ["label", "score", "probability", "sign"] if kind == "long" else ["label", "label=A", "label=B"]
    assert list(table.columns) == ["row", "location", "text", *columns]
    found = table["probability"].to_numpy().reshape(-1, 2) if kind == "long" else table[columns[1:]].to_numpy()
    np.testing.assert_allclose(found, chances.numpy(), rtol=1e-5)
