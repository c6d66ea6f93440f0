"""Many methods on the same tables, rows and cores, each in a process of its own: hierlit's configs and others.

Scores are those of the test rows: average precision of all observed pairs of a row and a label together, AU(PRC), as
published, and the mean ROC-AUC of the labels that have both signs. A method is given the rows of train and valid, and
chooses by these alone. Real sets are read from a folder, and skipped where they are not there; made_N is a made table
of N rows; NAME_half is a real set half of whose training labels are hidden, at random. No method is given a hierarchy
of the labels.
"""

import json
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.made_table import make
from benchmarks.peers import CONFIGS, PEERS, Task
from benchmarks.table import Row, read, write
from hierlit.data import LabelTable

Files = tuple[list[str], list[str], list[str]]
SETS: dict[str, Files] = {
    "cellcycle_FUN": (["cellcycle_FUN.train.arff", "cellcycle_FUN.valid.arff"], ["cellcycle_FUN.test.arff"], []),
    "derisi_FUN": (["derisi_FUN.train.arff", "derisi_FUN.valid.arff"], ["derisi_FUN.test.arff"], []),
    "Enron_corr": (["Enron_corr_trainvalid.arff"], ["Enron_corr_test.arff"], []),
    "ImCLEF07D": (["ImCLEF07D_Train.arff"], ["ImCLEF07D_Test.arff"], []),
    "cellcycle_GO": (["cellcycle_GO.train.arff", "cellcycle_GO.valid.arff"], ["cellcycle_GO.test.arff"], []),
    "tox21": (["tox21_train.parquet"], ["tox21_test.parquet"], ["assay_*"]),
    "yeast": (["yeast-train.arff"], ["yeast-test.arff"], ["yeast.xml"]),
}
"""Files of the rows to fit, of those to test, and label columns, by their names or by MULAN's list of them."""
MADE = ["made_18000", "made_180000", "made_1000000"]
MADE_NAME, HALF = r"made_[1-9]\d*", "_half"
N_TEST = 20_000
PUBLISHED = {
    "cellcycle_FUN": 0.255,
    "derisi_FUN": 0.195,
    "Enron_corr": 0.756,
    "ImCLEF07D": 0.927,
    "cellcycle_GO": 0.413,
}
"""Average precision of C-HMCNN(h), which is given the hierarchy."""
METHODS = ["tables", *PEERS]
KEY = ["set", "method", "seed"]
MEASURED = ["average_precision", "roc_auc", "seconds", "gib", "note"]
QUICK = {
    "sets": ["Enron_corr", "made_2000"],
    "methods": ["tables", "random forest", "HistGradientBoosting"],
    "limit_seconds": 60.0,
    "changes": ["--model.n_features", "500"],
}


def run(
    out: Path,
    data: str = "../shared/data",
    sets: list[str] = [*SETS, *MADE],  # noqa: B006
    methods: list[str] = METHODS,
    search: bool = True,
    seeds: int = 1,
    limit_seconds: float = 3600.0,
    changes: list[str] = [],  # noqa: B006
) -> list[Row]:
    """Scores, times and memory of each method on each set.

    Args:
        out: Gets tables.csv, after each method, and tables.png, of all that the file then has.
        data: Folder of the real sets, one folder each.
        sets: Those to run: real ones, NAME_half, and made_N.
        methods: Names of configs, and of other methods.
        search: Whether the others run twice: with their defaults, and with the setting that rows left out choose.
        seeds: Runs of each method.
        limit_seconds: When a method is stopped; one model a label stops before, and has the labels that it came to.
        changes: Arguments for the configs.

    Raises:
        ValueError: If a set or a method has an unknown name.
    """
    unknown = [name for name in sets if name.removesuffix(HALF) not in SETS and not re.fullmatch(MADE_NAME, name)]
    if unknown:
        valid = f"{', '.join(SETS)}, one of these with {HALF}, and made_N"
        raise ValueError(f"tables.sets must be among {valid}, got {', '.join(unknown)}")
    configs = sorted(path.stem for path in CONFIGS.glob("*tables.yaml"))
    if unknown := [name for name in methods if name not in (*PEERS, *configs)]:
        raise ValueError(f"tables.methods must be among {', '.join((*configs, *PEERS))}, got {', '.join(unknown)}")
    rows = []
    for name in sets:
        with TemporaryDirectory() as folder:
            is_real = (whole := name.removesuffix(HALF)) in SETS
            train, test, labels = real_files(whole, Path(data)) if is_real else made_files(name, folder)
            if missing := [path for path in (*train, *test) if not Path(path).exists()]:
                print(f"{name} is skipped: no {', '.join(missing)}; tables.data is the folder of the sets")
                continue
            if is_real and name.endswith(HALF):
                train, test, labels = half_files(train, test, labels, folder)
            files = {"train": train, "test": test, "labels": labels, "changes": changes, "limit": limit_seconds}
            for method in methods:
                for is_searched in (False, True) if search and method in PEERS and PEERS[method].settings else (False,):
                    what = f"{method}, chosen" if is_searched else method
                    found = []
                    for seed in range(seeds):
                        task = Task(method=method, is_searched=is_searched, seed=seed, **files)
                        found.append({"set": name, "method": what, "seed": seed, **measured(task)})
                        write(out / "tables.csv", found[-1:], KEY)
                    rows.append(row_of(name, what, found, is_target=method not in PEERS))
                    print(f"{name}, {what}: {rows[-1].value:.4f}, {rows[-1].note}", flush=True)
    if any(row.value == row.value for row in rows):
        draw(read(out / "tables.csv"), out / "tables.png")
    return rows


def real_files(name: str, data: Path) -> Files:
    """Paths of a real set, and its label columns."""
    train, test, labels = ([str(data / name / file) for file in files] for files in SETS[name])
    if not labels or not labels[0].endswith(".xml"):
        return train, test, SETS[name][2]
    return (
        train,
        test,
        re.findall(r'<label name="(.*?)"', Path(labels[0]).read_text()) if Path(labels[0]).exists() else [],
    )


def made_files(name: str, folder: str) -> Files:
    """Writes a made table."""
    n_rows = int(name.removeprefix("made_"))
    table, paths = make(n_rows + N_TEST, 0), [f"{folder}/{split}.parquet" for split in ("train", "test")]
    for path, part in zip(paths, (table[:n_rows], table[n_rows:]), strict=True):
        part.to_parquet(path, index=False)
    return paths[:1], paths[1:], ["label_*"]


def half_files(train: list[str], test: list[str], labels: list[str], folder: str) -> Files:
    """Writes a real set half of whose training labels are not observed."""
    table = LabelTable(train, test_files=test, label_columns=labels, val_fraction=0, acceptance_fraction=0)
    table.setup()
    paths, hidden = [f"{folder}/{split}.parquet" for split in ("train", "test")], np.random.default_rng(0)
    for path, split in zip(paths, ("train", "test"), strict=True):
        found = table.tables[split].labels[:, 0].numpy()
        if split == "train":
            found = np.where(hidden.random(found.shape) < 0.5, 0, found)
        columns = {f"x{column}": values for column, values in enumerate(table.tables[split].inputs[:, 0].numpy().T)}
        columns |= {f"label_{column}": np.where(values, values, np.nan) for column, values in enumerate(found.T)}
        pd.DataFrame(columns).to_parquet(path, index=False)
    return paths[:1], paths[1:], ["label_*"]


def measured(task: Task) -> dict[str, Any]:
    """What a process measured; where it could not, the note says why."""
    command = [sys.executable, "-m", "benchmarks.peers", json.dumps(task)]
    found: dict[str, Any] = {}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=task["limit"])
    except subprocess.TimeoutExpired:
        why = f"not within {task['limit']:,g} s"
    else:
        said = done.stderr.strip().splitlines()
        why = said[-1] if said and done.returncode > 0 else f"ended by signal {-done.returncode}, 9 for want of memory"
        if not done.returncode:
            found = json.loads(done.stdout.splitlines()[-1])
            why = found.get("why", "")
    return {key: found.get(key, "") for key in MEASURED} | ({"note": f"did not run: {why}"} if why else {})


def row_of(name: str, what: str, found: Sequence[dict[str, Any]], is_target: bool) -> Row:
    """The means over seeds; NaN where a seed did not run."""
    if failed := [each["note"] for each in found if each["average_precision"] == ""]:
        return Row(f"tables {name}", what, float("nan"), note=failed[0])
    score, auc, spent, gib = (statistics.mean(each[key] for each in found) for key in MEASURED[:4])
    spread = statistics.stdev(each["average_precision"] for each in found) if len(found) > 1 else 0
    note = f"± {spread:.4f} over {len(found)} seeds, " * (len(found) > 1)
    note += f"ROC-AUC {auc:.3f}, {spent:.1f} s, {gib:.1f} GiB" + f"; {found[0]['note']}" * bool(found[0]["note"])
    target = f">= {PUBLISHED[name]}" if is_target and name in PUBLISHED else ""
    return Row(f"tables {name}", what, score, target=target, note=note)


def draw(records: Sequence[dict[str, str]], path: Path) -> None:
    """Average precision against seconds, means over seeds, a panel a set."""
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for record in records:
        if record["average_precision"]:
            seen = points.setdefault(record["set"], {}).setdefault(record["method"], [])
            seen.append((float(record["seconds"]), float(record["average_precision"])))
    shape = -(-len(points) // 2), 2
    figure, panels = plt.subplots(*shape, figsize=(16, 5 * shape[0]), squeeze=False, layout="constrained")
    for axes in panels.flat[len(points) :]:
        axes.remove()
    for axes, (name, methods) in zip(panels.flat, sorted(points.items()), strict=False):
        draw_set(axes, name, {what: tuple(np.mean(seen, 0).tolist()) for what, seen in methods.items()})
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_set(axes: Axes, name: str, methods: dict[str, tuple[float, float]]) -> None:
    """Points (seconds, score) of methods, configs as stars; their names at the right, in the order of the scores."""
    for place, (what, point) in enumerate(sorted(methods.items(), key=lambda item: item[1][1])):
        peer = what.partition(",")[0]
        marker, color = ("o", f"C{list(PEERS).index(peer)}") if peer in PEERS else ("*", "black")
        axes.plot(*point, marker, color=color, markersize=12 if marker == "*" else 6)
        text = {"xytext": (1.03, (place + 0.5) / len(methods)), "textcoords": "axes fraction", "va": "center"}
        line = {"arrowstyle": "-", "color": color, "linewidth": 0.5, "relpos": (0, 0.5)}
        axes.annotate(f"{what} {point[1]:.3f}", point, color=color, fontsize=9, arrowprops=line, **text)
    if name in PUBLISHED:
        axes.axhline(PUBLISHED[name], color="grey", linestyle=":", linewidth=1)
    axes.set(xscale="log", xlabel="seconds", ylabel="average precision", title=name)
    ticks = {"major_locator": LogLocator(subs=(1, 2, 5)), "major_formatter": "{x:g}"}
    axes.xaxis.set(**ticks, minor_formatter=NullFormatter())
