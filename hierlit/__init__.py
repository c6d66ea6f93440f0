"""hierlit: layerwise training of deep networks on labels that form an unknown hierarchy."""

from hierlit.adaptation import AdaptiveDraw
from hierlit.callbacks import BlockCheckpoint, BlockProgress, LayerwiseTraining, PredictionWriter, Staircase
from hierlit.data import ArrayHierarchy, CellularAutomaton, HierarchyDataModule, JuntaHierarchy
from hierlit.estimator import HierarchicalClassifier
from hierlit.losses import HingeLoss, HybridMarginLoss, LogisticLoss, SquaredHingeLoss, SquaredLoss
from hierlit.models import HierarchicalResNet, Identity, IndexTable, RandomFeatures, Window1d, Window2d
from hierlit.solvers import ExactSolver, GradientSolver
from hierlit.task import LayerwiseTask

__all__ = [
    "AdaptiveDraw",
    "ArrayHierarchy",
    "BlockCheckpoint",
    "BlockProgress",
    "CellularAutomaton",
    "ExactSolver",
    "GradientSolver",
    "HierarchicalClassifier",
    "HierarchicalResNet",
    "HierarchyDataModule",
    "HingeLoss",
    "HybridMarginLoss",
    "Identity",
    "IndexTable",
    "JuntaHierarchy",
    "LayerwiseTask",
    "LayerwiseTraining",
    "LogisticLoss",
    "PredictionWriter",
    "RandomFeatures",
    "SquaredHingeLoss",
    "SquaredLoss",
    "Staircase",
    "Window1d",
    "Window2d",
]
