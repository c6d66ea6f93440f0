"""hierlit: layerwise training of deep networks on labels that form an unknown hierarchy."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hierlit.data import (
        ArrayHierarchy,
        BrainDump,
        CellularAutomaton,
        HierarchyDataModule,
        JuntaHierarchy,
        LabelTable,
        LifeAutomaton,
        LocatedArrays,
        RandomHierarchyModel,
        Supervision,
        ThresholdHierarchy,
        TokenLabels,
    )
    from hierlit.estimator import HierarchicalClassifier
    from hierlit.layerwise import (
        AdaptiveDraw,
        ExactSolver,
        GradientSolver,
        HingeLoss,
        HybridMarginLoss,
        JointTraining,
        LogisticLoss,
        SizedDraw,
        SquaredHingeLoss,
        SquaredLoss,
    )
    from hierlit.models import (
        CosineFeatures,
        Features,
        GaussianFeatures,
        HierarchicalResNet,
        Identity,
        IndexTable,
        RadialFeatures,
        RandomFeatures,
        TreeWindows,
        Window1d,
        Window2d,
    )
    from hierlit.training import BlockCheckpoint, LayerwiseTask, LayerwiseTraining
    from hierlit.watching import BlockProgress, Diagnostics, PredictionWriter, Staircase

__version__ = "0.2.0"

__all__ = [
    "AdaptiveDraw",
    "ArrayHierarchy",
    "BlockCheckpoint",
    "BlockProgress",
    "BrainDump",
    "CellularAutomaton",
    "CosineFeatures",
    "Diagnostics",
    "ExactSolver",
    "Features",
    "GaussianFeatures",
    "GradientSolver",
    "HierarchicalClassifier",
    "HierarchicalResNet",
    "HierarchyDataModule",
    "HingeLoss",
    "HybridMarginLoss",
    "Identity",
    "IndexTable",
    "JointTraining",
    "JuntaHierarchy",
    "LabelTable",
    "LayerwiseTask",
    "LayerwiseTraining",
    "LifeAutomaton",
    "LocatedArrays",
    "LogisticLoss",
    "PredictionWriter",
    "RadialFeatures",
    "RandomFeatures",
    "RandomHierarchyModel",
    "SizedDraw",
    "SquaredHingeLoss",
    "SquaredLoss",
    "Staircase",
    "Supervision",
    "ThresholdHierarchy",
    "TokenLabels",
    "TreeWindows",
    "Window1d",
    "Window2d",
]
HOMES = ("models", "layerwise", "data", "training", "watching", "estimator")
"""Packages of these names, imported when one is asked for (PEP 562): `hierlit.theory` needs no Lightning, and a
misspelt option on the command line no torch."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in __all__:
            for home in HOMES:
                if hasattr(module := import_module(f"{__name__}.{home}"), name):
                    return globals().setdefault(name, getattr(module, name))
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
