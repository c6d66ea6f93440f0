"""Five hierarchies and one way to train them, for benchmarks that vary what the labels tell."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import lightning as L
import torch
from torchmetrics.functional.classification import multilabel_average_precision

from benchmarks.runs import MINIMAL
from hierlit.data import (
    CellularAutomaton,
    HierarchyDataModule,
    JuntaHierarchy,
    RandomHierarchyModel,
    Supervision,
    ThresholdHierarchy,
)
from hierlit.layerwise.solvers import ExactSolver
from hierlit.models import GaussianFeatures, TreeWindows, Window1d
from hierlit.training import LayerwiseTask, LayerwiseTraining


@dataclass(frozen=True)
class Setting:
    """A hierarchy and the model that climbs it when all its labels are observed.

    Attributes:
        data: Makes the hierarchy of a seed and a number of training rows.
        n_rows: Training rows.
        model: Arguments of the task.
    """

    data: Callable[[int, int], HierarchyDataModule]
    n_rows: int
    model: dict[str, Any]


class Tested(NamedTuple):
    """Labels on the test rows, one entry a label: those of the hierarchy, then those that supervision adds.

    Attributes:
        levels: Levels.
        accuracy: Accuracies.
        precision: Average precisions.
        n_own: How many are the hierarchy's.
    """

    levels: list[int]
    accuracy: list[float]
    precision: list[float]
    n_own: int


def juntas(seed: int, n_rows: int) -> HierarchyDataModule:
    """Random functions of degree 2, 3 levels of 12 labels."""
    return JuntaHierarchy(n_levels=3, labels_per_level=12, n_train=n_rows, data_seed=seed)


def automaton(seed: int, n_rows: int) -> HierarchyDataModule:
    """Rule 110, 6 levels."""
    return CellularAutomaton(110, 6, 32, n_rows, batch_size=100, data_seed=seed)


def trees(seed: int, n_rows: int) -> HierarchyDataModule:
    """The random hierarchy model: of every location the symbols above it, one-hot."""
    return RandomHierarchyModel(
        n_symbols=6, n_classes=6, n_synonyms=3, n_children=2, n_levels=3, n_train=n_rows, data_seed=seed
    )


def juntas_of_3(seed: int, n_rows: int) -> HierarchyDataModule:
    """Random functions of degree 3, 3 levels of 12 labels."""
    return JuntaHierarchy(n_levels=3, labels_per_level=12, degree=3, n_train=n_rows, data_seed=seed)


def thresholds(seed: int, n_rows: int) -> HierarchyDataModule:
    """Threshold functions of 3 arguments, degree 2 and norm 2, 3 levels of 12 labels."""
    return ThresholdHierarchy(n_levels=3, labels_per_level=12, n_train=n_rows, data_seed=seed)


SOFTPLUS = {"n_blocks": 4, "n_features": 800, "features": GaussianFeatures(0.3, "softplus")}
SETTINGS = {
    "juntas": Setting(juntas, 6000, SOFTPLUS),
    "juntas of degree 3": Setting(juntas_of_3, 6000, SOFTPLUS),
    "thresholds": Setting(thresholds, 6000, SOFTPLUS),
    "automaton": Setting(automaton, 300, {"n_blocks": 7, "n_features": 400, "proximity": Window1d(3)}),
    "trees": Setting(trees, 1500, {"n_blocks": 4, "n_features": 400, "proximity": TreeWindows(2, 3)}),
}


def train(
    setting: Setting,
    seed: int,
    n_rows: int | None = None,
    supervision: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    layerwise: dict[str, Any] | None = None,
) -> Tested:
    """Trains a setting.

    Args:
        setting: The hierarchy and its model.
        seed: Of data and weights.
        n_rows: Training rows, the setting's when None.
        supervision: Arguments of `Supervision`.
        model: Further arguments of the task.
        layerwise: Arguments of the callback.
    """
    data = Supervision(setting.data(seed, n_rows or setting.n_rows), **(supervision or {}))
    arguments = {**copy.copy(setting.model), "solver": ExactSolver(), "weight_seed": seed, **(model or {})}
    task = LayerwiseTask(data.n_inputs, data.n_labels, data.n_locations, data.levels, **arguments)
    trainer = L.Trainer(max_epochs=-1, callbacks=[LayerwiseTraining(**(layerwise or {}))], **MINIMAL)
    trainer.fit(task, datamodule=data)
    table = data.tables["test"]
    with torch.no_grad():
        scores, labels = task.cpu()(table.inputs).flatten(0, 1), table.labels.flatten(0, 1)
    precision = multilabel_average_precision(scores, (labels > 0).long(), data.n_labels, average="none")
    accuracy = ((scores > 0) == (labels > 0)).double().mean(0)
    return Tested(data.levels or [1] * data.n_labels, accuracy.tolist(), precision.tolist(), data.data.n_labels)
