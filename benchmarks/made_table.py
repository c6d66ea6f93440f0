"""A made table of many rows: hierlit's two configs for tables, and ensembles of trees, on the same rows and cores.

40 inputs and 42 labels in three levels: 24 of a few inputs, 12 of three labels of the first level, 6 of three of the
second; 2% of them are wrong. The score is the average precision of all (row, label) pairs of 20,000 further rows. Each
method runs in a process of its own, which reads the files, fits and predicts: python -m benchmarks.made_table METHOD
FOLDER. Seconds are those until it is fitted, files read; memory is the peak of the process.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.neural_network import MLPClassifier
from torch import from_numpy

from benchmarks.real_data import CONFIG, fit_and_test
from benchmarks.table import Row, write
from hierlit.metrics import average_precision

N_INPUTS, SIZES, WRONG, N_TEST = 40, (24, 12, 6), 0.02, 20_000
METHODS = ["large_tables", "tables", "xgboost", "random forest", "extra trees", "MLPClassifier"]
QUICK = {"n_train": 2000, "methods": ["large_tables", "random forest"]}
Bools = NDArray[np.bool_]


def run(out: Path, n_train: int = 18_000, methods: list[str] = METHODS, seed: int = 0) -> list[Row]:
    """Fits each method to the same rows.

    Args:
        out: Folder for made_table.csv.
        n_train: Rows to fit.
        methods: Among `METHODS`, of which large_tables and tables are hierlit's configs.
        seed: Of the table.
    """
    rows = []
    with TemporaryDirectory() as folder:
        table = make(n_train + N_TEST, seed)
        table[:n_train].to_csv(Path(folder, "train.csv"), index=False)
        table[n_train:].to_csv(Path(folder, "test.csv"), index=False)
        for method in methods:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.made_table", method, folder], capture_output=True, text=True
            )
            if done.returncode:
                said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
                print(f"{method} did not run: {said[-1]}")
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            note = f"{found['seconds']:.0f} s, {found['memory']:.1f} GiB"
            rows.append(Row(f"made_table {n_train:,}", method, found["score"], note=note))
    if rows:
        write(out / "made_table.csv", [{"rows": n_train, **vars(row)} for row in rows], ["rows", "what"])
    return rows


def make(n_rows: int, seed: int) -> pd.DataFrame:
    """Returns rows with columns x0, … and label_0, …."""
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(n_rows, N_INPUTS)).astype(np.float32)
    weights = draw.normal(size=(N_INPUTS, SIZES[0])) * (draw.random((N_INPUTS, SIZES[0])) < 0.15)
    products = inputs[:, : SIZES[0]] * inputs[:, N_INPUTS - SIZES[0] :]
    levels = [np.tanh(inputs @ weights) + 0.3 * products > 0]
    for size in SIZES[1:]:
        levels.append(np.stack([mixed(levels[-1], draw) for _ in range(size)], 1))
    labels = np.concatenate(levels, 1)
    labels ^= draw.random(labels.shape) < WRONG
    columns = {f"x{number}": inputs[:, number].round(4) for number in range(N_INPUTS)}
    return pd.DataFrame(columns | {f"label_{number}": column for number, column in enumerate(labels.T.astype(int))})


def mixed(labels: Bools, draw: np.random.Generator) -> Bools:
    """A label of three others: (a xor b) or (a and c)."""
    a, b, c = labels[:, draw.choice(labels.shape[1], 3, replace=False)].T
    return np.asarray((a ^ b) | (c & a))


def fit_config(name: str, folder: Path) -> tuple[float, float]:
    """Average precision and seconds of one of hierlit's configs."""
    config, labels = CONFIG.with_name(f"{name}.yaml"), ["--data.init_args.label_columns=label_*"]
    return fit_and_test([folder / "train.csv"], [folder / "test.csv"], 0, labels, config)


def fit_model(model: Any, folder: Path) -> tuple[float, float]:
    """Average precision and seconds of a classifier of many labels."""
    start = time.perf_counter()
    train = pd.read_csv(folder / "train.csv")
    model.fit(train.filter(like="x"), train.filter(like="label_"))
    seconds = time.perf_counter() - start
    test = pd.read_csv(folder / "test.csv")
    found = model.predict_proba(test.filter(like="x"))
    scores = np.stack([each[:, 1] for each in found], 1) if isinstance(found, list) else np.asarray(found)
    return average_precision(from_numpy(scores), from_numpy(2 * test.filter(like="label_").to_numpy() - 1)), seconds


def boosted() -> Any:
    """XGBoost with its defaults: 100 trees for each label."""
    from xgboost import XGBClassifier

    return XGBClassifier(n_jobs=-1)


MODELS: dict[str, Callable[[], Any]] = {
    "xgboost": boosted,
    "random forest": lambda: RandomForestClassifier(n_jobs=-1, random_state=0),
    "extra trees": lambda: ExtraTreesClassifier(n_jobs=-1, random_state=0),
    "MLPClassifier": lambda: MLPClassifier(early_stopping=True, random_state=0),
}


if __name__ == "__main__":
    name, place = sys.argv[1], Path(sys.argv[2])
    score, spent = fit_model(MODELS[name](), place) if name in MODELS else fit_config(name, place)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"score": score, "seconds": spent, "memory": peak}))
