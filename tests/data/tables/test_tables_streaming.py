"""Memory while a file is predicted: the peak of a process of its own, by the rows of the file.

Scores go to CSV: a Parquet file's footer, which is written last, grows with each batch. The few rows are predicted
three times before the many: until then each run takes a little more from allocators, whatever its rows.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from processes import run

from hierlit import LabelTable
from hierlit.cli import main

N_NUMBERS = 20
OTHERS = (".csv", ".npz", ".arff")
MANY = pytest.param(1_000_000, marks=pytest.mark.slow)
PROGRAM = """
import json, sys, time
import torch
import lightning as L
from hierlit import LabelTable, LayerwiseTask, PredictionWriter

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))

torch.set_num_threads(1)
train, *files = sys.argv[1:]
quiet = {name: False for name in ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing")}
found = []
for path in files:
    data = LabelTable(train, predict_files=path, label_columns=None if path.endswith("npz") else ["y"], batch_size=1024)
    task = LayerwiseTask(data.n_inputs, data.n_labels, n_blocks=1, n_features=50)
    trainer = L.Trainer(callbacks=[PredictionWriter("scores.csv")], accelerator="cpu", **quiet)
    start = time.perf_counter()
    trainer.predict(task, datamodule=data, return_predictions=False)
    found.append((peak(), time.perf_counter() - start))
print(json.dumps(found))
"""


def write(path: Path, n_rows: int) -> None:
    """A file of numbers, a category and a label, written a part at a time."""
    draw = np.random.default_rng(0)
    if path.suffix == ".npz":
        np.savez(path, inputs=draw.normal(size=(n_rows, N_NUMBERS)), labels=draw.integers(0, 2, (n_rows, 1)))
        return
    numbers = pd.DataFrame(draw.normal(size=(n_rows, N_NUMBERS)).round(6)).add_prefix("x")
    rows = numbers.assign(c=draw.choice(["u", "v", "w"], n_rows), y=draw.integers(0, 2, n_rows))
    if path.suffix == ".parquet":
        rows.to_parquet(path, row_group_size=20_000)
        return
    with path.open("w") as file:
        if path.suffix == ".arff":
            kinds = {"c": "{u,v,w}"}
            file.write("@relation r\n")
            file.writelines(f"@attribute {name} {kinds.get(name, 'numeric')}\n" for name in rows)
            file.write("@data\n")
        rows.to_csv(file, index=False, header=path.suffix == ".csv")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's count of a process's peak memory")
@pytest.mark.parametrize("n_rows", [160_000, MANY])
@pytest.mark.parametrize("suffix", [".parquet", *(pytest.param(each, marks=pytest.mark.slow) for each in OTHERS)])
def test_memory_does_not_grow_with_the_rows_to_predict(suffix: str, n_rows: int, tmp_path: Path) -> None:
    sizes = {"train": 500, "few": 20_000, "many": n_rows}
    paths = [tmp_path / f"{name}{suffix}" for name in sizes]
    for path, size in zip(paths, sizes.values(), strict=True):
        write(path, size)
    train, few_rows, many_rows = map(str, paths)
    printed = run(tmp_path, train, *[few_rows] * 3, many_rows, code=PROGRAM)
    assert f"of {n_rows:,} rows" in printed
    *_, (few, _), (many, seconds) = json.loads(printed.splitlines()[-1])
    speed = f"{n_rows / seconds:,.0f} rows/s"
    print(f"{suffix[1:]}: peak {few:.0f} MiB at 20,000 rows, {many:.0f} MiB at {n_rows:,}, {speed}")
    assert many - few < 12 < n_rows * N_NUMBERS * 4 / 2**20, "the inputs alone take more"


def test_rows_are_streamed_on_the_command_line_too(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "train.csv", 100)
    write(tmp_path / "new.csv", 333)
    arguments = ["--data", "LabelTable", "--data.train_files", "train.csv", "--data.label_columns", "y"]
    arguments += ["--model.n_blocks", "1", "--model.n_features", "20", "--model.solver", "ExactSolver"]
    arguments += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    main(["fit", *arguments])
    predict = ["predict", *arguments, "--data.predict_files", "new.csv", "--ckpt_path", "last"]
    cli = main([*predict, "--predictions.path", str(tmp_path / "scores.csv")])
    assert "wrote 333 predictions of 333 rows" in capsys.readouterr().out
    assert cli is not None
    assert not cli.datamodule.tables, "no table in memory"
    net, data = cli.model.net, LabelTable("train.csv", test_files="new.csv", label_columns="y", val_fraction=0.1)
    data.setup()
    expected = net(data.tables["test"].inputs)[:, 0, 0].detach()
    np.testing.assert_allclose(pd.read_csv("scores.csv").score, expected, atol=1e-5)

    with pytest.raises(SystemExit):
        main(["predict", *arguments, "--data.val_fraction", "0.5", "--ckpt_path", "last"])
    assert "must be those of the checkpoint" in capsys.readouterr().err
