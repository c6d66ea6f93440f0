"""Data whose labels form a hierarchy: generated ones, and a user's own arrays."""

from hierlit.data.arrays import ArrayHierarchy
from hierlit.data.base import Batch, HierarchyDataModule
from hierlit.data.hierarchies import (
    BrainDump,
    CellularAutomaton,
    JuntaHierarchy,
    LifeAutomaton,
    RandomHierarchyModel,
    ThresholdHierarchy,
)
from hierlit.data.supervision import Supervision
from hierlit.data.tables import LabelTable

__all__ = [
    "ArrayHierarchy",
    "Batch",
    "BrainDump",
    "CellularAutomaton",
    "HierarchyDataModule",
    "JuntaHierarchy",
    "LabelTable",
    "LifeAutomaton",
    "RandomHierarchyModel",
    "Supervision",
    "ThresholdHierarchy",
]
