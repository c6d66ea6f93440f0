"""Data whose labels form a hierarchy: generated ones, and a user's own arrays."""

from hierlit.data.arrays import ArrayHierarchy
from hierlit.data.base import Batch, HierarchyDataModule
from hierlit.data.brain_dump import BrainDump
from hierlit.data.cellular_automaton import CellularAutomaton
from hierlit.data.juntas import JuntaHierarchy
from hierlit.data.life import LifeAutomaton
from hierlit.data.random_hierarchy import RandomHierarchyModel
from hierlit.data.supervision import Supervision
from hierlit.data.tables import LabelTable
from hierlit.data.thresholds import ThresholdHierarchy

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
