"""Data whose labels form a hierarchy: generated ones, and a user's own arrays, tables, sequences, images and texts."""

from hierlit.data.arrays import ArrayHierarchy
from hierlit.data.base import Batch, HierarchyDataModule, RowDataset
from hierlit.data.hierarchies import (
    BrainDump,
    CellularAutomaton,
    JuntaHierarchy,
    LifeAutomaton,
    RandomHierarchyModel,
    ThresholdHierarchy,
)
from hierlit.data.located import LocatedArrays, TokenLabels
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
    "LocatedArrays",
    "RandomHierarchyModel",
    "RowDataset",
    "Supervision",
    "ThresholdHierarchy",
    "TokenLabels",
]
