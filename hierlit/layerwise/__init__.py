"""Layerwise training in plain torch: losses, the stream, moments of features, solvers, acceptance, adaptive draws."""

from hierlit.layerwise.acceptance import SetAsideSums
from hierlit.layerwise.adaptive_draw import AdaptiveDraw
from hierlit.layerwise.losses import (
    HingeLoss,
    HybridMarginLoss,
    LogisticLoss,
    MarginLoss,
    SquaredHingeLoss,
    SquaredLoss,
)
from hierlit.layerwise.moments import Moments, SetAsideErrors
from hierlit.layerwise.report import BlockReport
from hierlit.layerwise.solvers import Certificate, CrossFittedSolver, ExactSolver, GradientSolver, JointSolver, Solver
from hierlit.layerwise.stream import Chunk, StreamCache, Tile
from hierlit.layerwise.unobserved import LabelLoss

__all__ = [
    "AdaptiveDraw",
    "BlockReport",
    "Certificate",
    "Chunk",
    "CrossFittedSolver",
    "ExactSolver",
    "GradientSolver",
    "HingeLoss",
    "HybridMarginLoss",
    "JointSolver",
    "LabelLoss",
    "LogisticLoss",
    "MarginLoss",
    "Moments",
    "SetAsideErrors",
    "SetAsideSums",
    "Solver",
    "SquaredHingeLoss",
    "SquaredLoss",
    "StreamCache",
    "Tile",
]
