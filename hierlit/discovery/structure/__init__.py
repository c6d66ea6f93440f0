"""What labels say of one another, from the label table alone."""

from hierlit.discovery.structure.columns import LabelColumns
from hierlit.discovery.structure.hierarchy import EdgesFound, violations
from hierlit.discovery.structure.margins import table_by_chance
from hierlit.discovery.structure.options import StructureOptions
from hierlit.discovery.structure.structure import LabelStructure, label_structure

__all__ = [
    "EdgesFound",
    "LabelColumns",
    "LabelStructure",
    "StructureOptions",
    "label_structure",
    "table_by_chance",
    "violations",
]
