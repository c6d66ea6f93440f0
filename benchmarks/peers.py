"""One method on one set, in a process of its own: python -m benchmarks.peers TASK, where TASK is JSON (see `Task`).

Prints a line of JSON: average precision, ROC-AUC, seconds, memory and a note, or why it could not run. Every method
reads the files with `LabelTable`. Packages that hierlit does not need are imported where they are used.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
from joblib import cpu_count
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import RidgeCV
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier

from hierlit import HierarchicalClassifier
from hierlit.cli.fit import run as command
from hierlit.data import LabelTable
from hierlit.metrics import average_precision

CONFIGS = Path(__file__).parents[1] / "configs"
CORES = cpu_count()
HELD = 0.2
"""Share of the training rows that settings are compared on."""
Floats = NDArray[np.float64]
Table = tuple[NDArray[np.float32], NDArray[np.int8]]
"""Inputs [rows, d], and labels [rows, n] in {−1, 0, 1}, 0 = not observed."""


class Task(TypedDict):
    """What to fit, and to which files.

    `method` is in PEERS or the name of a config; `is_searched`: choose among its settings; `limit`: seconds that it
    may take, of which a search has a third; `labels`: as LabelTable's label_columns; `changes`: arguments for a config.
    """

    method: str
    is_searched: bool
    seed: int
    limit: float
    train: list[str]
    test: list[str]
    labels: list[str]
    changes: list[str]


class Peer(NamedTuple):
    """A method of many labels: `make(n_labels, seed, **setting)` makes a model.

    `settings`: to choose from, beside the defaults; `by_label`: it is always one model a label; `takes_missing`: labels
    that are missing are NaN to it; `can_be_single`: otherwise it may be one model a label, of the rows where the label
    is observed, where labels are missing.
    """

    make: Callable[..., Any]
    settings: tuple[dict[str, Any], ...] = ()
    by_label: bool = False
    takes_missing: bool = False
    can_be_single: bool = True


def xgboost(n_labels: int, seed: int, **setting: Any) -> Any:
    from xgboost import XGBClassifier

    return XGBClassifier(n_jobs=CORES, random_state=seed, **setting)


def multi_output_trees(n_labels: int, seed: int, **setting: Any) -> Any:
    return xgboost(n_labels, seed, multi_strategy="multi_output_tree", tree_method="hist", **setting)


def catboost(n_labels: int, seed: int, **setting: Any) -> Any:
    from catboost import CatBoostClassifier

    loss = "MultiLogloss" if n_labels > 1 else "Logloss"
    quiet = {"verbose": False, "allow_writing_files": False}
    return CatBoostClassifier(loss_function=loss, thread_count=CORES, random_seed=seed, **quiet, **setting)


class XRFM:
    """xRFM as a regression of zeros and ones; a fifth of the rows it is given is the validation set it asks for."""

    def __init__(self, n_labels: int, seed: int, bandwidth: float = 10.0, reg: float = 1e-3) -> None:
        from xrfm import xRFM

        # its defaults, of which a setting changes two; a part of them cannot be given
        kernel = {"kernel": "l2_high_dim", "exponent": 1.0, "bandwidth": bandwidth}
        fit = {"get_agop_best_model": True, "return_best_params": True, "early_stop_rfm": False, "reg": reg, "iters": 5}
        parameters = {"model": {**kernel, "diag": False, "bandwidth_mode": "constant"}, "fit": fit}
        self.model = xRFM(parameters, random_state=seed, n_threads=CORES, tuning_metric="mse", verbose=False)
        self.seed = seed

    def fit(self, inputs: NDArray[np.float32], labels: NDArray[np.int32]) -> None:
        """Fits to labels [rows] or [rows, n] in {0, 1}."""
        held = left_out(len(inputs), self.seed)
        parts = [torch.from_numpy(array[rows]).float() for rows in (~held, held) for array in (inputs, labels)]
        self.model.fit(*parts)

    def predict(self, inputs: NDArray[np.float32]) -> Any:
        """Scores [rows, n]."""
        return self.model.predict(torch.from_numpy(inputs))


def of_sklearn(kind: Callable[..., Any], **always: Any) -> Callable[..., Any]:
    """`make` of one of scikit-learn's classifiers."""
    return lambda n_labels, seed, **setting: kind(random_state=seed, **always, **setting)


BOOSTING = (
    {"n_estimators": 300, "learning_rate": 0.1},
    {"n_estimators": 300, "learning_rate": 0.1, "max_depth": 3},
    {"n_estimators": 300, "learning_rate": 0.05, "max_depth": 8, "subsample": 0.8, "colsample_bytree": 0.5},
)
FOREST = tuple(
    {"n_estimators": 300, "max_features": share, "min_samples_leaf": rows} for share in ("sqrt", 0.3) for rows in (1, 5)
)
NETWORK = (
    {"alpha": 1.0},
    {"early_stopping": True},
    {"early_stopping": True, "hidden_layer_sizes": (256, 256)},
    {"early_stopping": True, "hidden_layer_sizes": (256, 256), "alpha": 1.0},
)
PEERS = {
    "HierarchicalClassifier": Peer(
        lambda n_labels, seed: HierarchicalClassifier(random_state=seed), takes_missing=True
    ),
    "ridge": Peer(lambda n_labels, seed: RidgeCV(np.logspace(-1, 5, 13))),
    "random forest": Peer(of_sklearn(RandomForestClassifier, n_jobs=CORES), FOREST),
    "extra trees": Peer(of_sklearn(ExtraTreesClassifier, n_jobs=CORES), FOREST),
    "xgboost": Peer(xgboost, BOOSTING),
    "xgboost multi-output trees": Peer(multi_output_trees, BOOSTING, can_be_single=False),
    "catboost": Peer(catboost, ({"depth": 4}, {"depth": 8, "iterations": 500}, {"learning_rate": 0.1})),
    "xRFM": Peer(XRFM, tuple({"bandwidth": width, "reg": reg} for width in (5.0, 20.0) for reg in (0.1, 10.0))),
    "MLPClassifier": Peer(of_sklearn(MLPClassifier), NETWORK),
    "HistGradientBoosting": Peer(
        of_sklearn(HistGradientBoostingClassifier),
        ({"learning_rate": 0.05, "max_iter": 200}, {"max_leaf_nodes": 8}, {"l2_regularization": 10.0}),
        by_label=True,
    ),
}


def left_out(n_rows: int, seed: int) -> NDArray[np.bool_]:
    """Which rows are left out."""
    return np.random.default_rng(seed).random(n_rows) < HELD


def fit_and_score(
    peer: Peer, setting: dict[str, Any], table: Table, inputs: NDArray[np.float32], seed: int, deadline: float
) -> tuple[Floats, str]:
    """Scores [rows, n] of inputs, and a note where it was one model a label; labels not fitted have their frequency.

    Of one model a label the most frequent labels come first, until the deadline.
    """
    known, labels = table
    n_positive, n_observed = (labels > 0).sum(0), (labels != 0).sum(0)
    scores = np.tile(n_positive / np.maximum(n_observed, 1), (len(inputs), 1))
    varied = np.flatnonzero((n_positive > 0) & (n_positive < n_observed))
    varied = varied[np.argsort(-n_positive[varied], kind="stable")]
    has_missing = bool((n_observed < len(labels)).any())
    is_split = has_missing and not peer.takes_missing
    if is_split and not peer.can_be_single:
        raise ValueError("it takes no missing labels")
    by_label, n_fitted, start = peer.by_label or is_split, 0, time.perf_counter()
    for group in varied[:, None] if by_label else [varied]:
        now = time.perf_counter()
        if n_fitted and now + (now - start) / n_fitted > deadline:
            break
        rows = (labels[:, group] != 0).any(1)
        own = labels[rows][:, group]
        positive = (own > 0).astype(np.int32) if own.all() else np.where(own == 0, np.nan, own > 0)
        model = peer.make(len(group), seed, **setting)
        model.fit(known[rows], positive[:, 0] if len(group) == 1 else positive)
        scores[:, group] = scores_of(model, inputs, len(group))
        n_fitted += len(group)
    return scores, f"one model a label{', on its observed rows' * has_missing}, {n_fitted} of {len(varied)}" * by_label


def scores_of(model: Any, inputs: NDArray[np.float32], n_labels: int) -> Floats:
    """Scores [rows, n] that each label is 1."""
    found = model.predict_proba(inputs) if hasattr(model, "predict_proba") else model.predict(inputs)
    if isinstance(found, list):
        return np.stack([each[:, 1] for each in found], 1)
    scores = np.asarray(found, float).reshape(len(inputs), -1)
    return scores[:, -n_labels:]


def choose(peer: Peer, table: Table, seed: int, deadline: float) -> tuple[dict[str, Any], str]:
    """The setting of the highest average precision on rows left out, of those that there is time to try."""
    inputs, labels = table
    held, found = left_out(len(labels), seed), []
    settings = ({}, *peer.settings)
    for setting in settings:
        if found and time.perf_counter() > deadline:
            break
        scores, _ = fit_and_score(peer, setting, (inputs[~held], labels[~held]), inputs[held], seed, deadline)
        found.append(average_precision(torch.from_numpy(scores), torch.from_numpy(labels[held])))
    best = settings[int(np.argmax(found))]
    words = " ".join(f"{name}={value}" for name, value in best.items()) or "its defaults"
    return best, f"of {len(found)} of {len(settings)} settings: {words}"


def run_peer(task: Task, start: float) -> tuple[Floats, NDArray[np.int8], str]:
    """Scores and labels of the test rows, and a note."""
    data = LabelTable(
        task["train"], test_files=task["test"], label_columns=task["labels"], val_fraction=0.0, acceptance_fraction=0.0
    )
    data.setup()
    train, test = data.tables["train"], data.tables["test"]
    table = train.inputs[:, 0].numpy(), train.labels[:, 0].numpy().astype(np.int8)
    peer, seed = PEERS[task["method"]], task["seed"]
    setting, chosen = choose(peer, table, seed, start + task["limit"] / 3) if task["is_searched"] else ({}, "")
    deadline = start + 0.8 * task["limit"]
    scores, note = fit_and_score(peer, setting, table, test.inputs[:, 0].numpy(), seed, deadline)
    return scores, test.labels[:, 0].numpy().astype(np.int8), "; ".join(filter(None, (chosen, note)))


def run_config(task: Task) -> tuple[Floats, NDArray[np.int8], str]:
    """The same of one of hierlit's configs, by the command line."""
    with TemporaryDirectory() as folder:
        files = {"train_files": task["train"], "test_files": task["test"], "label_columns": task["labels"]}
        arguments = [f"--data.init_args.{key}={json.dumps(value)}" for key, value in files.items() if value]
        arguments += ["--model.weight_seed", str(task["seed"]), "--trainer.default_root_dir", folder]
        arguments += [f"--trainer.enable_{part}=false" for part in ("progress_bar", "model_summary")]
        fitted = command(["fit", "--config", str(CONFIGS / f"{task['method']}.yaml"), *arguments, *task["changes"]])
    test, net = fitted.datamodule.tables["test"], fitted.model.net
    with torch.no_grad():
        scores = net.calibration.log_odds([net(test.inputs[:1]), *net.staged_scores(test.inputs)][-1])
    return scores[:, 0].cpu().double().numpy(), test.labels[:, 0].numpy().astype(np.int8), ""


def measure(task: Task) -> dict[str, Any]:
    """Runs a task; seconds are those until the test rows are scored, with the files read and the settings chosen."""
    start = time.perf_counter()
    scores, labels, note = run_peer(task, start) if task["method"] in PEERS else run_config(task)
    seconds = time.perf_counter() - start
    pairs = [(labels[:, label], scores[:, label]) for label in range(labels.shape[1])]
    both = [(signs[signs != 0], found[signs != 0]) for signs, found in pairs if {-1, 1} <= set(signs.tolist())]
    return {
        "average_precision": average_precision(torch.from_numpy(scores), torch.from_numpy(labels)),
        "roc_auc": float(np.mean([roc_auc_score(signs, found) for signs, found in both])),
        "seconds": seconds,
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "note": note,
    }


if __name__ == "__main__":
    try:
        result = measure(json.loads(sys.argv[1]))
    except ModuleNotFoundError as error:
        result = {"why": f"package {error.name} is not installed"}
    except Exception as error:
        result = {"why": f"{type(error).__name__}: {error}".splitlines()[0]}
    print(json.dumps(result))
