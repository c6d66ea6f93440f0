"""hierlit: layerwise training of deep networks on labels that form an unknown hierarchy."""

from hierlit.adaptation import AdaptiveDraw
from hierlit.callbacks import BlockCheckpoint, BlockProgress, LayerwiseTraining, PredictionWriter, Staircase
from hierlit.data import (
    ArrayHierarchy,
    BrainDump,
    CellularAutomaton,
    HierarchyDataModule,
    JuntaHierarchy,
    LifeAutomaton,
    RandomHierarchyModel,
    Supervision,
    ThresholdHierarchy,
)
from hierlit.estimator import HierarchicalClassifier
from hierlit.losses import HingeLoss, HybridMarginLoss, LogisticLoss, SquaredHingeLoss, SquaredLoss
from hierlit.models import HierarchicalResNet, Identity, IndexTable, RandomFeatures, TreeWindows, Window1d, Window2d
from hierlit.solvers import ExactSolver, GradientSolver, JointSolver
from hierlit.task import LayerwiseTask

__all__ = [
    "AdaptiveDraw",
    "ArrayHierarchy",
    "BlockCheckpoint",
    "BlockProgress",
    "BrainDump",
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
    "JointSolver",
    "JuntaHierarchy",
    "LayerwiseTask",
    "LayerwiseTraining",
    "LifeAutomaton",
    "LogisticLoss",
    "PredictionWriter",
    "RandomFeatures",
    "RandomHierarchyModel",
    "SquaredHingeLoss",
    "SquaredLoss",
    "Staircase",
    "Supervision",
    "ThresholdHierarchy",
    "TreeWindows",
    "Window1d",
    "Window2d",
]
