"""The network: windows, frozen random features and the residual stream. Plain torch, no Lightning."""

from hierlit.models.features import Features, GaussianFeatures
from hierlit.models.proximity import Identity, IndexTable, Proximity, Window1d, Window2d
from hierlit.models.random_features import RandomFeatures
from hierlit.models.resnet import HierarchicalResNet, ResidualBlock
from hierlit.models.tree_windows import TreeWindows

__all__ = [
    "HierarchicalResNet",
    "Identity",
    "IndexTable",
    "Proximity",
    "RandomFeatures",
    "ResidualBlock",
    "TreeWindows",
    "Window1d",
    "Window2d",
]
