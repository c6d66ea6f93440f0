"""The network: windows, frozen features and the residual stream. Plain torch, no Lightning."""

from hierlit.models.block import Block, ResidualBlock
from hierlit.models.calibration import Calibration
from hierlit.models.features import CosineFeatures, Features, GaussianFeatures, RadialFeatures
from hierlit.models.first_layer import FirstLayer
from hierlit.models.proximity import Identity, IndexTable, Proximity, Window1d, Window2d
from hierlit.models.radial_units import RadialUnits
from hierlit.models.random_features import RandomFeatures
from hierlit.models.resnet import HierarchicalResNet
from hierlit.models.tree_windows import TreeWindows

__all__ = [
    "Block",
    "Calibration",
    "CosineFeatures",
    "Features",
    "FirstLayer",
    "GaussianFeatures",
    "HierarchicalResNet",
    "Identity",
    "IndexTable",
    "Proximity",
    "RadialFeatures",
    "RadialUnits",
    "RandomFeatures",
    "ResidualBlock",
    "TreeWindows",
    "Window1d",
    "Window2d",
]
