"""Generated hierarchies, whose levels are known."""

from hierlit.data.hierarchies.brain_dump import BrainDump
from hierlit.data.hierarchies.cellular_automaton import CellularAutomaton
from hierlit.data.hierarchies.juntas import JuntaHierarchy
from hierlit.data.hierarchies.life import LifeAutomaton
from hierlit.data.hierarchies.random_hierarchy import RandomHierarchyModel
from hierlit.data.hierarchies.thresholds import ThresholdHierarchy

__all__ = [
    "BrainDump",
    "CellularAutomaton",
    "JuntaHierarchy",
    "LifeAutomaton",
    "RandomHierarchyModel",
    "ThresholdHierarchy",
]
