"""The config for tables on the command line, on a small table."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from hierlit.cli import main
from hierlit.watching.figures import DPI, draw_precision

ROOT = Path(__file__).parents[2]
TABLES = ["--config", str(ROOT / "configs" / "tables.yaml"), "--trainer.accelerator", "cpu"]
SMALL = ["--model.n_blocks", "1", "--model.n_features", "30", "--model.features", "GaussianFeatures"]
SMALL += ["--model.solver", "ExactSolver", "--layerwise.folds", "null", "--trainer.logger", "false"]


def write(path: Path, n_rows: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n_rows, 4))
    y = np.stack([x[:, 0] > 0, (x[:, 0] > 0) & (x[:, 1] > 0)], 1)
    lines = ["a,b,c,d,y_first,y_second"]
    lines += [
        ",".join([*(f"{value:.4f}" for value in row), *map(str, labels)]) for row, labels in zip(x, y + 0, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")


def test_fit_then_test_prints_the_average_precision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    for name, n_rows, seed in (("one", 120, 0), ("two", 80, 1), ("test", 100, 2)):
        write(tmp_path / f"{name}.csv", n_rows, seed)
    one, two, test = (tmp_path / f"{name}.csv" for name in ("one", "two", "test"))
    arguments = [*TABLES, "--data.init_args.train_files", f"[{one},{two}]"]
    arguments += ["--data.init_args.test_files", f"[{test}]", "--data.init_args.label_columns", "y_*"]
    arguments += ["--trainer.default_root_dir", str(tmp_path)]
    main(["fit", *arguments, "--model.n_features", "150"])
    capsys.readouterr()
    main(["test", *arguments, "--model.n_features", "150", "--ckpt_path", "last"])
    printed = capsys.readouterr().out
    assert not [each for each in recwarn if "values that differ" in str(each.message)], "a fit sees no test files"
    line = next(line for line in printed.splitlines() if "test/average_precision" in line)
    assert float(line.split()[-2]) > 0.9


def test_predict_needs_the_checkpoint_and_the_new_rows_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """The files that the run read are gone, and `last` is found where its logger was told to write."""
    monkeypatch.chdir(tmp_path)
    for name, n_rows, seed in (("train", 60, 0), ("test", 20, 1), ("new", 20, 2)):
        write(Path(f"{name}.csv"), n_rows, seed)
    logger = ["--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", "runs"]
    fit = [*TABLES, *SMALL[:-2], "--data.train_files", "train.csv", "--data.test_files", "test.csv", *logger]
    main(["fit", *fit, "--data.label_columns", "y_*"])
    predict = ["predict", "--ckpt_path", "last", "--data.predict_files", "new.csv", *logger]
    Path("train.csv").unlink()
    Path("test.csv").unlink()
    cli = main([*predict, "--predictions.path", str(tmp_path / "found.csv")])
    assert not [each for each in recwarn if "values that differ" in str(each.message)]
    numbers = torch.from_numpy(pd.read_csv("new.csv")[list("abcd")].to_numpy(np.float32))
    table = cli.datamodule.data.encoder.table
    scaled = (numbers - torch.tensor(table.shifts)) / torch.tensor(table.scales)
    scores = cli.model(scaled[:, None]).flatten().tolist()
    assert pd.read_csv("found.csv")["score"].tolist() == pytest.approx(scores, abs=1e-5)


def test_what_is_given_beside_a_checkpoint_and_differs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("train.csv"), 60, 0)
    main(["fit", *TABLES, *SMALL[:-2], "--data.train_files", "train.csv", "--data.label_columns", "y_*"])
    with pytest.warns(UserWarning, match=r"checkpoint are used, not those given: data.init_args.scale auto → unit$"):
        main(["predict", "--ckpt_path", "last", "--data.predict_files", "train.csv", "--data.scale", "unit"])
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main(["predict", "--data.predict_files", "train.csv", "--ckpt_path"])
    usage, *_, error = capsys.readouterr().err.strip().splitlines()
    assert usage.startswith("usage: ") and usage.endswith("predict [--config FILE] [--SECTION.ARGUMENT VALUE ...]")
    assert error == "error: argument --ckpt_path: expected one argument"


def test_a_table_of_one_row_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "one.csv", 1, 0)
    arguments = [*TABLES, "--data.init_args.train_files", str(tmp_path / "one.csv")]
    arguments += ["--data.init_args.label_columns", "y_*"]
    with pytest.raises(SystemExit, match="2"):
        main(["fit", *arguments, "--trainer.default_root_dir", str(tmp_path)])
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line == "error: layerwise.folds needs more rows to fit, got 1, all of them in one of 5 folds"


@pytest.mark.parametrize("n_labels", [1022, 1024, 1030])
def test_labels_may_be_more_than_a_thousand(n_labels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are more sets of so many labels than a float can count."""
    monkeypatch.chdir(tmp_path)
    inputs = np.random.default_rng(0).random((60, 2))
    signs = inputs[:, :1] > (np.arange(n_labels) + 0.5) / n_labels
    labels = pd.DataFrame(signs.astype(int)).add_prefix("y")
    pd.concat([pd.DataFrame(inputs, columns=["a", "b"]), labels], axis=1).to_csv("t.csv", index=False)
    cli: Any = main(["fit", *TABLES, *SMALL, "--data.init_args.train_files", "t.csv", "--data.label_columns", "y*"])
    scores = cli.model.net(cli.datamodule.tables["train"].inputs)[:, 0].detach().numpy()
    assert cli.datamodule.label_names == [f"y{label}" for label in range(n_labels)]
    assert ((scores > 0) == signs).mean() > 0.95


def test_rows_are_no_argument_of_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    rows = pd.DataFrame(draw.normal(size=(60, 3)), columns=["a", "b", "c"]).assign(y=draw.integers(0, 2, 60))
    rows.to_csv("t.csv", index=False)
    wide = ["--model.n_features", "400", "--data.init_args.train_files", "t.csv", "--data.label_columns", "y"]
    main(["fit", *TABLES, *SMALL, *wide])
    assert "too few rows" in (printed := capsys.readouterr().out)
    assert "data.n_train" not in printed and "find more training rows: 60 rows are fitted" in printed


def test_describe_says_how_often_labels_are_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(0)
    rows = pd.DataFrame(draw.random((50, 2)), columns=["a", "b"]).assign(u=draw.integers(0, 2, 50), v=[1, *[0] * 49])
    rows.to_csv(tmp_path / "t.csv", index=False)
    path = str(tmp_path / "t.csv")
    found: Any = main(["describe", *TABLES, "--data.init_args.train_files", path, "--data.label_columns", "[u, v]"])
    (level,) = found.described.levels
    assert level.n_labels == 2 and level.ones == pytest.approx((0.02, rows["u"].mean()))
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main(["describe", *TABLES])
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == "error: data.train_files must be given, or, to predict, predict_files and a checkpoint"


@pytest.mark.parametrize("name", ["no", "1", "2024-01-05", "1e3", "~"])
def test_names_that_yaml_takes_for_something_else_need_quotes(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.DataFrame({"a": [0.1, 0.2, 0.3, 0.4], name: [0, 1, 1, 1], "se": [1, 0, 0, 1]})
    rows.to_csv(tmp_path / "t.csv", index=False)
    config = tmp_path / "c.yaml"
    data = {"class_path": "LabelTable", "init_args": {"train_files": str(tmp_path / "t.csv"), "label_columns": []}}

    def shares(labels: str) -> tuple[float, float]:
        config.write_text(yaml.safe_dump({"data": data}).replace("[]", labels))
        found: Any = main(["describe", *TABLES, "--config", str(config), "--data.val_fraction", "0"])
        return found.described.levels[0].ones

    assert shares(f"['{name}', se]") == (0.5, 0.75)
    capsys.readouterr()
    try:
        assert shares(f"[{name}, se]") == (0.5, 0.75)
    except SystemExit:
        assert "put quotes around a name that YAML takes for something else" in capsys.readouterr().err


@pytest.mark.parametrize("others", [["--model.n_blocks", "1"], ["--trainer.max_epochs", "1", "--model.n_blocks", "2"]])
def test_one_block_is_ranked_as_well(
    others: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("train.csv"), 60, 0)
    write(Path("new.csv"), 30, 1)
    files = ["--data.train_files", "train.csv", "--data.val_files", "new.csv", "--data.label_columns", "y_*"]
    cli = main(["fit", *TABLES, *SMALL, *files, *others])
    assert 0.8 < cli.model.precision["val"] <= 1
    assert f"{cli.model.precision['val']:.4f}" in capsys.readouterr().out


def test_a_block_without_gain_is_none_in_all_that_a_run_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    noise = {"a": draw.normal(size=90), "y_one": draw.integers(2, size=90), "y_two": draw.integers(2, size=90)}
    pd.DataFrame({**noise, "y_all": 1}).to_csv("noise.csv", index=False)
    files = ["--data.train_files", "noise.csv", "--data.label_columns", "y_*"]
    cli = main(["fit", *TABLES, *files, "--model.n_features", "30", "--layerwise.folds", "3"])
    printed, folder = capsys.readouterr().out, Path("lightning_logs/version_0")
    blocks, labels = pd.read_csv(folder / "blocks.csv"), pd.read_csv(folder / "labels.csv").groupby("block")
    n_used = len(blocks) - 1
    assert n_used and blocks["stop_reason"].iloc[-1] == "no gain"
    assert blocks["accepted"].tolist() == labels["accepted"].sum().tolist() == [3] * n_used + [0]
    assert "left out: no gain" in printed and f"after {n_used} of 5 blocks" in printed
    one, two, constant = labels.get_group(n_used + 1)["average_precision"]
    assert 0.3 < one < 0.9 and 0.3 < two < 0.9 and np.isnan(constant)
    assert labels["average_precision"].count().tolist() == [0] * n_used + [2]
    found = cli.model.label_precision["train"].numpy()
    np.testing.assert_allclose(found[0], [one, two, np.nan])
    draw_precision(found, list(labels.get_group(1)["label"]), "training rows left out").savefig("expected.png", dpi=DPI)
    assert np.array_equal(plt.imread("expected.png"), plt.imread(folder / "staircase.png"))
    main(["fit", *TABLES, *files, "--model.n_features", "30", "--layerwise.folds", "3", "--ckpt_path", "last"])
    assert f"average precision by label: {folder / 'staircase.png'}" in capsys.readouterr().out
    main(["export", "--weights", "net.safetensors"])
    assert capsys.readouterr().out.startswith(f"wrote {n_used} trained blocks of ")
    with pytest.warns(UserWarning, match=f"{n_used} of 5 blocks are trained already"):
        main(["fit", "--ckpt_path", "last"])


def test_predict_without_rows_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("train.csv"), 60, 0)
    main(["fit", *TABLES, *SMALL[:-2], "--data.train_files", "train.csv", "--data.label_columns", "y_*"])
    with pytest.raises(SystemExit, match=r"the data has no rows to predict; files of them are data\.predict_files"):
        main(["predict", "--ckpt_path", "last"])
    with pytest.raises(SystemExit, match=r"error: train\.csv"):
        files = ["--data.predict_files", "train.csv", "--predictions.path", "train.csv/found.csv"]
        main(["predict", "--ckpt_path", "last", *files])
    assert [each.name for each in Path("lightning_logs").iterdir()] == ["version_0"], "that of the fit"
