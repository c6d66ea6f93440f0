"""Data whose labels form a hierarchy: generated ones, and a user's own arrays."""

from hierlit.data.base import ArrayHierarchy, Batch, HierarchyDataModule
from hierlit.data.cellular_automaton import CellularAutomaton
from hierlit.data.juntas import JuntaHierarchy

__all__ = ["ArrayHierarchy", "Batch", "CellularAutomaton", "HierarchyDataModule", "JuntaHierarchy"]
