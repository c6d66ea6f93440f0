"""The config for tables on the command line, on a small table."""

from pathlib import Path

import numpy as np
import pytest

from hierlit.cli import main

ROOT = Path(__file__).parents[2]


def write(path: Path, n_rows: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n_rows, 4))
    y = np.stack([x[:, 0] > 0, (x[:, 0] > 0) & (x[:, 1] > 0)], 1)
    lines = ["a,b,c,d,y_first,y_second"]
    lines += [
        ",".join([*(f"{value:.4f}" for value in row), *map(str, labels)]) for row, labels in zip(x, y + 0, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")


def test_fit_then_test_prints_the_average_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, n_rows, seed in (("one", 120, 0), ("two", 80, 1), ("test", 100, 2)):
        write(tmp_path / f"{name}.csv", n_rows, seed)
    one, two, test = (tmp_path / f"{name}.csv" for name in ("one", "two", "test"))
    arguments = ["--config", str(ROOT / "configs" / "tables.yaml"), "--data.init_args.train_files", f"[{one},{two}]"]
    arguments += ["--data.init_args.test_files", f"[{test}]", "--data.init_args.label_columns", "y_*"]
    arguments += ["--trainer.default_root_dir", str(tmp_path), "--trainer.accelerator", "cpu"]
    main(["fit", *arguments, "--model.n_features", "150"])
    capsys.readouterr()
    main(["test", *arguments, "--model.n_features", "150", "--ckpt_path", "last"])
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if "test/average_precision" in line)
    assert float(line.split()[-2]) > 0.9


def test_a_table_of_one_row_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "one.csv", 1, 0)
    arguments = ["--config", str(ROOT / "configs" / "tables.yaml"), "--data.init_args.train_files"]
    arguments += [str(tmp_path / "one.csv"), "--data.init_args.label_columns", "y_*"]
    with pytest.raises(SystemExit, match="2"):
        main(["fit", *arguments, "--trainer.default_root_dir", str(tmp_path), "--trainer.accelerator", "cpu"])
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line == "error: layerwise.folds needs more rows to fit, got 1, all of them in one of 5 folds"
