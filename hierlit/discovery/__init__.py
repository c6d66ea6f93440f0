"""Levels and parents of labels whose hierarchy nobody wrote down, from rows and labels alone."""

from hierlit.discovery.agreement import Agreement, Hierarchy
from hierlit.discovery.options import DiscoverOptions
from hierlit.discovery.search import Discovery, discover, discover_structure
from hierlit.discovery.structure import EdgesFound, LabelStructure, StructureOptions, label_structure, violations

__all__ = [
    "Agreement",
    "DiscoverOptions",
    "Discovery",
    "EdgesFound",
    "Hierarchy",
    "LabelStructure",
    "StructureOptions",
    "discover",
    "discover_structure",
    "label_structure",
    "violations",
]
