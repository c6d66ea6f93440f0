"""Real tables, no hierarchy given: configs/tables.yaml as it is on every set, and baselines on the same rows.

The score is the average precision of all (row, label) pairs of the test rows together, AU(PRC), as published. Each
method is given the rows of train and valid, and chooses by these alone. Sets are read from a folder, and skipped where
they are not there.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import RidgeCV
from sklearn.neural_network import MLPClassifier
from torch import from_numpy

from benchmarks.table import Row, write
from hierlit.cli.fit import run as command
from hierlit.data import LabelTable
from hierlit.metrics import average_precision

CONFIG = Path(__file__).parents[1] / "configs" / "tables.yaml"
SETS = {
    "cellcycle_FUN": (["cellcycle_FUN.train.arff", "cellcycle_FUN.valid.arff"], "cellcycle_FUN.test.arff"),
    "derisi_FUN": (["derisi_FUN.train.arff", "derisi_FUN.valid.arff"], "derisi_FUN.test.arff"),
    "Enron_corr": (["Enron_corr_trainvalid.arff"], "Enron_corr_test.arff"),
    "ImCLEF07D": (["ImCLEF07D_Train.arff"], "ImCLEF07D_Test.arff"),
}
PUBLISHED = {
    "cellcycle_FUN": {"CLUS-ENS": 0.227, "HMCN-F": 0.252, "C-HMCNN(h)": 0.255, "DHN": 0.256},
    "derisi_FUN": {"CLUS-ENS": 0.187, "HMCN-F": 0.193, "C-HMCNN(h)": 0.195, "DHN": 0.198},
    "Enron_corr": {"CLUS-ENS": 0.696, "HMCN-F": 0.724, "C-HMCNN(h)": 0.756, "DHN": 0.764},
    "ImCLEF07D": {"CLUS-ENS": 0.881, "HMCN-F": 0.920, "C-HMCNN(h)": 0.927, "DHN": 0.928},
}
"""All of these are told the hierarchy."""
QUICK = {"seeds": 1, "sets": ["Enron_corr"], "n_features": 500, "boosting_seconds": 1.0}
Table = tuple[NDArray[np.float32], NDArray[np.bool_]]
Scorer = Callable[[Table, NDArray[np.float32], int], tuple[NDArray[np.float64], str]]


def run(
    out: Path,
    data: str = "../shared/data",
    sets: list[str] = list(SETS),  # noqa: B006
    seeds: int = 5,
    n_features: int | None = None,
    baselines: bool = True,
    boosting_seconds: float = 120.0,
) -> list[Row]:
    """Scores and times of hierlit and of the baselines on each set.

    Args:
        out: Gets real_data.csv.
        data: Folder of the sets, one folder each.
        sets: Those to run.
        seeds: Seeds of hierlit; the baselines, one block of it among them, have one.
        n_features: Units of a block, at most, in place of the config's.
        baselines: Whether to run them.
        boosting_seconds: When gradient boosting, one model a label, stops, the frequent labels first; a label that it
            has not come to is scored by its share of the training rows.
    """
    rows: list[Row] = []
    for name in sets:
        train, test = ([Path(data) / name / file for file in files] for files in (SETS[name][0], [SETS[name][1]]))
        if missing := [str(path) for path in (*train, *test) if not path.exists()]:
            print(f"{name} is skipped: no {', '.join(missing)}; real_data.data is the folder of the sets")
            continue
        changes = [] if n_features is None else ["--model.n_features", str(n_features)]
        found = [fit_and_test(train, test, seed, changes) for seed in range(seeds)]
        rows.append(_row(name, "hierlit", *zip(*found, strict=True)))
        if baselines:
            found = [fit_and_test(train, test, 0, [*changes, "--model.n_blocks", "1"])]
            rows.append(_row(name, "one block", *zip(*found, strict=True)))
            rows += [_baseline(name, what, scorer, train, test) for what, scorer in _scorers(boosting_seconds).items()]
    if rows:
        records = [{"set": row.benchmark, "method": row.what, "value": row.value, "note": row.note} for row in rows]
        write(out / "real_data.csv", records, ["set", "method"])
    return rows


def fit_and_test(
    train: list[Path], test: list[Path], seed: int, changes: list[str], config: Path = CONFIG
) -> tuple[float, float]:
    """AU(PRC) of a config at a seed, by the command line, and the seconds of its fit, files read included."""
    with TemporaryDirectory() as folder:
        files = [f"--data.init_args.{key}={list(map(str, paths))}" for key, paths in _files(train, test).items()]
        arguments = ["--config", str(config), *files, "--model.weight_seed", str(seed), *changes]
        quiet = ["progress_bar", "model_summary"]
        arguments += ["--trainer.default_root_dir", folder, *(f"--trainer.enable_{part}=false" for part in quiet)]
        start = time.perf_counter()
        command(["fit", *arguments])
        seconds = time.perf_counter() - start
        tested = command(["test", *arguments, "--ckpt_path", "last"])
        return float(tested.trainer.callback_metrics["test/average_precision"]), seconds


def _files(train: list[Path], test: list[Path]) -> dict[str, list[Path]]:
    return {"train_files": train, "test_files": test}


def _row(name: str, what: str, scores: tuple[float, ...], seconds: tuple[float, ...], note: str = "") -> Row:
    spread = f"± {statistics.stdev(scores):.4f} over {len(scores)} seeds, " if len(scores) > 1 else ""
    published = ", ".join(f"{method} {score}" for method, score in PUBLISHED[name].items())
    target = f">= {PUBLISHED[name]['C-HMCNN(h)']}" if what == "hierlit" else ""
    note = f"{spread}{statistics.mean(seconds):.1f} s a fit{note}"
    note += f"; told the hierarchy: {published}" if target else ""
    return Row(f"real_data {name}", what, statistics.mean(scores), target=target, note=note)


def _baseline(name: str, what: str, scorer: Scorer, train: list[Path], test: list[Path]) -> Row:
    data = LabelTable(
        train_files=list(map(str, train)), test_files=list(map(str, test)), val_fraction=0.0, acceptance_fraction=0.0
    )
    data.setup()
    fitted, tested = data.tables["train"], data.tables["test"]
    start = time.perf_counter()
    scores, note = scorer(
        (fitted.inputs[:, 0].numpy(), fitted.labels[:, 0].numpy() > 0), tested.inputs[:, 0].numpy(), 0
    )
    seconds = time.perf_counter() - start
    return _row(name, what, (average_precision(from_numpy(scores), tested.labels[:, 0]),), (seconds,), note)


def _scorers(boosting_seconds: float) -> dict[str, Scorer]:
    def ridge(rows: Table, inputs: NDArray[np.float32], seed: int) -> tuple[NDArray[np.float64], str]:
        return RidgeCV(np.logspace(-1, 5, 13)).fit(*rows).predict(inputs).astype(float), ""

    def network(rows: Table, inputs: NDArray[np.float32], seed: int) -> tuple[NDArray[np.float64], str]:
        model = MLPClassifier(alpha=1.0, random_state=seed).fit(*rows)
        return model.predict_proba(inputs), ", 100 hidden units, at most 200 epochs, weight decay 1"

    def boosting(rows: Table, inputs: NDArray[np.float32], seed: int) -> tuple[NDArray[np.float64], str]:
        start, (known, labels), n_fitted = time.perf_counter(), rows, 0
        scores = np.tile(labels.mean(0), (len(inputs), 1))
        for label in np.argsort(-labels.sum(0), kind="stable"):
            if 0 < labels[:, label].sum() < len(labels):
                model = HistGradientBoostingClassifier(random_state=seed).fit(known, labels[:, label])
                scores[:, label] = model.predict_proba(inputs)[:, 1]
            n_fitted += 1
            if time.perf_counter() - start > boosting_seconds:
                break
        return scores, f", {n_fitted} of {labels.shape[1]} labels"

    return {"ridge": ridge, "MLPClassifier": network, "HistGradientBoosting": boosting}
