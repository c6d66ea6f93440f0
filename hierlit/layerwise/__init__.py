"""Algorithm 4.2 in plain torch: blocks as problems, solvers, the loop over blocks, and joint training beside it."""

from hierlit.layerwise.acceptance import Acceptance
from hierlit.layerwise.adaptive_draw import AdaptiveDraw
from hierlit.layerwise.algorithm import Event, train
from hierlit.layerwise.auto import AutoSolver
from hierlit.layerwise.folds import Folds
from hierlit.layerwise.joint import JointTraining
from hierlit.layerwise.losses import (
    HingeLoss,
    HybridMarginLoss,
    LogisticLoss,
    MarginLoss,
    SquaredHingeLoss,
    SquaredLoss,
)
from hierlit.layerwise.problem import BlockProblem, Evaluation
from hierlit.layerwise.processes import ALONE, Processes
from hierlit.layerwise.report import BlockReport
from hierlit.layerwise.sized_draw import SizedDraw
from hierlit.layerwise.solve import Pass, solve
from hierlit.layerwise.solvers import Certificate, ExactSolver, GradientSolver, KernelSolver, Solver, State
from hierlit.layerwise.stopping import Stopping
from hierlit.layerwise.stream import StreamCache
from hierlit.layerwise.unobserved import LabelLoss, label_loss

__all__ = [
    "ALONE",
    "Acceptance",
    "AdaptiveDraw",
    "AutoSolver",
    "BlockProblem",
    "BlockReport",
    "Certificate",
    "Evaluation",
    "Event",
    "ExactSolver",
    "Folds",
    "GradientSolver",
    "HingeLoss",
    "HybridMarginLoss",
    "JointTraining",
    "KernelSolver",
    "LabelLoss",
    "LogisticLoss",
    "MarginLoss",
    "Pass",
    "Processes",
    "SizedDraw",
    "Solver",
    "SquaredHingeLoss",
    "SquaredLoss",
    "State",
    "Stopping",
    "StreamCache",
    "label_loss",
    "solve",
    "train",
]
